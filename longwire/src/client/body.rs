//! The beginning of the body of a rejection, for its error.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncRead;
use tokio::time::timeout;

use crate::net::http_head::read_some;

/// Maximum number of bytes of the body that are kept.
const BODY_MAX: usize = 4 * 1024;

/// Maximum time to wait for the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of the line with the size of a chunk and its extensions (RFC 9112 7.1.1).
const CHUNK_LINE_MAX: usize = 256;

/// Reads the beginning of a body, as far as it arrives in [`BODY_TIMEOUT`]. `input` holds the bytes that were read
/// behind the head.
pub(super) async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    status: StatusCode,
    headers: &HeaderMap,
    mut input: BytesMut,
) -> String {
    // RFC 9112 6.3: these have no body.
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return String::new();
    }
    let mut body = Vec::new();
    let reading = async {
        match headers.get(header::TRANSFER_ENCODING) {
            Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                read_chunks(stream, &mut input, &mut body).await
            }
            // Compressed, and no text.
            Some(_) => Ok(()),
            None => {
                let length = headers.get(header::CONTENT_LENGTH);
                let length = length.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(BODY_MAX);
                read_bytes(stream, &mut input, &mut body, length).await
            }
        }
    };
    // A body that breaks off or is malformed is kept as far as it came.
    let _ = timeout(BODY_TIMEOUT, reading).await;
    String::from_utf8_lossy(&body).into_owned()
}

/// Moves `length` bytes to `body`, or fewer if it is full or the stream ends.
async fn read_bytes<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    body: &mut Vec<u8>,
    mut length: usize,
) -> io::Result<()> {
    loop {
        let count = input.len().min(length).min(BODY_MAX - body.len());
        body.extend_from_slice(&input.split_to(count));
        length -= count;
        if length == 0 || body.len() == BODY_MAX || read_some(stream, input).await? == 0 {
            return Ok(());
        }
    }
}

/// Decodes chunks (RFC 9112 7.1) until the last one, an invalid one, or the end of the stream.
async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        let end = loop {
            if let Some(end) = input.iter().take(CHUNK_LINE_MAX).position(|&byte| byte == b'\n') {
                break end;
            }
            if input.len() >= CHUNK_LINE_MAX || read_some(stream, input).await? == 0 {
                return Ok(());
            }
        };
        let line = input.split_to(end + 1);
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size =
            std::str::from_utf8(&line[..digits]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size @ 1..) = size else { return Ok(()) };
        read_bytes(stream, input, body, size).await?;
        if body.len() == BODY_MAX {
            return Ok(());
        }
        // The CRLF behind the data.
        while input.len() < 2 {
            if read_some(stream, input).await? == 0 {
                return Ok(());
            }
        }
        if !input.starts_with(b"\r\n") {
            return Ok(());
        }
        input.advance(2);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Reads a body whose bytes come in pieces of this size, the first of them together with the head.
    async fn body(headers: &HeaderMap, bytes: &[u8], piece: usize) -> String {
        let (mut near, mut far) = tokio::io::duplex(piece);
        let (first, rest) = bytes.split_at(piece.min(bytes.len()));
        let reading = read_body(&mut near, StatusCode::UNAUTHORIZED, headers, BytesMut::from(first));
        // The reader may stop before everything is written.
        tokio::select! {
            body = reading => body,
            _ = async { let _ = far.write_all(rest).await; std::future::pending::<()>().await } => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_decoded_however_they_are_cut() {
        let headers =
            HeaderMap::from_iter([(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))]);
        let rows = [
            ("6;ext=1\r\n先登\r\n08\r\n录 🔑\r\n0\r\n\r\n", "先登录 🔑"),
            ("0\r\n\r\n", ""),
            // It breaks off, or is malformed.
            ("5\r\nhello", "hello"),
            ("5\r\nhelloX\r\n5\r\nworld\r\n", "hello"),
            ("zz\r\nhello\r\n", ""),
            ("ffffffffffffffffff\r\nhello", ""),
        ];
        for piece in [1, 2, 3, 7, 1000] {
            for (bytes, expected) in rows {
                assert_eq!(body(&headers, bytes.as_bytes(), piece).await, expected, "{bytes:?} by {piece}");
            }
        }
        let long = format!("2000\r\n{}\r\n", "长".repeat(0x2000));
        assert_eq!(body(&headers, long.as_bytes(), 1000).await.len(), 4095 + '\u{fffd}'.len_utf8());
    }
}
