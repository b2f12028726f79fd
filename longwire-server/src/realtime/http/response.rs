//! Responses over HTTP: JSON, error responses with the codes of sessions, and content negotiation.

use std::error::Error;

use http_body_util::{BodyExt, Empty, Full};
use longwire::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use longwire::{Bytes, Refusal};
use serde::Serialize;

use super::super::requests::{ErrorCode, RequestError};
use super::Body;
use crate::hub::HubError;

/// An error response.
pub(super) struct ErrorResponse(Box<Content>);

/// Boxed, to keep a `Result` with this error small.
struct Content {
    status: StatusCode,
    headers: HeaderMap,
    error: RequestError,
}

impl ErrorResponse {
    fn new(status: StatusCode, code: ErrorCode, text: impl Into<String>) -> Self {
        Self(Box::new(Content { status, headers: HeaderMap::new(), error: RequestError::new(code, text) }))
    }

    fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::BadRequest, "not found")
    }

    pub(super) fn forbidden(text: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, text)
    }

    /// RFC 9110 15.5.6: Allow is required.
    pub(super) fn method_not_allowed(methods: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::BadRequest,
            format!("method not allowed; use one of {methods}"),
        )
        .header(header::ALLOW, HeaderValue::from_static(methods))
    }

    /// RFC 9110 15.5.9: the connection is unusable afterwards.
    pub(super) fn timed_out(text: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::BadRequest, text)
            .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// RFC 9110 15.5.16.
    pub(super) fn unsupported_encoding() -> Self {
        let text = "unsupported Content-Encoding; send the body without it";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, text)
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }

    pub(super) fn response(self) -> Response<Body> {
        #[derive(Serialize)]
        struct Denied {
            error: RequestError,
        }
        let Content { status, headers, error } = *self.0;
        let mut response = json(&Denied { error });
        *response.status_mut() = status;
        response.headers_mut().extend(headers);
        response
    }
}

impl From<RequestError> for ErrorResponse {
    fn from(error: RequestError) -> Self {
        let status = match error.code {
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut headers = HeaderMap::new();
        if let Some(wait) = error.retry_after {
            // RFC 9110 10.2.3 allows whole seconds only; round up.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1000).max(1)));
        }
        Self(Box::new(Content { status, headers, error }))
    }
}

impl From<Refusal> for ErrorResponse {
    fn from(refusal: Refusal) -> Self {
        let (status, headers) = (refusal.status(), refusal.headers().clone());
        let mut error = RequestError::from(refusal);
        if status == StatusCode::BAD_REQUEST {
            error.code = ErrorCode::BadRequest;
        }
        Self(Box::new(Content { status, headers, error }))
    }
}

impl From<HubError> for ErrorResponse {
    fn from(refused: HubError) -> Self {
        RequestError::from(refused).into()
    }
}

/// Returns a 200 response with a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    // Serialising cannot fail, because all map keys are strings.
    json_text(serde_json::to_string(value).unwrap_or_default())
}

/// Returns a 200 response with a JSON text.
pub(super) fn json_text(text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    prepare(response.headers_mut(), HeaderValue::from_static("application/json"));
    response
}

/// Returns a 200 response with an event stream.
pub(super) fn stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    prepare(response.headers_mut(), HeaderValue::from_static("text/event-stream"));
    // Disables the response buffer of nginx.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Returns the response to GET without a body (RFC 9110 9.3.2).
pub(super) fn head(wants_stream: bool) -> Response<Body> {
    if wants_stream {
        return stream(empty());
    }
    let mut response = Response::new(empty());
    prepare(response.headers_mut(), HeaderValue::from_static("application/json"));
    response
}

pub(super) fn empty() -> Body {
    Empty::new().boxed_unsync()
}

fn prepare(headers: &mut HeaderMap, kind: HeaderValue) {
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Returns whether the client wants an event stream instead of JSON (RFC 9110 12.5.1). Naming the stream type
/// is sufficient, because EventSource names nothing else.
pub(super) fn wants_stream(headers: &HeaderMap) -> Result<bool, ErrorResponse> {
    let mut says_nothing = true;
    let mut takes_json = false;
    for ranges in headers.get_all(header::ACCEPT) {
        says_nothing = false;
        for range in ranges.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            // RFC 9110 12.4.2.
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            if weight.is_some_and(|weight| weight.trim_end_matches(['0', '.']).is_empty()) {
                continue;
            }
            if kind.eq_ignore_ascii_case("text/event-stream") {
                return Ok(true);
            }
            takes_json |=
                ["*/*", "application/*", "application/json"].iter().any(|one| kind.eq_ignore_ascii_case(one));
        }
    }
    if says_nothing || takes_json {
        return Ok(false);
    }
    let text = "not acceptable; accept text/event-stream or application/json";
    Err(ErrorResponse::new(StatusCode::NOT_ACCEPTABLE, ErrorCode::BadRequest, text))
}

/// Returns the error response for a body that cannot be read.
pub(super) fn unreadable_body(error: &(dyn Error + 'static)) -> ErrorResponse {
    ErrorResponse::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::BadRequest,
        format!("the body is incomplete: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_negotiation() {
        for (accept, wants) in [
            (&[][..], Some(false)),
            (&["text/event-stream"], Some(true)),
            (&["Text/Event-Stream; q=0.5, */*"], Some(true)),
            (&["application/json", "text/event-stream"], Some(true)),
            (&["text/event-stream;q=0, */*;q=0.1"], Some(false)),
            (&["text/event-stream;q=0.000"], None),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(false)),
            (&["application/*"], Some(false)),
            (&["application/json;charset=utf-8"], Some(false)),
            (&["text/html"], None),
            (&["text/*"], None),
            (&["*/*;q=0"], None),
            (&["application/json; q=0"], None),
            (&[""], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(wants_stream(&headers).ok(), wants, "{accept:?}");
        }
    }
}
