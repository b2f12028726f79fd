//! A stream that keeps every byte that went through it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// All bytes of a connection so far, its opening handshake included.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) received: Vec<u8>,
    pub(crate) sent: Vec<u8>,
}

/// Where a stream writes down what passes; clones are the same record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<Mutex<Bytes>>);

impl Record {
    pub(crate) fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().expect("no test panics while it writes")
    }
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Recorded {
    stream: TcpStream,
    record: Record,
}

impl Recorded {
    pub(crate) fn new(stream: TcpStream) -> (Self, Record) {
        let record = Record::default();
        (Self { stream, record: record.clone() }, record)
    }
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.record.bytes().received.extend_from_slice(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.record.bytes().sent.extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            self.record.bytes().sent.extend_from_slice(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
