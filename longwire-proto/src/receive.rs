//! The receiving half: bytes become parts of messages and control frames (RFC 6455 sections 5 and 8).
//!
//! It unmasks in place and says where the payload lies; it keeps no byte and joins nothing.

use std::ops::Range;

use crate::config::Config;
use crate::error::ProtocolError;
use crate::frame::{Header, MAX_CONTROL_PAYLOAD, OpCode};
use crate::mask;
use crate::message::Kind;
use crate::utf8::{Utf8State, unmask_text};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Masks what it sends, and ends TCP second.
    Client,
    /// Expects masked frames, and ends TCP first.
    Server,
}

/// Where a piece of a message lies in the input.
///
/// `first && last`: the whole message lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartAt {
    /// What the message carries.
    pub kind: Kind,
    /// The unmasked payload, as a range of the input; may be empty.
    pub payload: Range<usize>,
    /// The message begins with this piece.
    pub first: bool,
    /// The message ends with this piece.
    pub last: bool,
}

/// A control frame, whole.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) opcode: OpCode,
    pub(crate) payload: Range<usize>,
}

/// What one step found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing yet; what was consumed may be dropped.
    Nothing,
    Part(PartAt),
    Control(Control),
}

/// State of the receiving half.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// Payload of the data frame under way that is still to come.
    remaining: u64,
    /// The masking key as it stands at the next byte of payload.
    key: [u8; 4],
    utf8: Utf8State,
    /// Fragments of the message under way.
    fragments: u32,
    /// Control frames since the last data frame.
    control_run: u32,
    /// The kind of the message under way.
    message: Option<Kind>,
    /// No part of the message under way was handed out yet.
    first: bool,
    /// The frame under way is the final fragment.
    fin: bool,
    /// A data frame's header was taken and its end not reached.
    in_frame: bool,
}

impl Receiving {
    pub(crate) fn new() -> Self {
        Self {
            remaining: 0,
            key: [0; 4],
            utf8: Utf8State::default(),
            fragments: 0,
            control_run: 0,
            message: None,
            first: false,
            fin: false,
            in_frame: false,
        }
    }

    #[inline]
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// There was silence: what comes now is no flood.
    pub(crate) fn paused(&mut self) {
        self.control_run = 0;
    }

    /// Takes what it can off the front of `input`: how many bytes, and what they are.
    #[inline]
    pub(crate) fn step(
        &mut self,
        input: &mut [u8],
        role: Role,
        config: &Config,
        room: u64,
    ) -> Result<(usize, Found), ProtocolError> {
        if let Some(small) = Small::find(input, role)
            && self.message.is_none()
            && (small.end - small.start) as u64 <= room
        {
            return self.small(small, input);
        }
        self.long_way(input, role, config, room)
    }

    /// Out of line, to keep the way of the commonest frame short.
    #[inline(never)]
    fn long_way(
        &mut self,
        input: &mut [u8],
        role: Role,
        config: &Config,
        room: u64,
    ) -> Result<(usize, Found), ProtocolError> {
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
            check(&header, role)?;
            if header.opcode.is_control() {
                return self.control(&header, size, input, config);
            }
            self.begin(&header, config)?;
            start = size;
        }
        // RFC 6455 10.4: refused as soon as it is announced.
        if self.remaining > room {
            return Err(ProtocolError::MessageTooBig { limit: config.max_message });
        }
        self.payload(start, input)
    }

    /// The same as the long way by way of [`begin`](Self::begin) and [`payload`](Self::payload).
    #[inline]
    fn small(&mut self, small: Small, input: &mut [u8]) -> Result<(usize, Found), ProtocolError> {
        let Small { kind, key, start, end } = small;
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
        let part = PartAt { kind, payload: start..end, first: true, last: true };
        Ok((end, Found::Part(part)))
    }

    /// A header that has begun: rules that its first two bytes break are broken already.
    #[cold]
    fn incomplete(&self, input: &[u8], role: Role) -> Result<(usize, Found), ProtocolError> {
        if let [first, second, ..] = *input {
            // The length is cut off; any that needs its extended form is too long for a control frame.
            let mut whole = [0; crate::frame::MAX_HEADER];
            whole[0] = first;
            whole[1] = second & 0x80 | (second & 0x7F).min(126);
            whole[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
            if let Some((header, _)) = Header::decode(&whole)? {
                check(&header, role)?;
                self.check_order(&header)?;
            }
        }
        Ok((0, Found::Nothing))
    }

    fn control(
        &mut self,
        header: &Header,
        size: usize,
        input: &mut [u8],
        config: &Config,
    ) -> Result<(usize, Found), ProtocolError> {
        let end = size + header.length as usize;
        let Some(payload) = input.get_mut(size..end) else { return Ok((0, Found::Nothing)) };
        self.control_run = self.control_run.saturating_add(1);
        if self.control_run > u32::from(config.max_control_run) {
            return Err(ProtocolError::TooManyControlFrames { limit: config.max_control_run });
        }
        if let Some(key) = header.mask {
            mask::apply(payload, key);
        }
        Ok((end, Found::Control(Control { opcode: header.opcode, payload: size..end })))
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

    /// A data frame begins.
    #[inline]
    fn begin(&mut self, header: &Header, config: &Config) -> Result<(), ProtocolError> {
        self.check_order(header)?;
        if header.opcode == OpCode::Continuation {
            self.fragments = self.fragments.saturating_add(1);
            if self.fragments > config.max_fragments {
                return Err(ProtocolError::TooManyFragments { limit: config.max_fragments });
            }
        } else {
            self.message = Some(if header.opcode == OpCode::Text { Kind::Text } else { Kind::Binary });
            self.first = true;
            self.fragments = 1;
        }
        self.control_run = 0;
        self.remaining = header.length;
        self.key = header.mask.unwrap_or_default();
        self.fin = header.fin;
        self.in_frame = true;
        Ok(())
    }

    /// Payload of the data frame under way, as far as it is there.
    #[inline]
    fn payload(&mut self, start: usize, input: &mut [u8]) -> Result<(usize, Found), ProtocolError> {
        let available = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - start);
        let end = start + available;
        if available == 0 && self.remaining > 0 {
            return Ok((end, Found::Nothing));
        }
        self.remaining -= available as u64;
        let ended = self.remaining == 0;
        let last = ended && self.fin;
        // `begin` has set it, and it stays until the last part.
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
        let part = PartAt { kind, payload: start..end, first: self.first, last };
        self.first = false;
        self.in_frame = !ended;
        if last {
            self.message = None;
        }
        Ok((end, Found::Part(part)))
    }
}

/// The commonest frame: a whole message of at most 125 bytes, all of it there. Anything else, and
/// everything that breaks a rule, takes the long way.
struct Small {
    kind: Kind,
    key: [u8; 4],
    start: usize,
    end: usize,
}

impl Small {
    #[inline]
    fn find(input: &[u8], role: Role) -> Option<Self> {
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

/// The rules that a header keeps by itself.
#[inline]
fn check(header: &Header, role: Role) -> Result<(), ProtocolError> {
    // RFC 6455 5.2: reserved bits are 0 unless an extension defines them.
    if header.rsv != 0 {
        return Err(ProtocolError::ReservedBits);
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
