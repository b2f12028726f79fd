//! The URL of a server, and the target of a redirect.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, header};
use url::{Host, Url};

use crate::end::{ConnectError, RedirectError};

use super::credentials::{basic, percent_decoded};

/// The server and path of a URL (RFC 6455 section 3).
pub(crate) struct Target {
    pub(crate) secure: bool,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    /// For the Host header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
    /// The user information as a value of Authorization.
    pub(crate) authorization: Option<HeaderValue>,
    /// The URL without the user information.
    url: Url,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, ConnectError> {
        // The part before an @ may contain a password.
        let shown = || {
            let shown = text.rsplit_once('@').map_or(text.to_owned(), |(_, rest)| format!("…@{rest}"));
            // The query may contain a token.
            match shown.split_once('?') {
                Some((front, _)) => format!("{front}?…"),
                None => shown,
            }
        };
        let bad = |reason: String| ConnectError::Invalid(format!("invalid URL: {reason}"));
        let url = Url::parse(text).map_err(|error| {
            bad(format!("{:?}: {error}; expected something like ws://example.com/chat", shown()))
        })?;
        if url.fragment().is_some() {
            return Err(bad(format!("{:?} has a fragment, which is not allowed (RFC 6455 3)", shown())));
        }
        Self::from_url(url).map_err(bad)
    }

