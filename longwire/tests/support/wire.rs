//! A stream in memory that does what its script says: reads and writes in pieces of any size, waits,
//! failures; and that remembers each call.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream, and the hand that moves it: clones are the same wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
enum Step {
    Bytes(VecDeque<u8>),
    Error(io::ErrorKind),
    Eof,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    input: VecDeque<Step>,
    /// What was written, in order.
    pub(crate) written: Vec<u8>,
    /// Bytes of `written` that a flush has covered.
    pub(crate) flushed: usize,
    /// The size of each write that took something.
    pub(crate) writes: Vec<usize>,
    /// Bytes that writes may still take, if bounded.
    room: Option<usize>,
    /// A flush waits.
    pub(crate) flush_blocked: bool,
    write_error: Option<io::ErrorKind>,
    pub(crate) is_shut_down: bool,
    /// Random waits and pieces, from this state.
    chaos: Option<u64>,
    /// The next request that is written gets a 101 with these headers.
    answers: Option<&'static str>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    /// A random number below `bound`, if there is chaos.
    fn chance(&mut self, bound: usize) -> Option<usize> {
        let state = self.chaos.as_mut()?;
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 33) as usize % bound)
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// Answers the request that was written, if it is whole.
    fn answer(&mut self) {
        if !self.written.ends_with(b"\r\n\r\n") {
            return;
        }
        let Some(headers) = self.answers.take() else { return };
        self.writes.clear();
        let request = String::from_utf8(std::mem::take(&mut self.written)).unwrap();
        let accept = super::accept_of(&request);
        let response = super::response(&accept).replace("\r\n\r\n", &format!("{headers}\r\n\r\n"));
        self.input.push_front(Step::Bytes(response.into_bytes().into()));
        self.wake();
    }
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Bytes that come as one read, if the reader takes so many.
    pub(crate) fn input(&self, bytes: impl AsRef<[u8]>) {
        let mut state = self.state();
        state.input.push_back(Step::Bytes(bytes.as_ref().iter().copied().collect()));
        state.wake();
    }

    pub(crate) fn eof(&self) {
        let mut state = self.state();
        state.input.push_back(Step::Eof);
        state.wake();
    }

    /// The next read fails.
    pub(crate) fn read_error(&self, kind: io::ErrorKind) {
        let mut state = self.state();
        state.input.push_back(Step::Error(kind));
        state.wake();
    }

    /// All writes from now on fail.
    pub(crate) fn write_error(&self, kind: io::ErrorKind) {
        let mut state = self.state();
        state.write_error = Some(kind);
        state.wake();
    }

    /// Writes take so many bytes more, then wait.
    pub(crate) fn room(&self, bytes: Option<usize>) {
        let mut state = self.state();
        state.room = bytes;
        state.wake();
    }

    pub(crate) fn block_flush(&self, blocked: bool) {
        let mut state = self.state();
        state.flush_blocked = blocked;
        state.wake();
    }

    /// Random waits and pieces from now on, the same for each seed.
    pub(crate) fn chaos(&self, seed: Option<u64>) {
        self.state().chaos = seed.map(|seed| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }

    /// Answers the request of a client.
    pub(crate) fn answer_request(&self) {
        self.answer_request_with("");
    }

    /// The same, with further headers, each behind a line end.
    pub(crate) fn answer_request_with(&self, headers: &'static str) {
        self.state().answers = Some(headers);
    }

    /// All input was read.
    pub(crate) fn is_drained(&self) -> bool {
        self.state().input.is_empty()
    }

    /// What was written since the last call.
    pub(crate) fn take_written(&self) -> Vec<u8> {
        let mut state = self.state();
        state.flushed = 0;
        state.writes.clear();
        std::mem::take(&mut state.written)
    }

    fn poll_take(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if let Some(kind) = state.write_error {
            return Poll::Ready(Err(kind.into()));
        }
        let mut limit = state.room.unwrap_or(usize::MAX);
        match state.chance(6) {
            Some(0 | 1) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(2) => limit = limit.min(1),
            Some(3) => limit = limit.min(37),
            Some(4) => limit = limit.min(5000),
            _ => {}
        }
        if limit == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut count = 0;
        for slice in slices {
            let taken = slice.len().min(limit - count);
            state.written.extend_from_slice(&slice[..taken]);
            count += taken;
        }
        if let Some(room) = &mut state.room {
            *room -= count;
        }
        state.writes.push(count);
        state.answer();
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        let mut limit = buf.remaining();
        match state.chance(6) {
            Some(0 | 1) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(2) => limit = limit.min(1),
            Some(3) => limit = limit.min(37),
            Some(4) => limit = limit.min(5000),
            _ => {}
        }
        match state.input.front_mut() {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Step::Eof) => Poll::Ready(Ok(())),
            Some(Step::Error(kind)) => Poll::Ready(Err((*kind).into())),
            Some(Step::Bytes(bytes)) => {
                let count = limit.min(bytes.len());
                let piece: Vec<u8> = bytes.drain(..count).collect();
                buf.put_slice(&piece);
                if bytes.is_empty() {
                    state.input.pop_front();
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_take(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_take(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.chance(4) == Some(0) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.flush_blocked {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.flushed = state.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.is_shut_down = true;
        state.flushed = state.written.len();
        Poll::Ready(Ok(()))
    }
}
