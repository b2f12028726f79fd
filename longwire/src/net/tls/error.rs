//! Why there is no TLS.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

use super::pin::NotPinned;
use crate::end::ConnectError;

/// Names of a certificate that an error tells.
const NAMES_MAX: usize = 8;

/// Why there is no TLS. What it says of certificates is RFC 5280's, of names RFC 9525's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// A root, certificate, key or name that was to be used cannot be; the text says why.
    Unusable(String),
    /// Whoever has issued the server's certificate is not trusted.
    UnknownIssuer,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotValidYet,
    /// The server's certificate is for others: for these names, of which the first 8 are here.
    WrongName(Vec<String>),
    /// The server's certificate is not the pinned one; it has this SHA-256.
    NotPinned(String),
    /// The server's certificate cannot be accepted for another reason.
    Certificate(String),
    /// The server wants a certificate of the client.
    CertificateRequired,
    /// The server refuses, with this alert (RFC 8446 6.2).
    Alert(String),
    /// What answers on this port does not speak TLS.
    NotTls,
    /// The server ended the connection within the TLS handshake.
    Eof,
    /// The transport failed within the TLS handshake.
    Io(io::ErrorKind),
    /// Something else; the text says what.
    Other(String),
}

impl TlsError {
    /// What is behind an error of a TLS handshake.
    pub(super) fn of(error: &io::Error) -> Self {
        match Self::within(error) {
            Some(error) => error,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Eof,
            None => Self::Io(error.kind()),
        }
    }

    /// The error of TLS that came as one of input and output, if it is one.
    pub(crate) fn within(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().cloned().map(Self::from)
    }
}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(error) => Self::from(error),
            E::AlertReceived(AlertDescription::CertificateRequired) => Self::CertificateRequired,
            E::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            E::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<CertificateError> for TlsError {
    fn from(error: CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::UnknownIssuer => Self::UnknownIssuer,
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotValidYet,
            E::NotValidForName => Self::WrongName(Vec::new()),
            E::NotValidForNameContext { mut presented, .. } => {
                presented.truncate(NAMES_MAX);
                Self::WrongName(presented)
            }
            E::Other(OtherError(other)) if other.is::<NotPinned>() => Self::NotPinned(other.to_string()),
            other => Self::Certificate(other.to_string()),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(what) => write!(f, "cannot use {what}"),
            Self::UnknownIssuer => f.write_str(
                "the issuer of the server's certificate is not trusted: if you know it, add its root, or pin \
                 a certificate that is self-signed",
            ),
            Self::Expired => {
                f.write_str("the server's certificate has expired, or the clock of this machine is wrong")
            }
            Self::NotValidYet => {
                f.write_str("the server's certificate is not valid yet: see the clock of this machine")
            }
            Self::WrongName(names) if names.is_empty() => {
                f.write_str("the server's certificate is for another name (RFC 9525)")
            }
            Self::WrongName(names) => write!(
                f,
                "the server's certificate is for {} (RFC 9525): use that name, or say which one to expect",
                names.join(", ")
            ),
            Self::NotPinned(found) => {
                write!(f, "the server's certificate is not the pinned one: its SHA-256 is {found}")
            }
            Self::Certificate(why) => write!(f, "the server's certificate cannot be accepted: {why}"),
            Self::CertificateRequired => f.write_str("the server wants a client certificate: give it one"),
            Self::Alert(alert) => write!(f, "the server refuses with the alert {alert} (RFC 8446 6.2)"),
            Self::NotTls => f.write_str(
                "what answers on this port does not speak TLS: perhaps it is ws:// and not wss://",
            ),
            Self::Eof => f.write_str(
                "the server ended the connection in the TLS handshake: perhaps it is ws:// and not wss://",
            ),
            Self::Io(kind) => write!(f, "the connection failed in the TLS handshake: {kind}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for TlsError {}
