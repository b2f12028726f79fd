//! The rules of the server's opening handshake (RFC 6455 section 4.2), each in one function with its section.
//!
//! [`parse_request`] applies the rules of HTTP/1.1, [`check`] those of WebSocket; between the two the caller can
//! look at the request, or serve it as plain HTTP. [`ServerOpening`](super::ServerOpening) reads the request.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};

use super::authority::Authority;
use super::extensions::{Malformed, extensions};
use super::grammar::{elements, has_element, is_token, single, sort_and_find_repeated};
use super::head::{self, HeadLimits};
use super::headers::{append_extra, encode_line};
use super::origin::Origins;
use super::refusal::{Refusal, encode_status_line};
use super::{ExtraHeaderError, accept_key};
use crate::config::Config;
use crate::connection::Connection;
use crate::deflate::{Deflate, DeflateParameters, negotiate as deflate};

/// The base64 of RFC 4648 4, padded. Bits behind the last byte may be set: the example key of RFC 6455 4.1,
/// `AQIDBAUGBwgJCgsMDQ4PEC==`, has such bits (RFC 4648 3.5 leaves it to the decoder).
const NONCE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What a server accepts: by default no subprotocol, only pages of its own origin, and no compression.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    subprotocols: Vec<String>,
    origins: Origins,
    deflate: Option<Deflate>,
}

impl Policy {
    /// The default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the subprotocols that the server supports, the preferred one first.
    ///
    /// The first one that the client offers is selected; the connection has none if it offers none of them. A name that
    /// is not a token (RFC 9110 5.6.2) is never selected, because no valid request offers it.
    #[must_use]
    pub fn subprotocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the origins of the pages that may connect.
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Accepts permessage-deflate (RFC 7692) with this configuration, or never with `None`.
    ///
    /// The first acceptable offer is accepted. An offer is not acceptable if its parameters are invalid
    /// (RFC 7692 7.1), or if it does not let the server limit the client's window as configured.
    #[must_use]
    pub fn deflate(mut self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.deflate = deflate.into();
        self
    }

    /// Returns the subprotocol that a request with these headers gets.
    ///
    /// # Errors
    ///
    /// 400 if the request does not offer a list of unique tokens (RFC 6455 4.1).
    pub fn select_subprotocol(&self, headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
        select_subprotocol(headers, &self.subprotocols)
    }
}

/// Parses the head of a request; bytes after the head are ignored.
///
/// The rules are those of HTTP/1.1 for every request, whether it asks for WebSocket or not, so that a plain HTTP
/// request can be served elsewhere. HTTP/1.0 is accepted here, even without Host, and refused by [`check`].
///
/// # Errors
///
/// The response to send if the head is incomplete, malformed or beyond `limits`, if its target is in
/// neither origin-form nor absolute-form (`*` passes with OPTIONS), or if there is not exactly one
/// valid Host.
pub fn parse_request(head: &[u8], limits: HeadLimits) -> Result<Request<()>, Refusal> {
    let head = head::parse_request(head, limits)?;
    let mut request = Request::new(());
    *request.uri_mut() = parse_target(head.target, &head.method)?;
    *request.method_mut() = head.method;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    if request.version() != Version::HTTP_10 || request.headers().contains_key(header::HOST) {
        effective_host(&request)?;
    }
    Ok(request)
}

/// RFC 9112 3.2: origin-form, absolute-form, and asterisk-form for OPTIONS.
fn parse_target(target: Bytes, method: &Method) -> Result<Uri, Refusal> {
    let invalid = || Refusal::bad_request("The request target is invalid (RFC 9112 3.2).");
    // RFC 3986 2: everything else is to be percent-encoded. RFC 9112 3.2: a target has no fragment,
    // which `Uri` would drop.
    if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(invalid());
    }
    let origin_form = target.starts_with(b"/");
    let asterisk_form = &target[..] == b"*";
    let uri = Uri::from_maybe_shared(target).map_err(|_| invalid())?;
    if origin_form || (asterisk_form && method == Method::OPTIONS) {
        return Ok(uri);
    }
    // RFC 9112 3.2.2. The schemes ws and wss are those of RFC 6455 3.
    let scheme = uri.scheme_str().unwrap_or_default();
    let known = ["http", "https", "ws", "wss"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if known { Ok(uri) } else { Err(invalid()) }
}

