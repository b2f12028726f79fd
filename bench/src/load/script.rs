//! What a connection sends: masked frames, made once, sent round and round.

use super::{
    deflate::{Agreement, Compressor, RSV1},
    ticks,
};
use crate::{Failure, row::Content};

/// Messages, all different and of one size.
pub(super) struct Script {
    payloads: Vec<Vec<u8>>,
    frames: Vec<u8>,
    frame_lengths: Vec<usize>,
    content: Content,
}

impl Script {
    /// Scripts of different seeds say different things.
    pub(super) fn new(content: Content, size: usize, messages: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let first = seed.wrapping_mul(1000);
        let numbers = (0..messages as u64).map(|number| first.wrapping_add(number));
        let payloads: Vec<_> = numbers.map(|number| payload(content, size, number, &mut random)).collect();
        let mut script = Self { payloads, frames: Vec::new(), frame_lengths: Vec::new(), content };
        for payload in &script.payloads {
            let before = script.frames.len();
            push_frame(&mut script.frames, opcode(content), payload, random.next().to_le_bytes());
            script.frame_lengths.push(script.frames.len() - before);
        }
        script
    }

    /// The same messages, compressed as agreed.
    pub(super) fn compressed(mut self, agreement: &Agreement) -> Result<Self, Failure> {
        let mut compressor = Compressor::new(agreement);
        let mut random = Random::new(0);
        self.frames.clear();
        for (payload, length) in self.payloads.iter().zip(&mut self.frame_lengths) {
            let before = self.frames.len();
            let compressed = compressor.compress(payload)?;
            let opcode = RSV1 | opcode(self.content);
            push_frame(&mut self.frames, opcode, &compressed, random.next().to_le_bytes());
            *length = self.frames.len() - before;
        }
        Ok(self)
    }

    /// All frames, one after the other.
    pub(super) fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// Length of the frame of the message of this number.
    pub(super) fn frame_length(&self, message: u64) -> usize {
        self.frame_lengths[self.index(message)]
    }

    /// Payload of the message of this number; numbers go on counting when the script starts over.
    pub(super) fn payload(&self, message: u64) -> &[u8] {
        &self.payloads[self.index(message)]
    }

    fn index(&self, message: u64) -> usize {
        (message % self.payloads.len() as u64) as usize
    }

    pub(super) fn opcode(&self) -> u8 {
        opcode(self.content)
    }
}

/// A masked frame with FIN set (RFC 6455 5.2, 5.3); `opcode` may have RSV1 with it; the key is the first half of
/// `random`.
pub(super) fn push_frame(frames: &mut Vec<u8>, opcode: u8, payload: &[u8], random: [u8; 8]) {
    const FIN: u8 = 0x80;
    const MASK: u8 = 0x80;
    frames.push(FIN | opcode);
    match payload.len() {
        length @ 0..=125 => frames.push(MASK | length as u8),
        length @ 126..=0xffff => {
            frames.push(MASK | 126);
            frames.extend((length as u16).to_be_bytes());
        }
        length => {
            frames.push(MASK | 127);
            frames.extend((length as u64).to_be_bytes());
        }
    }
    let key = &random[..4];
    frames.extend(key);
    frames.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

fn opcode(content: Content) -> u8 {
    match content {
        Content::Text | Content::Chinese | Content::Json => 1,
        Content::Binary => 2,
    }
}

fn payload(content: Content, size: usize, number: u64, random: &mut Random) -> Vec<u8> {
    match content {
        Content::Text => (0..size).map(|_| b'a' + random.below(26) as u8).collect(),
        Content::Binary => (0..size).map(|_| random.below(256) as u8).collect(),
        Content::Chinese => {
            // 3 bytes each, from 一 on; what is left over is filled with letters.
            let characters =
                (0..size / 3).filter_map(|_| char::from_u32(0x4e00 + random.below(20_000) as u32));
            let mut text = characters.collect::<String>();
            text.extend((text.len()..size).map(|_| 'a'));
            text.into_bytes()
        }
        Content::Json => ticks::message(size, number, random),
    }
}

/// SplitMix64: the same bytes in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_frame_of_the_rfc() {
        // RFC 6455 5.7: a single-frame masked text message, "Hello".
        let mut frame = Vec::new();
        push_frame(&mut frame, 1, b"Hello", [0x37, 0xfa, 0x21, 0x3d, 0, 0, 0, 0]);
        assert_eq!(frame, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn every_message_has_the_size_asked_for_and_is_what_it_says() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            for content in [Content::Text, Content::Binary, Content::Chinese, Content::Json] {
                if content == Content::Json && size < Content::SHORTEST_JSON {
                    continue;
                }
                let script = Script::new(content, size, 3, 7);
                for message in 0..3 {
                    assert_eq!(script.payload(message).len(), size);
                    assert!(
                        content == Content::Binary || std::str::from_utf8(script.payload(message)).is_ok()
                    );
                }
                let lengths: usize = (0..3).map(|message| script.frame_length(message)).sum();
                assert_eq!(script.frames().len(), lengths);
            }
        }
    }

    #[test]
    fn a_compressed_script_says_the_same_in_shorter_frames() {
        let agreement = "permessage-deflate".parse().expect("an agreement");
        let plain = Script::new(Content::Json, 1024, 3, 7);
        let script = Script::new(Content::Json, 1024, 3, 7).compressed(&agreement).expect("compressed");
        let lengths: usize = (0..3).map(|message| script.frame_length(message)).sum();
        assert_eq!(script.frames().len(), lengths);
        for message in 0..3 {
            assert_eq!(script.payload(message), plain.payload(message));
            assert!(script.frame_length(message) < plain.frame_length(message) / 2);
        }
        assert_eq!(script.frames()[0], 0xc1);
    }

    #[test]
    fn messages_and_scripts_differ() {
        let (one, other) =
            (Script::new(Content::Chinese, 125, 2, 1), Script::new(Content::Chinese, 125, 2, 2));
        assert_ne!(one.payload(0), one.payload(1));
        assert_ne!(one.payload(0), other.payload(0));
        assert_eq!(one.payload(0), one.payload(2));
    }
}
