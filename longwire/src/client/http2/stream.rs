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

use super::StreamPermit;
use crate::end::stream_error;

/// Maximum size of a write: that of a DATA frame, unless the peer changes it (RFC 9113 6.5.2).
const WRITE_MAX: usize = 16 * 1024;

/// How long a stream that was dropped waits for its peer.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Maximum number of bytes that it discards meanwhile.
const LINGER_BYTES: usize = 1024 * 1024;

/// The stream of a WebSocket over HTTP/2.
///
/// END_STREAM corresponds to the end of TCP, and RST_STREAM to a reset ([`io::ErrorKind::ConnectionReset`]). GOAWAY for
/// this stream is [`io::ErrorKind::ConnectionAborted`]. The end of the HTTP/2 connection is
/// [`io::ErrorKind::BrokenPipe`], or the error of the connection.
///
/// Dropping it ends the stream like a socket: data that was written is still sent, and the stream is reset if the peer
/// does not end it within 2 s. It counts as open until then.
pub struct H2Stream {
    /// Taken when this is dropped.
    ends: Option<Ends>,
}

/// Both directions of a stream. When they are dropped, `h2` resets a stream that has not ended and discards the data
/// that waits to be written.
struct Ends {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// The rest of a DATA frame that was read in part.
    unread: Bytes,
    /// The last write waits for the peer's window.
    blocked: bool,
    /// Our direction has ended.
    ended: bool,
    /// Released with the stream.
    permit: StreamPermit,
}

impl H2Stream {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream, permit: StreamPermit) -> Self {
        Self { ends: Some(Ends { send, recv, unread: Bytes::new(), blocked: false, ended: false, permit }) }
    }

    fn ends(&mut self) -> io::Result<&mut Ends> {
        self.ends.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        let Some(mut ends) = self.ends.take() else { return };
        if ends.blocked {
            // The window may never open.
            ends.send.send_reset(Reason::CANCEL);
        } else if !(ends.ended && ends.recv.is_end_stream()) {
            ends.end();
            let runtime = ends.permit.runtime.clone();
            runtime.spawn(ends.linger());
        }
    }
}

impl Ends {
    /// Waits until the window of the peer has room, and returns how much, up to `wanted`.
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

    /// The next DATA; `None` at the end of the peer's direction. The caller returns what it read to the window.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            return Poll::Ready(match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => Some(Ok(data)),
                // RFC 9113 8.1: the response is complete, and the server ignores what we still send.
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => None,
                Some(Err(error)) => Some(Err(stream_error(error))),
                None => None,
            });
        }
    }

    fn give_back(&mut self, bytes: usize) {
        // Fails only for more bytes than were received.
        let _ = self.recv.flow_control().release_capacity(bytes);
    }

    /// Ends our direction, after what was written.
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // Fails if the stream has already ended.
            let _ = self.send.send_data(Bytes::new(), true);
        }
    }

    /// Discards what the peer still sends until it ends the stream, within the limits.
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
        // A socket consumes the task's budget itself; data that is already queued does not.
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

    /// The task of the connection sends what was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends()?.end();
        Poll::Ready(Ok(()))
    }
}