/// The host that the request is addressed to, from the target or the Host header.
fn effective_host<B>(request: &Request<B>) -> Result<Authority<'_>, Refusal> {
    // RFC 9113 8.3.1: where the target has an authority, HTTP/2 needs no Host.
    if request.version() >= Version::HTTP_2
        && let Some(authority) = request.uri().authority()
    {
        return Authority::parse(authority.as_str()).ok_or_else(invalid_authority);
    }
    // RFC 9112 3.2: exactly one valid Host, whatever the form of the target.
    let value = match single(request.headers(), &header::HOST) {
        Ok(Some(value)) => value.to_str().ok(),
        Ok(None) => return Err(Refusal::bad_request("The Host header is missing (RFC 9112 3.2).")),
        Err(_) => return Err(Refusal::bad_request("There is more than one Host header (RFC 9112 3.2).")),
    };
    let host = value
        .and_then(Authority::parse)
        .ok_or_else(|| Refusal::bad_request("The Host header is invalid (RFC 9112 3.2)."))?;
    // RFC 9112 3.2.2: the authority of an absolute target takes precedence. RFC 9110 4.2.4: it must
    // not contain user information.
    match request.uri().authority() {
        None => Ok(host),
        Some(authority) => Authority::parse(authority.as_str()).ok_or_else(invalid_authority),
    }
}

fn invalid_authority() -> Refusal {
    Refusal::bad_request("The authority of the request target is invalid (RFC 9112 3.2.2).")
}

/// Whether the request asks to switch to WebSocket: its Upgrade header lists `websocket`.
///
/// Says nothing about whether the rest of the handshake is valid; [`check`] does.
pub fn is_websocket<B>(request: &Request<B>) -> bool {
    has_element(request.headers(), &header::UPGRADE, "websocket")
}

/// Checks an opening handshake, which may come from any HTTP/1.1 parser, and negotiates: [`validate`], then
/// [`ValidRequest::negotiate`].
///
/// # Errors
///
/// The response to send, which names the rule that was broken.
pub fn check<B>(request: &Request<B>, policy: &Policy) -> Result<Acceptance, Refusal> {
    validate(request)?.negotiate(request, policy)
}

/// Checks those rules of an opening handshake that do not depend on the server's policy.
///
/// # Errors
///
/// The response to send, which names the rule that was broken.
pub fn validate<B>(request: &Request<B>) -> Result<ValidRequest, Refusal> {
    let headers = request.headers();
    check_method(request.method())?;
    check_http_version(request.version())?;
    check_upgrade(request)?;
    check_no_content(headers)?;
    check_websocket_version(headers, upgrade_required)?;
    let accept = answer_key(headers)?;
    effective_host(request)?;
    Ok(ValidRequest { accept: Some(accept) })
}

/// A request that has passed [`validate`] or [`http2::validate`](super::http2::validate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidRequest {
    /// What answers the key of the request; a request over HTTP/2 has none.
    accept: Option<HeaderValue>,
}

impl ValidRequest {
    pub(super) const fn without_key() -> Self {
        Self { accept: None }
    }

    /// Applies the server's policy to the same request: origin, subprotocol and extensions, which are the same in
    /// all versions of HTTP (RFC 8441 5).
    ///
    /// # Errors
    ///
    /// The response to send, which names the rule that was broken.
    pub fn negotiate<B>(self, request: &Request<B>, policy: &Policy) -> Result<Acceptance, Refusal> {
        let headers = request.headers();
        check_origin(request, &policy.origins)?;
        // Only a token is ever selected, so this does not fail.
        let subprotocol =
            policy.select_subprotocol(headers)?.and_then(|name| HeaderValue::from_str(name).ok());
        let deflate = negotiate_extensions(headers, policy.deflate.as_ref())?;
        Ok(Acceptance { accept: self.accept, subprotocol, deflate })
    }
}

/// RFC 6455 4.2.1, item 1.
fn check_method(method: &Method) -> Result<(), Refusal> {
    if method == Method::GET {
        return Ok(());
    }
    // RFC 9110 9.3.2: no content in the response to HEAD.
    let text = if method == Method::HEAD { "" } else { "A WebSocket handshake is a GET (RFC 6455 4.2.1)." };
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text)
        .header(header::ALLOW, HeaderValue::from_static("GET")))
}

