//! The calls of one input, and what must hold behind them.
//!
//! A call is a byte: its lower half says which, its upper half how often the future is polled before it
//! is dropped. Most take one more byte that says what is sent.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use longwire::{
    CloseFrame, Compress, Error, Kind, Message, Outgoing, OutgoingPart, Role, SharedFrame, Side, WebSocket,
};

use crate::frames;
use crate::peer::{Peer, without_rsv1};
use crate::received::{self, Got};
use crate::receiver::Seen;
use crate::sent::{Fate, Place, Request, Requests, payload};
use crate::stream::Stream;
use crate::{Meaning, Outcome, kinds_and_payloads, other, read};

/// Around the bounds of a short length, of what is copied, of what lands in a buffer of its own.
const SIZES: [usize; 8] = [0, 3, 120, 300, 1_200, 5_000, 17_000, 34_000];

/// Beyond this many bytes payloads are small, so that no input takes long.
const VOLUME: usize = 80_000;
const SECONDS: [u64; 4] = [1, 6, 25, 60];

pub(crate) struct Session {
    ws: WebSocket<Stream>,
    stream: Stream,
    requests: Requests,
    got: Vec<Got>,
    /// How the connection ended.
    end: Option<Result<(), Error>>,
    /// Bytes may be missing behind what was written.
    torn: bool,
    /// Time has passed, or the stream has failed.
    disturbed: bool,
    /// `close` was begun.
    closing: bool,
    /// Bytes of payload, in either direction.
    volume: usize,
    peer: Peer,
}

impl Session {
    pub(crate) fn new(ws: WebSocket<Stream>, stream: Stream) -> Self {
        Self {
            peer: Peer::new(&ws),
            ws,
            stream,
            requests: Requests::default(),
            got: Vec::new(),
            end: None,
            torn: false,
            disturbed: false,
            closing: false,
            volume: 0,
        }
    }

    pub(crate) async fn run(&mut self, calls: &[u8]) {
        let mut calls = calls.iter().copied();
        while let Some(call) = calls.next() {
            let polls = usize::from(call >> 4);
            let mut more = || calls.next().unwrap_or(0);
            match call & 0xF {
                0 | 15 => self.recv(polls),
                1 => self.recv_part(polls),
                2..=5 => self.send(call & 0xF, more(), polls),
                6 => self.ping(polls),
                7 => self.close(more(), polls),
                8 => _ = self.flush(polls),
                9..=11 => self.peer_sends(call & 0xF, more()),
                12 => {
                    let count = usize::from(more()) % 16;
                    let bytes: Vec<u8> = calls.by_ref().take(count).collect();
                    self.peer_bytes(&bytes);
                }
                13 => {
                    self.disturbed = true;
                    tokio::time::advance(Duration::from_secs(SECONDS[polls % 4])).await;
                }
                _ => self.break_stream(polls),
            }
        }
    }

    /// How large the next payload is.
    fn size(&mut self, what: u8) -> usize {
        let size = SIZES[usize::from(what) % 8];
        let size = if self.volume > VOLUME { size.min(SIZES[2]) } else { size };
        self.volume += size;
        size
    }

    fn recv(&mut self, polls: usize) {
        match poll_times(&self.stream, self.ws.recv(), polls) {
            None => self.got.push(Got::RecvDropped),
            Some(Ok(Some(message))) => self.got.push(Got::Message(message)),
            Some(end) => self.ended(end.map(drop)),
        }
    }

    fn recv_part(&mut self, polls: usize) {
        match poll_times(&self.stream, self.ws.recv_part(), polls) {
            None => {}
            Some(Ok(Some(part))) => self.got.push(Got::Part(part)),
            Some(end) => self.ended(end.map(drop)),
        }
    }

    /// The end is reported once and for all.
    fn ended(&mut self, end: Result<(), Error>) {
        self.note(Some(&end));
        if let Some(before) = &self.end {
            assert_eq!(format!("{before:?}"), format!("{end:?}"), "the end stays as it was");
        }
        self.end = Some(end);
    }

    /// Learns from an error what may be missing on the wire.
    fn note(&mut self, result: Option<&Result<(), Error>>) {
        match result {
            Some(Err(Error::Send(error))) if error.is_full() => panic!("a call that waits for room finds it"),
            None | Some(Ok(()) | Err(Error::Send(_))) => {}
            Some(Err(Error::Protocol(_))) => self.torn |= self.disturbed,
            Some(Err(_)) => self.torn = true,
        }
    }

