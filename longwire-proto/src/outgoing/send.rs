//! The sending half: messages and parts become frames in the outbox, compressed if that was negotiated, and masked
//! by a client.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::config::Config;
use crate::deflate::codec::{DeflateState, with_compressor};
use crate::deflate::{Compress, SenderParameters};
use crate::error::SendError;
use crate::frame::{Header, MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode};
use crate::mask;
use crate::message::{Kind, Message};
use crate::outgoing::frame_start::FrameStart;
use crate::outgoing::outbox::{COPY_MAX, Outbox, SHARE_ABOVE};
use crate::outgoing::shared::{Encoded, SharedFrame};
use crate::text::Utf8State;

/// Masking keys: a fresh one for each frame, which cannot be predicted from those before (RFC 6455 5.3).
#[derive(Debug)]
pub(crate) struct MaskKeys(ChaCha8Rng);

impl MaskKeys {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }
}

/// State of the sending half.
#[derive(Debug)]
pub(crate) struct SendHalf {
    /// A client masks its frames; a server has no keys and must not mask (RFC 6455 5.1).
    keys: Option<Box<MaskKeys>>,
    /// The message in parts that is being sent.
    message: Option<UnderWay>,
    utf8: Utf8State,
    /// How messages may be compressed, if that was negotiated.
    deflate: Option<SenderParameters>,
    deflating: Option<Box<DeflateState>>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    kind: Kind,
    compressed: bool,
}

impl SendHalf {
    pub(crate) fn new(keys: Option<MaskKeys>) -> Self {
        Self {
            keys: keys.map(Box::new),
            message: None,
            utf8: Utf8State::default(),
            deflate: None,
            deflating: None,
        }
    }

    pub(crate) const fn set_deflate(&mut self, context: SenderParameters) {
        self.deflate = Some(context);
    }

    pub(crate) const fn deflate(&self) -> Option<SenderParameters> {
        self.deflate
    }

    /// Gives back what is only needed to send more.
    pub(crate) fn end(&mut self) {
        self.deflating = None;
    }

    #[inline]
    pub(crate) fn message(
        &mut self,
        message: Message,
        compress: Compress,
        config: &Config,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if message.len() <= COPY_MAX || self.keys.is_some() {
            return self.borrowed(message.kind(), message.as_bytes(), compress, config, out);
        }
        if !self.try_compressed(message.kind(), message.as_bytes(), compress, config, out)? {
            let first = FrameStart::plain(message.kind());
            self.fragments(first, true, message.into_bytes(), config.frame_size.get(), out);
        }
        Ok(())
    }

    /// Queues a message that is copied, and masked by a client.
    #[inline]
    pub(crate) fn borrowed(
        &mut self,
        kind: Kind,
        payload: &[u8],
        compress: Compress,
        config: &Config,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if self.try_compressed(kind, payload, compress, config, out)? {
            return Ok(());
        }
        let first = FrameStart::plain(kind);
        if payload.len() <= config.frame_size.get() {
            self.copied(true, first, payload, out);
        } else {
            self.copied_fragments(first, payload, config.frame_size.get(), out);
        }
        Ok(())
    }

    /// Queues the message compressed, if it is to be. Returns whether it was queued.
    #[inline]
    fn try_compressed(
        &mut self,
        kind: Kind,
        payload: &[u8],
        compress: Compress,
        config: &Config,
        out: &mut Outbox,
    ) -> Result<bool, SendError> {
        if self.message.is_some() {
            return Err(SendError::MessageUnderWay);
        }
        Ok(match self.deflate {
            Some(context) if config.compresses(payload.len(), compress) => {
                self.compressed(kind, payload, context, config, out)
            }
            _ => false,
        })
    }

    /// Queues a message compressed, unless that does not make it smaller. Returns whether it was queued.
    #[inline(never)]
    fn compressed(
        &mut self,
        kind: Kind,
        message: &[u8],
        context: SenderParameters,
        config: &Config,
        out: &mut Outbox,
    ) -> bool {
        let (level, budget) = config.compression();
        if self.deflating.is_none() {
            self.deflating = DeflateState::for_connection(level, context, budget);
        }
        with_compressor(|compressor, payload| {
            if let Some(deflating) = &mut self.deflating {
                compressor.compress_piece(&mut deflating.history, message, true, payload);
            } else {
                compressor.compress_message(message, level, context.window_bits, payload);
                if payload.len() >= message.len() {
                    return false;
                }
            }
            self.payload(FrameStart::compressed(kind), true, payload, config, out);
            true
        })
    }

    /// Queues the compressor's output.
    fn payload(
        &mut self,
        first: FrameStart,
        last: bool,
        payload: &mut Vec<u8>,
        config: &Config,
        out: &mut Outbox,
    ) {
        if payload.len() <= config.frame_size.get().min(COPY_MAX) {
            self.copied(last, first, payload, out);
        } else {
            self.fragments(first, last, std::mem::take(payload).into(), config.frame_size.get(), out);
        }
    }

