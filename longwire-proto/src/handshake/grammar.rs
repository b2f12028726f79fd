//! The grammar that the values of many headers share (RFC 9110 section 5.6).
//!
//! Written by hand and linear in the length of the value: no pattern matching, no nested search.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether `byte` may be in a token (RFC 9110 5.6.2).
pub const fn is_tchar(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether `text` is a token: one or more token characters (RFC 9110 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

/// Splits `text` into the token at its start and the rest. Returns `None` if it does not start with one.
pub fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !is_tchar(byte)).unwrap_or(text.len());
    let (token, rest) = text.split_at_checked(end)?;
    (!token.is_empty()).then_some((token, rest))
}

/// Splits `text`, which follows an opening quote, into the unescaped content of the quoted string and the rest
/// behind its closing quote (RFC 9110 5.6.4). Returns `None` if there is no closing quote.
///
/// ```
/// use longwire_proto::handshake::grammar::quoted_string;
///
/// assert_eq!(quoted_string(r#"a\"b";next"#), Some(("a\"b".to_owned(), ";next")));
/// assert_eq!(quoted_string("open"), None);
/// ```
pub fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

/// Removes optional white space (RFC 9110 5.6.3) from the start of `text`.
pub fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Returns the elements of a comma-separated list (RFC 9110 5.6.1) over all headers called `name`, without the
/// white space around them and including empty elements. Not for values that contain quoted strings.
pub fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
    let values = headers.get_all(name).into_iter();
    // A value holds no control byte but HTAB, so ASCII white space is OWS here.
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii))
}

/// Whether a list header contains this element, in any case.
pub(super) fn has_element(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    elements(headers, name).any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
}

/// A header that may be present once is present more than once.
pub(super) struct Repeated;

/// The value of a header that may be present at most once.
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

/// Returns a name that occurs twice, if there is one. Sorts the names, so that many of them cost no quadratic
/// search.
pub(super) fn sort_and_find_repeated<'a>(names: &mut [&'a str]) -> Option<&'a str> {
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
