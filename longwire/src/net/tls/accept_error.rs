//! Why the TLS handshake with a client failed.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};
use tokio::time::error::Elapsed;

/// Why the TLS handshake with a client failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsAcceptError {
    /// The handshake was not complete in time.
    Timeout,
    /// The client does not speak TLS.
    NotTls,
    /// The client closed the connection during the handshake.
    Eof,
    /// The client presented no certificate, but one is [required](super::ServerTls::client_roots).
    CertificateRequired,
    /// The client's certificate is not acceptable; the text says why.
    Certificate(String),
    /// The client aborted the handshake with this alert (RFC 8446 6.2), by its number.
    Alert(u8),
    /// The transport failed.
    Io(io::Error),
    /// Another fault of the handshake; the text says which.
    Other(String),
}

impl From<Elapsed> for TlsAcceptError {
    fn from(_: Elapsed) -> Self {
        Self::Timeout
    }
}

impl From<io::Error> for TlsAcceptError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::from_rustls(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Eof,
            None => Self::Io(error),
        }
    }
}

impl TlsAcceptError {
    fn from_rustls(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        let other = |text: &str| Self::Other(text.into());
        match error {
            E::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            E::InvalidMessage(_) => other("the client sent an invalid TLS message (RFC 8446 6.2)"),
            E::NoCertificatesPresented => Self::CertificateRequired,
            E::InvalidCertificate(error) => Self::Certificate(certificate(error).into()),
            E::AlertReceived(alert) => Self::Alert(u8::from(*alert)),
            E::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => other("the client supports neither TLS 1.2 nor TLS 1.3"),
            E::PeerIncompatible(_) => other("client and server have no TLS parameters in common"),
            E::NoApplicationProtocol => {
                other("the client offers no protocol by ALPN that the server supports (RFC 7301 3.2)")
            }
            E::DecryptError => other("a TLS record cannot be decrypted: it was damaged on the way"),
            E::PeerSentOversizedRecord => other("the client sent a TLS record that is too large"),
            E::FailedToGetRandomBytes => other("the operating system returns no random bytes"),
            _ => other("the client broke a rule of TLS (RFC 8446)"),
        }
    }
}

fn certificate(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => "its issuer is not one of the trusted roots",
        E::Expired | E::ExpiredContext { .. } => "it has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet",
        E::Revoked => "it was revoked",
        E::BadSignature => "its signature is wrong",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "it is not for TLS clients (RFC 5280 4.2.1.12)"
        }
        _ => "it breaks a rule of RFC 5280",
    }
}

impl fmt::Display for TlsAcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timed out in the TLS handshake"),
            Self::NotTls => f.write_str(
                "the client does not speak TLS on this port: perhaps its URL needs wss:// instead of ws://",
            ),
            Self::Eof => f.write_str("the client closed the connection during the TLS handshake"),
            Self::CertificateRequired => {
                f.write_str("the client presented no certificate, but one is required")
            }
            Self::Certificate(reason) => write!(f, "the client's certificate is not acceptable: {reason}"),
            Self::Alert(alert) => {
                write!(f, "the client aborted the TLS handshake with alert {alert} (RFC 8446 6.2)")?;
                f.write_str(match AlertDescription::from(*alert) {
                    AlertDescription::BadCertificate
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA => ": it does not trust the server's certificate",
                    AlertDescription::CertificateExpired => ": the server's certificate has expired",
                    _ => "",
                })
            }
            Self::Io(error) => write!(f, "the connection failed during the TLS handshake: {error}"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for TlsAcceptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TlsAcceptError> for io::Error {
    fn from(error: TlsAcceptError) -> Self {
        let kind = match error {
            TlsAcceptError::Io(error) => return error,
            TlsAcceptError::Timeout => io::ErrorKind::TimedOut,
            TlsAcceptError::Eof => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
