//! Joins what is received into messages and parts, owned or lent.
//!
//! Small payloads are copied out of the read block, and larger ones split off it. The payload of a frame that
//! does not fit is read into a buffer of the message's own, which grows by what arrives, not by what a header
//! claims. Compressed payload is inflated into that buffer.
//!
//! A driver takes one of three ways, and may change between messages:
//!
//! | what it gives to the application | way in | and, to read large frames in place |
//! |---|---|---|
//! | messages that own their bytes | `receive` | `landing`, then `landed` |
//! | messages that are lent for a callback | `lend` | `landing_buffer`, then `lend_landed` |
//! | parts as they come | `receive_part` | |

use std::ops::Range;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::buffer_pool;
use crate::close::CloseFrame;
use crate::connection::{Connection, Event, Received};
use crate::error::ProtocolError;
use crate::message::{Kind, Message, Part};
use crate::message_ref::MessageRef;
use crate::outgoing::outbox::Outbox;
use crate::receive::{PartAt, Payload};

/// Payloads up to this many bytes are copied: one that is split off keeps its whole block alive for as
/// long as it lives itself, and the larger it is, the less that matters.
const COPY_MAX: usize = 8 * 1024;

/// A frame with at least this much payload to come is read straight into the message's buffer.
const LAND_MIN: u64 = 16 * 1024;

/// And only once this many bytes of the message are there, for a header may claim anything.
const LAND_AFTER: usize = 4 * 1024;

/// A message of this many bytes is worth a buffer of the pool.
const POOL_AFTER: usize = 32 * 1024;

/// Bytes that may be read beyond a frame, and are moved then.
const BEYOND_MAX: usize = 64 * 1024;

/// Bytes that are inflated before others on the thread may want a turn.
const INFLATED_MAX: usize = 256 * 1024;

/// Joins what a [`Connection`] receives, and holds the message that is being put together, if any.
#[derive(Debug, Default)]
pub struct Assembler {
    buffer: Vec<u8>,
    /// Bytes that were inflated since [`take_inflated`](Self::take_inflated) was called.
    inflated: usize,
    /// The kind of the message whose beginning is in `buffer`.
    message: Option<Kind>,
    /// What becomes of the rest of the current message.
    rest: Delivery,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Delivery {
    /// It is joined with the beginning.
    #[default]
    Joined,
    /// The beginning was handed out in parts.
    InParts,
    /// Some of it was skipped, so the rest is skipped too.
    Dropped,
}

/// What was received, with bytes of its own.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming<T> {
    /// A whole message, or a part of one.
    Data(T),
    /// A Ping; the Pong is in the outbox.
    Ping,
    /// A Pong and its payload.
    Pong(Bytes),
    /// The closing handshake is complete; the answer is in the outbox if one is due.
    Close(Option<CloseFrame>),
    /// Some 256 KiB were inflated, and there is nothing to hand out yet. Let other tasks run, and call again with
    /// the rest of the input.
    Progress,
}

