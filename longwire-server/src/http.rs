//! What is answered to plain HTTP: the page, the health check and the metrics.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::metrics;

/// Where the server says that it is alive.
pub(crate) const HEALTHY: &str = "/-/healthy";

/// Where it says that it takes connections.
const READY: &str = "/-/ready";

/// The page; `{nonce}` stands where its script and its style are told from anything injected.
const PAGE: &str = include_str!("page.html");

/// Answers a request that is for no channel; the server may be about to end.
pub(crate) fn answer(request: &Request<Incoming>, is_closing: bool) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/", HEALTHY, READY, metrics::PATH].contains(&path) {
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
        HEALTHY => text(StatusCode::OK, "ok\n".into()),
        READY if is_closing => text(StatusCode::SERVICE_UNAVAILABLE, "about to end\n".into()),
        READY => text(StatusCode::OK, "ready\n".into()),
        metrics::PATH => text(StatusCode::OK, metrics::page()),
        _ => page(),
    }
}

/// Said to whoever opens a channel's address in a browser.
const CHANNEL: &str = ": it is a channel, to which a WebSocket client connects; in a browser open / instead";

fn page() -> Response<Full<Bytes>> {
    // A nonce that nobody can foretell, fresh for each answer (CSP level 3, 7.1).
    let mut random = [0; 16];
    if getrandom::fill(&mut random).is_err() {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random bytes\n".into());
    }
    let nonce = format!("{:032x}", u128::from_be_bytes(random));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    respond(StatusCode::OK, "text/html; charset=utf-8", &policy, PAGE.replace("{nonce}", &nonce))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", "default-src 'none'; frame-ancestors 'none'", body)
}

fn respond(status: StatusCode, kind: &'static str, policy: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
