//! Why a TLS handshake failed.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError, PeerIncompatible};

use crate::end::{ConnectError, TlsAlert};

/// Maximum number of a certificate's names in an error.
const NAMES_MAX: usize = 8;

/// Why a TLS handshake failed. The rules for certificates are those of RFC 5280, for names those of RFC 9525.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A root, certificate, key or name of the client's own settings is invalid; the text says why.
    Unusable(String),
    /// The issuer of the server's certificate is not trusted.
    UnknownIssuer,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotValidYet,
    /// The server's certificate is for other names: these, at most 8 of them.
    WrongName(Vec<String>),
    /// The server's certificate is not the pinned one. It has this SHA-256.
    NotPinned(String),
    /// The server's certificate is not acceptable for another reason, which the text states.
    Certificate(String),
    /// The server requires a client certificate.
    CertificateRequired,
    /// The server aborted the handshake with this alert (RFC 8446 6.2).
    Alert(TlsAlert),
    /// The server does not speak TLS on this port.
    NotTls,
    /// The server closed the connection during the TLS handshake.
    Eof,
    /// The transport failed during the TLS handshake.
    Io(Arc<io::Error>),
    /// Another fault; the text states it.
    Other(String),
}

impl TlsError {
    /// The reason for which a TLS handshake failed.
    pub(crate) fn from_handshake(error: io::Error) -> Self {
        match Self::within(&error) {
            Some(error) => error,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Eof,
            None => Self::Io(Arc::new(error)),
        }
    }

    /// The TLS error inside an I/O error, if there is one.
    pub(crate) fn within(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().cloned().map(Self::from_rustls)
    }
}

/// The server has another certificate than the pinned one, with this SHA-256 in hexadecimal. The verifier passes it
/// through rustls.
#[derive(Debug)]
pub(crate) struct NotPinned(pub(crate) String);

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for NotPinned {}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

// No `From`: its type would be public.
impl TlsError {
    pub(crate) fn from_rustls(error: rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(error) => Self::from_certificate(error),
            E::AlertReceived(AlertDescription::CertificateRequired) => Self::CertificateRequired,
            E::AlertReceived(alert) => Self::Alert(TlsAlert::new(alert.into())),
            E::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            E::InvalidMessage(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. } => {
                Self::Other("the server sent an invalid TLS message (RFC 8446 6.2)".into())
            }
            E::PeerIncompatible(error) => Self::Other(incompatible(&error).into()),
            E::PeerMisbehaved(_) => Self::Other("the server broke a rule of TLS (RFC 8446)".into()),
            E::NoCertificatesPresented => Self::Certificate("the server has none".into()),
            E::DecryptError => {
                Self::Other("a TLS record cannot be decrypted: it was damaged on the way".into())
            }
            E::PeerSentOversizedRecord => {
                Self::Other("the server sent a TLS record that is too large".into())
            }
            E::NoApplicationProtocol => Self::Other(
                "the server selected a protocol by ALPN that was not offered (RFC 7301 3.2)".into(),
            ),
            E::FailedToGetCurrentTime => Self::Other("the clock of this machine cannot be read".into()),
            E::FailedToGetRandomBytes => Self::Other("the operating system returns no random bytes".into()),
            E::General(text) => Self::Other(text),
            _ => Self::Other("the TLS library failed".into()),
        }
    }
}

fn incompatible(error: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as E;
    match error {
        E::ServerDoesNotSupportTls12Or13
        | E::ServerTlsVersionIsDisabledByOurConfig
        | E::Tls12NotOffered
        | E::Tls12NotOfferedOrEnabled => "the server supports neither TLS 1.2 nor TLS 1.3",
        _ => "client and server have no TLS parameters in common",
    }
}

