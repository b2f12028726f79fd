//! A stream whose writes time out if the peer accepts no bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

/// Wraps a stream. Writing, flushing and shutting down fail with [`io::ErrorKind::TimedOut`] after this time
/// without progress.
pub(crate) struct WriteTimeout<W> {
    stream: W,
    timeout: Duration,
    /// Set while an operation makes no progress.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<W> WriteTimeout<W> {
    pub(crate) const fn new(stream: W, timeout: Duration) -> Self {
        Self { stream, timeout, deadline: None }
    }

    /// Returns the result of an operation, or an error if it timed out.
    fn check<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.deadline = None;
            return result;
        }
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.check(result, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.check(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.check(result, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.check(result, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_accepts_nothing_times_out() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut stream = WriteTimeout::new(near, TIMEOUT);
        stream.write_all("你".as_bytes()).await.expect("there is room");
        let began = Instant::now();
        let error = stream.write_all(b"more").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), TIMEOUT);
        // Accepted bytes restart the timeout.
        assert_eq!(far.read_u32().await.expect("read"), u32::from_be_bytes([0xe4, 0xbd, 0xa0, b'm']));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_accepts_a_byte_in_time_does_not_time_out() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut stream = WriteTimeout::new(near, TIMEOUT);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while read.len() < 6 {
                sleep(TIMEOUT - Duration::from_millis(1)).await;
                read.push(far.read_u8().await.expect("a byte"));
            }
            read
        });
        stream.write_all("世界".as_bytes()).await.expect("slow, but not too slow");
        assert_eq!(reader.await.expect("read"), "世界".as_bytes());
    }
}
