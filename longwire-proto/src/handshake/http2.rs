//! The opening handshake over HTTP/2: the extended CONNECT of RFC 8441, which HTTP/3 took over (RFC 9220).
//!
//! This module has only what differs from HTTP/1.1. [`server`] and the client's [`Offer`] check Origin, subprotocols,
//! extensions and the version (RFC 8441 5). Frames, streams and settings belong to the HTTP library.

use http::uri::Scheme;
use http::{
    HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, StatusCode, Uri, Version, header,
};

use super::authority::Authority;
use super::client::{Agreed, HandshakeError, InvalidRequest};
use super::grammar::single;
use super::offer::Offer;
use super::refusal::Refusal;
use super::server::{self, Acceptance, Policy, ValidRequest};
use crate::deflate::negotiate;

/// The value of `:protocol` (RFC 8441 5).
pub const PROTOCOL: &str = "websocket";

/// Returns true if a request asks for WebSocket by an extended CONNECT whose `:protocol` is `protocol`.
///
/// The rest of the handshake may still be invalid; [`check`] decides that.
pub fn is_websocket<B>(request: &HttpRequest<B>, protocol: Option<&str>) -> bool {
    request.method() == Method::CONNECT && protocol == Some(PROTOCOL)
}

/// Checks an opening handshake over HTTP/2 or HTTP/3, whose `:protocol` pseudo-header is `protocol`, and
/// negotiates: [`validate`], then [`ValidRequest::negotiate`].
///
/// # Errors
///
/// The response to send, which names the rule that was broken.
pub fn check<B>(
    request: &HttpRequest<B>,
    protocol: Option<&str>,
    policy: &Policy,
) -> Result<Acceptance, Refusal> {
    validate(request, protocol)?.negotiate(request, policy)
}

/// Checks those rules of an opening handshake over HTTP/2 or HTTP/3 that do not depend on the server's policy.
///
/// `protocol` is the `:protocol` pseudo-header; `:scheme`, `:authority` and `:path` are taken from the URI of
/// the request.
///
/// # Errors
///
/// The response to send, which names the rule that was broken.
pub fn validate<B>(request: &HttpRequest<B>, protocol: Option<&str>) -> Result<ValidRequest, Refusal> {
    let headers = request.headers();
    check_http_version(request.version())?;
    check_method(request.method())?;
    check_protocol(protocol)?;
    check_target(request.uri(), headers)?;
    check_no_framing(headers)?;
    // RFC 6455 4.4 has 426 as an example of the answer; RFC 9113 8.6 has no such status in HTTP/2.
    server::check_websocket_version(headers, Refusal::bad_request)?;
    // RFC 8441 5: Sec-WebSocket-Key and Sec-WebSocket-Accept are not used.
    Ok(ValidRequest::without_key())
}

/// RFC 8441 3: the setting that makes extended CONNECT is one of HTTP/2; RFC 9220 3: of HTTP/3.
fn check_http_version(version: Version) -> Result<(), Refusal> {
    if version == Version::HTTP_2 || version == Version::HTTP_3 {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "An extended CONNECT needs HTTP/2 or HTTP/3 (RFC 8441 3).",
    ))
}

/// RFC 8441 4.
fn check_method(method: &Method) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Ok(());
    }
    // RFC 9110 9.3.2: no content in the response to HEAD.
    let text = if method == Method::HEAD {
        ""
    } else {
        "This is a WebSocket endpoint: over HTTP/2 the request is CONNECT with :protocol websocket (RFC 8441 5)."
    };
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text)
        .header(header::ALLOW, HeaderValue::from_static("CONNECT")))
}

/// RFC 8441 4 and 5; RFC 9220 3 for the status.
fn check_protocol(protocol: Option<&str>) -> Result<(), Refusal> {
    match protocol {
        Some(PROTOCOL) => Ok(()),
        Some(_) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "The :protocol of the request is not websocket (RFC 8441 5).",
        )),
        None => Err(Refusal::bad_request(
            "CONNECT without :protocol asks for a tunnel, which this server does not offer (RFC 8441 4).",
        )),
    }
}

