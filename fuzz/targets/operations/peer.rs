//! What the peer sends, and how it reads the frames of what it gets.

use std::time::Instant;

use longwire::{Compress, Config, Deflate, Kind, Message, Role, WebSocket};
use longwire_proto::frame::{Header, OpCode};
use longwire_proto::{Connection, Outbox};

use crate::frames::{self, Frame};
use crate::other;
use crate::receiver;
use crate::stream::Stream;

pub(crate) struct Peer {
    role: Role,
    /// All that it has sent.
    pub(crate) sent: Vec<u8>,
    frames: u32,
    message_under_way: bool,
    /// Compresses for it, if that was agreed on.
    compressing: Option<Connection>,
}

impl Peer {
    /// The peer of this end.
    pub(crate) fn new(ws: &WebSocket<Stream>) -> Self {
        let role = other(ws.role());
        let config = Config::server().deflate(Deflate::new().send_context_takeover(1 << 20)).frame_size(500);
        let compressing =
            |parameters| receiver::connection(role, &config, Instant::now()).with_deflate(parameters);
        Self {
            role,
            sent: Vec::new(),
            frames: 0,
            message_under_way: false,
            compressing: ws.deflate().map(compressing),
        }
    }

    /// A message (9), a fragment (10) or a control frame.
    pub(crate) fn next(&mut self, call: u8, what: u8, filler: String) -> Vec<u8> {
        let number = self.frames;
        self.frames += 1;
        let (kind, last) = (if what & 8 == 0 { Kind::Text } else { Kind::Binary }, what & 16 != 0);
        let opcode = if kind == Kind::Text { 1 } else { 2 };
        let frame = match call {
            9 => {
                let text = format!("{number} {filler}");
                if let Some(bytes) = self.compressed(what, |end, out| {
                    let message = match kind {
                        Kind::Text => Message::from(text.as_str()),
                        Kind::Binary => Message::from(text.as_bytes()),
                    };
                    end.send_with(message, Compress::Always, out).is_ok()
                }) {
                    return bytes;
                }
                frames::frame(opcode, text)
            }
            10 => {
                let filler = if what & 32 == 0 { filler } else { String::new() };
                if let Some(bytes) = self.compressed(what, |end, out| {
                    end.send_part_with(kind, filler.clone().into(), last, Compress::Always, out).is_ok()
                }) {
                    return bytes;
                }
                let opcode = if self.message_under_way { 0 } else { opcode };
                self.message_under_way = !last;
                let frame = frames::frame(opcode, filler);
                if last { frame } else { frame.more() }
            }
            _ => match what % 8 {
                0 => frames::close_empty(),
                1 => frames::close(1001, "再见"),
                2..=5 => frames::ping(format!("{number}")),
                _ => frames::pong(format!("{number}")),
            },
        };
        self.encode(&frame, number)
    }

    fn encode(&self, frame: &Frame, number: u32) -> Vec<u8> {
        frame.encode(other(self.role), number.wrapping_mul(0x9E37_79B9).to_be_bytes())
    }

    /// What this sends compressed, if it is to be (64) and can be.
    fn compressed(
        &mut self,
        what: u8,
        send: impl FnOnce(&mut Connection, &mut Outbox) -> bool,
    ) -> Option<Vec<u8>> {
        let end = self.compressing.as_mut().filter(|_| what & 64 != 0)?;
        let mut out = Outbox::new();
        send(end, &mut out).then(|| receiver::drain(&mut out))
    }
}

/// Whole frames, without the bit that says that a message is compressed.
pub(crate) fn without_rsv1(frames: &[u8]) -> Vec<u8> {
    let mut frames = frames.to_vec();
    let mut at = 0;
    while at < frames.len() {
        let (header, size) = Header::decode(&frames[at..]).expect("a valid header").expect("a whole one");
        if matches!(header.opcode, OpCode::Text | OpCode::Binary) {
            frames[at] &= !0x40;
        }
        at += size + header.length as usize;
    }
    frames
}
