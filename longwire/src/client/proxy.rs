//! Proxies: which one a target is reached by, and the tunnel through it (RFC 9110 9.3.6, RFC 1928).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderValue, StatusCode};
use hyper_util::client::proxy::matcher::Matcher;
use longwire_proto::handshake::{HandshakeError, HeadError, HeadLimits, HeadReader, client};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;
use url::{Host, Url};

use crate::end::ConnectError;
use crate::net::http_head::{read_head, write_all};

use super::credentials::{basic, percent_decoded};
use super::target::Target;

/// Bytes that a user name or a password of SOCKS5 has at most, and one at least (RFC 1929 2).
const SOCKS_LOGIN_MAX: usize = 255;

/// A proxy that opens a tunnel to the server: by HTTP CONNECT, or SOCKS5.
///
/// ```
/// # fn example() -> Result<(), longwire::ConnectError> {
/// use longwire::{Client, Proxy};
///
/// let client = Client::new().proxy(Proxy::parse("http://me:secret@proxy.example.com:3128")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    host: Host<String>,
    port: u16,
    login: Option<Login>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Socks5,
}

#[derive(Clone)]
enum Login {
    /// The value of Proxy-Authorization.
    Basic(HeaderValue),
    Socks {
        user: String,
        password: String,
    },
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Https => "https",
            Kind::Socks5 => "socks5h",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Shows no credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxy {
    /// The proxy at a URL: `http://`, `https://` (TLS to the proxy, which is trusted as servers are) or
    /// `socks5://`, also written `socks5h://`; without a scheme it is `http`. The default ports are 80, 443
    /// and 1080. A user and a password may stand before the host, percent-encoded. The name of the server is
    /// resolved by the proxy, whichever it is.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`], which does not show the credentials.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let invalid = |reason: &str| ConnectError::Invalid(format!("bad URL of a proxy: {reason}"));
        let parsed = if url.contains("://") { Url::parse(url) } else { Url::parse(&format!("http://{url}")) };
        let url = parsed.map_err(|error| invalid(&format!("{error}; it looks like http://proxy:3128")))?;
        let (kind, default) = match url.scheme() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            _ => return Err(invalid("it is none of http, https and socks5")),
        };
        let host =
            Host::parse(url.host_str().unwrap_or_default()).map_err(|error| invalid(&error.to_string()))?;
        let login = if url.username().is_empty() && url.password().is_none() {
            None
        } else {
            let user = percent_decoded(url.username());
            let password = percent_decoded(url.password().unwrap_or_default());
            let value = basic(&user, &password).map_err(|reason| invalid(&reason))?;
            Some(if kind == Kind::Socks5 {
                if [&user, &password].iter().any(|text| !(1..=SOCKS_LOGIN_MAX).contains(&text.len())) {
                    return Err(invalid("user and password of SOCKS5 have 1 to 255 bytes (RFC 1929 2)"));
                }
                Login::Socks { user, password }
            } else {
                Login::Basic(value)
            })
        };
        Ok(Self { kind, host, port: url.port().unwrap_or(default), login })
    }

    pub(super) const fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_secure(&self) -> bool {
        self.kind == Kind::Https
    }

    /// Asks for a tunnel to `target` on a stream to the proxy, and returns the stream.
    pub(super) async fn tunnel<S>(&self, mut stream: S, target: &Target) -> Result<S, ProxyError>
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin,
    {
        match &self.login {
            _ if self.kind != Kind::Socks5 => {
                connect(&mut stream, target, self.login.as_ref()).await?;
                Ok(stream)
            }
            Some(Login::Socks { user, password }) => {
                let to = socks_target(target)?;
                Ok(Socks5Stream::connect_with_password_and_socket(stream, to, user, password)
                    .await?
                    .into_inner())
            }
            _ => Ok(Socks5Stream::connect_with_socket(stream, socks_target(target)?).await?.into_inner()),
        }
    }
}

