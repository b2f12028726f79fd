//! The receiving half: bytes become parts of messages and control frames (RFC 6455 sections 5 and 8).
//!
//! It unmasks in place and returns where the payload is. It keeps no byte and joins nothing. A compressed message
//! is inflated step by step into a buffer of the caller (RFC 7692 section 7.2.2).

use std::ops::Range;

use crate::config::Config;
use crate::deflate::SenderParameters;
use crate::deflate::codec::InflateState;
use crate::error::ProtocolError;
use crate::frame::{Header, MAX_CONTROL_PAYLOAD, OpCode};
use crate::mask;
use crate::message::Kind;
use crate::role::Role;
use crate::text::{Utf8State, unmask_text};

/// Bytes that one step inflates; the last symbol of a step may bring up to 258 more, and the end of a
/// message what its last four octets make.
const INFLATE_STEP: usize = 64 * 1024;

// A step that stops for this limit has consumed input: the inflater holds at most 63 bits, and a match takes
// two bits at least and makes at most 258 bytes. `Assembler::lend` relies on it, for nothing consumed and no
// whole message means there that more input is needed.
const _: () = assert!(INFLATE_STEP > 63 / 2 * 258);

/// Where the payload of a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In this range of the input, unmasked.
    Input(Range<usize>),
    /// In this range of the buffer that inflated payload is appended to.
    Inflated(Range<usize>),
}

impl Payload {
    /// How many bytes of it were inflated: all or none.
    pub(crate) const fn inflated(&self) -> usize {
        match self {
            Self::Input(_) => 0,
            Self::Inflated(range) => range.end - range.start,
        }
    }
}

/// A part of a message, and where its payload is. With `first && last` it is the whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartAt {
    /// What the message carries.
    pub kind: Kind,
    /// Where the payload is; it may be empty.
    pub payload: Payload,
    /// The message begins with this part.
    pub first: bool,
    /// The message ends with this part.
    pub last: bool,
}

/// A whole control frame.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) opcode: OpCode,
    pub(crate) payload: Range<usize>,
}

/// What one step found: part of a message, or a control frame.
#[derive(Debug)]
pub(crate) enum Item {
    Part(PartAt),
    Control(Control),
}

/// State of the receiving half.
#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    /// Payload of the current data frame that is still to come.
    remaining: u64,
    /// The masking key as it stands at the next byte of payload.
    key: [u8; 4],
    utf8: Utf8State,
    /// Fragments of the current message that are smaller than [`Config::SMALL_FRAGMENT`].
    small_fragments: u32,
    /// Control frames since the last data frame.
    control_run: u32,
    /// The kind of the current message.
    message: Option<Kind>,
    /// No part of the current message was handed out yet.
    first: bool,
    /// The current frame is the final fragment.
    fin: bool,
    /// The header of a data frame was taken, and its end is not reached.
    in_frame: bool,
    /// The current message is compressed.
    compressed: bool,
    /// How the peer compresses, if that was agreed on.
    deflate: Option<SenderParameters>,
    /// Within a compressed message, and between messages if the peer takes over its context.
    inflating: Option<Box<InflateState>>,
}

impl ReceiveHalf {
    pub(crate) fn new() -> Self {
        Self {
            remaining: 0,
            key: [0; 4],
            utf8: Utf8State::default(),
            small_fragments: 0,
            control_run: 0,
            message: None,
            first: false,
            fin: false,
            in_frame: false,
            compressed: false,
            deflate: None,
            inflating: None,
        }
    }

    pub(crate) const fn set_deflate(&mut self, context: SenderParameters) {
        self.deflate = Some(context);
    }

    pub(crate) const fn deflate(&self) -> Option<SenderParameters> {
        self.deflate
    }

    /// Returns whether a message has begun and not ended.
    pub(crate) const fn is_within_message(&self) -> bool {
        self.message.is_some()
    }

    /// Gives back what is only needed to receive more.
    pub(crate) fn end(&mut self) {
        self.inflating = None;
    }

