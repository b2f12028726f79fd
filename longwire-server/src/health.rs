//! What is answered to plain HTTP besides what the library answers: whether the server lives, and takes connections.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// Where the server says that it is alive.
pub(crate) const HEALTHY: &str = "/-/healthy";

/// Where it says that it takes connections.
const READY: &str = "/-/ready";

/// Answers a request that is for no channel; the server may be about to end.
pub(crate) fn answer(request: &Request<Incoming>, is_closing: bool) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if ![HEALTHY, READY].contains(&path) {
        let channel = if path.starts_with("/-/") { "" } else { CHANNEL };
        return text(StatusCode::NOT_FOUND, format!("nothing to read at {path}{channel}\n"));
    }
    // RFC 9110 15.5.6: Allow is required; 9.1: every server supports GET and HEAD.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused =
            text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood here\n".into());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        READY if is_closing => text(StatusCode::SERVICE_UNAVAILABLE, "about to end\n".into()),
        READY => text(StatusCode::OK, "ready\n".into()),
        _ => text(StatusCode::OK, "ok\n".into()),
    }
}

/// Whether somebody looks whether the server lives, which tells him nothing else.
pub(crate) fn is_probe(path: &str) -> bool {
    path == HEALTHY || path == READY
}

/// The answer to somebody who may ask for nothing here.
pub(crate) fn refused(refusal: longwire::Refusal) -> Response<Full<Bytes>> {
    text(refusal.status(), refusal.text().to_owned())
}

/// Said to whoever opens a channel's address in a browser.
const CHANNEL: &str = ": it is a channel, to which a WebSocket client connects; in a browser open / instead";

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
