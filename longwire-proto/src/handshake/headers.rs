//! Headers that are added to a handshake, and header lines as text.

use std::fmt;

use http::{HeaderMap, HeaderName, header};

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

/// Appends `extra` to the headers of a handshake.
///
/// # Errors
///
/// If `extra` names a header that the handshake owns: Upgrade, Connection, Host, Content-Length, Transfer-Encoding or
/// any that begins with Sec-WebSocket.
pub fn append_extra(headers: &mut HeaderMap, extra: &HeaderMap) -> Result<(), ExtraHeaderError> {
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