/// HTTP CONNECT (RFC 9110 9.3.6).
async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    target: &Target,
    login: Option<&Login>,
) -> Result<(), ProxyError> {
    let authority = format!("{}:{}", target.host, target.port);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(Login::Basic(value)) = login {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    write_all(stream, &request).await?;

    let limits = HeadLimits::default();
    let mut input = BytesMut::new();
    for _ in 0..=client::MAX_INTERIM {
        let head = read_head(stream, &mut input, HeadReader::for_response(limits)).await?;
        let length =
            head.map_err(HandshakeError::from)?.ok_or(HandshakeError::Head(HeadError::Incomplete))?;
        let response = client::parse_response(&input.split_to(length), limits)?;
        let status = response.status();
        if client::is_interim(&response) {
            continue;
        }
        if !status.is_success() {
            return Err(ProxyError::Refused(status));
        }
        // In the tunnel the client speaks first: what is there already is not the server's.
        return if input.is_empty() { Ok(()) } else { Err(ProxyError::Early) };
    }
    Err(HandshakeError::TooManyInterim.into())
}

fn socks_target(target: &Target) -> Result<tokio_socks::TargetAddr<'_>, tokio_socks::Error> {
    use tokio_socks::IntoTargetAddr;
    match &target.host {
        Host::Domain(name) => (name.as_str(), target.port).into_target_addr(),
        Host::Ipv4(address) => SocketAddr::from((*address, target.port)).into_target_addr(),
        Host::Ipv6(address) => SocketAddr::from((*address, target.port)).into_target_addr(),
    }
}

/// By which proxy targets are reached.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// By what the environment says.
    Environment,
    Direct,
    By(Arc<Proxy>),
}

impl Route {
    pub(super) fn proxy(&self, target: &Target) -> Result<Option<Arc<Proxy>>, ConnectError> {
        match self {
            Self::Direct => Ok(None),
            Self::By(proxy) => Ok(Some(Arc::clone(proxy))),
            Self::Environment if target.is_loopback() => Ok(None),
            Self::Environment => intercepting(&Matcher::from_env(), target).map(|proxy| proxy.map(Arc::new)),
        }
    }
}

/// The proxy that the variables of the environment name for a target.
fn intercepting(matcher: &Matcher, target: &Target) -> Result<Option<Proxy>, ConnectError> {
    let scheme = if target.secure { "https" } else { "http" };
    let uri = format!("{scheme}://{}/", target.authority).parse();
    let uri = uri.map_err(|error| ConnectError::Invalid(format!("bad URL: {error}")))?;
    let Some(found) = matcher.intercept(&uri) else { return Ok(None) };
    let mut proxy = Proxy::parse(&found.uri().to_string())?;
    proxy.login = match (found.basic_auth(), found.raw_auth()) {
        (Some(value), _) => Some(Login::Basic(value.clone())),
        (None, Some((user, password))) => {
            Some(Login::Socks { user: user.to_owned(), password: password.to_owned() })
        }
        (None, None) => None,
    };
    Ok(Some(proxy))
}

