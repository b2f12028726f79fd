//! Frames (RFC 6455 5.2): made as a client, read as a client.

use crate::random::Random;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const MASK: u8 = 0x80;

/// The largest frame that the server is believed.
const LARGEST: u64 = 2 * 1024 * 1024;

/// What a server has sent that is no frame.
pub(crate) struct Fault(pub(crate) &'static str);

/// A frame of a server.
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// A masked frame.
pub(crate) fn push(frames: &mut Vec<u8>, first: u8, payload: &[u8], random: &mut Random) {
    push_header(frames, first, payload.len() as u64, MASK);
    let key: [u8; 8] = random.next().to_le_bytes();
    let key = [key[0], key[1], key[2], key[3]];
    frames.extend(key);
    let start = frames.len();
    frames.extend(payload);
    // Four bytes at a time, for the sake of the large ones.
    for four in frames[start..].chunks_mut(4) {
        four.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
}

/// The header of a frame, up to the masking key.
pub(crate) fn push_header(frames: &mut Vec<u8>, first: u8, length: u64, mask: u8) {
    frames.push(first);
    match length {
        0..=125 => frames.push(mask | length as u8),
        126..=0xffff => {
            frames.push(mask | 126);
            frames.extend((length as u16).to_be_bytes());
        }
        _ => {
            frames.push(mask | 127);
            frames.extend(length.to_be_bytes());
        }
    }
}

/// What has come and is not taken yet.
#[derive(Default)]
pub(crate) struct Parser {
    input: Vec<u8>,
    at: usize,
}

impl Parser {
    pub(crate) const fn new(input: Vec<u8>) -> Self {
        Self { input, at: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
    }

    pub(crate) fn is_between_frames(&self) -> bool {
        self.at == self.input.len()
    }

    /// The next frame, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        let input = &self.input[self.at..];
        let [first, second, rest @ ..] = input else { return Ok(self.wait()) };
        if second & MASK != 0 {
            return Err(Fault("a masked frame"));
        }
        if first & 0x08 != 0 && (first & FIN == 0 || *second > 125) {
            return Err(Fault("a control frame in fragments, or too long"));
        }
        let (header, length) = match (second, rest) {
            (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
            (126 | 127, _) => return Ok(self.wait()),
            (length, _) => (2, u64::from(*length)),
        };
        if length > LARGEST {
            return Err(Fault("a frame that is too long"));
        }
        let end = header + length as usize;
        let Some(payload) = input.get(header..end) else { return Ok(self.wait()) };
        let frame = Frame { first: *first, payload: payload.to_vec() };
        self.at += end;
        Ok(Some(frame))
    }

    /// Nothing whole is there: what is taken is forgotten, with its memory when it is all.
    fn wait(&mut self) -> Option<Frame> {
        if self.is_between_frames() {
            self.input = Vec::new();
        } else {
            self.input.drain(..self.at);
        }
        self.at = 0;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = Vec::new();
        for length in [0, 125, 126, 65_535, 65_536] {
            push_header(&mut bytes, FIN | 2, length, 0);
            bytes.extend(vec![7; length as usize]);
        }
        for step in [1, 3, 1000, bytes.len()] {
            let (mut parser, mut lengths) = (Parser::default(), Vec::new());
            for piece in bytes.chunks(step) {
                parser.push(piece);
                while let Some(frame) = parser.next().ok().flatten() {
                    lengths.push(frame.payload.len());
                }
            }
            assert_eq!(lengths, [0, 125, 126, 65_535, 65_536], "{step}");
            assert!(parser.is_between_frames());
        }
    }

    #[test]
    fn what_no_server_may_send_is_a_fault() {
        for bytes in [&[0x81, 0x80][..], &[0x09, 0x00], &[0x89, 0x7e], &[0x82, 0x7f, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            let mut parser = Parser::default();
            parser.push(bytes);
            assert!(parser.next().is_err(), "{bytes:x?}");
        }
    }
}
