//! A stream that waits for its peer to take what is written, and gives it up when it takes nothing for too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

/// It fails with [`io::ErrorKind::TimedOut`] when a write, or what belongs to it, could do nothing for as long as it was
/// made for.
pub(crate) struct Patient<W> {
    stream: W,
    patience: Duration,
    /// Since nothing could be done.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<W> Patient<W> {
    pub(crate) const fn new(stream: W, patience: Duration) -> Self {
        Self { stream, patience, waiting: None }
    }

    /// What has come of trying, unless that was in vain for too long.
    fn judge<T>(&mut self, tried: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.waiting = None;
            return tried;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Patient<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(tried, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.judge(tried, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_flush(cx);
        this.judge(tried, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let tried = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.judge(tried, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut stream = Patient::new(near, PATIENCE);
        stream.write_all("你".as_bytes()).await.expect("there is room");
        let began = Instant::now();
        let error = stream.write_all(b"more").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), PATIENCE);
        // The one that had room for it counts.
        assert_eq!(far.read_u32().await.expect("read"), u32::from_be_bytes([0xe4, 0xbd, 0xa0, b'm']));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_in_time_is_not() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut stream = Patient::new(near, PATIENCE);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while read.len() < 6 {
                sleep(PATIENCE - Duration::from_millis(1)).await;
                read.push(far.read_u8().await.expect("a byte"));
            }
            read
        });
        stream.write_all("世界".as_bytes()).await.expect("slow, but not too slow");
        assert_eq!(reader.await.expect("read"), "世界".as_bytes());
    }
}
