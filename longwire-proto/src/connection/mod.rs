//! One end of an open connection: joins the two halves and the [lifecycle](crate::lifecycle), answers Pings
//! and runs the closing handshake (RFC 6455 section 7).

mod events;
mod send;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::cause::Cause;
use crate::close::CloseFrame;
use crate::close_code::CloseCode;
use crate::config::Config;
use crate::deflate::{Compress, DeflateParameters};
use crate::error::{ProtocolError, SendError};
use crate::frame::{MAX_CONTROL_PAYLOAD, OpCode};
use crate::lifecycle::Lifecycle;
use crate::message::{Kind, Message};
use crate::outgoing::outbox::Outbox;
use crate::outgoing::send::{MaskKeys, SendHalf};
use crate::outgoing::shared::SharedFrame;
use crate::receive::{Control, Item, PartAt, ReceiveHalf};
use crate::role::Role;

/// One end of an open WebSocket connection: state without buffers, socket, clock or randomness.
///
/// The caller owns both buffers, reads and writes the stream, and reports what happened there:
///
/// - Bytes came: [`heard`](Self::heard), then [`receive`](Self::receive) until it consumes nothing, then
///   [`note_input`](Self::note_input). Reading causes writes, so the [`Outbox`] is written afterwards.
/// - Bytes were written: [`wrote`](Self::wrote).
/// - The stream ended or failed: [`read_eof`](Self::read_eof), [`read_failed`](Self::read_failed),
///   [`write_failed`](Self::write_failed).
/// - Time passed: [`poll_timeout`](Self::poll_timeout) says when to call
///   [`handle_timeout`](Self::handle_timeout).
/// - Once [`is_done`](Self::is_done): [`tcp_step`](Self::tcp_step) says what to do next, until the socket
///   is to be dropped. [`cause`](Self::cause) says why the connection ended.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    lifecycle: Lifecycle,
    receiving: ReceiveHalf,
    sending: SendHalf,
}

/// What [`Connection::receive`] took and found.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes to remove from the front of the input. May be more than 0 without an event, and 0 with
    /// one, while more is inflated from bytes that stay.
    pub consumed: usize,
    /// What they were, if that is known yet.
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
    /// A Close frame, `None` when it has no code. The closing handshake is complete: the answer is in the
    /// outbox, unless this end's Close frame went first.
    Close(Option<CloseFrame>),
}

impl Connection {
    /// Makes the server's end of a connection whose opening handshake is complete.
    pub fn server(config: Arc<Config>, now: Instant) -> Self {
        Self::new(Role::Server, config, None, now)
    }

    /// Makes the client's end of a connection whose opening handshake is complete. `seed` has to come from a
    /// strong source of entropy: the masking keys are derived from it, a fresh one for each frame (RFC 6455
    /// 5.3).
    pub fn client(config: Arc<Config>, seed: [u8; 32], now: Instant) -> Self {
        Self::new(Role::Client, config, Some(MaskKeys::new(seed)), now)
    }

    fn new(role: Role, config: Arc<Config>, keys: Option<MaskKeys>, now: Instant) -> Self {
        let lifecycle = Lifecycle::new(role, &config, now);
        Self { config, lifecycle, receiving: ReceiveHalf::new(), sending: SendHalf::new(keys) }
    }

    /// Enables the compression that the opening handshake has negotiated.
    #[must_use]
    pub fn with_deflate(mut self, parameters: DeflateParameters) -> Self {
        let (ours, theirs) = match self.role() {
            Role::Server => (parameters.of(Role::Server), parameters.of(Role::Client)),
            Role::Client => (parameters.of(Role::Client), parameters.of(Role::Server)),
        };
        self.sending.set_deflate(ours);
        self.receiving.set_deflate(theirs);
        self
    }

    /// Returns which end this is.
    pub const fn role(&self) -> Role {
        self.lifecycle.role()
    }

