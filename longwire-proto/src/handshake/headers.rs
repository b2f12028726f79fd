//! The grammar that header values share (RFC 9110 section 5.6), and header lines as text.
//!
//! Written by hand and linear in the length of the value: no regular expressions, no nested search.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// RFC 9110 5.6.2: the characters of a token.
pub(super) fn is_tchar(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// RFC 9110 5.6.2: one or more token characters.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

/// RFC 9110 5.6.1: the elements of a comma-separated list over all headers called `name`, without the white space around
/// them and including empty elements. Not for values with quoted strings.
pub(super) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter();
    // A value holds no control byte but HTAB, so ASCII white space is OWS (RFC 9110 5.6.3) here.
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii))
}

/// Whether a list header has this element in any case. Empty elements are skipped (RFC 9110 5.6.1.2).
pub(super) fn has_element(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    elements(headers, name).any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
}

/// A header that may occur once occurs more than once.
pub(super) struct Repeated;

/// The value of a header that may occur at most once.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Repeated),
    }
}

/// Finds a name that occurs twice. Sorts the names, so that the search is not quadratic.
pub(super) fn sort_and_find_repeated<'a>(names: &mut [&'a str]) -> Option<&'a str> {
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Why headers cannot be added to the opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtraHeaderError {
    /// The handshake or the framing of HTTP/1.1 writes this header itself.
    Reserved(HeaderName),
    /// There are more headers than a [`HeaderMap`] holds.
    TooMany,
}

impl fmt::Display for ExtraHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(name) => {
                write!(
                    f,
                    "the header {name} cannot be set: the opening handshake writes it (RFC 6455 4.1 and 4.2.2)"
                )
            }
            Self::TooMany => f.write_str("there are too many headers"),
        }
    }
}

impl std::error::Error for ExtraHeaderError {}

/// Appends `extra` to `headers`, unless the handshake writes one of them itself.
pub(super) fn append_extra(headers: &mut HeaderMap, extra: &HeaderMap) -> Result<(), ExtraHeaderError> {
    // No more than that: a handshake that waits holds them.
    headers.try_reserve(extra.len()).map_err(|_| ExtraHeaderError::TooMany)?;
    for (name, value) in extra {
        if is_reserved(name) {
            return Err(ExtraHeaderError::Reserved(name.clone()));
        }
        headers.try_append(name.clone(), value.clone()).map_err(|_| ExtraHeaderError::TooMany)?;
    }
    Ok(())
}

fn is_reserved(name: &HeaderName) -> bool {
    let owned = [
        header::HOST,
        header::UPGRADE,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ];
    owned.contains(name) || name.as_str().starts_with("sec-websocket-")
}

/// Writes one header line with its CRLF.
pub(super) fn encode_line(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    encode_name(name, out);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Names are case-insensitive (RFC 9110 5.1), but some small clients and servers accept only the spelling of RFC 6455:
/// `Sec-WebSocket-Accept`.
fn encode_name(name: &HeaderName, out: &mut Vec<u8>) {
    const SPELLED: &[u8] = b"Sec-WebSocket-";
    let start = out.len();
    out.extend_from_slice(name.as_str().as_bytes());
    let mut word_starts = true;
    for byte in &mut out[start..] {
        if word_starts {
            byte.make_ascii_uppercase();
        }
        word_starts = *byte == b'-';
    }
    if let Some(prefix) = out[start..].get_mut(..SPELLED.len())
        && prefix.eq_ignore_ascii_case(SPELLED)
    {
        prefix.copy_from_slice(SPELLED);
    }
}