    fn from_url(mut url: Url) -> Result<Self, String> {
        let secure = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => {
                return Err(format!(
                    "the scheme {other:?} is neither ws nor wss; expected something like ws://example.com/chat"
                ));
            }
        };
        let authorization = if url.username().is_empty() && url.password().is_none() {
            None
        } else {
            let user = percent_decoded(url.username());
            Some(basic(&user, &percent_decoded(url.password().unwrap_or_default()))?)
        };
        // Cannot fail for a URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        let host = url.host().ok_or("it has no host")?.to_owned();
        let port = url.port_or_known_default().unwrap_or(if secure { 443 } else { 80 });
        // RFC 6455 4.1 item 4: the default port is omitted.
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { secure, host, port, authority, path, authorization, url })
    }

    /// The URL, without user information.
    pub(crate) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The target of a redirect with these headers (RFC 9110 10.2.2); `None` without a Location.
    pub(super) fn redirected(&self, headers: &HeaderMap) -> Result<Option<Self>, RedirectError> {
        let mut locations = headers.get_all(header::LOCATION).into_iter();
        let (Some(location), another) = (locations.next(), locations.next()) else { return Ok(None) };
        let bad = |reason: String| RedirectError::Location(reason);
        if another.is_some() {
            return Err(bad("there is more than one Location".into()));
        }
        let text = location.to_str().map_err(|_| bad("the Location is not ASCII".into()))?;
        let mut url = self.url.join(text).map_err(|error| bad(error.to_string()))?;
        // A fragment is for viewers of a document.
        url.set_fragment(None);
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("the Location has user information (RFC 9110 4.2.4)".into()));
        }
        let next = Self::from_url(url).map_err(bad)?;
        if self.secure && !next.secure {
            return Err(RedirectError::Insecure);
        }
        Ok(Some(next))
    }

    /// Whether credentials for one may be sent to the other.
    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// The host is this machine (RFC 6761 6.3).
    #[cfg_attr(
        not(any(feature = "proxy", test)),
        expect(dead_code, reason = "only for proxies of the environment")
    )]
    pub(super) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => IpAddr::from(*address).to_canonical().is_loopback(),
        }
    }

    /// Percent-encodes another path of the same server.
    #[cfg(feature = "http2")]
    pub(crate) fn path_of(&self, path: &str) -> Result<String, ConnectError> {
        if !path.starts_with('/') {
            return Err(ConnectError::Invalid(format!("the path {path:?} must begin with a slash")));
        }
        let scheme = if self.secure { "wss" } else { "ws" };
        Self::parse(&format!("{scheme}://{}{path}", self.authority)).map(|target| target.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_rfc_6455_section_3() {
        let good = [
            ("ws://example.com", (false, "example.com", 80, "/")),
            ("wss://Example.COM/chat?x=1&y", (true, "example.com", 443, "/chat?x=1&y")),
            ("ws://example.com:80/", (false, "example.com", 80, "/")),
            (
                "ws://127.0.0.1:8080/聊天 👋",
                (false, "127.0.0.1:8080", 8080, "/%E8%81%8A%E5%A4%A9%20%F0%9F%91%8B"),
            ),
            ("ws://[::1]:9000/a/../b", (false, "[::1]:9000", 9000, "/b")),
            ("http://localhost:1", (false, "localhost:1", 1, "/")),
        ];
        for (text, expected) in good {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.secure, &*target.authority, target.port, &*target.path), expected, "{text}");
            assert_eq!(target.authorization, None);
        }
        for text in ["", "localhost", "localhost:8080", "ftp://a", "ws://", "ws://a/#b", "ws://a:99999"] {
            assert!(matches!(Target::parse(text), Err(ConnectError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn user_information_becomes_basic() {
        let cases = [
            ("ws://Aladdin:open%20sesame@a/", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("ws://me@a/", "Basic bWU6"),
            ("wss://:secret@a/", "Basic OnNlY3JldA=="),
            // RFC 7617 2.1: as UTF-8.
            ("ws://用户:密@a/", "Basic 55So5oi3OuWvhg=="),
            ("ws://u:a%3Ab%40c%2@a/", "Basic dTphOmJAYyUy"),
        ];
        for (text, expected) in cases {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.authorization.as_ref().unwrap(), expected, "{text}");
            assert!(!format!("{target:?} {:?}", target.authorization).contains('@'), "{target:?}");
        }
        for text in ["ws://a%0d%0aX:b@h/", "ws://a:b%00@h/", "ws://a:b%0A@h/", "ws://a%3Ab:c@h/"] {
            assert!(matches!(Target::parse(text), Err(ConnectError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn errors_show_no_password() {
        for text in
            ["ws://u:geheim@a/#b", "ws://u:geheim@a:99999", "ftp://u:geheim@a/", "ws://u:ge@heim@a b/"]
        {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(!error.contains("geheim") && !error.contains("heim"), "{error}");
        }
    }

    fn redirected(from: &str, location: &str) -> Result<String, RedirectError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
        Ok(Target::parse(from).unwrap().redirected(&headers)?.unwrap().as_str().to_owned())
    }

    #[test]
    fn locations() {
        let good = [
            ("ws://a/b/c?d", "e", "ws://a/b/e"),
            ("ws://a/b/c?d", "/e?f#g", "ws://a/e?f"),
            ("ws://a/b/c?d", "?x", "ws://a/b/c?x"),
            ("ws://a/b", "//c:81/d", "ws://c:81/d"),
            ("ws://u:p@a/b", "c", "ws://a/c"),
            ("ws://a/", "http://b/聊", ""),
            ("ws://a/", "http://b/%E8%81%8A", "http://b/%E8%81%8A"),
            ("ws://a/", "https://b/", "https://b/"),
            ("wss://a/", "wss://b/", "wss://b/"),
        ];
        for (from, location, expected) in good {
            let found = redirected(from, location);
            if expected.is_empty() {
                assert!(matches!(found, Err(RedirectError::Location(_))), "{found:?}");
            } else {
                assert_eq!(found.as_deref(), Ok(expected), "{from} {location}");
            }
        }
        for location in ["ws://b/", "http://b/", "ws://a/"] {
            assert_eq!(redirected("wss://a/", location), Err(RedirectError::Insecure));
        }
        for location in ["http://", "ftp://a/", "file:///etc/passwd", "ws://u:p@b/", "//u@b/", "javascript:1"]
        {
            let found = redirected("ws://a/", location);
            assert!(matches!(found, Err(RedirectError::Location(_))), "{location}: {found:?}");
        }
    }

    #[test]
    fn a_location_is_one_or_none() {
        let target = Target::parse("ws://a/").unwrap();
        let mut headers = HeaderMap::new();
        assert!(target.redirected(&headers).unwrap().is_none());
        headers.append(header::LOCATION, HeaderValue::from_static("/b"));
        assert!(target.redirected(&headers).unwrap().is_some());
        headers.append(header::LOCATION, HeaderValue::from_static("/b"));
        assert!(matches!(target.redirected(&headers), Err(RedirectError::Location(_))));
    }

    #[test]
    fn origins() {
        let all = ["ws://a/", "wss://a/", "ws://a:81/", "ws://b/", "ws://[::1]/"];
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                let (one, other) = (Target::parse(one).unwrap(), Target::parse(other).unwrap());
                assert_eq!(one.is_same_origin(&other), i == j);
            }
        }
        let (one, other) = (Target::parse("ws://A:80/x").unwrap(), Target::parse("http://a/y").unwrap());
        assert!(one.is_same_origin(&other));
    }

    #[test]
    fn loopback() {
        for host in [
            "localhost",
            "a.LocalHost",
            "localhost.",
            "127.0.0.1",
            "127.9.8.7",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(Target::parse(&format!("ws://{host}/")).unwrap().is_loopback(), "{host}");
        }
        for host in ["localhost.example.com", "notlocalhost", "128.0.0.1", "[::2]", "10.0.0.1"] {
            assert!(!Target::parse(&format!("ws://{host}/")).unwrap().is_loopback(), "{host}");
        }
    }
}
