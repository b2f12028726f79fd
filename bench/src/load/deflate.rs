//! permessage-deflate on the side of the load (RFC 7692): what it offers, how its messages are compressed before the
//! clock starts, and how replies are inflated to be compared.

use crate::Failure;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::{fmt, str::FromStr};

/// What browsers offer.
pub(super) const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// Set on the first frame of a compressed message (RFC 7692 6).
pub(super) const RSV1: u8 = 0x40;

/// The end of every compressed message, which is not sent (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
const LARGEST_WINDOW: u8 = 15;

/// What the server said to the offer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Agreement {
    text: String,
    /// A reply may refer to earlier replies (RFC 7692 7.1.1.1).
    server_takeover: bool,
    /// The largest window that the load may use (RFC 7692 7.1.2.2).
    client_window: u8,
}

impl FromStr for Agreement {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut agreement =
            Self { text: text.to_owned(), server_takeover: true, client_window: LARGEST_WINDOW };
        let mut parts = text.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return Err(format!("not what was offered: {text}").into());
        }
        for parameter in parts {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("server_no_context_takeover", "") => agreement.server_takeover = false,
                // The load refers to no earlier message anyway, and inflates with the largest window.
                ("client_no_context_takeover", "") | ("server_max_window_bits", _) => {}
                ("client_max_window_bits", bits) => {
                    agreement.client_window = bits.trim_matches('"').parse()?
                }
                _ => return Err(format!("{parameter} was not offered").into()),
            }
        }
        // zlib has no window of 256 bytes for raw streams.
        if !(9..=LARGEST_WINDOW).contains(&agreement.client_window) {
            return Err(format!("a window that the load cannot use: {text}").into());
        }
        Ok(agreement)
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Compresses messages, each by itself, which every agreement allows.
pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new(agreement: &Agreement) -> Self {
        Self(Compress::new_with_window_bits(Compression::new(6), false, agreement.client_window))
    }

    pub(super) fn compress(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        self.0.reset();
        // Stored blocks, the worst case, add 5 bytes for each 16 KiB or so.
        let mut compressed = Vec::with_capacity(message.len() + message.len() / 1024 + 64);
        self.0.compress_vec(message, &mut compressed, FlushCompress::Sync)?;
        if self.0.total_in() == message.len() as u64 && compressed.ends_with(&TAIL) {
            compressed.truncate(compressed.len() - TAIL.len());
            Ok(compressed)
        } else {
            Err("a message is not compressed to its end".into())
        }
    }
}

/// Inflates the replies of one connection.
pub(super) struct Inflater {
    stream: Decompress,
    takeover: bool,
}

impl Inflater {
    pub(super) fn new(agreement: &Agreement) -> Self {
        Self { stream: Decompress::new(false), takeover: agreement.server_takeover }
    }

    /// The message behind a payload; a failure if it is longer than `most`.
    pub(super) fn inflate(&mut self, payload: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
        if !self.takeover {
            self.stream.reset(false);
        }
        let input = [payload, &TAIL].concat();
        let before = self.stream.total_in();
        // One byte more than it may be, so that a longer one shows.
        let mut message = Vec::with_capacity(most + 1);
        let status = self.stream.decompress_vec(&input, &mut message, FlushDecompress::Sync)?;
        let consumed = self.stream.total_in() - before;
        if status == Status::StreamEnd {
            // RFC 7692 7.2.3.4: a block with BFINAL ends the stream, and what follows starts a new one.
            self.stream.reset(false);
        } else if message.len() <= most && consumed < input.len() as u64 {
            return Err("a compressed reply does not end with its payload".into());
        }
        if message.len() > most { Err("a reply is longer than its message".into()) } else { Ok(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(text: &str) -> Agreement {
        text.parse().expect("an agreement")
    }

    #[test]
    fn what_servers_answer_is_understood() {
        let plain = agreement("permessage-deflate");
        assert!(plain.server_takeover);
        assert_eq!(plain.client_window, 15);
        let all = agreement(
            "permessage-deflate; server_no_context_takeover;client_no_context_takeover; \
             server_max_window_bits=12; client_max_window_bits=\"9\"",
        );
        assert!(!all.server_takeover);
        assert_eq!(all.client_window, 9);
        for text in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate; other",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=16",
        ] {
            assert!(text.parse::<Agreement>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_comes_back_in_every_window() {
        let message = "你好 👋 ".repeat(500);
        for window in 9..=15 {
            let agreement = agreement(&format!("permessage-deflate; client_max_window_bits={window}"));
            let (mut compressor, mut inflater) = (Compressor::new(&agreement), Inflater::new(&agreement));
            for message in [message.as_bytes(), b"", message.as_bytes()] {
                let compressed = compressor.compress(message).expect("compressed");
                let inflated = inflater.inflate(&compressed, message.len()).expect("inflated");
                assert_eq!(inflated, message);
            }
        }
    }

    #[test]
    fn every_message_is_compressed_by_itself() {
        let agreement = agreement("permessage-deflate");
        let mut compressor = Compressor::new(&agreement);
        let first = compressor.compress(b"the same words").ok();
        assert_eq!(compressor.compress(b"the same words").ok(), first);
    }

    #[test]
    fn the_examples_of_the_rfc_share_a_window_only_with_takeover() {
        // RFC 7692 7.2.3.2: "Hello" twice, the second one a reference to the first.
        let (first, second) = ([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], [0xf2, 0x00, 0x11, 0x00, 0x00]);
        let mut inflater = Inflater::new(&agreement("permessage-deflate"));
        assert_eq!(inflater.inflate(&first, 5).ok(), Some(b"Hello".to_vec()));
        assert_eq!(inflater.inflate(&second, 5).ok(), Some(b"Hello".to_vec()));

        let mut inflater = Inflater::new(&agreement("permessage-deflate; server_no_context_takeover"));
        assert_eq!(inflater.inflate(&first, 5).ok(), Some(b"Hello".to_vec()));
        assert!(inflater.inflate(&second, 5).is_err());
    }

    #[test]
    fn a_block_marked_as_the_last_ends_a_message_like_any_other() {
        // RFC 7692 7.2.3.4.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        let mut inflater = Inflater::new(&agreement("permessage-deflate"));
        for _ in 0..2 {
            assert_eq!(inflater.inflate(&last, 5).ok(), Some(b"Hello".to_vec()));
        }
    }

    #[test]
    fn a_reply_that_is_too_long_is_told() {
        let agreement = agreement("permessage-deflate");
        let compressed = Compressor::new(&agreement).compress(b"Hello").expect("compressed");
        assert!(Inflater::new(&agreement).inflate(&compressed, 4).is_err());
    }
}
