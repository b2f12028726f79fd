//! Why a proxy opened no tunnel to the server.

use std::fmt;
use std::io;

use http::StatusCode;
use longwire_proto::handshake::HandshakeError;

use crate::end::ConnectError;

/// Why a proxy opened no tunnel.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy cannot be reached.
    Unreachable(io::Error),
    /// An HTTP proxy answered with this status instead of 2xx (RFC 9110 9.3.6).
    Refused(StatusCode),
    /// A SOCKS5 proxy requires a user name and a password, or rejected those in its URL (RFC 1928 3, RFC 1929).
    Login,
    /// A SOCKS5 proxy rejected the request, or its answer is invalid; the text says why (RFC 1928 6).
    Socks(String),
    /// The answer of an HTTP proxy is not a valid HTTP response.
    Head(HandshakeError),
    /// The proxy sent bytes in the tunnel before the client did, so they cannot be the server's.
    Early,
    /// The transport failed while the tunnel was opened. If the proxy closed the connection, this is
    /// [`io::ErrorKind::UnexpectedEof`] or [`Head`](Self::Head).
    Io(io::Error),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "the proxy cannot be reached: {error}"),
            Self::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => f.write_str(
                "the proxy answered 407: it requires a user name and a password, or rejected those in its URL, such as \
                 http://user:password@proxy:3128 (RFC 9110 11.7)",
            ),
            Self::Refused(StatusCode::FORBIDDEN) => f.write_str(
                "the proxy answered 403 (RFC 9110 9.3.6): many proxies allow only port 443, the default of wss://",
            ),
            Self::Refused(status) => write!(f, "the proxy answered {status} (RFC 9110 9.3.6)"),
            Self::Login => f.write_str(
                "the proxy requires a user name and a password, or rejected those in its URL, such as \
                 socks5://user:password@proxy:1080 (RFC 1929)",
            ),
            Self::Socks(reason) => write!(f, "SOCKS5: {reason} (RFC 1928)"),
            Self::Head(error) => error.fmt(f),
            Self::Early => f.write_str("the proxy sent data in the tunnel before the client did (RFC 9110 9.3.6)"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::Io(error) => Some(error),
            Self::Head(error) => Some(error),
            Self::Refused(_) | Self::Login | Self::Socks(_) | Self::Early => None,
        }
    }
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandshakeError> for ProxyError {
    fn from(error: HandshakeError) -> Self {
        Self::Head(error)
    }
}

impl ProxyError {
    /// No `From`: its type would be public.
    pub(crate) fn from_socks(error: tokio_socks::Error) -> Self {
        use tokio_socks::Error as E;
        match error {
            E::Io(error) => Self::Io(error),
            E::NoAcceptableAuthMethods | E::AuthorizationRequired | E::PasswordAuthFailure(_) => Self::Login,
            other => Self::Socks(other.to_string()),
        }
    }
}

impl From<ProxyError> for ConnectError {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}