    fn send(&mut self, call: u8, what: u8, polls: usize) {
        let size = self.size(what);
        let kind = if what & 8 == 0 { Kind::Text } else { Kind::Binary };
        let place = match call {
            5 if what & 16 == 0 => Place::Part,
            5 => Place::LastPart,
            _ => Place::Whole,
        };
        let text = payload(self.requests.data.len(), size);
        let message = match kind {
            Kind::Text => Message::from(text.as_str()),
            Kind::Binary => Message::from(text.as_bytes()),
        };
        let compress =
            [Compress::Auto, Compress::Always, Compress::Never, Compress::Auto][usize::from(what >> 5) % 4];
        let (ws, stream) = (&mut self.ws, &self.stream);
        let (result, if_ok) = match call {
            2 => (
                poll_times(stream, ws.send(Outgoing::from(message).compress(compress)), polls),
                Fate::Written,
            ),
            3 => {
                (poll_times(stream, ws.feed(Outgoing::from(message).compress(compress)), polls), Fate::Queued)
            }
            4 => (poll_times(stream, ws.feed(&SharedFrame::new(message)), polls), Fate::Queued),
            _ => {
                let part = OutgoingPart::new(kind, text, place == Place::LastPart).compress(compress);
                (poll_times(stream, ws.send_part(part), polls), Fate::Written)
            }
        };
        let result = result.map(|sent| sent.map_err(Error::from));
        self.note(result.as_ref());
        let fate = Fate::of(result.as_ref(), polls, if_ok);
        self.requests.data.push(Request { kind, place, size, fate });
        assert!(fate != Fate::Written || self.is_flushed());
    }

    /// Whether it came to its end.
    fn flush(&mut self, polls: usize) -> bool {
        let result = poll_times(&self.stream, self.ws.flush(), polls).map(|sent| sent.map_err(Error::from));
        self.note(result.as_ref());
        assert!(!matches!(result, Some(Ok(()))) || self.is_flushed());
        result.is_some()
    }

    /// Nothing waits, here or in the stream.
    fn is_flushed(&self) -> bool {
        let state = self.stream.state();
        self.ws.buffered_amount() == 0 && state.flushed == state.written.len()
    }

    fn ping(&mut self, polls: usize) {
        let text = format!("<{}>", self.requests.pings.len());
        let result =
            poll_times(&self.stream, self.ws.ping(text), polls).map(|sent| sent.map_err(Error::from));
        self.note(result.as_ref());
        self.requests.pings.push(Fate::of(result.as_ref(), polls, Fate::Written));
    }

    fn close(&mut self, what: u8, polls: usize) {
        let code = [1000, 1005, 4999, 1006][usize::from(what) % 4];
        let reason = if what & 4 == 0 { "" } else { "再见 👋" };
        if polls > 0 {
            self.got.push(Got::Closing);
        }
        let result = poll_times(&self.stream, self.ws.close(code, reason), polls);
        match result {
            None if polls == 0 => {}
            None => self.closing = true,
            Some(Err(Error::Send(_))) => assert!(code == 1006 || (code == 1005 && !reason.is_empty())),
            Some(end) => self.ended(end),
        }
    }

    fn peer_sends(&mut self, call: u8, what: u8) {
        let filler = "来".repeat(self.size(what) / 3);
        let bytes = self.peer.next(call, what, filler);
        self.peer_bytes(&bytes);
    }

    fn peer_bytes(&mut self, bytes: &[u8]) {
        let mut state = self.stream.state();
        if !state.eof && !state.read_error {
            state.input.extend_from_slice(bytes);
            self.peer.sent.extend_from_slice(bytes);
        }
    }

    fn break_stream(&mut self, how: usize) {
        let mut state = self.stream.state();
        match how {
            0..=4 => state.eof = true,
            5..=7 => {
                self.disturbed = true;
                self.torn = true;
                state.write_error = true;
            }
            8..=9 => {
                self.disturbed = true;
                state.read_error = true;
            }
            _ => {}
        }
    }

    /// Lets everything come to its end, and judges.
    pub(crate) fn finish(mut self) {
        self.stream.state().decisions.clear();
        let expected = self.read(&self.peer.sent, self.ws.role());
        let is_over = self.drain();
        self.flush(1);
        if !is_over && !self.closing && expected.outcome == Outcome::Open {
            self.check_open(&expected);
        }
        self.stream.state().eof = true;
        assert!(self.drain(), "nothing waits behind the end of TCP");
        assert!(self.drain());
        assert!(self.flush(1), "nothing waits behind the end");
        assert!(self.stream.state().was_asked_to_shut_down);

        self.check_end(&expected);
        self.check_written(&expected);
    }