    /// Returns how much payload of the current data frame is to come; 0 if it is compressed.
    #[inline]
    pub(crate) const fn remaining(&self) -> u64 {
        if self.compressed { 0 } else { self.remaining }
    }

    /// Ends a run of control frames, because there was silence.
    pub(crate) fn paused(&mut self) {
        self.control_run = 0;
    }

    /// Takes what it can off the front of `input`. Returns how many bytes were consumed, and what they were if
    /// that is known; consumed bytes without an item may be dropped.
    #[inline]
    pub(crate) fn step(
        &mut self,
        input: &mut [u8],
        inflated: &mut Vec<u8>,
        role: Role,
        config: &Config,
        room: u64,
    ) -> Result<(usize, Option<Item>), ProtocolError> {
        if let Some(frame) = ShortFrame::parse(input, role)
            && self.message.is_none()
            && (frame.end - frame.start) as u64 <= room
        {
            return self.short_frame(frame, input);
        }
        self.any_frame(input, inflated, role, config, room)
    }

    /// Handles every frame. Out of line, so that the code for the commonest frame stays short.
    #[inline(never)]
    fn any_frame(
        &mut self,
        input: &mut [u8],
        inflated: &mut Vec<u8>,
        role: Role,
        config: &Config,
        room: u64,
    ) -> Result<(usize, Option<Item>), ProtocolError> {
        let mut start = 0;
        if !self.in_frame {
            let (header, size) = match Header::decode(input) {
                Ok(Some(whole)) => whole,
                Ok(None) => return self.incomplete(input, role),
                Err(error) => {
                    // A rule that the first two bytes break comes first, however the bytes were cut.
                    self.incomplete(input, role)?;
                    return Err(error.into());
                }
            };
            check(&header, role, self.deflate.is_some())?;
            if header.opcode.is_control() {
                return self.control(&header, size, input, config);
            }
            self.begin(&header, config)?;
            start = size;
        }
        if self.compressed {
            return self.inflate(start, input, inflated, config, room);
        }
        // RFC 6455 10.4: refused as soon as it is announced.
        if self.remaining > room {
            return Err(ProtocolError::MessageTooBig { limit: config.max_message });
        }
        self.payload(start, input)
    }

    /// Does what [`any_frame`](Self::any_frame) does by [`begin`](Self::begin) and [`payload`](Self::payload).
    #[inline]
    fn short_frame(
        &mut self,
        frame: ShortFrame,
        input: &mut [u8],
    ) -> Result<(usize, Option<Item>), ProtocolError> {
        let ShortFrame { kind, key, start, end } = frame;
        self.control_run = 0;
        let payload = &mut input[start..end];
        match kind {
            Kind::Text => {
                let mut utf8 = Utf8State::default();
                let valid = unmask_text(payload, key, &mut utf8);
                if valid.is_err() || !utf8.is_complete() {
                    return Err(ProtocolError::InvalidUtf8);
                }
            }
            Kind::Binary => mask::apply(payload, key),
        }
        let part = PartAt { kind, payload: Payload::Input(start..end), first: true, last: true };
        Ok((end, Some(Item::Part(part))))
    }

