//! The grammar of Sec-WebSocket-Extensions (RFC 6455 section 9.1).
//!
//! Says nothing about what an extension means. Linear in the length of the value: each byte is read once to
//! find the end of its extension, and once more if the parameters of that extension are asked for.

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::grammar::{self, is_token, skip_space};
use crate::deflate::{DeflateParameters, negotiate};

/// A value does not conform to the grammar.
pub(super) struct Malformed;

/// One extension of the list.
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    parameters: &'a str,
}

/// The name of a parameter and its value, unquoted, if it has one.
type Parameter<'a> = (&'a str, Option<Cow<'a, str>>);

/// The extensions of all header lines, which are one list (RFC 6455 9.1, 11.3.2). One that is malformed is
/// the last of its line.
pub(super) fn extensions(headers: &HeaderMap) -> impl Iterator<Item = Result<Extension<'_>, Malformed>> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    // Only ASCII conforms. A quoted string cannot go on in the next line, for no value has a comma.
    lines.flat_map(|line| List(line.to_str().map_err(|_| Malformed)))
}

/// What is left of a line.
struct List<'a>(Result<&'a str, Malformed>);

impl<'a> Iterator for List<'a> {
    type Item = Result<Extension<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = match std::mem::replace(&mut self.0, Ok("")) {
            Ok(rest) => rest,
            Err(malformed) => return Some(Err(malformed)),
        };
        // RFC 9110 5.6.1.2: empty elements are ignored. A list of nothing else is taken for no list.
        let start = rest.trim_start_matches([',', ' ', '\t']);
        if start.is_empty() {
            return None;
        }
        let found = extension(start).map(|(extension, rest)| {
            self.0 = Ok(rest);
            extension
        });
        Some(found.ok_or(Malformed))
    }
}

impl<'a> Extension<'a> {
    pub(super) fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let mut rest = self.parameters;
        std::iter::from_fn(move || {
            let (parameter, after) = parameter(rest.strip_prefix(';')?)?;
            rest = after;
            Some(parameter)
        })
    }
}

impl DeflateParameters {
    /// Returns the parameters that the headers of a server's answer have accepted, for a driver whose opening
    /// handshake was done elsewhere; `None` if they do not accept permessage-deflate, or not validly.
    ///
    /// Does not judge whether they were offered: the client that made the offer has to.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};
    /// use longwire_proto::DeflateParameters;
    ///
    /// let mut headers = HeaderMap::new();
    /// let answer = "permessage-deflate; server_no_context_takeover; client_max_window_bits=12";
    /// headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(answer));
    /// let parameters = DeflateParameters::from_headers(&headers).unwrap();
    /// assert!(parameters.server_no_context_takeover && !parameters.client_no_context_takeover);
    /// assert_eq!((parameters.server_max_window_bits, parameters.client_max_window_bits), (15, 12));
    /// ```
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut accepted = extensions(headers);
        let (Some(Ok(only)), None) = (accepted.next(), accepted.next()) else { return None };
        if only.name != negotiate::NAME {
            return None;
        }
        negotiate::read_answer(only.parameters()).ok()
    }
}

/// `extension = token *( ";" extension-param )`, and what follows: nothing, or a comma.
fn extension(text: &str) -> Option<(Extension<'_>, &str)> {
    let (name, start) = token(text)?;
    let mut rest = start;
    while let Some(text) = rest.strip_prefix(';') {
        (_, rest) = parameter(text)?;
    }
    let ends = rest.is_empty() || rest.starts_with(',');
    ends.then(|| (Extension { name, parameters: &start[..start.len() - rest.len()] }, rest))
}

/// `extension-param = token [ "=" ( token | quoted-string ) ]`, and what follows.
fn parameter(text: &str) -> Option<(Parameter<'_>, &str)> {
    let (name, rest) = token(text)?;
    let Some(text) = rest.strip_prefix('=') else { return Some(((name, None), rest)) };
    let (value, rest) = match skip_space(text).strip_prefix('"') {
        Some(text) => quoted_string(text).map(|(value, rest)| (Cow::Owned(value), rest))?,
        None => token(text).map(|(value, rest)| (Cow::Borrowed(value), rest))?,
    };
    Some(((name, Some(value)), rest))
}

/// A token without the white space around it, and the rest.
///
/// RFC 6455 9.1 takes its grammar from RFC 2616, which implies white space between any two of its words.
fn token(text: &str) -> Option<(&str, &str)> {
    let (token, rest) = grammar::token(skip_space(text))?;
    Some((token, skip_space(rest)))
}

/// The content of a quoted string whose opening quote has been read, and the rest without white space before it.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let (value, rest) = grammar::quoted_string(text)?;
    // RFC 6455 9.1: the value after unescaping is a token.
    is_token(value.as_bytes()).then(|| (value, skip_space(rest)))
}
