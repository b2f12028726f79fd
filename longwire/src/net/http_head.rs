//! Reads and writes the heads of HTTP/1.1 on a stream. No buffer is held while a stream waits for more bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use bytes::BytesMut;
use longwire_proto::handshake::{HeadError, HeadReader};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::end_without_close_notify;
use crate::net::read_block;

/// Reads until `buffer` begins with a whole head, and returns its length, or `None` if the stream ends before. Bytes
/// that were read behind the head stay in `buffer`.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    mut reader: HeadReader,
) -> io::Result<Result<Option<usize>, HeadError>> {
    loop {
        match reader.scan(buffer) {
            Ok(None) => {}
            found => return Ok(found),
        }
        if read_some(stream, buffer).await? == 0 {
            return Ok(Ok(None));
        }
    }
}

/// Reads once and returns the number of bytes, which is 0 at the end of the stream. The block of the thread is returned
/// at once, so that waiting holds none.
pub(crate) async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    let read = poll_fn(|cx| {
        let mut block = read_block::take();
        let read = poll_read_buf(Pin::new(&mut *stream), cx, &mut block);
        buffer.extend_from_slice(&block);
        read_block::give_back(block);
        read
    });
    end_without_close_notify(read.await, 0)
}

/// Writes `bytes` and flushes the stream.
pub(crate) async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends our direction and discards at most `bytes` that the peer still sends, so that no reset overtakes what was
/// written. The caller limits the time.
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut bytes: usize,
) -> io::Result<()> {
    stream.shutdown().await?;
    while bytes > 0 {
        let count = poll_fn(|cx| {
            let mut block = read_block::take();
            let read = poll_read_buf(Pin::new(&mut *stream), cx, &mut block);
            read_block::give_back(block);
            std::task::Poll::Ready(ready!(read))
        })
        .await?;
        if count == 0 {
            break;
        }
        bytes = bytes.saturating_sub(count);
    }
    Ok(())
}