/// RFC 6455 4.2.1, item 1.
fn check_http_version(version: Version) -> Result<(), Refusal> {
    match version {
        Version::HTTP_11 => Ok(()),
        Version::HTTP_09 | Version::HTTP_10 => Err(Refusal::bad_request(
            "WebSocket needs HTTP/1.1 (RFC 6455 4.2.1), but this request is HTTP/1.0. If there is a proxy in \
             front of the server, configure it to use HTTP/1.1; for nginx: proxy_http_version 1.1;",
        )),
        _ => Err(Refusal::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "A GET handshake needs HTTP/1.1 (RFC 6455 4.2.1).",
        )),
    }
}

/// RFC 6455 4.2.1, items 3 and 4.
fn check_upgrade<B>(request: &Request<B>) -> Result<(), Refusal> {
    if !is_websocket(request) {
        return Err(upgrade_required(
            "This is a WebSocket endpoint: the request needs Upgrade: websocket (RFC 6455 4.2.1). If there is \
             a proxy in front of the server, configure it to forward Upgrade and Connection; for nginx: \
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";",
        ));
    }
    if !has_element(request.headers(), &header::CONNECTION, "upgrade") {
        return Err(Refusal::bad_request("The Connection header lacks upgrade (RFC 6455 4.2.1)."));
    }
    Ok(())
}

/// RFC 9110 15.5.22: a 426 names the protocol in Upgrade.
fn upgrade_required(text: &'static str) -> Refusal {
    Refusal::new(StatusCode::UPGRADE_REQUIRED, text)
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
        .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
}

/// RFC 9112 6.1 to 6.3: what follows the head are frames. Where a proxy in front sees content, the two
/// would disagree on where the next message begins.
fn check_no_content(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::bad_request("A WebSocket handshake has no Transfer-Encoding (RFC 9112 6.1)."));
    }
    match single(headers, &header::CONTENT_LENGTH) {
        Ok(None) => Ok(()),
        Ok(Some(length)) if length == "0" => Ok(()),
        _ => Err(Refusal::bad_request("A WebSocket handshake has no content (RFC 9112 6.2).")),
    }
}

/// RFC 6455 4.2.1, item 6; 4.4 for the answer; 11.3.5 for the number of headers.
pub(super) fn check_websocket_version(
    headers: &HeaderMap,
    refuse: impl Fn(&'static str) -> Refusal,
) -> Result<(), Refusal> {
    match single(headers, &header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if version == "13" => Ok(()),
        Ok(_) => Err(refuse("This server supports only version 13 of WebSocket (RFC 6455 4.2.1).")
            .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))),
        Err(_) => Err(Refusal::bad_request("More than one Sec-WebSocket-Version (RFC 6455 11.3.5).")),
    }
}

/// RFC 6455 4.2.1, item 5; 4.2.2, item 5.4; 11.3.1 for the number of headers.
fn answer_key(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let key = match single(headers, &header::SEC_WEBSOCKET_KEY) {
        Ok(Some(key)) => key.as_bytes(),
        Ok(None) => return Err(Refusal::bad_request("Sec-WebSocket-Key is missing (RFC 6455 4.2.1).")),
        Err(_) => return Err(Refusal::bad_request("More than one Sec-WebSocket-Key (RFC 6455 11.3.1).")),
    };
    let invalid = || Refusal::bad_request("Sec-WebSocket-Key is not 16 bytes in base64 (RFC 6455 4.2.1).");
    // The decoder needs a little more room than it fills.
    let mut nonce = [0; 18];
    match NONCE.decode_slice(key, &mut nonce) {
        Ok(16) => HeaderValue::try_from(accept_key(key)).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

/// RFC 6455 4.2.1, item 7; 4.2.2, item 4; 10.2.
fn check_origin<B>(request: &Request<B>, origins: &Origins) -> Result<(), Refusal> {
    match single(request.headers(), &header::ORIGIN) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) => origins
            .check(origin.as_bytes(), effective_host(request)?)
            .map_err(|reason| Refusal::new(StatusCode::FORBIDDEN, reason)),
        Err(_) => Err(Refusal::bad_request("There is more than one Origin header (RFC 6454 7.3).")),
    }
}

