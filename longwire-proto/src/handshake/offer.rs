//! What a client asks for, whichever version of HTTP carries it, and how the answer to that is judged
//! (RFC 6455 sections 4.1 and 9.1; RFC 8441 section 5 leaves both as they are).

use http::uri::PathAndQuery;
use http::{HeaderMap, header};

use super::authority::Authority;
use super::client::{Agreed, HandshakeError, InvalidRequest};
use super::extensions::{Malformed, extensions};
use super::grammar::{is_token, single, sort_and_find_repeated};
use super::headers::append_extra;
use crate::deflate::negotiate;
use crate::deflate::{Deflate, DeflateParameters};

#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) host: String,
    pub(super) target: String,
    pub(super) subprotocols: Vec<String>,
    pub(super) deflate: Option<Deflate>,
    /// Those of the caller.
    pub(super) headers: HeaderMap,
}

impl Offer {
    pub(super) fn new(host: &str, target: &str) -> Result<Self, InvalidRequest> {
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

    /// RFC 6455 4.1, item 10: tokens, each of them once.
    pub(super) fn subprotocols<I>(&mut self, names: I) -> Result<(), InvalidRequest>
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
            None => Ok(()),
        }
    }

    pub(super) fn headers(&mut self, extra: &HeaderMap) -> Result<(), InvalidRequest> {
        append_extra(&mut self.headers, extra).map_err(InvalidRequest::Header)
    }

    /// What the headers of the answer select of what was offered.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Result<Agreed, HandshakeError> {
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
