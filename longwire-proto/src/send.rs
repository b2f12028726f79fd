//! The sending half: messages and parts become frames in the outbox, masked where the role says so.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::SendError;
use crate::frame::{Header, MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode};
use crate::mask;
use crate::message::{Kind, Message};
use crate::outbox::{COPY_MAX, Outbox};
use crate::utf8::Utf8State;

/// Shared frames up to this many bytes are copied for each receiver; larger ones are only counted.
const SHARE_ABOVE: usize = 2 * 1024;

/// Masking keys: fresh for each frame, and not to be predicted from those before (RFC 6455 5.3).
#[derive(Debug)]
pub(crate) struct MaskKeys(ChaCha8Rng);

impl MaskKeys {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }
}

/// State of the sending half.
#[derive(Debug)]
pub(crate) struct Sending {
    /// A client has keys and masks; a server has none and does not (RFC 6455 5.1).
    keys: Option<Box<MaskKeys>>,
    /// The kind of the message in parts that is under way.
    message: Option<Kind>,
    utf8: Utf8State,
}

impl Sending {
    pub(crate) fn new(keys: Option<MaskKeys>) -> Self {
        Self { keys: keys.map(Box::new), message: None, utf8: Utf8State::default() }
    }

    #[inline]
    pub(crate) fn message(
        &mut self,
        message: Message,
        frame_size: usize,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if self.message.is_some() {
            return Err(SendError::MessageUnderWay);
        }
        let opcode = opcode_of(message.kind());
        if message.len() <= frame_size {
            if message.len() <= COPY_MAX || self.keys.is_some() {
                self.copied(true, opcode, message.as_bytes(), out);
            } else {
                self.shared(true, opcode, message.into_bytes(), out);
            }
        } else {
            self.fragments(opcode, true, message.into_bytes(), frame_size, out);
        }
        Ok(())
    }

    pub(crate) fn part(
        &mut self,
        kind: Kind,
        payload: Bytes,
        last: bool,
        frame_size: usize,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if self.message.is_some_and(|under_way| under_way != kind) {
            return Err(SendError::KindChanged);
        }
        if kind == Kind::Text {
            let mut utf8 = self.utf8;
            utf8.push(&payload).map_err(|_| SendError::InvalidUtf8)?;
            if last && !utf8.is_complete() {
                return Err(SendError::InvalidUtf8);
            }
            self.utf8 = utf8;
        }
        // RFC 6455 5.4: the first fragment names the kind, the others continue it.
        let opcode = if self.message.is_some() { OpCode::Continuation } else { opcode_of(kind) };
        self.message = if last { None } else { Some(kind) };
        self.fragments(opcode, last, payload, frame_size, out);
        Ok(())
    }

    pub(crate) fn shared_frame(
        &mut self,
        frame: &SharedFrame,
        frame_size: usize,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if self.keys.is_some() {
            // RFC 6455 5.3: each frame of a client has a key of its own, so there is nothing to share.
            return self.message(frame.message(), frame_size, out);
        }
        if self.message.is_some() {
            return Err(SendError::MessageUnderWay);
        }
        for Encoded { frame, .. } in &*frame.frames {
            if frame.len() <= SHARE_ABOVE {
                out.append(|flat| flat.extend_from_slice(frame));
            } else {
                out.append_shared(&[], frame.clone());
            }
        }
        Ok(())
    }

