//! Which web pages may open a connection (RFC 6455 section 10.2; RFC 6454).
//!
//! Browsers let any page open a WebSocket to any host and send the cookies of that host along. A page cannot
//! forge the Origin header, so the server can tell by it which page is connecting.

use std::fmt;
use std::str::FromStr;

use super::authority::Authority;

/// The origins from which a server accepts connections.
///
/// Requests without an Origin header do not come from browsers and are always accepted: a client that can omit the
/// header can also forge it. The policy protects users of browsers; it is not authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Only pages from the host and port that the request is addressed to.
    ///
    /// If the request names no port, the default port of the Origin's scheme is assumed (`http` 80, `https` 443),
    /// because the server does not know the scheme if a proxy terminates TLS. The comparison is between two headers
    /// of the request and does not stop DNS rebinding; a server on a loopback or private address should use
    /// [`Origins::list`].
    #[default]
    Same,
    /// Only the listed origins; made by [`Origins::list`].
    List(OriginList),
    /// As [`Same`](Self::Same), and the listed origins; made by [`Origins::same_or`].
    SameOr(OriginList),
    /// Every origin. Do not authenticate by cookies then: any page can connect with the cookies of its user.
    Any,
}

/// Origins in normal form, made by [`Origins::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginList(Vec<String>);

impl Origins {
    /// Accepts only these origins, such as `https://example.com` or `http://[::1]:8080`; the server's own origin
    /// is not implied.
    ///
    /// Upper case, a default port and the spelling of an IPv6 address make no difference. `null`, the origin of
    /// sandboxed frames and local files, is accepted only if it is listed; any site can create such a page.
    ///
    /// # Errors
    ///
    /// If a text is not scheme, host and optional port and nothing else, or if its scheme is `ws` or
    /// `wss`: an origin is that of the page.
    pub fn list<I>(origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let normal = |text: I::Item| {
            let text = text.as_ref();
            normalise(text).map_err(|reason| InvalidOrigin { origin: text.to_owned(), reason })
        };
        Ok(Self::List(OriginList(origins.into_iter().map(normal).collect::<Result<_, _>>()?)))
    }

    /// Accepts the server's own origin, as [`Same`](Self::Same) does, and these.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn same_or<I>(origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::list(origins).map(|origins| match origins {
            Self::List(list) => Self::SameOr(list),
            other => other,
        })
    }

    /// Whether a request with this Origin header and this Host header is allowed. For what a server serves over plain
    /// HTTP beside its WebSockets.
    pub fn allows(&self, origin: &[u8], host: &str) -> bool {
        Authority::parse(host).is_some_and(|host| self.check(origin, host).is_ok())
    }

    /// Checks the Origin header of a request to `host`. The error says why it is refused and what to do.
    pub(super) fn check(&self, origin: &[u8], host: Authority<'_>) -> Result<(), &'static str> {
        match self {
            Self::Any => Ok(()),
            Self::Same => check_same(origin, host),
            Self::List(list) => list.check(origin),
            Self::SameOr(list) => check_same(origin, host).or_else(|_| list.check(origin)),
        }
    }
}

fn check_same(origin: &[u8], host: Authority<'_>) -> Result<(), &'static str> {
    let page = Origin::parse_bytes(origin).map_err(|_| INVALID)?;
    // RFC 6454 5. Only http and https pages share an origin with a WebSocket server.
    let port = page.default_port().ok_or(NOT_SAME)?;
    let same =
        page.authority.host == host.host && page.authority.port.unwrap_or(port) == host.port.unwrap_or(port);
    if same { Ok(()) } else { Err(NOT_SAME) }
}

impl OriginList {
    fn check(&self, origin: &[u8]) -> Result<(), &'static str> {
        let text = std::str::from_utf8(origin).map_err(|_| INVALID)?;
        let origin = normalise(text).map_err(|_| INVALID)?;
        if self.0.contains(&origin) { Ok(()) } else { Err(NOT_LISTED) }
    }
}

/// Parses a comma-separated list: `*` is [`Any`](Origins::Any), `same` is [`Same`](Origins::Same), and everything
/// else is an origin of [`list`](Origins::list) or, beside `same`, of [`same_or`](Origins::same_or).
///
/// ```
/// use longwire_proto::handshake::Origins;
///
/// assert_eq!("*".parse(), Ok(Origins::Any));
/// assert_eq!("same, https://example.com".parse(), Origins::same_or(["https://example.com"]));
/// ```
impl FromStr for Origins {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let parts = || text.split(',').map(str::trim);
        if parts().eq(["*"]) {
            return Ok(Self::Any);
        }
        let listed: Vec<_> = parts().filter(|part| *part != "same").collect();
        if listed.is_empty() {
            return Ok(Self::Same);
        }
        if parts().any(|part| part == "same") { Self::same_or(listed) } else { Self::list(listed) }
    }
}

impl TryFrom<&str> for Origins {
    type Error = InvalidOrigin;

    fn try_from(text: &str) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

const INVALID: &str = "The Origin header is not a valid origin (RFC 6454 6.2).";
const NOT_SAME: &str = "This server accepts only pages of its own origin (RFC 6455 10.2). To allow this Origin, \
     add it to the allowed origins of the server, or configure the proxy in front to forward the Host header \
     unchanged.";
const NOT_LISTED: &str = "The Origin header is not in the list of allowed origins (RFC 6455 10.2). To allow it, add \
     it to the allowed origins of the server.";

/// A text given to [`Origins::list`] that no Origin header can equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrigin {
    origin: String,
    reason: &'static str,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid origin {:?}: {} (RFC 6454 6.2)", self.origin, self.reason)
    }
}

impl std::error::Error for InvalidOrigin {}

/// A serialised origin that is not `null` (RFC 6454 6.2).
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse_bytes(bytes: &'a [u8]) -> Result<Self, &'static str> {
        Self::parse(std::str::from_utf8(bytes).map_err(|_| "it is not ASCII")?)
    }

    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("write scheme://host or scheme://host:port")?;
        if !is_scheme(scheme) {
            return Err("the scheme is malformed");
        }
        if rest.contains(['/', '?', '#']) {
            return Err("an origin has no path, not even a slash at its end");
        }
        if rest.contains('@') {
            return Err("an origin has no user information");
        }
        let authority = Authority::parse(rest).ok_or("the host or port is malformed")?;
        Ok(Self { scheme, authority })
    }

    fn default_port(&self) -> Option<u16> {
        if self.scheme.eq_ignore_ascii_case("http") {
            Some(80)
        } else if self.scheme.eq_ignore_ascii_case("https") {
            Some(443)
        } else {
            None
        }
    }
}

/// RFC 3986 3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Lower case, default port dropped, IPv6 address in the form of RFC 5952.
fn normalise(text: &str) -> Result<String, &'static str> {
    if text == "null" {
        return Ok(text.to_owned());
    }
    let origin = Origin::parse(text)?;
    let scheme = origin.scheme.to_ascii_lowercase();
    if scheme == "ws" || scheme == "wss" {
        return Err("an origin is that of the page: write http or https");
    }
    let host = origin.authority.host;
    Ok(match origin.authority.port.filter(|&port| origin.default_port() != Some(port)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}
