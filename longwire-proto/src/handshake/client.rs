//! The client's side of the opening handshake (RFC 6455 section 4.1).
//!
//! A [`Request`] is sent first and then checks the response, because most rules compare the two. Each rule
//! is implemented once, with its section beside it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

use super::grammar::{has_element, single};
use super::head::{self, HeadError, HeadLimits};
use super::headers::encode_line;
use super::{ExtraHeaderError, Offer, accept_key};
use crate::deflate::DeflateParameters;
use crate::deflate::negotiate::{self, ParameterError};

/// Maximum number of interim responses ([`is_interim`]) that a client should skip before it fails with
/// [`HandshakeError::TooManyInterim`]. Each is small, but a hostile server can send any number of them.
pub const MAX_INTERIM: usize = 8;

/// The request that opens a WebSocket connection.
///
/// ```
/// use longwire_proto::handshake::{Offer, client::Request};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The nonce is random and fresh for every connection (RFC 6455 4.1, item 7).
/// # let nonce = *b"the sample nonce";
/// let offer = Offer::new("example.com:8080", "/chat?room=1")?.subprotocols(["chat.v2", "chat.v1"])?;
/// let request = Request::new(offer, nonce);
/// let mut out = Vec::new();
/// request.encode(&mut out);
/// assert!(out.starts_with(b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com:8080\r\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    offer: Offer,
    key: String,
}

impl Request {
    /// The request for `offer`. The caller draws the `nonce` at random for each connection (RFC 6455 4.1, item 7).
    pub fn new(offer: Offer, nonce: [u8; 16]) -> Self {
        Self { offer, key: STANDARD.encode(nonce) }
    }

