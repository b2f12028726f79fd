//! One end of an open connection: joins the two halves, answers Pings, runs the closing handshake
//! (RFC 6455 section 7) and keeps the deadlines.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::close::{CloseCode, CloseFrame, MAX_REASON};
use crate::config::Config;
use crate::deflate::{Compress, DeflateParameters};
use crate::error::{ProtocolError, SendError, TimedOut, UncleanEof};
use crate::frame::{MAX_CONTROL_PAYLOAD, OpCode};
use crate::incoming::receive::{Control, Found, PartAt, Receiving};
use crate::message::{Kind, Message};
use crate::outgoing::outbox::Outbox;
use crate::outgoing::send::{MaskKeys, Sending};
use crate::outgoing::shared::SharedFrame;
use crate::role::Role;

/// Silence of this length ends a run of control frames.
const PAUSE: Duration = Duration::from_millis(100);

/// One end of an open WebSocket connection: state without buffers, socket, clock or randomness.
///
/// The caller owns both buffers. It feeds what it reads to [`receive`](Self::receive), until that
/// consumes nothing, and writes what is in the [`Outbox`] afterwards, for reading causes writes. It asks
/// [`poll_timeout`](Self::poll_timeout) when to call [`handle_timeout`](Self::handle_timeout).
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    /// In `Open` when the peer was last heard, in `Pinged` when the Ping was sent, then when closing began.
    since: Instant,
    receiving: Receiving,
    sending: Sending,
    role: Role,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A Ping was sent after silence; the peer has not been heard since.
    Pinged,
    /// Our Close frame went first; the peer's is awaited.
    CloseSent,
    /// Both Close frames have passed: the WebSocket closing handshake is complete (RFC 6455 7.1.4).
    Closed,
    /// The connection has failed (RFC 6455 7.1.7): nothing more is processed.
    Failed,
}

/// What [`Connection::receive`] took and found.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes off the front of the input that are done with. May be more than 0 without an event, and 0
    /// with one, while more is inflated from bytes that stay.
    pub consumed: usize,
    /// What they were.
    pub event: Option<Event>,
}

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A piece of a message.
    Part(PartAt),
    /// A Ping; its Pong is in the outbox.
    Ping(Range<usize>),
    /// A Pong.
    Pong(Range<usize>),
    /// A Close frame, `None` when it has no code. The closing handshake is complete: its answer is in
    /// the outbox unless ours went first.
    Close(Option<CloseFrame>),
}

impl Connection {
    /// A server's end, after its opening handshake.
    pub fn server(config: Arc<Config>, now: Instant) -> Self {
        Self::new(Role::Server, config, None, now)
    }

    /// A client's end. `seed` is from a strong source of entropy: masking keys come from it, a fresh
    /// one for each frame (RFC 6455 5.3).
    pub fn client(config: Arc<Config>, seed: [u8; 32], now: Instant) -> Self {
        Self::new(Role::Client, config, Some(MaskKeys::new(seed)), now)
    }

    fn new(role: Role, config: Arc<Config>, keys: Option<MaskKeys>, now: Instant) -> Self {
        Self {
            config,
            since: now,
            receiving: Receiving::new(),
            sending: Sending::new(keys),
            role,
            state: State::Open,
        }
    }

    /// The same, with the compression that the opening handshake has agreed on.
    #[must_use]
    pub fn with_deflate(mut self, parameters: DeflateParameters) -> Self {
        let (ours, theirs) = match self.role {
            Role::Server => (parameters.of(Role::Server), parameters.of(Role::Client)),
            Role::Client => (parameters.of(Role::Client), parameters.of(Role::Server)),
        };
        self.sending.set_deflate(ours);
        self.receiving.set_deflate(theirs);
        self
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What was agreed on to compress messages, if it was.
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        let (Some(ours), Some(theirs)) = (self.sending.deflate(), self.receiving.deflate()) else {
            return None;
        };
        let (server, client) = match self.role {
            Role::Server => (ours, theirs),
            Role::Client => (theirs, ours),
        };
        Some(DeflateParameters {
            server_no_context_takeover: !server.takeover,
            client_no_context_takeover: !client.takeover,
            server_max_window_bits: server.window_bits,
            client_max_window_bits: client.window_bits,
        })
    }