/// RFC 8441 4 and 5: `:scheme`, `:path` and `:authority` are there; RFC 9113 8.3.1: Host does not contradict.
fn check_target(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let scheme = uri.scheme_str().unwrap_or_default();
    if !["http", "https"].iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
        return Err(Refusal::bad_request("The :scheme is neither https nor http (RFC 8441 5)."));
    }
    // RFC 9113 8.3.1: not empty for these schemes.
    if !uri.path_and_query().is_some_and(|path| path.as_str().starts_with('/')) {
        return Err(Refusal::bad_request("The :path does not begin with a slash (RFC 9113 8.3.1)."));
    }
    let host = uri
        .authority()
        .and_then(|authority| Authority::parse(authority.as_str()))
        .ok_or_else(|| Refusal::bad_request("The :authority is missing or invalid (RFC 8441 4)."))?;
    let contradicts = match single(headers, &header::HOST) {
        Ok(None) => false,
        Ok(Some(value)) => value.to_str().ok().and_then(Authority::parse) != Some(host),
        Err(_) => true,
    };
    if contradicts {
        return Err(Refusal::bad_request("The Host header differs from the :authority (RFC 9113 8.3.1)."));
    }
    Ok(())
}

/// RFC 9113 8.2.2: the headers of a connection have no place in HTTP/2, RFC 8441 4: so no Upgrade either;
/// RFC 9110 9.3.6: a CONNECT has no content.
fn check_no_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let forbidden = [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];
    if forbidden.iter().any(|name| headers.contains_key(name)) {
        return Err(Refusal::bad_request(
            "Connection, Upgrade, Transfer-Encoding and Content-Length are not allowed in a WebSocket handshake \
             over HTTP/2 (RFC 9113 8.2.2, RFC 9110 9.3.6).",
        ));
    }
    Ok(())
}

/// The request that opens a WebSocket over HTTP/2 (RFC 8441 5.1), which later checks the response.
///
/// ```
/// use longwire_proto::handshake::{Offer, http2::Request};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let offer = Offer::new("example.com", "/chat?room=1")?.subprotocols(["chat.v2"])?;
/// let request = Request::new(offer, true)?;
/// let head = request.head();
/// assert_eq!(head.method(), "CONNECT");
/// assert_eq!(head.uri(), "https://example.com/chat?room=1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    offer: Offer,
    uri: Uri,
}

impl Request {
    /// The request for `offer`. Its scheme is `https` if `secure` (`wss`), and otherwise `http` (RFC 8441 5).
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::Host`] if the host cannot be the authority of a URI.
    pub fn new(offer: Offer, secure: bool) -> Result<Self, InvalidRequest> {
        let uri = Uri::builder()
            .scheme(if secure { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(offer.host.as_str())
            .path_and_query(offer.target.as_str())
            .build()
            .map_err(|_| InvalidRequest::Host)?;
        Ok(Self { offer, uri })
    }

    /// The head of the request without `:protocol`, which is [`PROTOCOL`]. `http::Request` has no field for it;
    /// each HTTP library has its own.
    pub fn head(&self) -> HttpRequest<()> {
        let mut request = HttpRequest::new(());
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if !self.offer.subprotocols.is_empty()
            && let Ok(names) = HeaderValue::try_from(self.offer.subprotocols.join(", "))
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, names);
        }
        if let Some(deflate) = &self.offer.deflate
            && let Ok(offer) = HeaderValue::try_from(negotiate::offer(deflate))
        {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, offer);
        }
        for (name, value) in &self.offer.headers {
            // Fails only beyond 32,768 headers, where one less is no loss.
            let _ = headers.try_append(name.clone(), value.clone());
        }
        request
    }

    /// Checks the final response to this request.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Refused`] if its status is not 2xx, otherwise the rule that it breaks. In both cases the
    /// stream must not be used for WebSocket.
    pub fn check(&self, response: &Response<()>) -> Result<Agreed, HandshakeError> {
        // RFC 8441 5: 2xx instead of 101. RFC 9110 9.3.6: a Content-Length in it is ignored.
        if !response.status().is_success() {
            return Err(HandshakeError::Refused(response.status()));
        }
        self.offer.check(response.headers())
    }
}