    fn read(&self, bytes: &[u8], as_role: Role) -> Meaning {
        read(bytes, as_role, self.ws.deflate())
    }

    /// Receives until nothing more comes; whether the connection is over.
    fn drain(&mut self) -> bool {
        loop {
            match poll_times(&self.stream, self.ws.recv(), 1) {
                None => return false,
                Some(Ok(Some(message))) => self.got.push(Got::Message(message)),
                Some(end) => {
                    self.ended(end.map(drop));
                    return true;
                }
            }
        }
    }

    /// An idle connection: all is received, all is answered, nothing waits.
    fn check_open(&self, expected: &Meaning) {
        assert!(self.end.is_none() && self.ws.closed().is_none());
        received::check(&self.got, expected, true);
        if !self.torn {
            assert!(self.is_flushed());
            let answered = self.read(&self.stream.state().written, other(self.ws.role()));
            assert_eq!(pongs(&answered.seen), pings(&expected.seen));
        }
    }

    /// The connection ended for the reason that the peer gave, unless it was disturbed.
    fn check_end(&self, expected: &Meaning) {
        let end = self.end.as_ref().expect("it has ended");
        let outcome = match end {
            Ok(()) => Some(Outcome::Closed),
            Err(Error::Protocol(error)) => Some(Outcome::Failed(error.close_code().into())),
            Err(Error::Eof) => Some(Outcome::Open),
            Err(_) => None,
        };
        assert!(outcome.is_some() || self.disturbed, "{end:?}");
        if let Some(outcome) = &outcome {
            assert_eq!(*outcome, expected.outcome);
        }
        received::check(&self.got, expected, outcome.is_some());
        assert_eq!(self.ws.closed().is_some(), end.is_ok());
    }

    fn check_written(&self, expected: &Meaning) {
        let state = self.stream.state();
        let written = &state.written;
        let meaning = self.read(written, other(self.ws.role()));
        assert!(!matches!(meaning.outcome, Outcome::Failed(_)), "{:?}", meaning.outcome);
        self.requests.check(&kinds_and_payloads(&meaning.seen), &meaning.partial, self.torn);
        self.requests.check_pings(&pings(&meaning.seen), self.torn);
        let pongs = pongs(&meaning.seen);
        assert!(pings(&expected.seen).starts_with(&pongs), "Pongs answer Pings in order");
        if !self.torn {
            assert_eq!(state.flushed, written.len());
            let frames = frames::decode(&without_rsv1(written));
            let close = frames.iter().position(|frame| frame.opcode == 0x8);
            assert!(close.is_none_or(|at| at + 1 == frames.len()), "nothing follows a Close frame");
            assert!(frames.iter().all(|frame| frame.key.is_some() == (self.ws.role() == Role::Client)));
            if let Some(closed) = self.ws.closed() {
                let ours = close_frame(&meaning.seen).expect("a Close frame was sent");
                assert_eq!(ours, closed.frame);
                assert!(closed.by == Side::Us || close_frame(&expected.seen) == Some(ours));
            }
        }
    }
}

/// Polls a future up to `times`, then drops it. While it is pending the stream must be about to wake it.
fn poll_times<F: Future>(stream: &Stream, future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    (0..times).find_map(|_| {
        stream.state().waits = false;
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => {
                assert!(stream.state().waits, "it waits for nothing");
                None
            }
        }
    })
}

fn pings(seen: &[Seen]) -> Vec<&[u8]> {
    seen.iter()
        .filter_map(|seen| if let Seen::Ping(payload) = seen { Some(&payload[..]) } else { None })
        .collect()
}

fn pongs(seen: &[Seen]) -> Vec<&[u8]> {
    seen.iter()
        .filter_map(|seen| if let Seen::Pong(payload) = seen { Some(&payload[..]) } else { None })
        .collect()
}

/// The content of the Close frame, if there is one.
fn close_frame(seen: &[Seen]) -> Option<Option<CloseFrame>> {
    seen.iter().find_map(|seen| match seen {
        Seen::Close(frame) => {
            Some(frame.as_ref().map(|(code, reason)| CloseFrame::new(*code, reason.as_str())))
        }
        _ => None,
    })
}
