//! Proxies: their URLs, and the tunnel to a server (RFC 9110 9.3.6, RFC 1928).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::BytesMut;
use http::HeaderValue;
use longwire_proto::handshake::HeadLimits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;
use url::{Host, Url};

use crate::end::{ConnectError, ProxyError};
use crate::net::http_head::write_all;

use super::credentials::{basic, percent_decoded};
use super::http1::read_response;
use super::target::Target;

/// Maximum length of a user name or a password of SOCKS5 in bytes; the minimum is 1 (RFC 1929 2).
const SOCKS_LOGIN_MAX: usize = 255;

/// A proxy that opens a tunnel to the server, by HTTP CONNECT or SOCKS5.
///
/// ```
/// # fn example() -> Result<(), longwire::ConnectError> {
/// use longwire::Client;
///
/// let client = Client::new().proxy("http://me:secret@proxy.example.com:3128".parse()?);
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
    /// Parses the URL of a proxy. [`FromStr`] and `TryFrom<&str>` do the same.
    ///
    /// The scheme is `http`, `https` (TLS to the proxy, with the same trust as for servers), or `socks5`, also written
    /// `socks5h`; without a scheme it is `http`. The default ports are 80, 443 and 1080. The URL may have a user name
    /// and a password, percent-encoded. The proxy resolves the name of the server, whatever the scheme.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`], which does not show the credentials.
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let invalid = |reason: &str| ConnectError::Invalid(format!("invalid proxy URL: {reason}"));
        let parsed = if url.contains("://") { Url::parse(url) } else { Url::parse(&format!("http://{url}")) };
        let url = parsed
            .map_err(|error| invalid(&format!("{error}; expected something like http://proxy:3128")))?;
        let (kind, default) = match url.scheme() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            _ => return Err(invalid("the scheme must be http, https or socks5")),
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
                    return Err(invalid(
                        "user name and password of SOCKS5 must have 1 to 255 bytes (RFC 1929 2)",
                    ));
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

    /// Opens a tunnel to `target` on a stream to the proxy. `user_agent` and `limits` are for a proxy that speaks HTTP.
    pub(super) async fn tunnel<S>(
        &self,
        mut stream: S,
        target: &Target,
        user_agent: &HeaderValue,
        limits: HeadLimits,
    ) -> Result<S, ProxyError>
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin,
    {
        match &self.login {
            _ if self.kind != Kind::Socks5 => {
                connect(&mut stream, target, self.login.as_ref(), user_agent, limits).await?;
                Ok(stream)
            }
            login => {
                let to = socks_target(target).map_err(ProxyError::from_socks)?;
                let opened = match login {
                    Some(Login::Socks { user, password }) => {
                        Socks5Stream::connect_with_password_and_socket(stream, to, user, password).await
                    }
                    _ => Socks5Stream::connect_with_socket(stream, to).await,
                };
                Ok(opened.map_err(ProxyError::from_socks)?.into_inner())
            }
        }
    }
}

/// HTTP CONNECT (RFC 9110 9.3.6).
async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    target: &Target,
    login: Option<&Login>,
    user_agent: &HeaderValue,
    limits: HeadLimits,
) -> Result<(), ProxyError> {
    let authority = format!("{}:{}", target.host, target.port);
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    let mut header = |name: &str, value: &HeaderValue| {
        request.extend_from_slice(&[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    };
    header("User-Agent", user_agent);
    if let Some(Login::Basic(value)) = login {
        header("Proxy-Authorization", value);
    }
    request.extend_from_slice(b"\r\n");
    write_all(stream, &request).await?;

    let mut input = BytesMut::new();
    let response = read_response(stream, &mut input, limits).await??;
    if !response.status().is_success() {
        return Err(ProxyError::Refused(response.status()));
    }
    // The client speaks first in the tunnel, so these bytes cannot be the server's.
    if input.is_empty() { Ok(()) } else { Err(ProxyError::Early) }
}

fn socks_target(target: &Target) -> Result<tokio_socks::TargetAddr<'_>, tokio_socks::Error> {
    use tokio_socks::IntoTargetAddr;
    match &target.host {
        Host::Domain(name) => (name.as_str(), target.port).into_target_addr(),
        Host::Ipv4(address) => SocketAddr::from((*address, target.port)).into_target_addr(),
        Host::Ipv6(address) => SocketAddr::from((*address, target.port)).into_target_addr(),
    }
}

impl FromStr for Proxy {
    type Err = ConnectError;

    fn from_str(url: &str) -> Result<Self, ConnectError> {
        Self::parse(url)
    }
}

impl TryFrom<&str> for Proxy {
    type Error = ConnectError;

    fn try_from(url: &str) -> Result<Self, ConnectError> {
        Self::parse(url)
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
    fn conversions() {
        let parsed: Proxy = "socks5://代理:密码@proxy".parse().unwrap();
        let converted = Proxy::try_from("socks5://proxy").unwrap();
        assert_eq!(parsed.to_string(), converted.to_string());
        assert!(Proxy::try_from("gopher://proxy").is_err());
    }
}
