//! The stream of a connection that hyper has upgraded.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Extensions;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// The most bytes that one write to a stream of HTTP/2 takes: hyper queues up to four writes of any size, whatever the
/// peer's window.
const WRITE_MAX: usize = 16 * 1024;

/// The stream of a WebSocket that came out of a request to a hyper server: an HTTP/1.1 connection, or a stream
/// of an HTTP/2 connection.
///
/// A stream of HTTP/2 that the peer resets with CANCEL ends with [`Error::Eof`](crate::Error::Eof); any other reset is
/// [`Error::Io`](crate::Error::Io).
///
/// Buffers are bounded: at most 64 KiB that are sent wait for the peer's window, and at most the window of the stream is
/// received and not read (hyper's `http2().initial_stream_window_size`, 1 MiB by default). All streams of a connection
/// share its window, `initial_connection_window_size`, which is 1 MiB by default too: a handler that does not receive can
/// then stall all other WebSockets of that client. Set it to the window of a stream times the number of streams
/// (`max_concurrent_streams`).
pub struct Upgraded {
    stream: TokioIo<hyper::upgrade::Upgraded>,
    is_http2: bool,
    /// The extensions of the request, if they are to live as long as the stream.
    kept: Extensions,
}

impl Upgraded {
    pub(crate) fn new(upgraded: hyper::upgrade::Upgraded, is_http2: bool) -> Self {
        Self { stream: TokioIo::new(upgraded), is_http2, kept: Extensions::new() }
    }

    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn keep(mut self, extensions: Extensions) -> Self {
        self.kept = extensions;
        self
    }

    /// Whether it is a stream of an HTTP/2 connection (RFC 8441), which it may share with others.
    pub const fn is_http2(&self) -> bool {
        self.is_http2
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("is_http2", &self.is_http2)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_http2 {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        // A socket charges the coop budget of the task by itself; bytes that are queued already would not.
        let budget = ready!(coop::poll_proceed(cx));
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        budget.made_progress();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = if self.is_http2 { WRITE_MAX } else { usize::MAX };
        Pin::new(&mut self.stream).poll_write(cx, &buf[..buf.len().min(most)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_http2 {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| &**buf));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        !self.is_http2 && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