/// Why a proxy opened no tunnel.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy itself was not reached.
    Unreachable(io::Error),
    /// An HTTP proxy answered with this status instead of one of success (RFC 9110 9.3.6).
    Refused(StatusCode),
    /// A SOCKS5 proxy wants a user and a password, or others than it was given (RFC 1928 3, RFC 1929).
    Login,
    /// A SOCKS5 proxy refused, or its answer is none; the text says why (RFC 1928 6).
    Socks(String),
    /// The answer of an HTTP proxy is not the head of a response.
    Head(HandshakeError),
    /// The proxy sent bytes into the tunnel that cannot be the server's, which waits for the client.
    Early,
    /// The transport failed while the tunnel was asked for; a proxy that hung up is
    /// [`io::ErrorKind::UnexpectedEof`] or [`Head`](Self::Head).
    Io(io::Error),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "it cannot be reached: {error}"),
            Self::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => f.write_str(
                "it answered 407 and wants a user and a password, or others: write them into its URL, as in \
                 http://user:password@proxy:3128 (RFC 9110 11.7)",
            ),
            Self::Refused(StatusCode::FORBIDDEN) => f.write_str(
                "it answered 403 (RFC 9110 9.3.6): many open tunnels to port 443 only, as wss:// needs them",
            ),
            Self::Refused(status) => write!(f, "it answered {status} (RFC 9110 9.3.6)"),
            Self::Login => f.write_str(
                "it wants a user and a password, or others: write them into its URL, as in \
                 socks5://user:password@proxy:1080 (RFC 1929)",
            ),
            Self::Socks(reason) => write!(f, "SOCKS5: {reason} (RFC 1928)"),
            Self::Head(error) => error.fmt(f),
            Self::Early => f.write_str("it spoke in the tunnel before the client did (RFC 9110 9.3.6)"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for ProxyError {}

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

impl From<tokio_socks::Error> for ProxyError {
    fn from(error: tokio_socks::Error) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let good = [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://proxy", "http://proxy:80"),
            ("proxy:3128", "http://proxy:3128"),
            ("me:pw@proxy:3128", "http://proxy:3128"),
            ("https://Proxy.Example", "https://proxy.example:443"),
            ("socks5://127.0.0.1", "socks5h://127.0.0.1:1080"),
            ("socks5h://u:p@[::1]:80/", "socks5h://[::1]:80"),
        ];
        for (url, shown) in good {
            let proxy = Proxy::parse(url).unwrap();
            assert_eq!((proxy.to_string(), format!("{proxy:?}")), (shown.into(), format!("Proxy({shown})")));
        }
        let long = "x".repeat(256);
        let bad = [
            "",
            "http://",
            "socks4://a",
            "ftp://a:1",
            "http://a:99999",
            "http://geheim%0d%0aX:p@a",
            "socks5://u:%00geheim@a",
            "socks5://geheim@a",
            "http://geheim%3A:x@a",
            "http://u:geheim@a b",
            &format!("socks5://{long}:p@a"),
            &format!("socks5://u:{long}@a"),
        ];
        for url in bad {
            let error = Proxy::parse(url).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
        let most = "x".repeat(255);
        assert!(Proxy::parse(&format!("socks5://{most}:{most}@a")).is_ok());
    }

    #[test]
    fn the_environment() {
        let matcher = Matcher::builder()
            .http("http://me:geheim@plain:3128")
            .https("socks5h://u:p@secure")
            .no("inner.example, 10.0.0.0/8")
            .build();
        let found = |url: &str| {
            intercepting(&matcher, &Target::parse(url).unwrap()).unwrap().map(|proxy| proxy.to_string())
        };
        assert_eq!(found("ws://example.com/").as_deref(), Some("http://plain:3128"));
        assert_eq!(found("wss://example.com:444/").as_deref(), Some("socks5h://secure:1080"));
        assert_eq!(found("ws://[2001:db8::1]:81/").as_deref(), Some("http://plain:3128"));
        for direct in ["ws://inner.example/", "wss://a.inner.example:1/", "ws://10.1.2.3/"] {
            assert_eq!(found(direct), None, "{direct}");
        }
        let proxy = intercepting(&matcher, &Target::parse("ws://a/").unwrap()).unwrap().unwrap();
        assert!(matches!(proxy.login, Some(Login::Basic(value)) if value == "Basic bWU6Z2VoZWlt"));
        let unknown = Matcher::builder().all("socks4://old:1080").build();
        assert!(matches!(
            intercepting(&unknown, &Target::parse("ws://a/").unwrap()),
            Err(ConnectError::Invalid(_))
        ));
        // This machine is never reached by what the environment says.
        assert!(Route::Environment.proxy(&Target::parse("ws://localhost/").unwrap()).unwrap().is_none());
    }
}