impl TlsError {
    pub(crate) fn from_certificate(error: CertificateError) -> Self {
        use CertificateError as E;
        Self::Certificate(String::from(match error {
            E::UnknownIssuer => return Self::UnknownIssuer,
            E::Expired | E::ExpiredContext { .. } => return Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => return Self::NotValidYet,
            E::NotValidForName => return Self::WrongName(Vec::new()),
            E::NotValidForNameContext { presented, .. } => {
                return Self::WrongName(presented.iter().take(NAMES_MAX).map(|name| plain(name)).collect());
            }
            E::Other(OtherError(other)) if other.is::<NotPinned>() => {
                return Self::NotPinned(other.to_string());
            }
            E::BadEncoding => "it is malformed (RFC 5280)",
            E::Revoked => "it was revoked",
            E::UnhandledCriticalExtension => {
                "it has a critical extension that is not supported (RFC 5280 4.2)"
            }
            E::UnknownRevocationStatus => "it is not known whether it was revoked",
            E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
                "the list of revoked certificates is out of date"
            }
            E::BadSignature => "its signature is wrong",
            E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                "its signature algorithm is not supported"
            }
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
                "it is not for TLS servers (RFC 5280 4.2.1.12)"
            }
            E::InvalidOcspResponse => "its OCSP response is invalid (RFC 6960)",
            E::ApplicationVerificationFailure => "the platform rejects it",
            // webpki's error has no other public form.
            E::Other(OtherError(other)) if other.to_string() == "CaUsedAsEndEntity" => {
                "it is the certificate of an authority, not of a server: make it a root if you trust it"
            }
            _ => "it breaks a rule of RFC 5280",
        }))
    }
}

/// A name without the syntax of webpki: `DnsName("a.example")` or `IpAddress(192.0.2.1)`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(what) => write!(f, "cannot use {what}"),
            Self::UnknownIssuer => f.write_str(
                "the issuer of the server's certificate is not trusted: if you know the issuer, add its root \
                 certificate; if the certificate is self-signed, add or pin it",
            ),
            Self::Expired => {
                f.write_str("the server's certificate has expired, or the clock of this machine is wrong")
            }
            Self::NotValidYet => {
                f.write_str("the server's certificate is not valid yet, or the clock of this machine is wrong")
            }
            Self::WrongName(names) if names.is_empty() => {
                f.write_str("the server's certificate is for another name (RFC 9525)")
            }
            Self::WrongName(names) => write!(
                f,
                "the server's certificate is for {} (RFC 9525): use that name, or set the expected server name",
                names.join(", ")
            ),
            Self::NotPinned(found) => {
                write!(f, "the server's certificate is not the pinned one: its SHA-256 is {found}")
            }
            Self::Certificate(why) => write!(f, "the server's certificate is not acceptable: {why}"),
            Self::CertificateRequired => f.write_str("the server requires a client certificate"),
            Self::Alert(alert) => {
                write!(f, "the server aborted the handshake with the alert {alert} (RFC 8446 6.2)")?;
                alert.meaning().map_or(Ok(()), |meaning| write!(f, ": {meaning}"))
            }
            Self::NotTls => {
                f.write_str("the server does not speak TLS on this port: perhaps the URL needs ws:// instead of wss://")
            }
            Self::Eof => f.write_str(
                "the server closed the connection during the TLS handshake: perhaps the URL needs ws:// instead of \
                 wss://",
            ),
            Self::Io(error) => write!(f, "the connection failed during the TLS handshake: {error}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Io(error) => Some(&**error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that a peer can cause is shown in the syntax of Rust.
    #[test]
    fn errors_are_sentences() {
        use rustls::Error as E;
        let mut errors: Vec<_> =
            (0..=255).map(|code| E::AlertReceived(AlertDescription::from(code))).collect();
        errors.extend([
            E::InvalidMessage(InvalidMessage::MissingData("x")),
            E::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            E::PeerMisbehaved(rustls::PeerMisbehaved::SelectedUnofferedCipherSuite),
            E::InvalidCertificate(CertificateError::BadSignature),
            E::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotText)))),
            E::InvalidCertificate(CertificateError::UnhandledCriticalExtension),
            E::DecryptError,
            E::HandshakeNotComplete,
        ]);
        for error in errors {
            let text = TlsError::from_rustls(error.clone()).to_string();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric());
            for word in words {
                let humps = word.chars().skip(1).filter(char::is_ascii_uppercase).count();
                assert!(
                    humps == 0 || word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()),
                    "{text}"
                );
            }
            assert!(text.len() > 20, "{error:?}: {text}");
        }
        assert_eq!(plain("DnsName(\"a.example\")"), "a.example");
        assert_eq!(plain("IpAddress(192.0.2.1)"), "192.0.2.1");
        assert_eq!(plain("a.example"), "a.example");
    }

    #[derive(Debug)]
    struct NotText;

    impl fmt::Display for NotText {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("SomeVariant { of: \"webpki\" }")
        }
    }

    impl StdError for NotText {}

    #[test]
    fn the_cause_of_a_transport_error_is_its_source() {
        let error = TlsError::from_handshake(io::ErrorKind::ConnectionReset.into());
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).expect("a source");
        assert_eq!(source.kind(), io::ErrorKind::ConnectionReset);
    }
}