    /// Its limits and deadlines.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Messages may be sent: no Close frame has passed and nothing has failed.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Pinged)
    }

    /// Nothing more is processed: both Close frames have passed, or the connection has failed.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed)
    }

    /// A message has begun to arrive, and its end has not.
    pub const fn is_within_message(&self) -> bool {
        !self.is_done() && self.receiving.is_within_message()
    }

    /// Payload bytes still to come of the data frame under way; 0 between frames, in a compressed message,
    /// and when nothing more is processed.
    #[inline]
    pub const fn remaining(&self) -> u64 {
        if self.is_done() { 0 } else { self.receiving.remaining() }
    }

    /// Takes the next thing off the front of `input`, unmasking it in place. Answers go to `out`, the
    /// payload of a compressed message is appended to `inflated`, some 64 KiB at a time.
    ///
    /// Call it again with the rest while there is any and it consumes or finds something. What is then
    /// left, a header or a control frame that is not whole (at most 139 bytes), comes again in front of
    /// the bytes that follow.
    /// A call without input tells that bytes came, not what they are: do not make it.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] when the peer broke a rule: the connection has failed and the Close frame that
    /// says why is in `out`. Everything that comes later is consumed and ignored.
    #[inline]
    pub fn receive(
        &mut self,
        input: &mut [u8],
        inflated: &mut Vec<u8>,
        out: &mut Outbox,
        now: Instant,
    ) -> Result<Received, ProtocolError> {
        self.receive_within(u64::MAX, input, inflated, out, now)
    }

    /// As [`receive`](Self::receive), where the message under way may have `room` more bytes.
    #[inline]
    pub(crate) fn receive_within(
        &mut self,
        room: u64,
        input: &mut [u8],
        inflated: &mut Vec<u8>,
        out: &mut Outbox,
        now: Instant,
    ) -> Result<Received, ProtocolError> {
        match self.state {
            // What came in one read has one time: nothing to do again.
            State::Open if now == self.since => {}
            State::Open => {
                if now.saturating_duration_since(self.since) >= PAUSE {
                    self.receiving.paused();
                }
                self.since = now;
            }
            State::Pinged => {
                self.state = State::Open;
                self.receiving.paused();
                self.since = now;
            }
            State::CloseSent => {}
            // RFC 6455 1.4, 5.5.1, 7.1.7: data after a Close frame or a failure is discarded.
            State::Closed | State::Failed => return Ok(Received { consumed: input.len(), event: None }),
        }
        match self.receiving.step(input, inflated, self.role, &self.config, room) {
            Ok((consumed, Found::Nothing)) => Ok(Received { consumed, event: None }),
            Ok((consumed, Found::Part(part))) => Ok(Received { consumed, event: Some(Event::Part(part)) }),
            Ok((consumed, Found::Control(control))) => {
                let event = self.control(control, input, out, now)?;
                Ok(Received { consumed, event: Some(event) })
            }
            Err(error) => Err(self.failed(error, out, now)),
        }
    }

    #[inline(never)]
    fn control(
        &mut self,
        control: Control,
        input: &[u8],
        out: &mut Outbox,
        now: Instant,
    ) -> Result<Event, ProtocolError> {
        let range = control.payload;
        let payload = &input[range.clone()];
        match control.opcode {
            OpCode::Ping => {
                // RFC 6455 5.5.2: answered unless a Close frame was received; none may follow our own.
                if self.is_open() {
                    self.sending.pong(payload, out);
                }
                Ok(Event::Ping(range))
            }
            OpCode::Close => match CloseFrame::decode(payload) {
                Ok(frame) => {
                    if self.state != State::CloseSent {
                        // RFC 6455 5.5.1: answered with the code that came; the reason goes with it.
                        self.sending.close(payload, out);
                    }
                    self.done(State::Closed, out, now);
                    Ok(Event::Close(frame))
                }
                Err(error) => Err(self.failed(error, out, now)),
            },
            _ => Ok(Event::Pong(range)),
        }
    }

    /// Says that the peer has ended its direction of TCP.
    ///
    /// # Errors
    ///
    /// [`UncleanEof`] if no closing handshake came before.
    pub fn receive_eof(&mut self, out: &mut Outbox, now: Instant) -> Result<(), UncleanEof> {
        let clean = self.is_done();
        if !clean {
            self.done(State::Failed, out, now);
        }
        if clean { Ok(()) } else { Err(UncleanEof) }
    }

    /// Queues a message, in frames of at most [`Config::frame_size`].
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    #[inline]
    pub fn send(&mut self, message: Message, out: &mut Outbox) -> Result<(), SendError> {
        self.send_with(message, Compress::Auto, out)
    }

    /// As [`send`](Self::send), with a word on its compression.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    #[inline]
    pub fn send_with(
        &mut self,
        message: Message,
        compress: Compress,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        self.check_open()?;
        self.sending.message(message, compress, &self.config, out)
    }

    /// As [`send_with`](Self::send_with), of a payload that is copied; of a text it is valid UTF-8.
    #[inline]
    pub(crate) fn send_borrowed(
        &mut self,
        kind: Kind,
        payload: &[u8],
        compress: Compress,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        self.check_open()?;
        self.sending.borrowed(kind, payload, compress, &self.config, out)
    }

    /// The window that shared frames are compressed for, if any; `None` if they differ from those of others.
    pub(crate) fn shared_window(&self) -> Option<Option<u8>> {
        if self.is_open() { self.sending.shared_window() } else { None }
    }

    /// Queues a part of a message: the first names its kind, the last ends it (RFC 6455 5.4).
    ///
    /// Text may be cut within a character.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    pub fn send_part(
        &mut self,
        kind: Kind,
        payload: Bytes,
        last: bool,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        self.send_part_with(kind, payload, last, Compress::Auto, out)
    }

    /// As [`send_part`](Self::send_part), with a word on the compression of the message; the one said with
    /// its first part counts.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    pub fn send_part_with(
        &mut self,
        kind: Kind,
        payload: Bytes,
        last: bool,
        compress: Compress,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        self.check_open()?;
        self.sending.part(kind, payload, last, compress, &self.config, out)
    }

    /// Queues a message that was encoded once for many.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    pub fn send_shared(&mut self, frame: &SharedFrame, out: &mut Outbox) -> Result<(), SendError> {
        self.check_open()?;
        self.sending.shared_frame(frame, &self.config, out)
    }

    /// Queues a Ping with up to 125 bytes of payload, before the large messages that wait.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    pub fn ping(&mut self, payload: &[u8], out: &mut Outbox) -> Result<(), SendError> {
        self.check_open()?;
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(SendError::ControlTooLong);
        }
        self.sending.ping(payload, out);
        Ok(())
    }

    /// Starts the closing handshake, behind the messages that wait (RFC 6455 7.1.2).
    ///
    /// [`CloseCode::NO_STATUS`] with an empty reason sends a Close frame without a body.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    pub fn close(&mut self, frame: &CloseFrame, out: &mut Outbox, now: Instant) -> Result<(), SendError> {
        self.check_open()?;
        frame.check()?;
        let mut payload = Vec::new();
        if !frame.is_empty() {
            frame.encode(&mut payload);
        }
        self.sending.close(&payload, out);
        self.sending.end();
        self.state = State::CloseSent;
        self.since = now;
        Ok(())
    }

    /// Fails the connection for a reason of the caller's, such as a limit (RFC 6455 7.1.7).
    pub fn fail(&mut self, code: CloseCode, reason: &str, out: &mut Outbox, now: Instant) {
        if self.is_open() {
            let end = reason.floor_char_boundary(MAX_REASON);
            let mut payload = Vec::new();
            // RFC 6455 7.4.1: 1005, 1006 and the like are never on the wire.
            if code.is_sendable() {
                CloseFrame::new(code, &reason[..end]).encode(&mut payload);
            }
            self.sending.close(&payload, out);
        }
        if !self.is_done() {
            self.done(State::Failed, out, now);
        }
    }

    /// Counts the close deadline from `now`, once the peer's Close frame or a failure has set it: for
    /// drivers that feed what they have read some time after they read it.
    pub fn restart_close_deadline(&mut self, now: Instant) {
        if self.is_done() {
            self.since = now;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, unless something comes before.
    ///
    /// It moves with every byte that comes; a timer that fires early may just ask again.
    pub fn poll_timeout(&self, out: &Outbox) -> Option<Instant> {
        let config = &*self.config;
        let own = match self.state {
            State::Open => config.ping_after.and_then(|silence| self.since.checked_add(silence)),
            State::Pinged => self.since.checked_add(config.pong_timeout),
            _ => self.since.checked_add(config.close_timeout),
        };
        match (own, self.write_deadline(out)) {
            (Some(own), Some(write)) => Some(own.min(write)),
            (own, write) => own.or(write),
        }
    }

    /// When a peer that takes nothing of what waits is given up; part of
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn write_deadline(&self, out: &Outbox) -> Option<Instant> {
        out.blocked()?.checked_add(self.config.write_timeout)
    }

    /// Does what is due at `now`: sends a Ping, or gives the peer up.
    ///
    /// # Errors
    ///
    /// [`TimedOut`]: the connection is to be dropped. A Close frame is in `out` that may be worth one
    /// attempt to write it.
    pub fn handle_timeout(&mut self, out: &mut Outbox, now: Instant) -> Result<(), TimedOut> {
        if self.poll_timeout(out).is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.write_deadline(out).is_some_and(|due| now >= due) {
            self.fail(CloseCode::POLICY, "write timeout", out, now);
            return Err(TimedOut::Write);
        }
        match self.state {
            State::Open => {
                self.sending.ping(&[], out);
                self.state = State::Pinged;
                self.since = now;
                Ok(())
            }
            // The peer has taken bytes since, though the Ping may still wait behind others: it lives.
            State::Pinged if !out.is_empty() && out.blocked().is_none_or(|blocked| blocked > self.since) => {
                self.since = now;
                Ok(())
            }
            State::Pinged => {
                self.fail(CloseCode::INTERNAL, "ping timeout", out, now);
                Err(TimedOut::Ping)
            }
            State::CloseSent => {
                self.done(State::Failed, out, now);
                Err(TimedOut::Close)
            }
            State::Closed | State::Failed => Err(TimedOut::Close),
        }
    }

    const fn check_open(&self) -> Result<(), SendError> {
        if self.is_open() { Ok(()) } else { Err(SendError::Closing) }
    }

    #[cold]
    fn failed(&mut self, error: ProtocolError, out: &mut Outbox, now: Instant) -> ProtocolError {
        self.fail(error.close_code(), &error.to_string(), out, now);
        error
    }

    fn done(&mut self, state: State, out: &mut Outbox, now: Instant) {
        self.receiving.end();
        self.sending.end();
        // RFC 6455 7.1.1: the server ends TCP first. A client does too when it fails the connection.
        if self.role == Role::Server || state == State::Failed {
            out.end();
        }
        if self.state != State::CloseSent {
            self.since = now;
        }
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_small() {
        assert!(size_of::<Connection>() <= 104, "{}", size_of::<Connection>());
    }
}
