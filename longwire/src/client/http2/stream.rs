//! A stream of HTTP/2 as a stream of bytes (RFC 8441 section 5).

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::timeout;

use super::Place;
use super::error::stream_error;

/// Bytes that a write takes at most: what a DATA frame has room for, if the peer has not said otherwise
/// (RFC 9113 6.5.2).
const WRITE_MAX: usize = 16 * 1024;

/// How long the peer of a stream that was dropped is waited for.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// And how much of what it sends is passed over.
const LINGER_BYTES: usize = 1024 * 1024;

/// What a WebSocket over HTTP/2 runs on.
///
/// The end of the stream (END_STREAM) is what the end of TCP is otherwise, and RST_STREAM a reset
/// ([`io::ErrorKind::ConnectionReset`]). GOAWAY for this stream is [`io::ErrorKind::ConnectionAborted`], and the
/// end of the connection below it [`io::ErrorKind::BrokenPipe`], or what the connection has met.
///
/// Dropped, it ends as a socket does: what was written is still sent, and the stream is reset if the peer has not
/// ended it within 2 s. It counts as open until then.
pub struct H2Stream {
    /// Taken when this is dropped.
    ends: Option<Ends>,
}

/// Both directions of a stream. Once they are dropped, `h2` resets a stream that is not over, and forgets what
/// waits to be written to it.
struct Ends {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// The rest of a DATA frame that was read in part.
    unread: Bytes,
    /// The last write waits for the peer's window.
    blocked: bool,
    /// Our direction has ended.
    ended: bool,
    /// Given back with the stream.
    place: Place,
}

impl H2Stream {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream, place: Place) -> Self {
        Self { ends: Some(Ends { send, recv, unread: Bytes::new(), blocked: false, ended: false, place }) }
    }

    fn ends(&mut self) -> io::Result<&mut Ends> {
        self.ends.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        let Some(mut ends) = self.ends.take() else { return };
        if ends.blocked {
            // What waits for a window that may never come is not waited for.
            ends.send.send_reset(Reason::CANCEL);
        } else if !(ends.ended && ends.recv.is_end_stream()) {
            ends.end();
            let runtime = ends.place.runtime.clone();
            runtime.spawn(ends.linger());
        }
    }
}

impl Ends {
    /// Waits until the peer's window has room, and says how much, up to `wanted`.
    fn poll_window(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(stream_error(error))),
                Poll::Ready(None) => return Poll::Ready(Err(self.why_closed(cx))),
                Poll::Pending => {
                    self.blocked = true;
                    return Poll::Pending;
                }
            }
        }
        self.blocked = false;
        Poll::Ready(Ok(self.send.capacity().min(wanted)))
    }

    /// Why nothing more can be sent.
    fn why_closed(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.send.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => {
                io::Error::new(io::ErrorKind::ConnectionReset, h2::Error::from(reason))
            }
            Poll::Ready(Err(error)) => stream_error(error),
            Poll::Pending => io::ErrorKind::BrokenPipe.into(),
        }
    }

    /// The next DATA; `None` at the end of the peer's direction. What was read is to be given back to its window.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            return Poll::Ready(match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => Some(Ok(data)),
                // RFC 9113 8.1: the server has said all, and needs no more of us.
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => None,
                Some(Err(error)) => Some(Err(stream_error(error))),
                None => None,
            });
        }
    }

    fn give_back(&mut self, bytes: usize) {
        // Fails only for more than was received.
        let _ = self.recv.flow_control().release_capacity(bytes);
    }

    /// Ends our direction, behind what was written.
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // Fails if the stream has ended otherwise.
            let _ = self.send.send_data(Bytes::new(), true);
        }
    }

    /// Passes over what the peer still sends, until it ends the stream: not for long, and not much.
    async fn linger(mut self) {
        let mut left = LINGER_BYTES;
        let ended = poll_fn(|cx| {
            while left > 0
                && let Some(Ok(data)) = ready!(self.poll_data(cx))
            {
                left = left.saturating_sub(data.len());
                self.give_back(data.len());
            }
            Poll::Ready(())
        });
        let _ = timeout(LINGER_TIME, ended).await;
    }
}

impl fmt::Debug for H2Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.ends.as_ref().map(|ends| ends.send.stream_id().as_u32());
        f.debug_struct("H2Stream").field("id", &id).finish_non_exhaustive()
    }
}

impl AsyncRead for H2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A socket charges the task by itself; what is queued already would not.
        let budget = ready!(coop::poll_proceed(cx));
        let ends = self.ends()?;
        if ends.unread.is_empty() {
            match ready!(ends.poll_data(cx)) {
                Some(data) => ends.unread = data?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = ends.unread.len().min(buf.remaining());
        buf.put_slice(&ends.unread[..count]);
        ends.unread.advance(count);
        if ends.unread.is_empty() {
            ends.unread = Bytes::new();
        }
        ends.give_back(count);
        budget.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>().min(WRITE_MAX);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let budget = ready!(coop::poll_proceed(cx));
        let ends = self.ends()?;
        let count = ready!(ends.poll_window(cx, wanted))?;
        let mut data = BytesMut::with_capacity(count);
        for buf in bufs {
            let room = count - data.len();
            data.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        if ends.send.send_data(data.freeze(), false).is_err() {
            return Poll::Ready(Err(ends.why_closed(cx)));
        }
        budget.made_progress();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is the connection's task to pass on.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends()?.end();
        Poll::Ready(Ok(()))
    }
}