    /// Returns the negotiated compression parameters, if compression was negotiated.
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        let (Some(ours), Some(theirs)) = (self.sending.deflate(), self.receiving.deflate()) else {
            return None;
        };
        let (server, client) = match self.role() {
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

    /// Returns the limits and deadlines.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns whether messages may be sent: no Close frame has passed and nothing has failed.
    pub const fn is_open(&self) -> bool {
        self.lifecycle.is_open()
    }

    /// Returns whether the connection has ended: both Close frames have passed, or it has failed. Nothing more
    /// is received, and the [`cause`](Self::cause) is known.
    pub const fn is_done(&self) -> bool {
        self.lifecycle.has_ended()
    }

    /// Returns whether the beginning of a message has arrived, and not its end.
    pub const fn is_within_message(&self) -> bool {
        !self.is_done() && self.receiving.is_within_message()
    }

    /// Returns how many payload bytes of the current data frame are still to come; 0 between frames, in a
    /// compressed message, and behind the end.
    #[inline]
    pub const fn remaining(&self) -> u64 {
        if self.is_done() { 0 } else { self.receiving.remaining() }
    }

    /// Takes the next part of a message, or control frame, off the front of `input`, and unmasks it in place.
    /// Answers go to `out`; the payload of a compressed message is appended to `inflated`, some 64 KiB at a
    /// time.
    ///
    /// Call it again with the rest of the input until it consumes and finds nothing. What is then left, an
    /// incomplete header or control frame of at most 139 bytes, has to be given again in front of the bytes
    /// that follow.
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
    ) -> Result<Received, ProtocolError> {
        self.receive_within(u64::MAX, input, inflated, out)
    }

    /// As [`receive`](Self::receive), where the message under way may have `room` more bytes.
    #[inline]
    pub(crate) fn receive_within(
        &mut self,
        room: u64,
        input: &mut [u8],
        inflated: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Result<Received, ProtocolError> {
        if self.lifecycle.has_ended() {
            // RFC 6455 1.4, 5.5.1, 7.1.7: data after a Close frame or a failure is discarded.
            return Ok(Received { consumed: input.len(), event: None });
        }
        match self.receiving.step(input, inflated, self.lifecycle.role(), &self.config, room) {
            Ok((consumed, None)) => Ok(Received { consumed, event: None }),
            Ok((consumed, Some(Item::Part(part)))) => {
                Ok(Received { consumed, event: Some(Event::Part(part)) })
            }
            Ok((consumed, Some(Item::Control(control)))) => {
                let event = self.control(control, input, out)?;
                Ok(Received { consumed, event: Some(event) })
            }
            Err(error) => Err(self.failed(error, out)),
        }
    }

    #[inline(never)]
    fn control(&mut self, control: Control, input: &[u8], out: &mut Outbox) -> Result<Event, ProtocolError> {
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
                    if self.is_open() {
                        // RFC 6455 5.5.1: answered with the code that came; the reason goes with it.
                        self.sending.close(payload, out);
                    }
                    self.lifecycle.close_received(frame.clone());
                    self.end_halves();
                    Ok(Event::Close(frame))
                }
                Err(error) => Err(self.failed(error, out)),
            },
            _ => Ok(Event::Pong(range)),
        }
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
        self.lifecycle.close_sent(frame.clone(), now);
        Ok(())
    }

    const fn check_open(&self) -> Result<(), SendError> {
        if self.is_open() { Ok(()) } else { Err(SendError::Closing) }
    }

    /// The peer broke a rule.
    #[cold]
    fn failed(&mut self, error: ProtocolError, out: &mut Outbox) -> ProtocolError {
        self.send_failure(error.close_code(), &error.to_string(), out);
        self.lifecycle.end(Cause::Protocol(error));
        self.end_halves();
        error
    }

    /// Queues the Close frame of a failure (RFC 6455 7.1.7), unless one was sent.
    fn send_failure(&mut self, code: CloseCode, reason: &str, out: &mut Outbox) {
        // RFC 6455 7.4.1: 1005, 1006 and the like are never on the wire.
        if self.is_open() && code.is_sendable() {
            let mut payload = Vec::new();
            CloseFrame::truncated(code, reason).encode(&mut payload);
            self.sending.close(&payload, out);
        }
    }

    /// Gives back what is only needed to go on.
    fn end_halves(&mut self) {
        self.receiving.end();
        self.sending.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_small() {
        assert!(size_of::<Connection>() <= 112, "{}", size_of::<Connection>());
    }
}
