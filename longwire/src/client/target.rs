//! Where a URL points to.

use url::{Host, Url};

use crate::error::ConnectError;

/// Where a URL points to (RFC 6455 section 3).
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) secure: bool,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    /// For the Host header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, ConnectError> {
        let bad = |reason: String| ConnectError::Invalid(format!("bad URL: {reason}"));
        let url = Url::parse(text)
            .map_err(|error| bad(format!("{text:?}: {error}; it looks like ws://example.com/chat")))?;
        let secure = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => {
                return Err(bad(format!(
                    "scheme {other:?} is neither ws nor wss, as in ws://example.com/chat"
                )));
            }
        };
        if url.fragment().is_some() {
            return Err(bad(format!("{text:?} has a fragment, which must not be used (RFC 6455 3)")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(
                "user information in the URL is not supported: send an Authorization header".into()
            ));
        }
        let host = url.host().ok_or_else(|| bad(format!("{text:?} names no host")))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(if secure { 443 } else { 80 });
        // RFC 6455 4.1 item 4: the port is left out when it is the default.
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { secure, host, port, authority, path })
    }

    /// Another path of the same server, percent-encoded.
    #[cfg(feature = "http2")]
    pub(crate) fn path_of(&self, path: &str) -> Result<String, ConnectError> {
        if !path.starts_with('/') {
            return Err(ConnectError::Invalid(format!("the path {path:?} does not begin with a slash")));
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
        }
        for text in [
            "",
            "localhost",
            "localhost:8080",
            "ftp://a",
            "ws://",
            "ws://a/#b",
            "ws://u:p@a/",
            "ws://a:99999",
        ] {
            assert!(matches!(Target::parse(text), Err(ConnectError::Invalid(_))), "{text}");
        }
    }
}