    /// Checks a header of which the end is missing. A rule that its first two bytes break fails the connection at
    /// once, so the result does not depend on how TCP cut the bytes.
    #[cold]
    fn incomplete(&self, input: &[u8], role: Role) -> Result<(usize, Option<Item>), ProtocolError> {
        if let [first, second, ..] = *input {
            // The length is unknown. Any length in the extended form is too long for a control frame.
            let mut whole = [0; crate::frame::MAX_HEADER];
            whole[0] = first;
            whole[1] = second & 0x80 | (second & 0x7F).min(126);
            whole[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
            if let Some((header, _)) = Header::decode(&whole)? {
                check(&header, role, self.deflate.is_some())?;
                self.check_order(&header)?;
            }
        }
        Ok((0, None))
    }

    fn control(
        &mut self,
        header: &Header,
        size: usize,
        input: &mut [u8],
        config: &Config,
    ) -> Result<(usize, Option<Item>), ProtocolError> {
        let end = size + header.length as usize;
        let Some(payload) = input.get_mut(size..end) else { return Ok((0, None)) };
        self.control_run = self.control_run.saturating_add(1);
        if self.control_run > u32::from(config.max_control_run.get()) {
            return Err(ProtocolError::TooManyControlFrames { limit: config.max_control_run.get() });
        }
        if let Some(key) = header.mask {
            mask::apply(payload, key);
        }
        Ok((end, Some(Item::Control(Control { opcode: header.opcode, payload: size..end }))))
    }

    /// RFC 6455 5.4: fragments of one message are not mixed with another's.
    #[inline]
    fn check_order(&self, header: &Header) -> Result<(), ProtocolError> {
        match (header.opcode, self.message) {
            (OpCode::Continuation, None) => Err(ProtocolError::UnexpectedContinuation),
            (OpCode::Text | OpCode::Binary, Some(_)) => Err(ProtocolError::ExpectedContinuation),
            _ => Ok(()),
        }
    }

    /// Begins a data frame.
    #[inline]
    fn begin(&mut self, header: &Header, config: &Config) -> Result<(), ProtocolError> {
        self.check_order(header)?;
        if header.opcode == OpCode::Continuation {
            if header.length < Config::SMALL_FRAGMENT as u64 {
                self.small_fragments = self.small_fragments.saturating_add(1);
                if self.small_fragments > config.max_small_fragments.get() {
                    return Err(ProtocolError::TooManyFragments { limit: config.max_small_fragments.get() });
                }
            }
        } else {
            self.message = Some(if header.opcode == OpCode::Text { Kind::Text } else { Kind::Binary });
            self.first = true;
            self.small_fragments = u32::from(header.length < Config::SMALL_FRAGMENT as u64);
            // RFC 7692 6.2: the first frame says whether the message is compressed.
            self.compressed = header.rsv & Header::RSV1 != 0;
        }
        self.control_run = 0;
        self.remaining = header.length;
        self.key = header.mask.unwrap_or_default();
        self.fin = header.fin;
        self.in_frame = true;
        Ok(())
    }

    /// Takes payload of the current data frame, as far as it is there.
    #[inline]
    fn payload(&mut self, start: usize, input: &mut [u8]) -> Result<(usize, Option<Item>), ProtocolError> {
        let available = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - start);
        let end = start + available;
        if available == 0 && self.remaining > 0 {
            return Ok((end, None));
        }
        self.remaining -= available as u64;
        let ended = self.remaining == 0;
        let last = ended && self.fin;
        // `begin` has set it, and only the last part clears it.
        let kind = self.message.unwrap_or(Kind::Binary);
        let payload = &mut input[start..end];
        if kind == Kind::Text {
            // RFC 6455 8.1, 7.1.7: fail at the first bad byte, within a frame too.
            unmask_text(payload, self.key, &mut self.utf8).map_err(|_| ProtocolError::InvalidUtf8)?;
            if last && !self.utf8.is_complete() {
                return Err(ProtocolError::InvalidUtf8);
            }
        } else if self.key != [0; 4] {
            mask::apply(payload, self.key);
        }
        if !ended {
            self.key = mask::advance(self.key, available);
        }
        let payload = Payload::Input(start..end);
        let part = PartAt { kind, payload, first: self.first, last };
        self.first = false;
        self.in_frame = !ended;
        if last {
            self.message = None;
        }
        Ok((end, Some(Item::Part(part))))
    }

