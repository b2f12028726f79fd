//! Frames as a peer writes and reads them, by the header code of longwire-proto alone.

use longwire_proto::frame::{Header, OpCode};
use longwire_proto::mask;

/// A frame, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: OpCode,
    pub(crate) masked: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn is(&self, opcode: OpCode, payload: impl AsRef<[u8]>) -> bool {
        self.fin && self.opcode == opcode && self.payload == payload.as_ref()
    }

    /// The code of a Close frame, 1005 if it has none.
    pub(crate) fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, OpCode::Close, "{self:?}");
        self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

/// A frame's bytes; a client's are masked.
pub(crate) fn frame(by_client: bool, fin: bool, opcode: OpCode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let key = by_client.then_some([0x37, 0xFA, 0x21, 0x3D]);
    let header = Header { fin, rsv: 0, opcode, mask: key, length: payload.len() as u64 };
    let mut bytes = header.encode().to_vec();
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask::apply(&mut bytes[start..], key.unwrap_or_default());
    bytes
}

/// A text message's only frame.
pub(crate) fn text(by_client: bool, payload: &str) -> Vec<u8> {
    frame(by_client, true, OpCode::Text, payload)
}

/// A Close frame.
pub(crate) fn close(by_client: bool, code: u16, reason: &str) -> Vec<u8> {
    frame(by_client, true, OpCode::Close, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The whole frames at the front of `bytes`, and what is left: part of a frame.
pub(crate) fn split_frames(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((header, size)) = Header::decode(bytes).expect("a frame header") {
        let end = size + usize::try_from(header.length).unwrap();
        let Some(payload) = bytes.get(size..end) else { break };
        let mut payload = payload.to_vec();
        mask::apply(&mut payload, header.mask.unwrap_or_default());
        frames.push(Frame { fin: header.fin, opcode: header.opcode, masked: header.mask.is_some(), payload });
        bytes = &bytes[end..];
    }
    (frames, bytes)
}

/// The frames that `bytes` are, with nothing behind the last.
pub(crate) fn whole_frames(bytes: &[u8]) -> Vec<Frame> {
    let (frames, rest) = split_frames(bytes);
    assert!(rest.is_empty(), "{} bytes of a torn frame", rest.len());
    frames
}

/// The messages that `frames` carry, control frames left out. The rules of RFC 6455 5.4 are asserted.
pub(crate) fn messages(frames: &[Frame]) -> Vec<(OpCode, Vec<u8>)> {
    let mut messages: Vec<(OpCode, Vec<u8>)> = Vec::new();
    let mut open = false;
    for frame in frames.iter().filter(|frame| !frame.opcode.is_control()) {
        if frame.opcode == OpCode::Continuation {
            assert!(open, "a continuation of nothing");
            messages.last_mut().unwrap().1.extend_from_slice(&frame.payload);
        } else {
            assert!(!open, "a message within a message");
            messages.push((frame.opcode, frame.payload.clone()));
        }
        open = !frame.fin;
    }
    assert!(!open, "the last message has no end");
    messages
}
