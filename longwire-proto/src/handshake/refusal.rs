//! The response of a server that refuses an opening handshake (RFC 6455 section 4.2.2).

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::head::HeadError;
use super::headers::{ExtraHeaderError, encode_line};

/// An HTTP response with a short text that refuses an opening handshake and closes the connection.
///
/// ```
/// use http::{HeaderValue, StatusCode, header};
/// # use longwire_proto::handshake::Refusal;
///
/// let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "Sign in first.")
///     .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
/// let mut out = Vec::new();
/// refusal.encode(&mut out);
/// assert!(out.starts_with(b"HTTP/1.1 401 Unauthorized\r\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Content>);

/// Boxed, so that a `Result` with a refusal stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    status: StatusCode,
    headers: HeaderMap,
    text: Cow<'static, str>,
}

impl Refusal {
    /// Creates a refusal with this status and body.
    ///
    /// An informational status (1xx) becomes 500: it would leave the client waiting, or make it believe that the
    /// protocol was switched.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        let status = if status.is_informational() { StatusCode::INTERNAL_SERVER_ERROR } else { status };
        Self(Box::new(Content { status, headers: HeaderMap::new(), text: text.into() }))
    }

    pub(super) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// Adds a header. [`encode`](Self::encode) writes Content-Length, Transfer-Encoding and Connection itself and
    /// ignores those given here; a Content-Type given here replaces the default.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        // Fails only beyond 32,768 headers, where one less is no loss.
        let _ = self.0.headers.try_append(name, value);
        self
    }

    /// Returns the status of the response, which is never informational.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the headers that were added.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Returns the headers that were added, to add more, such as Date.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.0.headers
    }

    /// Returns the body of the response.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// RFC 9110 15.3.5, 15.3.6, 15.4.5.
    fn has_content(&self) -> bool {
        let without = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        !without.contains(&self.0.status)
    }

    /// Appends the complete response: status line, headers, `Connection: close` and the text as
    /// `text/plain` in UTF-8. A status that allows no content (204, 205, 304) is sent without the text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body = if self.has_content() { &*self.0.text } else { "" };

        encode_status_line(self.0.status, out);
        let owned = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
        for (name, value) in self.0.headers.iter().filter(|(name, _)| !owned.contains(name)) {
            encode_line(name, value.as_bytes(), out);
        }
        if !body.is_empty() && !self.0.headers.contains_key(header::CONTENT_TYPE) {
            encode_line(&header::CONTENT_TYPE, b"text/plain; charset=utf-8", out);
        }
        // RFC 9110 8.6: not with 204, and with 304 only the length of another body.
        if self.0.status != StatusCode::NO_CONTENT && self.0.status != StatusCode::NOT_MODIFIED {
            encode_line(&header::CONTENT_LENGTH, body.len().to_string().as_bytes(), out);
        }
        // RFC 9110 7.8: a sender of Upgrade names it in Connection as well.
        let upgrade = self.0.headers.contains_key(header::UPGRADE);
        let connection: &[u8] = if upgrade { b"Upgrade, close" } else { b"close" };
        encode_line(&header::CONNECTION, connection, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.as_bytes());
    }
}

/// Converts into a response for a server that frames messages itself, such as hyper: the status, the headers
/// that were added except those of the framing, and the text.
///
/// ```
/// # use longwire_proto::handshake::Refusal;
///
/// let refusal = Refusal::new(http::StatusCode::FORBIDDEN, "不行 ✋");
/// let response: http::Response<String> = refusal.into();
/// assert_eq!((response.status().as_u16(), response.body().as_str()), (403, "不行 ✋"));
/// ```
impl<B: From<String>> From<Refusal> for Response<B> {
    fn from(refusal: Refusal) -> Self {
        let body = if refusal.has_content() { refusal.0.text.to_string() } else { String::new() };
        let has_body = !body.is_empty();
        let mut response = Self::new(body.into());
        *response.status_mut() = refusal.0.status;
        let headers = response.headers_mut();
        *headers = refusal.0.headers;
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        if has_body && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        response
    }
}

/// The status line with its CRLF (RFC 9112 4).
pub(super) fn encode_status_line(status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status, self.0.text)
    }
}

impl std::error::Error for Refusal {}

impl From<ExtraHeaderError> for Refusal {
    fn from(error: ExtraHeaderError) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The server cannot add a header to its response: {error}"),
        )
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let status = match error {
            // RFC 9110 15.5.15.
            HeadError::StartLineTooLong { .. } => StatusCode::URI_TOO_LONG,
            // RFC 6585 5.
            HeadError::TooLong { .. } | HeadError::TooManyHeaders { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            // RFC 9110 15.6.6.
            HeadError::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}
