//! Health checks, and responses to plain HTTP requests that the library does not handle.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// The path that reports whether the server is alive.
pub(crate) const HEALTHY: &str = "/-/healthy";

/// The path that reports whether the server accepts connections.
const READY: &str = "/-/ready";

/// Answers a request for a path that the library does not handle. `is_closing` is set during shutdown.
pub(crate) fn answer(request: &Request<Incoming>, is_closing: bool) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if ![HEALTHY, READY].contains(&path) {
        let channel = if path.starts_with("/-/") { "" } else { CHANNEL };
        return text(StatusCode::NOT_FOUND, format!("not found: {path}{channel}\n"));
    }
    // RFC 9110 15.5.6: Allow is required. 9.1: every server supports GET and HEAD.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused =
            text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use GET or HEAD\n".into());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        READY if is_closing => text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".into()),
        READY => text(StatusCode::OK, "ready\n".into()),
        _ => text(StatusCode::OK, "ok\n".into()),
    }
}

/// Returns whether the path is a health check, which reveals nothing else.
pub(crate) fn is_probe(path: &str) -> bool {
    path == HEALTHY || path == READY
}

/// Converts a refusal into a response.
pub(crate) fn refused(refusal: longwire::Refusal) -> Response<Full<Bytes>> {
    text(refusal.status(), refusal.text().to_owned())
}

/// Shown when the address of a channel is opened in a browser.
const CHANNEL: &str = " is a channel; connect with a WebSocket client, or open / in a browser";

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