/// What was received, borrowed until the next call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lent<'a> {
    /// A whole message.
    Message(MessageRef<'a>),
    /// A Ping and its payload; the Pong is in the outbox.
    Ping(&'a [u8]),
    /// A Pong and its payload.
    Pong(&'a [u8]),
    /// The closing handshake is complete; the answer is in the outbox if one is due.
    Close(Option<CloseFrame>),
}

impl Assembler {
    /// Returns whether the beginning of a message was put together.
    pub const fn is_joining(&self) -> bool {
        self.message.is_some()
    }

    /// Returns whether no message is half received and no buffer is held.
    pub const fn is_idle(&self) -> bool {
        self.message.is_none() && matches!(self.rest, Delivery::Joined)
    }

    /// Returns how many bytes were inflated since the last call: a measure of the time that it took, which the
    /// size of the input is not. [`Incoming::Progress`] depends on the same count, so call this behind each
    /// other call.
    #[inline]
    pub const fn take_inflated(&mut self) -> usize {
        std::mem::replace(&mut self.inflated, 0)
    }

    /// Takes one step through `input`. A connection that fails gives the buffer back.
    #[inline]
    fn step(
        &mut self,
        room: u64,
        connection: &mut Connection,
        input: &mut [u8],
        out: &mut Outbox,
    ) -> Result<Received, ProtocolError> {
        let received = connection.receive_within(room, input, &mut self.buffer, out);
        if received.is_err() {
            self.reset();
        }
        received
    }

    /// Takes the next message or control frame off the front of `input`. Returns `None` if it needs more.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::receive`]; also [`ProtocolError::MessageTooBig`], as soon as it is announced.
    #[inline]
    pub fn receive(
        &mut self,
        connection: &mut Connection,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<Option<Incoming<Message>>, ProtocolError> {
        while !input.is_empty() {
            let room = self.room(connection);
            let received = self.step(room, connection, input, out)?;
            let Some(event) = received.event else {
                if received.consumed == 0 {
                    return Ok(None);
                }
                input.advance(received.consumed);
                continue;
            };
            let incoming = match event {
                Event::Part(part) => {
                    if part.first
                        && part.last
                        && let Payload::Input(range) = part.payload
                    {
                        let payload = take(input, range, received.consumed);
                        return Ok(Some(Incoming::Data(Message::from_validated(part.kind, payload))));
                    }
                    self.keep(&part, input);
                    input.advance(received.consumed);
                    if part.last
                        && let Some(message) = self.finish()?
                    {
                        return Ok(Some(Incoming::Data(message)));
                    }
                    if self.inflated >= INFLATED_MAX && !input.is_empty() {
                        return Ok(Some(Incoming::Progress));
                    }
                    continue;
                }
                Event::Ping(_) => Incoming::Ping,
                Event::Pong(payload) => Incoming::Pong(Bytes::copy_from_slice(&input[payload])),
                Event::Close(frame) => Incoming::Close(frame),
            };
            input.advance(received.consumed);
            return Ok(Some(incoming));
        }
        Ok(None)
    }

    /// Takes one step through `input` and lends what it finds, for drivers that call back. Returns how many
    /// bytes to remove from its front. Call it again with the rest until it consumes and finds nothing.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Self::receive).
    #[inline]
    pub fn lend<'a>(
        &'a mut self,
        connection: &mut Connection,
        input: &'a mut [u8],
        out: &mut Outbox,
    ) -> Result<(usize, Option<Lent<'a>>), ProtocolError> {
        self.take_back();
        let room = self.room(connection);
        let received = self.step(room, connection, input, out)?;
        let lent = match received.event {
            None => return Ok((received.consumed, None)),
            Some(Event::Part(PartAt { kind, payload: Payload::Input(range), first: true, last: true })) => {
                Lent::Message(MessageRef::from_validated(kind, &input[range]))
            }
            Some(Event::Part(part)) => {
                self.keep(&part, input);
                return Ok((received.consumed, if part.last { self.lend_joined()? } else { None }));
            }
            Some(Event::Ping(payload)) => Lent::Ping(&input[payload]),
            Some(Event::Pong(payload)) => Lent::Pong(&input[payload]),
            Some(Event::Close(frame)) => Lent::Close(frame),
        };
        Ok((received.consumed, Some(lent)))
    }

    /// Like [`landing`](Self::landing), for a reader that fills the spare capacity of the buffer, which may be
    /// up to 64 KiB more than the current frame has left. What is read there has to be given to
    /// [`lend_landed`](Self::lend_landed).
    pub fn landing_buffer(&mut self, connection: &Connection) -> Option<&mut Vec<u8>> {
        let landing = self.landing(connection)?;
        let frame = usize::try_from(connection.remaining()).unwrap_or(usize::MAX);
        let buffer = landing.into_inner();
        (buffer.capacity() - buffer.len() <= frame.saturating_add(BEYOND_MAX)).then_some(buffer)
    }

    /// Takes `count` bytes that were read into [`landing_buffer`](Self::landing_buffer). Those behind the
    /// current frame are appended to `rest`.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Self::receive).
    ///
    /// # Panics
    ///
    /// If the buffer does not end with `count` bytes that were read into it.
    pub fn lend_landed<'a>(
        &'a mut self,
        count: usize,
        connection: &mut Connection,
        rest: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Result<Option<Lent<'a>>, ProtocolError> {
        let frame = usize::try_from(connection.remaining()).unwrap_or(usize::MAX);
        let beyond = self.buffer.len() - count.saturating_sub(frame);
        rest.extend_from_slice(&self.buffer[beyond..]);
        self.buffer.truncate(beyond);
        if self.land(count.min(frame), connection, out)? { self.lend_joined() } else { Ok(None) }
    }

    /// Takes the next part of a message, or control frame, off the front of `input`. Returns `None` if it needs
    /// more.
    ///
    /// After [`receive`](Self::receive) has begun to skip a message, nothing more of it comes, not even a last
    /// part: the next part is the first of another message.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::receive`].
    pub fn receive_part(
        &mut self,
        connection: &mut Connection,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<Option<Incoming<Part>>, ProtocolError> {
        if let Some(kind) = self.message.take() {
            // What was put together before parts were asked for is the first of them.
            let payload = Bytes::from(std::mem::take(&mut self.buffer));
            self.rest = Delivery::InParts;
            return Ok(Some(Incoming::Data(Part { kind, payload, first: true, last: false })));
        }
        while !input.is_empty() {
            let received = self.step(u64::MAX, connection, input, out)?;
            let incoming = match received.event {
                None if received.consumed == 0 => return Ok(None),
                None => {
                    input.advance(received.consumed);
                    continue;
                }
                Some(Event::Part(part)) => {
                    let dropped = self.rest == Delivery::Dropped && !part.first;
                    if part.last {
                        self.rest = Delivery::Joined;
                    } else if !dropped {
                        self.rest = Delivery::InParts;
                    }
                    self.inflated += part.payload.inflated();
                    if dropped {
                        buffer_pool::put(std::mem::take(&mut self.buffer));
                        input.advance(received.consumed);
                        if self.inflated >= INFLATED_MAX && !input.is_empty() {
                            return Ok(Some(Incoming::Progress));
                        }
                        continue;
                    }
                    let payload = match part.payload {
                        Payload::Input(range) => take(input, range, received.consumed),
                        Payload::Inflated(_) => {
                            input.advance(received.consumed);
                            Bytes::from(std::mem::take(&mut self.buffer))
                        }
                    };
                    return Ok(Some(Incoming::Data(Part {
                        kind: part.kind,
                        payload,
                        first: part.first,
                        last: part.last,
                    })));
                }
                Some(Event::Ping(_)) => Incoming::Ping,
                Some(Event::Pong(payload)) => Incoming::Pong(Bytes::copy_from_slice(&input[payload])),
                Some(Event::Close(frame)) => Incoming::Close(frame),
            };
            input.advance(received.consumed);
            return Ok(Some(incoming));
        }
        Ok(None)
    }

    /// Returns room in the message's own buffer for the payload of the current frame, if enough of it is there
    /// and enough is still to come. Only for a driver whose input is empty: what is read there has to be given
    /// to [`landed`](Self::landed) before anything else.
    pub fn landing(&mut self, connection: &Connection) -> Option<Limit<&mut Vec<u8>>> {
        let remaining = connection.remaining();
        if remaining < LAND_MIN || self.buffer.len() < LAND_AFTER {
            return None;
        }
        let limit = usize::try_from(remaining).unwrap_or(usize::MAX);
        self.grow(limit);
        let spare = self.buffer.capacity() - self.buffer.len();
        Some((&mut self.buffer).limit(limit.min(spare)))
    }

    /// Takes `count` bytes that were read into [`landing`](Self::landing).
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Self::receive).
    ///
    /// # Panics
    ///
    /// If the buffer does not end with `count` bytes that were read into it.
    pub fn landed(
        &mut self,
        count: usize,
        connection: &mut Connection,
        out: &mut Outbox,
    ) -> Result<Option<Message>, ProtocolError> {
        if self.land(count, connection, out)? { self.finish() } else { Ok(None) }
    }

    /// Returns whether the message ends with the `count` bytes that were read.
    fn land(
        &mut self,
        count: usize,
        connection: &mut Connection,
        out: &mut Outbox,
    ) -> Result<bool, ProtocolError> {
        let start = self.buffer.len() - count;
        // Nothing is inflated here: of a compressed message nothing is `remaining`.
        let received = match connection.receive(&mut self.buffer[start..], &mut Vec::new(), out) {
            Ok(received) => received,
            Err(error) => {
                self.reset();
                return Err(error);
            }
        };
        let Some(Event::Part(part)) = received.event else {
            self.buffer.truncate(start);
            return Ok(false);
        };
        self.message = Some(part.kind);
        Ok(part.last)
    }

    /// Forgets the current message and gives its buffer back.
    pub fn reset(&mut self) {
        buffer_pool::put(std::mem::take(&mut self.buffer));
        *self = Self::default();
    }

    /// How many more bytes the current message may have.
    #[inline]
    fn room(&self, connection: &Connection) -> u64 {
        if self.rest != Delivery::Joined {
            return u64::MAX;
        }
        connection.config().max_message.saturating_sub(self.buffer.len()) as u64
    }

    /// Makes room for some of the `limit` bytes that are to come, in proportion to those that have: a header may
    /// claim any length, so memory follows what was received.
    fn grow(&mut self, limit: usize) {
        let length = self.buffer.len();
        if self.buffer.capacity() - length >= limit.min(length / 4) {
            return;
        }
        if length >= POOL_AFTER
            && let Some(mut larger) = buffer_pool::take(length + limit.min(length))
        {
            larger.extend_from_slice(&self.buffer);
            buffer_pool::put(std::mem::replace(&mut self.buffer, larger));
        } else {
            self.buffer.reserve_exact(length.min(limit));
        }
    }

    fn keep(&mut self, part: &PartAt, input: &[u8]) {
        self.inflated += part.payload.inflated();
        if self.rest != Delivery::Joined && !part.first {
            self.rest = Delivery::Dropped;
            buffer_pool::put(std::mem::take(&mut self.buffer));
            return;
        }
        self.message = Some(part.kind);
        self.rest = Delivery::Joined;
        if let Payload::Input(range) = &part.payload {
            self.buffer.extend_from_slice(&input[range.clone()]);
        }
    }

    /// Frees the buffer of a message that was lent by the call before.
    #[inline]
    fn take_back(&mut self) {
        if self.message.is_none() && !self.buffer.is_empty() {
            self.buffer.clear();
            if self.buffer.capacity() >= POOL_AFTER {
                buffer_pool::put(std::mem::take(&mut self.buffer));
            }
        }
    }

    /// Like [`finish`](Self::finish), borrowed.
    fn lend_joined(&mut self) -> Result<Option<Lent<'_>>, ProtocolError> {
        self.rest = Delivery::Joined;
        let Some(kind) = self.message.take() else { return Ok(None) };
        if kind == Kind::Text && simdutf8::basic::from_utf8(&self.buffer).is_err() {
            return Err(ProtocolError::InvalidUtf8);
        }
        Ok(Some(Lent::Message(MessageRef::joined_from_validated(kind, &mut self.buffer))))
    }

    /// Returns the message, which is whole; `None` if its beginning was handed out in parts.
    ///
    /// Text was validated as it came, piece by piece. But whether all pieces, and nothing else, are in the
    /// buffer depends on the driver, so soundness must not rest on it: it is validated again.
    fn finish(&mut self) -> Result<Option<Message>, ProtocolError> {
        self.rest = Delivery::Joined;
        let Some(kind) = self.message.take() else { return Ok(None) };
        let payload = buffer_pool::freeze(std::mem::take(&mut self.buffer));
        Ok(Some(match kind {
            Kind::Text => Message::Text(payload.try_into().map_err(|_| ProtocolError::InvalidUtf8)?),
            Kind::Binary => Message::Binary(payload),
        }))
    }
}

impl Drop for Assembler {
    fn drop(&mut self) {
        buffer_pool::put(std::mem::take(&mut self.buffer));
    }
}

/// Takes the payload at `range` out of `input`, and the `consumed` bytes off its front.
#[inline]
fn take(input: &mut BytesMut, range: Range<usize>, consumed: usize) -> Bytes {
    if range.len() <= COPY_MAX {
        let payload = Bytes::copy_from_slice(&input[range]);
        input.advance(consumed);
        payload
    } else {
        let end = range.end;
        let mut frame = input.split_to(consumed).freeze();
        frame.truncate(end);
        frame.advance(range.start);
        frame
    }
}
