//! What a client asks for and how the response is checked against it, in every version of HTTP (RFC 6455
//! sections 4.1 and 9.1; RFC 8441 section 5 changes neither).

use http::uri::PathAndQuery;
use http::{HeaderMap, header};

use super::authority::Authority;
use super::client::{Agreed, HandshakeError, InvalidRequest};
use super::extensions::{Malformed, extensions};
use super::grammar::{is_token, single, sort_and_find_repeated};
use super::headers::append_extra;
use crate::deflate::negotiate;
use crate::deflate::{Deflate, DeflateParameters};

/// What a client asks for: a path of a host, subprotocols, compression and headers of its own.
///
/// It becomes the request of one version of HTTP: [`client::Request`](super::client::Request) of HTTP/1.1, or
/// [`http2::Request`](super::http2::Request).
#[derive(Clone, Debug)]
pub struct Offer {
    pub(super) host: String,
    pub(super) target: String,
    pub(super) subprotocols: Vec<String>,
    pub(super) deflate: Option<Deflate>,
    /// The caller's own headers.
    pub(super) headers: HeaderMap,
}

impl Offer {
    /// Asks for `target`, a path with an optional query, on `host`, which has a port unless it is the default
    /// port of the scheme.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::Host`] if `host` is not `host` or `host:port`. [`InvalidRequest::Target`] if `target`
    /// does not begin with a slash, has a fragment, or has a character that must be percent-encoded.
    pub fn new(host: &str, target: &str) -> Result<Self, InvalidRequest> {
        if Authority::parse(host).is_none() {
            return Err(InvalidRequest::Host);
        }
        // RFC 6455 3: fragments must not be used; `PathAndQuery` would drop one.
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        let origin_form = target.starts_with('/') && target.bytes().all(good);
        if !origin_form || PathAndQuery::try_from(target).is_err() {
            return Err(InvalidRequest::Target);
        }
        Ok(Self {
            host: host.to_owned(),
            target: target.to_owned(),
            subprotocols: Vec::new(),
            deflate: None,
            headers: HeaderMap::new(),
        })
    }

    /// Offers subprotocols, the preferred one first (RFC 6455 4.1, item 10).
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::Subprotocol`] if a name is not a token (RFC 9110 5.6.2), and
    /// [`InvalidRequest::RepeatedSubprotocol`] if a name occurs twice.
    pub fn subprotocols<I>(mut self, names: I) -> Result<Self, InvalidRequest>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        if let Some(name) = self.subprotocols.iter().find(|name| !is_token(name.as_bytes())) {
            return Err(InvalidRequest::Subprotocol(name.clone()));
        }
        let mut names: Vec<&str> = self.subprotocols.iter().map(String::as_str).collect();
        match sort_and_find_repeated(&mut names) {
            Some(name) => Err(InvalidRequest::RepeatedSubprotocol(name.to_owned())),
            None => Ok(self),
        }
    }

    /// Offers permessage-deflate (RFC 7692) with this configuration; `None`, the default, offers no compression.
    #[must_use]
    pub fn deflate(mut self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.deflate = deflate.into();
        self
    }

    /// Adds headers, such as Authorization, Cookie or Origin.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::Header`] if the handshake writes one of them itself: Host, Upgrade, Connection,
    /// Content-Length, Transfer-Encoding and all names that begin with Sec-WebSocket.
    pub fn headers(mut self, extra: &HeaderMap) -> Result<Self, InvalidRequest> {
        append_extra(&mut self.headers, extra).map_err(InvalidRequest::Header)?;
        Ok(self)
    }

    /// Checks what the headers of a response select against what was offered.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Agreed, HandshakeError> {
        let deflate = self.check_extensions(headers)?;
        Ok(Agreed { subprotocol: self.check_subprotocol(headers)?, deflate })
    }

    /// RFC 6455 4.1, response item 5; 9.1 for the grammar; 11.3.2 for the number of headers.
    fn check_extensions(&self, headers: &HeaderMap) -> Result<Option<DeflateParameters>, HandshakeError> {
        if single(headers, &header::SEC_WEBSOCKET_EXTENSIONS).is_err() {
            return Err(HandshakeError::ExtensionsRepeated);
        }
        let mut agreed = None;
        for extension in extensions(headers) {
            let extension = extension.map_err(|Malformed| HandshakeError::ExtensionsMalformed)?;
            match &self.deflate {
                Some(ours) if extension.name == negotiate::NAME && agreed.is_none() => {
                    agreed = Some(negotiate::check_answer(extension.parameters(), ours)?);
                }
                _ => return Err(HandshakeError::Extension),
            }
        }
        Ok(agreed)
    }

    /// RFC 6455 4.1, response item 6; 11.3.4 for the number of headers.
    fn check_subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, HandshakeError> {
        match single(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
            Ok(None) => Ok(None),
            Ok(Some(value)) => match self.subprotocols.iter().find(|name| value == name.as_str()) {
                Some(name) => Ok(Some(name.clone())),
                None => Err(HandshakeError::Subprotocol(value.clone())),
            },
            Err(_) => Err(HandshakeError::SubprotocolRepeated),
        }
    }
}
