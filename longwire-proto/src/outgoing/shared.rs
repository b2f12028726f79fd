//! Messages encoded once for many server connections.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::config::Config;
use crate::deflate::codec::with_compressor;
use crate::deflate::{Compress, WINDOW_BITS};
use crate::message::{Kind, Message};
use crate::outgoing::frame_start::FrameStart;
use crate::outgoing::message::Outgoing;

/// A message encoded once, to be sent by many server connections without encoding or copying it again.
///
/// For connections with permessage-deflate it is compressed by the first of them that sends it, once for
/// each size of window, without reference to what went before; those whose
/// [`Deflate::threshold`](crate::Deflate::threshold) it does not reach send it as it is. The level is that
/// of the connection that came first.
///
/// A client connection takes it too, but must mask it for itself (RFC 6455 5.3).
#[derive(Clone, Debug)]
pub struct SharedFrame(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kind: Kind,
    compress: Compress,
    plain: Frames,
    /// For each window from 8 to 15 bits; `None` where it is no smaller so.
    deflated: OnceLock<Box<[OnceLock<Option<Frames>>; WINDOWS]>>,
}

type Frames = Box<[Encoded]>;

pub(crate) const WINDOWS: usize = 1 + (*WINDOW_BITS.end() - *WINDOW_BITS.start()) as usize;

#[derive(Debug)]
pub(crate) struct Encoded {
    /// Bytes of the header at the front of `frame`.
    header: usize,
    pub(crate) frame: Bytes,
}

impl SharedFrame {
    /// The largest payload of one of its frames; [`Config::frame_size`](crate::Config::frame_size) is
    /// each connection's own and does not count here.
    const FRAME_SIZE: usize = 256 * 1024;

    /// Encodes `message` as a server sends it, in frames of at most 256 KiB.
    pub fn new<'m>(message: impl Into<Outgoing<'m>>) -> Self {
        message.into().into_shared(|kind, payload, compress| {
            let plain = encode(FrameStart::plain(kind), payload);
            Self(Arc::new(Shared { kind, compress, plain, deflated: OnceLock::new() }))
        })
    }

    /// The message; shares its bytes if it is one frame, else they are copied.
    pub fn message(&self) -> Message {
        let payload = match &*self.0.plain {
            [only] => only.frame.slice(only.header..),
            several => several.iter().flat_map(|one| &one.frame[one.header..]).copied().collect(),
        };
        Message::from_validated(self.0.kind, payload)
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Bytes of the message's payload.
    pub fn payload_len(&self) -> usize {
        self.0.plain.iter().map(|one| one.frame.len() - one.header).sum()
    }

    pub(crate) fn compress(&self) -> Compress {
        self.0.compress
    }

    pub(crate) fn plain(&self) -> &[Encoded] {
        &self.0.plain
    }

    /// The frames for a peer whose window has this size, if they are to be compressed and smaller so.
    pub(crate) fn deflated(&self, window_bits: u8, config: &Config) -> Option<&[Encoded]> {
        if !config.compresses(self.payload_len(), self.0.compress) {
            return None;
        }
        let (level, _) = config.compression();
        let windows = self.0.deflated.get_or_init(Box::default);
        let window = windows.get(usize::from(window_bits.checked_sub(*WINDOW_BITS.start())?))?;
        let frames = window.get_or_init(|| {
            let message = self.message();
            with_compressor(|compressor, payload| {
                compressor.compress_message(message.as_bytes(), level, window_bits, payload);
                let smaller = payload.len() < message.len();
                smaller.then(|| encode(FrameStart::compressed(self.0.kind), payload))
            })
        });
        frames.as_deref()
    }
}

/// A server's frames for `payload`.
fn encode(mut first: FrameStart, payload: &[u8]) -> Frames {
    let one = |first: FrameStart, fin, piece: &[u8]| {
        let header = first.header(fin, piece.len()).encode();
        let mut frame = Vec::with_capacity(header.len() + piece.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(piece);
        Encoded { header: header.len(), frame: frame.into() }
    };
    if payload.len() <= SharedFrame::FRAME_SIZE {
        return Box::new([one(first, true, payload)]);
    }
    let mut pieces = payload.chunks(SharedFrame::FRAME_SIZE).peekable();
    let mut frames = Vec::new();
    while let Some(piece) = pieces.next() {
        frames.push(one(first, pieces.peek().is_none(), piece));
        first = FrameStart::CONTINUES;
    }
    frames.into()
}
