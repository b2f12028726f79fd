//! Reading the head of a request or response from a stream, with no block held while it dribbles in.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use bytes::BytesMut;
use longwire_proto::handshake::{HeadError, HeadReader};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use crate::connection::scratch;

/// Reads on until `buffer` begins with a whole head, and says how long it is.
///
/// `Ok(None)`: the stream ended before. What was read behind the head stays in `buffer`.
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

/// Reads once, through a block that is given back at once, so that waiting holds none. TLS that is cut off
/// without close_notify has ended as TCP does.
pub(crate) async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    let read = poll_fn(|cx| {
        let mut block = scratch::block();
        let read = poll_read_buf(Pin::new(&mut *stream), cx, &mut block);
        buffer.extend_from_slice(&block);
        scratch::give_back(block);
        read
    });
    match read.await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

/// Writes `bytes`, and flushes.
pub(crate) async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends our direction and drops what the peer still sends, so that no reset overtakes what we wrote.
/// At most `bytes` of it; the time is for the caller to bound.
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut bytes: usize,
) -> io::Result<()> {
    stream.shutdown().await?;
    while bytes > 0 {
        let count = poll_fn(|cx| {
            let mut block = scratch::block();
            let read = poll_read_buf(Pin::new(&mut *stream), cx, &mut block);
            scratch::give_back(block);
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