    /// Appends the request (RFC 6455 4.1, items 1 to 12).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(self.offer.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        encode_line(&header::HOST, self.offer.host.as_bytes(), out);
        encode_line(&header::UPGRADE, b"websocket", out);
        encode_line(&header::CONNECTION, b"Upgrade", out);
        encode_line(&header::SEC_WEBSOCKET_KEY, self.key.as_bytes(), out);
        encode_line(&header::SEC_WEBSOCKET_VERSION, b"13", out);
        if !self.offer.subprotocols.is_empty() {
            encode_line(&header::SEC_WEBSOCKET_PROTOCOL, self.offer.subprotocols.join(", ").as_bytes(), out);
        }
        if let Some(deflate) = &self.offer.deflate {
            encode_line(&header::SEC_WEBSOCKET_EXTENSIONS, negotiate::offer(deflate).as_bytes(), out);
        }
        for (name, value) in &self.offer.headers {
            encode_line(name, value.as_bytes(), out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Checks the final response to this request. The caller skips interim responses ([`is_interim`]) first.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Refused`] if the server did not switch protocols, otherwise the rule that the
    /// response breaks. In both cases the connection must not be used for WebSocket.
    pub fn check(&self, response: &Response<()>) -> Result<Agreed, HandshakeError> {
        let headers = response.headers();
        // RFC 6455 4.1, response item 1.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(HandshakeError::Refused(response.status()));
        }
        // RFC 6455 4.2.2, item 5.1: a status line of HTTP/1.1.
        if response.version() != Version::HTTP_11 {
            return Err(HandshakeError::Version);
        }
        // RFC 6455 4.1, response item 2: the value, not a list that has it.
        let upgrade = single(headers, &header::UPGRADE).ok().flatten();
        if !upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(HandshakeError::Upgrade);
        }
        // RFC 6455 4.1, response item 3.
        if !has_element(headers, &header::CONNECTION, "upgrade") {
            return Err(HandshakeError::Connection);
        }
        self.check_accept(headers)?;
        self.offer.check(headers)
    }

    /// RFC 6455 4.1, response item 4; 11.3.3 for the number of headers.
    fn check_accept(&self, headers: &HeaderMap) -> Result<(), HandshakeError> {
        match single(headers, &header::SEC_WEBSOCKET_ACCEPT) {
            Ok(Some(value)) if *value == accept_key(self.key.as_bytes()) => Ok(()),
            Ok(Some(_)) => Err(HandshakeError::Accept),
            Ok(None) => Err(HandshakeError::AcceptMissing),
            Err(_) => Err(HandshakeError::AcceptRepeated),
        }
    }
}

/// What client and server have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agreed {
    /// The subprotocol that the server selected from those offered.
    pub subprotocol: Option<String>,
    /// The parameters of permessage-deflate, if the server accepted it.
    pub deflate: Option<DeflateParameters>,
}

/// Parses the head of a response and ignores the bytes after it.
///
/// # Errors
///
/// [`HandshakeError::Head`] if the head is incomplete, malformed or exceeds `limits`, and
/// [`HandshakeError::Version`] if its version is not HTTP/1.x.
pub fn parse_response(head: &[u8], limits: HeadLimits) -> Result<Response<()>, HandshakeError> {
    let head = head::parse_response(head, limits)?;
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.version_mut() = head.version;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// Returns true if another response follows this one (RFC 9110 15.2): its status is 1xx, but not 101. An interim
/// response has no body. Skip at most [`MAX_INTERIM`] of them.
pub fn is_interim<B>(response: &Response<B>) -> bool {
    response.status().is_informational() && response.status() != StatusCode::SWITCHING_PROTOCOLS
}

/// Why a [`Request`] cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The host is not `host` or `host:port`.
    Host,
    /// The target is not an absolute path with an optional query.
    Target,
    /// The name of a subprotocol is not a token.
    Subprotocol(String),
    /// A subprotocol is offered twice.
    RepeatedSubprotocol(String),
    /// A header cannot be added.
    Header(ExtraHeaderError),
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host is neither a host name nor host:port (RFC 9110 7.2)"),
            Self::Target => f.write_str(
                "the request target must begin with a slash, have no fragment, and be percent-encoded (RFC 6455 3, \
                 RFC 9112 3.2.1)",
            ),
            Self::Subprotocol(name) => write!(f, "the subprotocol {name:?} is not a token (RFC 6455 4.1)"),
            Self::RepeatedSubprotocol(name) => {
                write!(f, "the subprotocol {name:?} is offered twice (RFC 6455 4.1)")
            }
            Self::Header(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InvalidRequest {}

/// Why a response does not open a WebSocket connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The response is not the head of an HTTP/1.1 message.
    Head(HeadError),
    /// The response is not HTTP/1.1.
    Version,
    /// The server answered with a status other than 101, or over HTTP/2 with a status other than 2xx. The caller
    /// may read the body.
    Refused(StatusCode),
    /// More interim responses than [`MAX_INTERIM`].
    TooManyInterim,
    /// There is not exactly one Upgrade header, or its value is not `websocket`.
    Upgrade,
    /// The Connection header does not list `upgrade`.
    Connection,
    /// Sec-WebSocket-Accept is missing.
    AcceptMissing,
    /// There is more than one Sec-WebSocket-Accept.
    AcceptRepeated,
    /// Sec-WebSocket-Accept does not match the key of the request.
    Accept,
    /// The server selected an extension that was not offered, or one twice.
    Extension,
    /// Sec-WebSocket-Extensions is not a list of extensions.
    ExtensionsMalformed,
    /// There is more than one Sec-WebSocket-Extensions.
    ExtensionsRepeated,
    /// permessage-deflate was accepted with a parameter that it does not define.
    DeflateUnknown,
    /// permessage-deflate was accepted with this parameter twice.
    DeflateRepeated(&'static str),
    /// permessage-deflate was accepted with an invalid value of this parameter, or without the value that
    /// it needs, or with one where there is none.
    DeflateValue(&'static str),
    /// permessage-deflate was accepted without this parameter, which was offered, or with a larger window
    /// than was offered.
    DeflateNotHonoured(&'static str),
    /// The server selected a subprotocol that was not offered.
    Subprotocol(HeaderValue),
    /// There is more than one Sec-WebSocket-Protocol.
    SubprotocolRepeated,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head(error) => return error.fmt(f),
            Self::Version => "the response is not HTTP/1.1 (RFC 6455 4.2.2)",
            Self::Refused(status) => {
                return write!(
                    f,
                    "the server rejected the handshake with status {status} (RFC 6455 4.1, RFC 8441 5)"
                );
            }
            Self::TooManyInterim => "too many interim responses (RFC 9110 15.2)",
            Self::Upgrade => "the response lacks Upgrade: websocket (RFC 6455 4.1)",
            Self::Connection => "the response lacks Connection: Upgrade (RFC 6455 4.1)",
            Self::AcceptMissing => "the response lacks Sec-WebSocket-Accept (RFC 6455 4.1)",
            Self::AcceptRepeated => "the response has more than one Sec-WebSocket-Accept (RFC 6455 11.3.3)",
            Self::Accept => "Sec-WebSocket-Accept does not match the key of the request (RFC 6455 4.1)",
            Self::Extension => {
                "the server selected an extension that was not offered, or one twice (RFC 6455 4.1)"
            }
            Self::ExtensionsMalformed => {
                "Sec-WebSocket-Extensions is not a list of extensions (RFC 6455 9.1)"
            }
            Self::ExtensionsRepeated => {
                "the response has more than one Sec-WebSocket-Extensions (RFC 6455 11.3.2)"
            }
            Self::DeflateUnknown => {
                "permessage-deflate was accepted with a parameter that it does not define (RFC 7692 7.1)"
            }
            Self::DeflateRepeated(name) => {
                return write!(f, "permessage-deflate was accepted with {name} twice (RFC 7692 7.1)");
            }
            Self::DeflateValue(name) => {
                return write!(
                    f,
                    "permessage-deflate was accepted with an invalid value of {name} (RFC 7692 7.1)"
                );
            }
            Self::DeflateNotHonoured(name) => {
                return write!(
                    f,
                    "permessage-deflate was accepted without {name} as offered (RFC 7692 7.1.1.1, 7.1.2.1)"
                );
            }
            Self::Subprotocol(value) => {
                return write!(
                    f,
                    "the server selected the subprotocol {value:?}, which was not offered (RFC 6455 4.1)"
                );
            }
            Self::SubprotocolRepeated => {
                "the response has more than one Sec-WebSocket-Protocol (RFC 6455 11.3.4)"
            }
        })
    }
}

impl std::error::Error for HandshakeError {}

impl From<ParameterError> for HandshakeError {
    fn from(invalid: ParameterError) -> Self {
        match invalid {
            ParameterError::Unknown => Self::DeflateUnknown,
            ParameterError::Repeated(name) => Self::DeflateRepeated(name),
            ParameterError::InvalidValue(name) => Self::DeflateValue(name),
            ParameterError::NotHonoured(name) => Self::DeflateNotHonoured(name),
        }
    }
}

impl From<HeadError> for HandshakeError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Version => Self::Version,
            other => Self::Head(other),
        }
    }
}
