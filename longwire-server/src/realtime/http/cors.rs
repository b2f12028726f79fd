//! Which pages may have an answer (Fetch 3.2, CORS), by the list that says which may open a WebSocket.

use longwire::Origins;
use longwire::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::Body;
use super::response::{ErrorResponse, empty};

/// How long a browser may remember what it was told, in seconds: two hours are the most that any remembers.
const MAX_AGE: &str = "7200";

/// What a page may send besides what every page may.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Api-Key";

/// What it may read besides what every page may.
const EXPOSED_HEADERS: &str = "Retry-After, WWW-Authenticate";

/// Whose page has sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestOrigin {
    /// No browser has said that it is one: who leaves Origin out can forge it as well. Or one of the server's own.
    Own,
    /// One that is listed.
    Listed(HeaderValue),
    /// Any is let in.
    Any,
    /// One that may not have an answer.
    Refused,
}

impl RequestOrigin {
    /// By its Origin, and the host that it has asked for.
    pub(super) fn classify(
        headers: &HeaderMap,
        host: Option<&[u8]>,
        origins: &Origins,
    ) -> Result<Self, ErrorResponse> {
        let mut said = headers.get_all(header::ORIGIN).iter();
        let (origin, host) = match (said.next(), said.next()) {
            (None, _) => return Ok(Self::Own),
            (Some(origin), None) => (origin, host.and_then(|host| std::str::from_utf8(host).ok())),
            (Some(_), Some(_)) => {
                return Err(ErrorResponse::forbidden("there is more than one Origin header (RFC 6454 7.3)"));
            }
        };
        let allows = |origins: &Origins| host.is_some_and(|host| origins.allows(origin.as_bytes(), host));
        if allows(&Origins::Same) {
            return Ok(Self::Own);
        }
        match origins {
            Origins::Any => Ok(Self::Any),
            listed if allows(listed) => Ok(Self::Listed(origin.clone())),
            _ => {
                Err(ErrorResponse::forbidden("pages of this Origin are not answered: add it to allow_origin"))
            }
        }
    }

    /// Lets the browser hand the answer to the page.
    pub(super) fn add_cors_headers(&self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let origin = match self {
            Self::Own | Self::Refused => return,
            Self::Listed(origin) => origin.clone(),
            Self::Any => HeaderValue::from_static("*"),
        };
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        // Anybody can make a page whose origin is `null`.
        if matches!(self, Self::Listed(origin) if origin != "null") {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }

    /// What OPTIONS is answered: which methods there are, and, to another's page, what it may send.
    pub(super) fn preflight(&self, methods: &'static str) -> Response<Body> {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        if matches!(self, Self::Listed(_) | Self::Any) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_page_it_is() {
        let listed = Origins::same_or(["https://example.org", "http://[::1]:3000"]).expect("origins");
        for (origin, host, same, list, any) in [
            // Not a browser's.
            (None, Some("h"), "own", "own", "own"),
            (None, None, "own", "own", "own"),
            (Some("http://h"), Some("h"), "own", "own", "own"),
            (Some("http://h:8080"), Some("h:8080"), "own", "own", "own"),
            // A proxy that ends TLS may stand in front.
            (Some("https://h"), Some("h"), "own", "own", "own"),
            (Some("http://h:8081"), Some("h:8080"), "refused", "refused", "any"),
            (Some("http://h.example"), Some("h"), "refused", "refused", "any"),
            (Some("https://example.org"), Some("h"), "refused", "listed", "any"),
            (Some("HTTPS://Example.org:443"), Some("h"), "refused", "listed", "any"),
            (Some("http://example.org"), Some("h"), "refused", "refused", "any"),
            (Some("https://example.org.evil.example"), Some("h"), "refused", "refused", "any"),
            (Some("https://www.example.org"), Some("h"), "refused", "refused", "any"),
            (Some("http://[0:0:0::1]:3000"), Some("h"), "refused", "listed", "any"),
            (Some("null"), Some("h"), "refused", "refused", "any"),
            (Some("null"), Some("null"), "refused", "refused", "any"),
            (Some(""), Some("h"), "refused", "refused", "any"),
            (Some("https://example.org"), None, "refused", "refused", "any"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            for (origins, expected) in [(&Origins::Same, same), (&listed, list), (&Origins::Any, any)] {
                let page = match RequestOrigin::classify(&headers, host.map(str::as_bytes), origins) {
                    Ok(RequestOrigin::Own) => "own",
                    Ok(RequestOrigin::Listed(_)) => "listed",
                    Ok(RequestOrigin::Any) => "any",
                    Ok(RequestOrigin::Refused) | Err(_) => "refused",
                };
                assert_eq!(page, expected, "{origin:?} {host:?} {origins:?}");
            }
        }
        let mut twice = HeaderMap::new();
        twice.append(header::ORIGIN, HeaderValue::from_static("http://h"));
        twice.append(header::ORIGIN, HeaderValue::from_static("http://h"));
        assert!(RequestOrigin::classify(&twice, Some(b"h"), &Origins::Any).is_err());
    }

    #[test]
    fn what_the_browser_is_told() {
        let origin = |text| RequestOrigin::Listed(HeaderValue::from_static(text));
        for (page, allowed, credentials) in [
            (RequestOrigin::Own, None, false),
            (RequestOrigin::Refused, None, false),
            (RequestOrigin::Any, Some("*"), false),
            (origin("https://example.org"), Some("https://example.org"), true),
            (origin("null"), Some("null"), false),
        ] {
            let mut preflight = page.preflight("GET");
            page.add_cors_headers(preflight.headers_mut());
            let headers = preflight.headers();
            let pending_change =
                |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
            assert_eq!(pending_change(header::ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{page:?}");
            assert_eq!(
                pending_change(header::ACCESS_CONTROL_ALLOW_CREDENTIALS),
                credentials.then_some("true"),
                "{page:?}"
            );
            assert_eq!(
                pending_change(header::ACCESS_CONTROL_ALLOW_METHODS),
                allowed.map(|_| "GET"),
                "{page:?}"
            );
            assert_eq!(pending_change(header::ACCESS_CONTROL_MAX_AGE), allowed.map(|_| "7200"), "{page:?}");
            assert_eq!(pending_change(header::VARY), Some("Origin"));
        }
    }
}