/// RFC 6455 4.2.1, item 8, whose values follow 4.1, item 10: tokens, each of them once; 4.2.2, item 5
/// for the selection; 11.3.4 for repeated headers, which are one list.
fn select_subprotocol<'a>(headers: &HeaderMap, ours: &'a [String]) -> Result<Option<&'a str>, Refusal> {
    let invalid =
        || Refusal::bad_request("Sec-WebSocket-Protocol is not a list of unique tokens (RFC 6455 4.1).");
    // RFC 9110 5.6.1.2: empty elements are ignored.
    let mut offered = elements(headers, &header::SEC_WEBSOCKET_PROTOCOL)
        .filter(|name| !name.is_empty())
        .map(|name| if is_token(name) { std::str::from_utf8(name).ok() } else { None })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(invalid)?;
    if sort_and_find_repeated(&mut offered).is_some() {
        return Err(invalid());
    }
    Ok(ours.iter().map(String::as_str).find(|name| offered.binary_search(name).is_ok()))
}

/// RFC 6455 4.2.2, item 5, and 9.1: accepts the first acceptable offer of permessage-deflate and ignores other
/// extensions.
fn negotiate_extensions(
    headers: &HeaderMap,
    ours: Option<&Deflate>,
) -> Result<Option<(DeflateParameters, HeaderValue)>, Refusal> {
    let mut accepted = None;
    // RFC 6455 9.1: a malformed list fails the handshake, even where the server accepts no extension.
    for extension in extensions(headers) {
        let extension = extension.map_err(|Malformed| {
            Refusal::bad_request("Sec-WebSocket-Extensions is not a list of extensions (RFC 6455 9.1).")
        })?;
        if let (None, Some(ours)) = (&accepted, ours)
            && extension.name == deflate::NAME
        {
            accepted = deflate::accept(extension.parameters(), ours);
        }
    }
    Ok(accepted)
}

/// An opening handshake that [`check`] or [`http2::check`](super::http2::check) has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// What answers the key of the request; a request over HTTP/2 has none.
    accept: Option<HeaderValue>,
    subprotocol: Option<HeaderValue>,
    deflate: Option<(DeflateParameters, HeaderValue)>,
}

impl Acceptance {
    /// Returns the subprotocol that was selected.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_ref()?.to_str().ok()
    }

    /// Returns the negotiated parameters of permessage-deflate, if an offer of it was accepted.
    pub fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate.as_ref().map(|(parameters, _)| *parameters)
    }

    /// Returns the response that opens the connection, with `extra` headers such as Set-Cookie after those of the
    /// handshake: 101 (RFC 6455 4.2.2, item 5), or 200 to an extended CONNECT (RFC 8441 5).
    ///
    /// # Errors
    ///
    /// If `extra` names a header that the handshake owns: Upgrade, Connection, Host, Content-Length,
    /// Transfer-Encoding or any that begins with Sec-WebSocket.
    pub fn response(&self, extra: &HeaderMap) -> Result<Response<()>, ExtraHeaderError> {
        let mut response = Response::new(());
        if self.accept.is_some() {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        let headers = response.headers_mut();
        if let Some(accept) = &self.accept {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        if let Some(name) = &self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name.clone());
        }
        if let Some((_, answer)) = &self.deflate {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer.clone());
        }
        append_extra(headers, extra)?;
        Ok(response)
    }

    /// Appends the encoded [`response`](Self::response) to `out`.
    ///
    /// # Errors
    ///
    /// As [`response`](Self::response), as the 500 to send instead; `out` is unchanged.
    pub fn encode(&self, extra: &HeaderMap, out: &mut Vec<u8>) -> Result<(), Refusal> {
        encode_response(&self.response(extra)?, out);
        Ok(())
    }

    /// Returns the connection that the response opens, with the extensions that were negotiated.
    pub fn connection(&self, config: Arc<Config>, now: Instant) -> Connection {
        let connection = Connection::server(config, now);
        match self.deflate() {
            Some(parameters) => connection.with_deflate(parameters),
            None => connection,
        }
    }
}

/// Appends the head of a response, up to and including the empty line that ends it.
pub fn encode_response(response: &Response<()>, out: &mut Vec<u8>) {
    out.reserve(256);
    encode_status_line(response.status(), out);
    for (name, value) in response.headers() {
        encode_line(name, value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}
