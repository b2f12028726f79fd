//! A stream in memory that reads, writes and waits as an input says.

use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use http::HeaderMap;
use longwire_proto::handshake::HeadLimits;
use longwire_proto::handshake::server::{self, Policy};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much one call takes, by decision: nothing yet, up to so many bytes, or all.
const TAKES: [usize; 8] = [0, 1, 2, 5, 14, 125, 4096, usize::MAX];

/// But at least such a part of what is there, so that no input takes long.
const LEAST: usize = 32;

/// The stream, and the hand that moves it: clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Stream(Rc<RefCell<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// One for each call, again and again; none: every call takes all.
    pub(crate) decisions: Vec<u8>,
    next: usize,
    pub(crate) vectored: bool,
    /// What the peer has sent and nobody has read.
    pub(crate) input: BytesMut,
    /// Behind the input TCP ends.
    pub(crate) eof: bool,
    pub(crate) read_error: bool,
    pub(crate) write_error: bool,
    pub(crate) written: Vec<u8>,
    /// Bytes of it that a flush has covered.
    pub(crate) flushed: usize,
    /// Ending TCP was asked for, and was done.
    pub(crate) was_asked_to_shut_down: bool,
    pub(crate) is_shut_down: bool,
    /// A call has to be made again: the stream would wake the task.
    pub(crate) waits: bool,
    /// The request that is written gets the 101 of such a server.
    pub(crate) answers: Option<Policy>,
}

impl Stream {
    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }
}

impl State {
    /// How many of the bytes that are there the next call takes at most.
    fn decide(&mut self, there: usize) -> Poll<usize> {
        let Some(decision) = self.decisions.get(self.next) else { return Poll::Ready(usize::MAX) };
        self.next = (self.next + 1) % self.decisions.len();
        match TAKES[usize::from(*decision) % TAKES.len()] {
            0 => self.wait(),
            take => Poll::Ready(take.max(there / LEAST)),
        }
    }

    fn wait<T>(&mut self) -> Poll<T> {
        self.waits = true;
        Poll::Pending
    }

    fn write(&mut self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        assert!(!self.is_shut_down, "a write behind the end");
        if self.write_error {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let there = buffers.iter().map(|buffer| buffer.len()).sum();
        let Poll::Ready(take) = self.decide(there) else { return Poll::Pending };
        let before = self.written.len();
        for buffer in buffers {
            let room = take - (self.written.len() - before);
            self.written.extend_from_slice(&buffer[..buffer.len().min(room)]);
        }
        let count = self.written.len() - before;
        if self.written.ends_with(b"\r\n\r\n")
            && let Some(policy) = self.answers.take()
        {
            self.answer(&policy);
        }
        Poll::Ready(Ok(count))
    }

    fn answer(&mut self, policy: &Policy) {
        let request = server::parse_request(&self.written, HeadLimits::default()).expect("a valid request");
        let acceptance = server::check(&request, policy).expect("what a client asks is accepted");
        let response = acceptance.response(&HeaderMap::new()).expect("no more headers");
        let mut bytes = Vec::new();
        server::encode_response(&response, &mut bytes);
        self.input.extend_from_slice(&bytes);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        assert!(to.remaining() > 0, "a read without room looks like the end");
        if state.input.is_empty() {
            return match (state.read_error, state.eof) {
                (true, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (false, true) => Poll::Ready(Ok(())),
                (false, false) => state.wait(),
            };
        }
        let there = state.input.len();
        let Poll::Ready(take) = state.decide(there) else { return Poll::Pending };
        let count = take.min(to.remaining()).min(state.input.len());
        to.put_slice(&state.input[..count]);
        state.input.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.state().write(&[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.state().write(buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.state().vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.write_error {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let decided = state.decide(0);
        if decided.is_ready() {
            state.flushed = state.written.len();
        }
        decided.map(|_| Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.was_asked_to_shut_down = true;
        let decided = state.decide(0);
        state.is_shut_down |= decided.is_ready();
        decided.map(|_| Ok(()))
    }
}