    /// Like [`payload`](Self::payload), of a compressed message. Never inflates much more than `room`: an
    /// attacker's message of a few bytes must not fill memory.
    fn inflate(
        &mut self,
        start: usize,
        input: &mut [u8],
        inflated: &mut Vec<u8>,
        config: &Config,
        room: u64,
    ) -> Result<(usize, Option<Item>), ProtocolError> {
        let Some(context) = self.deflate else { return Err(ProtocolError::ReservedBits) };
        let inflating = self.inflating.get_or_insert_default();
        let available = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - start);
        if available == 0 && self.remaining > 0 {
            return Ok((start, None));
        }
        let input = &mut input[start..start + available];
        // What stayed was unmasked already and has to be given again. A caller that does not gets nothing.
        let Some(masked) = input.get_mut(inflating.unmasked..) else { return Ok((0, None)) };
        if self.key != [0; 4] {
            mask::apply(masked, self.key);
            self.key = mask::advance(self.key, masked.len());
        }
        let ends = self.fin && available as u64 == self.remaining;
        let limit = usize::try_from(room).unwrap_or(usize::MAX).saturating_add(1).min(INFLATE_STEP);
        let before = inflated.len();
        let progress = inflating
            .inflate(context, input, ends, limit, inflated)
            .map_err(|_| ProtocolError::InvalidDeflate)?;
        inflating.unmasked = available - progress.consumed;
        self.remaining -= progress.consumed as u64;
        let last = ends && !progress.more;

        let piece = before..inflated.len();
        if piece.len() as u64 > room {
            return Err(ProtocolError::MessageTooBig { limit: config.max_message });
        }
        let kind = self.message.unwrap_or(Kind::Binary);
        if kind == Kind::Text {
            self.utf8.push(&inflated[piece.clone()]).map_err(|_| ProtocolError::InvalidUtf8)?;
            if last && !self.utf8.is_complete() {
                return Err(ProtocolError::InvalidUtf8);
            }
        }
        self.in_frame = self.remaining > 0;
        let consumed = start + progress.consumed;
        if piece.is_empty() && !last {
            return Ok((consumed, None));
        }
        let part = PartAt { kind, payload: Payload::Inflated(piece), first: self.first, last };
        self.first = false;
        if last {
            self.message = None;
            self.compressed = false;
            if context.takeover {
                inflating.end_message();
            } else {
                self.inflating = None;
            }
        }
        Ok((consumed, Some(Item::Part(part))))
    }
}

/// The commonest frame: a whole message of at most 125 bytes, all of it there. Anything else, and
/// everything that breaks a rule, is left to [`ReceiveHalf::any_frame`].
struct ShortFrame {
    kind: Kind,
    key: [u8; 4],
    start: usize,
    end: usize,
}

impl ShortFrame {
    #[inline]
    fn parse(input: &[u8], role: Role) -> Option<Self> {
        let ([first, second], rest) = input.split_first_chunk()?;
        // FIN, no reserved bit, and the opcode of a message.
        let kind = match first {
            0x81 => Kind::Text,
            0x82 => Kind::Binary,
            _ => return None,
        };
        let (masked, key, start) = match role {
            Role::Server => (0x80, *rest.first_chunk()?, 6),
            Role::Client => (0, [0; 4], 2),
        };
        // A mask bit that is wrong makes this 128 or more.
        let length = second ^ masked;
        let end = start + usize::from(length);
        (length <= 125 && end <= input.len()).then_some(Self { kind, key, start, end })
    }
}

/// Checks the rules for a single header.
#[inline]
fn check(header: &Header, role: Role, deflate: bool) -> Result<(), ProtocolError> {
    // RFC 6455 5.2: reserved bits are 0 unless an extension defines them. RFC 7692 6.1: permessage-deflate
    // defines RSV1, on the first frame of a message only.
    if header.rsv != 0 {
        let begins = matches!(header.opcode, OpCode::Text | OpCode::Binary);
        if !(deflate && begins && header.rsv == Header::RSV1) {
            return Err(ProtocolError::ReservedBits);
        }
    }
    // RFC 6455 5.1: a client masks all frames, a server none.
    match (role, header.mask) {
        (Role::Server, None) => return Err(ProtocolError::NotMasked),
        (Role::Client, Some(_)) => return Err(ProtocolError::Masked),
        _ => {}
    }
    if header.opcode.is_control() {
        // RFC 6455 5.5
        if header.length > MAX_CONTROL_PAYLOAD as u64 {
            return Err(ProtocolError::ControlTooLong);
        }
        // RFC 6455 5.4, 5.5
        if !header.fin {
            return Err(ProtocolError::ControlFragmented);
        }
    }
    Ok(())
}
