//! Cross-origin requests (Fetch 3.2, CORS). The list of origins for WebSockets applies here as well.

use longwire::Origins;
use longwire::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::Body;
use super::response::{ErrorResponse, empty};

/// How long a browser may cache a preflight response, in seconds. Browsers cap it at two hours.
const MAX_AGE: &str = "7200";

/// Request headers that a page may set in addition to the safelisted ones.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Api-Key";

/// Response headers that a page may read in addition to the safelisted ones.
const EXPOSED_HEADERS: &str = "Retry-After, WWW-Authenticate";

/// The origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestOrigin {
    /// The server's own, or no Origin header. Clients other than browsers could forge the header anyway.
    Own,
    /// A listed origin.
    Listed(HeaderValue),
    /// Any origin is allowed.
    Any,
    /// The origin is not allowed.
    Refused,
}

impl RequestOrigin {
    /// Classifies a request by its Origin header and host.
    pub(super) fn classify(
        headers: &HeaderMap,
        host: Option<&[u8]>,
        origins: &Origins,
    ) -> Result<Self, ErrorResponse> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let (origin, host) = match (values.next(), values.next()) {
            (None, _) => return Ok(Self::Own),
            (Some(origin), None) => (origin, host.and_then(|host| std::str::from_utf8(host).ok())),
            (Some(_), Some(_)) => {
                return Err(ErrorResponse::forbidden("more than one Origin header (RFC 6454 7.3)"));
            }
        };
        let allows = |origins: &Origins| host.is_some_and(|host| origins.allows(origin.as_bytes(), host));
        if allows(&Origins::Same) {
            return Ok(Self::Own);
        }
        match origins {
            Origins::Any => Ok(Self::Any),
            listed if allows(listed) => Ok(Self::Listed(origin.clone())),
            _ => Err(ErrorResponse::forbidden("this origin is not allowed; add it to allow_origin")),
        }
    }

    /// Adds the headers that let the browser pass the response to the page.
    pub(super) fn add_cors_headers(&self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let origin = match self {
            Self::Own | Self::Refused => return,
            Self::Listed(origin) => origin.clone(),
            Self::Any => HeaderValue::from_static("*"),
        };
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        // Anyone can create a page with the origin `null`.
        if matches!(self, Self::Listed(origin) if origin != "null") {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }

    /// Returns the response to OPTIONS: the methods, and for another origin the allowed request headers.
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
    fn origins_are_classified() {
        let listed = Origins::same_or(["https://example.org", "http://[::1]:3000"]).expect("origins");
        for (origin, host, same, list, any) in [
            // Not from a browser.
            (None, Some("h"), "own", "own", "own"),
            (None, None, "own", "own", "own"),
            (Some("http://h"), Some("h"), "own", "own", "own"),
            (Some("http://h:8080"), Some("h:8080"), "own", "own", "own"),
            // A TLS-terminating proxy may be in front.
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
                let class = match RequestOrigin::classify(&headers, host.map(str::as_bytes), origins) {
                    Ok(RequestOrigin::Own) => "own",
                    Ok(RequestOrigin::Listed(_)) => "listed",
                    Ok(RequestOrigin::Any) => "any",
                    Ok(RequestOrigin::Refused) | Err(_) => "refused",
                };
                assert_eq!(class, expected, "{origin:?} {host:?} {origins:?}");
            }
        }
        let mut twice = HeaderMap::new();
        twice.append(header::ORIGIN, HeaderValue::from_static("http://h"));
        twice.append(header::ORIGIN, HeaderValue::from_static("http://h"));
        assert!(RequestOrigin::classify(&twice, Some(b"h"), &Origins::Any).is_err());
    }

    #[test]
    fn cors_response_headers() {
        let origin = |text| RequestOrigin::Listed(HeaderValue::from_static(text));
        for (origin, allowed, credentials) in [
            (RequestOrigin::Own, None, false),
            (RequestOrigin::Refused, None, false),
            (RequestOrigin::Any, Some("*"), false),
            (origin("https://example.org"), Some("https://example.org"), true),
            (origin("null"), Some("null"), false),
        ] {
            let mut preflight = origin.preflight("GET");
            origin.add_cors_headers(preflight.headers_mut());
            let headers = preflight.headers();
            let header_value =
                |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
            assert_eq!(header_value(header::ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{origin:?}");
            assert_eq!(
                header_value(header::ACCESS_CONTROL_ALLOW_CREDENTIALS),
                credentials.then_some("true"),
                "{origin:?}"
            );
            assert_eq!(
                header_value(header::ACCESS_CONTROL_ALLOW_METHODS),
                allowed.map(|_| "GET"),
                "{origin:?}"
            );
            assert_eq!(header_value(header::ACCESS_CONTROL_MAX_AGE), allowed.map(|_| "7200"), "{origin:?}");
            assert_eq!(header_value(header::VARY), Some("Origin"));
        }
    }
}
