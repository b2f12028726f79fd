//! Heads as lines of text, and fed to a `HeadReader` in every way that they may come from a network.

use longwire_proto::handshake::{HeadError, HeadReader};

/// The handshake of RFC 6455 1.2, without subprotocol and Origin.
#[allow(dead_code, reason = "a test of one side needs one of the two")]
pub(crate) const REQUEST: &[&str] = &[
    "GET /chat HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// Its answer in RFC 6455 1.3, without subprotocol.
#[allow(dead_code, reason = "a test of one side needs one of the two")]
pub(crate) const RESPONSE: &[&str] = &[
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
];

/// A head of these lines.
pub(crate) fn text(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

/// `good` with `lines` in place of the line that begins with `name`, or at the end if there is none.
pub(crate) fn with(good: &[&str], name: &str, lines: &[&str]) -> Vec<u8> {
    let at = good.iter().position(|line| line.starts_with(name));
    let (before, after) = at.map_or((good, &[][..]), |at| (&good[..at], &good[at + 1..]));
    text(&[before, lines, after].concat())
}

/// What a reader says of `bytes`, which must be the same whether they come at once, byte by byte or
/// with more bytes after them.
pub(crate) fn scan(fresh: &HeadReader, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    let whole = fresh.clone().scan(bytes);

    let mut reader = fresh.clone();
    let mut one_by_one = Ok(None);
    for end in 0..=bytes.len() {
        one_by_one = reader.scan(&bytes[..end]);
        if one_by_one != Ok(None) {
            break;
        }
    }
    assert_eq!(one_by_one, whole, "byte by byte: {}", bytes.escape_ascii());
    assert_eq!(reader.scan(bytes), whole, "asked again: {}", bytes.escape_ascii());

    // An incomplete head is the only one that more bytes may change.
    if whole != Ok(None) {
        for trailing in [&b"\x81\x85\0\0\0\0hello"[..], b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"\n"] {
            let longer = [bytes, trailing].concat();
            assert_eq!(fresh.clone().scan(&longer), whole, "with more: {}", longer.escape_ascii());
        }
    }
    whole
}