    /// A Ping. The payload is at most 125 bytes, as the caller has checked.
    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Outbox) {
        let (frame, size) = self.control(OpCode::Ping, payload);
        out.insert_control(&frame[..size]);
    }

    /// A Pong (RFC 6455 5.5.3: with the payload of the Ping).
    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Outbox) {
        let (frame, size) = self.control(OpCode::Pong, payload);
        out.insert_pong(&frame[..size]);
    }

    /// A Close frame, behind everything that waits; nothing follows it (RFC 6455 5.5.1).
    pub(crate) fn close(&mut self, payload: &[u8], out: &mut Outbox) {
        out.drop_held_pong();
        self.copied(true, OpCode::Close, payload, out);
    }

    fn control(&mut self, opcode: OpCode, payload: &[u8]) -> ([u8; MAX_HEADER + MAX_CONTROL_PAYLOAD], usize) {
        let header = self.header(true, opcode, payload.len());
        let encoded = header.encode();
        let mut frame = [0; MAX_HEADER + MAX_CONTROL_PAYLOAD];
        let size = encoded.len() + payload.len();
        frame[..encoded.len()].copy_from_slice(&encoded);
        frame[encoded.len()..size].copy_from_slice(payload);
        if let Some(key) = header.mask {
            mask::apply(&mut frame[encoded.len()..size], key);
        }
        (frame, size)
    }

    #[inline(never)]
    fn fragments(
        &mut self,
        first: OpCode,
        last: bool,
        mut payload: Bytes,
        frame_size: usize,
        out: &mut Outbox,
    ) {
        let mut opcode = first;
        loop {
            let piece = payload.split_to(payload.len().min(frame_size));
            let fin = last && payload.is_empty();
            if piece.len() <= COPY_MAX || self.keys.is_some() {
                self.copied(fin, opcode, &piece, out);
            } else {
                self.shared(fin, opcode, piece, out);
            }
            if payload.is_empty() {
                return;
            }
            opcode = OpCode::Continuation;
        }
    }

    /// One frame whose payload is copied, and masked by a client.
    #[inline]
    fn copied(&mut self, fin: bool, opcode: OpCode, payload: &[u8], out: &mut Outbox) {
        let header = self.header(fin, opcode, payload.len());
        if let Some(key) = header.mask
            && payload.len() > COPY_MAX
        {
            let mut masked = payload.to_vec();
            mask::apply(&mut masked, key);
            return out.append_shared(&header.encode(), masked.into());
        }
        out.append(|flat| {
            flat.reserve(MAX_HEADER + payload.len());
            header.encode().append(flat);
            let start = flat.len();
            flat.extend_from_slice(payload);
            if let Some(key) = header.mask {
                mask::apply(&mut flat[start..], key);
            }
        });
    }

    /// One frame of a server whose payload is queued as it is.
    #[inline(never)]
    fn shared(&mut self, fin: bool, opcode: OpCode, payload: Bytes, out: &mut Outbox) {
        let header = self.header(fin, opcode, payload.len());
        out.append_shared(&header.encode(), payload);
    }

    #[inline]
    fn header(&mut self, fin: bool, opcode: OpCode, length: usize) -> Header {
        let mask = self.keys.as_mut().map(|keys| keys.0.next_u32().to_le_bytes());
        Header { fin, rsv: 0, opcode, mask, length: length as u64 }
    }
}

const fn opcode_of(kind: Kind) -> OpCode {
    match kind {
        Kind::Text => OpCode::Text,
        Kind::Binary => OpCode::Binary,
    }
}

/// A message encoded once, to be sent by many server connections without encoding or copying it again.
///
/// A client connection takes it too, but must mask it for itself (RFC 6455 5.3).
#[derive(Clone, Debug)]
pub struct SharedFrame {
    kind: Kind,
    frames: Box<[Encoded]>,
}

#[derive(Clone, Debug)]
struct Encoded {
    /// Bytes of the header at the front of `frame`.
    header: usize,
    frame: Bytes,
}

impl SharedFrame {
    /// The largest payload of one of its frames; [`Config::frame_size`](crate::Config::frame_size) is
    /// each connection's own and does not count here.
    const FRAME_SIZE: usize = 256 * 1024;

    /// Encodes `message` as a server sends it, in frames of at most 256 KiB.
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let mut frames = Vec::new();
        let mut pieces = message.as_bytes().chunks(Self::FRAME_SIZE).peekable();
        let mut opcode = opcode_of(message.kind());
        loop {
            let piece = pieces.next().unwrap_or_default();
            let fin = pieces.peek().is_none();
            let header = Header { fin, rsv: 0, opcode, mask: None, length: piece.len() as u64 }.encode();
            frames.push(Encoded { header: header.len(), frame: [&header, piece].concat().into() });
            if fin {
                return Self { kind: message.kind(), frames: frames.into() };
            }
            opcode = OpCode::Continuation;
        }
    }

    /// The message; shares its bytes if it is one frame, else they are copied.
    pub fn message(&self) -> Message {
        let payload = match &*self.frames {
            [only] => only.frame.slice(only.header..),
            several => several.iter().flat_map(|one| &one.frame[one.header..]).copied().collect(),
        };
        Message::from_validated(self.kind, payload)
    }
}
