//! Counts the messages in what a server sends, in however many frames and pieces they come.

use super::{
    deflate::{Agreement, Inflater, RSV1},
    script::Script,
};
use crate::Failure;

/// Where one connection stands in the stream of replies.
#[derive(Default)]
pub(super) struct Replies {
    /// The frame header so far (RFC 6455 5.2); a server's frame has no masking key.
    header: [u8; 10],
    header_length: usize,
    /// Payload still to come of the frame under way.
    remaining: u64,
    /// Payload received of the message under way.
    received: usize,
    /// A fragment with FIN clear came before.
    fragmented: bool,
    /// Whole messages received.
    pub(super) messages: u64,
    /// None if compression is not agreed.
    inflater: Option<Inflater>,
    /// The message under way is compressed (RFC 7692 6).
    is_compressed: bool,
    /// What came of it, if it is to be verified.
    compressed: Vec<u8>,
}

impl Replies {
    /// Replies that may be compressed, or not, as the server likes.
    pub(super) fn deflate(agreement: &Agreement) -> Self {
        Self { inflater: Some(Inflater::new(agreement)), ..Self::default() }
    }

    /// Works off `bytes`. With `verify` every byte is compared to the script.
    pub(super) fn receive(&mut self, mut bytes: &[u8], script: &Script, verify: bool) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.remaining == 0 {
                let Some(rest) = self.take_header(bytes) else { return Ok(()) };
                bytes = rest;
                self.begin_frame(script)?;
            }
            let length = self.remaining.min(bytes.len() as u64) as usize;
            let (payload, rest) = bytes.split_at(length);
            bytes = rest;
            self.remaining -= length as u64;
            if !self.is_control() && self.is_compressed {
                if verify {
                    self.compressed.extend(payload);
                }
            } else if !self.is_control() {
                let expected = script.payload(self.messages).get(self.received..self.received + length);
                let expected = expected.ok_or("a reply is longer than its message")?;
                if verify && payload != expected {
                    return Err(format!("reply {} differs from its message", self.messages).into());
                }
                self.received += length;
            }
            if self.remaining == 0 {
                self.end_frame(script, verify)?;
            }
        }
        Ok(())
    }

    /// The bytes behind the header, once it is whole.
    fn take_header<'a>(&mut self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let whole = match (self.header_length, self.header[1] & 0x7f) {
                (0 | 1, _) => 2,
                (_, 126) => 4,
                (_, 127) => 10,
                _ => 2,
            };
            if self.header_length == whole {
                return Some(bytes);
            }
            let length = (whole - self.header_length).min(bytes.len());
            if length == 0 {
                return None;
            }
            let (taken, rest) = bytes.split_at(length);
            self.header[self.header_length..][..length].copy_from_slice(taken);
            self.header_length += length;
            bytes = rest;
        }
    }

    fn begin_frame(&mut self, script: &Script) -> Result<(), Failure> {
        let [first, second, a, b, c, d, e, f, g, h] = self.header;
        self.remaining = match second {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            0..126 => second.into(),
            _ => return Err("a server's frame is masked".into()),
        };
        let expected = if self.fragmented { 0 } else { script.opcode() };
        let may_be_compressed = self.inflater.is_some() && !self.fragmented;
        match first & 0x7f {
            opcode if opcode == expected => {
                self.is_compressed &= self.fragmented;
                Ok(())
            }
            opcode if may_be_compressed && opcode == RSV1 | expected => {
                self.is_compressed = true;
                Ok(())
            }
            8 => Err("the server closes the connection".into()),
            9 | 10 => Ok(()),
            unexpected => {
                Err(format!("a frame begins with {unexpected:#04x} instead of {expected:#04x}").into())
            }
        }
    }

    fn end_frame(&mut self, script: &Script, verify: bool) -> Result<(), Failure> {
        self.header_length = 0;
        if self.is_control() {
            return Ok(());
        }
        self.fragmented = self.header[0] & 0x80 == 0;
        if !self.fragmented {
            if self.is_compressed {
                if verify {
                    self.verify_compressed(script.payload(self.messages))?;
                }
            } else if self.received != script.payload(self.messages).len() {
                return Err(format!("reply {} is shorter than its message", self.messages).into());
            }
            self.messages += 1;
            self.received = 0;
        }
        Ok(())
    }

    fn verify_compressed(&mut self, expected: &[u8]) -> Result<(), Failure> {
        let inflater = self.inflater.as_mut().ok_or("a reply is compressed without agreement")?;
        let message = inflater.inflate(&self.compressed, expected.len());
        let message = message.map_err(|failure| format!("reply {}: {failure}", self.messages))?;
        self.compressed.clear();
        if message == expected {
            Ok(())
        } else {
            Err(format!("reply {} differs from its message when inflated", self.messages).into())
        }
    }

    fn is_control(&self) -> bool {
        self.header[0] & 0x08 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::deflate::Compressor, row::Content};

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first, 127];
        frame.extend((payload.len() as u64).to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn received(bytes: &[u8], script: &Script, piece: usize) -> Result<u64, Failure> {
        let mut replies = Replies::default();
        for piece in bytes.chunks(piece) {
            replies.receive(piece, script, true)?;
        }
        Ok(replies.messages)
    }

    #[test]
    fn messages_in_fragments_with_a_ping_between_count_in_pieces_of_any_length() {
        let script = Script::new(Content::Chinese, 1000, 2, 1);
        let mut bytes = vec![0x81, 126, 1000u16.to_be_bytes()[0], 1000u16.to_be_bytes()[1]];
        bytes.extend(script.payload(0));
        bytes.extend(frame(0x01, &script.payload(1)[..400]));
        bytes.extend([0x89, 2, b'h', b'i']);
        bytes.extend(frame(0x00, &script.payload(1)[400..]));
        bytes.extend([0x80, 0]);
        for piece in 1..bytes.len() {
            assert_eq!(received(&bytes, &script, piece).ok(), Some(2), "pieces of {piece}");
        }
    }

    #[test]
    fn empty_messages_count() {
        let script = Script::new(Content::Binary, 0, 1, 1);
        assert_eq!(received(&[0x82, 0, 0x82, 0, 0x02, 0, 0x80, 0], &script, 1).ok(), Some(3));
    }

    #[test]
    fn compressed_messages_in_fragments_with_plain_ones_between() {
        let agreement = "permessage-deflate; server_no_context_takeover".parse().expect("an agreement");
        let script = Script::new(Content::Json, 1000, 2, 1);
        let mut compressor = Compressor::new(&agreement);
        let compressed = compressor.compress(script.payload(0)).expect("compressed");
        let bytes = [
            frame(0x41, &compressed[..50]),
            vec![0x89, 2, b'h', b'i'],
            frame(0x80, &compressed[50..]),
            frame(0x01, &script.payload(1)[..400]),
            frame(0x80, &script.payload(1)[400..]),
            frame(0xc1, &compressed),
            frame(0xc1, &compressed),
        ]
        .concat();
        for piece in 1..bytes.len() {
            // The fourth message is the first one again: only inflating shows it.
            for (verify, sound) in [(true, 3), (false, 4)] {
                let mut replies = Replies::deflate(&agreement);
                let received: Result<Vec<_>, _> =
                    bytes.chunks(piece).map(|piece| replies.receive(piece, &script, verify)).collect();
                assert_eq!(received.is_ok(), sound == 4, "pieces of {piece}");
                assert_eq!(replies.messages, sound, "pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_wrong_reply_is_told() {
        let script = Script::new(Content::Text, 5, 1, 1);
        let right = script.payload(0);
        let mut wrong = right.to_vec();
        wrong[4] ^= 1;
        let longer = [right, b"a"].concat();
        let cases = [
            ("differs", frame(0x81, &wrong)),
            ("shorter", frame(0x81, &right[..4])),
            ("longer", frame(0x81, &longer)),
            ("begins with", frame(0x82, right)),
            ("begins with", frame(0xc1, right)),
            ("begins with", frame(0x80, right)),
            ("closes", vec![0x88, 0]),
            ("masked", vec![0x81, 0x85]),
        ];
        for (told, bytes) in cases {
            let failure = received(&bytes, &script, 3).map_err(|failure| failure.to_string());
            assert!(failure.as_ref().is_err_and(|failure| failure.contains(told)), "{told}: {failure:?}");
        }
    }
}
