//! The task that carries the bytes of a stream to a loop and back, by way of a pair of sockets.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

use crate::net::read_block;

/// How long one write, flush or shutdown of the peer's stream may take. The loop drops its end after
/// [`Config::write_timeout`](crate::Config::write_timeout), but bytes that have left it are out of its sight.
const STUCK: Duration = Duration::from_secs(30);

/// How long the peer of a connection that is over may take to end its direction.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Carries the bytes of a stream to a loop and back, until both directions have ended.
pub(super) async fn carry<S>(stream: S, socket: UnixStream, failure: Arc<OnceLock<Arc<io::Error>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_peer, mut to_peer) = tokio::io::split(stream);
    let (mut from_loop, mut to_loop) = socket.into_split();
    let mut inward = pin!(async {
        if let Err(Stopped::Reading(error)) = copy(&mut from_peer, &mut to_loop, None).await {
            let _ = failure.set(error.into());
        }
        // It fails only if the loop is gone.
        let _ = to_loop.shutdown().await;
    });
    let mut outward = pin!(async {
        match copy(&mut from_loop, &mut to_peer, Some(STUCK)).await {
            Err(Stopped::Writing(error)) => {
                let _ = failure.set(error.into());
                false
            }
            // The loop has sent all that it has to send.
            Ok(()) | Err(Stopped::Reading(_)) => {
                matches!(timeout(STUCK, to_peer.shutdown()).await, Ok(Ok(())))
            }
        }
    });
    let mut inward_is_over = false;
    let is_shut_down = poll_fn(|cx| {
        inward_is_over = inward_is_over || inward.as_mut().poll(cx).is_ready();
        outward.as_mut().poll(cx)
    })
    .await;
    if is_shut_down && !inward_is_over {
        let _ = timeout(AFTERWARDS, inward).await;
    }
}

/// Which side of a copy has failed.
enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies until the end, by way of the thread's blocks. Each write and each flush may take as long as `limit`.
async fn copy<R, W>(from: &mut R, to: &mut W, limit: Option<Duration>) -> Result<(), Stopped>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let mut block = read_block(from).await.map_err(Stopped::Reading)?;
        if block.is_empty() {
            return Ok(());
        }
        while block.has_remaining() {
            match within(limit, to.write_buf(&mut block)).await {
                Ok(0) => return Err(Stopped::Writing(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) => return Err(Stopped::Writing(error)),
            }
        }
        read_block::give_back(block);
        within(limit, to.flush()).await.map_err(Stopped::Writing)?;
    }
}

async fn within<T>(limit: Option<Duration>, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match limit {
        Some(limit) => timeout(limit, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => io.await,
    }
}

/// Reads once; empty at the end. Queued holds no block.
async fn read_block<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<BytesMut> {
    poll_fn(|cx| {
        let mut block = read_block::take();
        match poll_read_buf(Pin::new(&mut *from), cx, &mut block) {
            Poll::Ready(read) => Poll::Ready(read.map(|_| block)),
            Poll::Pending => {
                read_block::give_back(block);
                Poll::Pending
            }
        }
    })
    .await
}