    pub(crate) fn part(
        &mut self,
        kind: Kind,
        payload: Bytes,
        last: bool,
        compress: Compress,
        config: &Config,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if self.message.is_some_and(|under_way| under_way.kind != kind) {
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
        if self.message.is_none()
            && last
            && let Some(context) = self.deflate
            && config.compresses(payload.len(), compress)
            && self.compressed(kind, &payload, context, config, out)
        {
            return Ok(());
        }
        let compressed = match self.message {
            Some(under_way) => under_way.compressed,
            None => !last && self.deflate.is_some() && compress != Compress::Never,
        };
        let first = match self.message {
            Some(_) => FrameStart::CONTINUES,
            None if compressed => FrameStart::compressed(kind),
            None => FrameStart::plain(kind),
        };
        self.message = if last { None } else { Some(UnderWay { kind, compressed }) };
        match self.deflate {
            Some(context) if compressed => self.compressed_part(first, &payload, last, context, config, out),
            _ => self.fragments(first, last, payload, config.frame_size.get(), out),
        }
        Ok(())
    }

    fn compressed_part(
        &mut self,
        first: FrameStart,
        payload: &[u8],
        last: bool,
        context: SenderParameters,
        config: &Config,
        out: &mut Outbox,
    ) {
        let (level, budget) = config.compression();
        let mut deflating = self.deflating.take().unwrap_or_else(|| {
            DeflateState::for_connection(level, context, budget)
                .unwrap_or_else(|| DeflateState::for_message(level, context))
        });
        with_compressor(|compressor, compressed| {
            compressor.compress_piece(&mut deflating.history, payload, last, compressed);
            self.payload(first, last, compressed, config, out);
        });
        if !last || deflating.takes_over() {
            self.deflating = Some(deflating);
        }
    }

    pub(crate) fn shared_frame(
        &mut self,
        frame: &SharedFrame,
        config: &Config,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if self.keys.is_some() {
            // RFC 6455 5.3: each frame of a client has a key of its own, so there is nothing to share.
            return self.message(frame.message(), frame.compress(), config, out);
        }
        if self.message.is_some() {
            return Err(SendError::MessageUnderWay);
        }
        let deflated = self.deflate.and_then(|context| frame.deflated(context.window_bits, config));
        if deflated.is_some()
            && let Some(deflating) = &mut self.deflating
        {
            // The peer's window moves on by this message, which is not in this end's history: a reference to
            // what came before it would reach the wrong bytes.
            deflating.history.clear();
        }
        for Encoded { frame, .. } in deflated.unwrap_or(frame.plain()) {
            if frame.len() <= SHARE_ABOVE {
                out.append(|flat| flat.extend_from_slice(frame));
            } else {
                out.append_shared(&[], frame.clone());
            }
        }
        Ok(())
    }

    /// Returns the window that shared frames are compressed for, if they are compressed; `None` if this connection
    /// cannot write the same bytes as others.
    pub(crate) const fn shared_window(&self) -> Option<Option<u8>> {
        if self.keys.is_some() || self.message.is_some() || self.deflating.is_some() {
            return None;
        }
        match self.deflate {
            Some(context) => Some(Some(context.window_bits)),
            None => Some(None),
        }
    }

    /// Queues a Ping. The caller has checked that the payload has at most 125 bytes.
    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Outbox) {
        let (frame, size) = self.control(OpCode::Ping, payload);
        out.insert_control(&frame[..size]);
    }

    /// Queues a Pong (RFC 6455 5.5.3: with the payload of the Ping).
    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Outbox) {
        let (frame, size) = self.control(OpCode::Pong, payload);
        out.insert_pong(&frame[..size]);
    }

    /// Queues a Close frame behind everything that waits. Nothing may follow it (RFC 6455 5.5.1).
    pub(crate) fn close(&mut self, payload: &[u8], out: &mut Outbox) {
        out.drop_held_pong();
        self.copied(true, FrameStart { opcode: OpCode::Close, rsv: 0 }, payload, out);
    }

    fn control(&mut self, opcode: OpCode, payload: &[u8]) -> ([u8; MAX_HEADER + MAX_CONTROL_PAYLOAD], usize) {
        let header = self.header(true, FrameStart { opcode, rsv: 0 }, payload.len());
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
        mut first: FrameStart,
        last: bool,
        mut payload: Bytes,
        frame_size: usize,
        out: &mut Outbox,
    ) {
        loop {
            let piece = payload.split_to(payload.len().min(frame_size));
            let fin = last && payload.is_empty();
            if piece.len() <= COPY_MAX || self.keys.is_some() {
                self.copied(fin, first, &piece, out);
            } else {
                self.shared(fin, first, piece, out);
            }
            if payload.is_empty() {
                return;
            }
            first = FrameStart::CONTINUES;
        }
    }

    #[inline(never)]
    fn copied_fragments(
        &mut self,
        mut first: FrameStart,
        payload: &[u8],
        frame_size: usize,
        out: &mut Outbox,
    ) {
        let mut pieces = payload.chunks(frame_size).peekable();
        while let Some(piece) = pieces.next() {
            self.copied(pieces.peek().is_none(), first, piece, out);
            first = FrameStart::CONTINUES;
        }
    }

    /// Queues a frame whose payload is copied, and masked by a client.
    #[inline]
    fn copied(&mut self, fin: bool, first: FrameStart, payload: &[u8], out: &mut Outbox) {
        if self.keys.is_none() && payload.len() <= MAX_CONTROL_PAYLOAD {
            return out.append_small(u8::from(fin) << 7 | first.rsv | first.opcode as u8, payload);
        }
        let header = self.header(fin, first, payload.len());
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

    /// Queues a frame of a server without copying its payload.
    #[inline(never)]
    fn shared(&mut self, fin: bool, first: FrameStart, payload: Bytes, out: &mut Outbox) {
        let header = self.header(fin, first, payload.len());
        out.append_shared(&header.encode(), payload);
    }

    #[inline]
    fn header(&mut self, fin: bool, first: FrameStart, length: usize) -> Header {
        let mask = self.keys.as_mut().map(|keys| keys.0.next_u32().to_le_bytes());
        Header { mask, ..first.header(fin, length) }
    }
}
