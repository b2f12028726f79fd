//! What the reference model takes for UTF-8 and for DEFLATE, against the standard library and zlib.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/inflate.rs"]
mod inflate;
#[path = "support/receiver.rs"]
mod receiver;
#[allow(dead_code, reason = "only its idea of UTF-8 is of account here")]
#[path = "support/reference.rs"]
mod reference;

use inflate::{Stop, Window};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reference::is_never_utf8;

/// The model's own idea of UTF-8, against the standard library's.
#[test]
fn the_model_knows_utf8() {
    let mut tails = vec![Vec::new()];
    for byte in
        [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF]
    {
        tails.push(vec![byte]);
        tails.extend([[byte, 0x80], [byte, 0xBF], [byte, 0x41]].map(Vec::from));
    }
    for lead in 0..=255u8 {
        for tail in &tails {
            for before in ["", "好"] {
                let bytes = [before.as_bytes(), &[lead], tail].concat();
                let certain = (1..=bytes.len()).find(|&end| is_never_utf8(&bytes[..end]));
                let expected = std::str::from_utf8(&bytes).err().and_then(|error| {
                    // The standard library names the bytes that are wrong together; the last of them,
                    // or the one behind them, is the one that makes it certain.
                    let from = error.valid_up_to();
                    error.error_len().and_then(|_| {
                        (from + 1..=bytes.len()).find(|&end| {
                            std::str::from_utf8(&bytes[..end]).is_err_and(|error| error.error_len().is_some())
                        })
                    })
                });
                assert_eq!(certain, expected, "{bytes:x?}");
            }
        }
    }
}

/// What zlib says of a stream that begins with `bytes`: what it inflates, and whether it finds a fault, or
/// that it goes no further than its last block.
fn zlib(bytes: &[u8], window: &[u8]) -> (Vec<u8>, Option<bool>) {
    let mut zlib = zlib_rs::Inflate::new(false, 15);
    if !window.is_empty() {
        zlib.set_dictionary(window).unwrap();
    }
    let mut out = vec![0; 1 << 20];
    let result = zlib.decompress(bytes, &mut out, zlib_rs::InflateFlush::SyncFlush);
    out.truncate(usize::try_from(zlib.total_out()).unwrap());
    let fault = match result {
        Ok(zlib_rs::Status::StreamEnd) => None,
        Ok(_) | Err(zlib_rs::InflateError::NeedDict { .. }) => Some(false),
        Err(_) => Some(true),
    };
    (out, fault)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model's own idea of DEFLATE, against zlib's, which does not bound the window and stops at BFINAL.
    #[test]
    fn the_model_knows_deflate(
        payload in prop_oneof![vec(any::<u8>(), 1..300), vec(select(&b"abc \xE4\xBD\xA0"[..]), 1..3000)],
        level in 0..10i32,
        faults in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..3),
        window in vec(any::<u8>(), 0..40),
    ) {
        let mut deflate = zlib_rs::Deflate::new(level, false, 15);
        let mut bytes = vec![0; 2 * payload.len() + 100];
        deflate.compress(&payload, &mut bytes, zlib_rs::DeflateFlush::SyncFlush).unwrap();
        bytes.truncate(usize::try_from(deflate.total_out()).unwrap());
        for (at, byte, fault) in faults {
            let at = at.index(bytes.len());
            match fault {
                0 => bytes[at] ^= 1 << (byte % 8),
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at + 1),
            }
        }
        let (out, fault) = zlib(&bytes, &window);
        let mut model = Window::new(15, true);
        model.pass(&window);
        let inflated = model.inflate(&bytes, false, 1 << 20);
        prop_assert!(inflated.bytes.starts_with(&out), "{:?}", bytes);
        if let Some(fault_now) = fault {
            prop_assert_eq!(inflated.bytes, out);
            // zlib says of a code without symbols that it is bad when all that it would have coded is there.
            let fault = fault_now || zlib(&[&bytes[..], &[0; 64]].concat(), &window).1 == Some(true);
            prop_assert!(fault || inflated.stop == Some(Stop::Cut), "{:?}", bytes);
            prop_assert!(inflated.stop == Some(Stop::Invalid) || !fault_now, "{:?}", bytes);
        }
    }
}

/// The window is as large as was agreed, to the byte, for every size of it.
#[test]
fn the_model_knows_the_window() {
    for bits in 8..=15u8 {
        for beyond in [0, 1] {
            let size = 1usize << bits;
            // A fixed block: length 3, and the largest distance of this window or one more.
            let mut block = Bits::default();
            block.push(0b010, 3);
            block.code(0b000_0001, 7);
            let distance = size + beyond;
            let (symbol, base, extra) = if beyond == 0 {
                (2 * bits - 1, size - size / 4 + 1, bits - 2)
            } else {
                (2 * bits, size + 1, bits - 1)
            };
            if symbol > 29 {
                continue;
            }
            block.code(symbol.into(), 5);
            block.push(distance - base, extra.into());
            block.code(0, 7);
            block.push(0, 3);
            let mut window = Window::new(bits, true);
            window.pass(&vec![b'.'; 40_000]);
            let inflated = window.inflate(&block.bytes, true, usize::MAX);
            let expected = if beyond == 0 { None } else { Some(Stop::Invalid) };
            assert_eq!(inflated.stop, expected, "{bits} {beyond}");
            assert_eq!(inflated.bytes.len(), if beyond == 0 { 3 } else { 0 });
        }
    }
}

/// Writes as RFC 1951 3.1.1 packs.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn push(&mut self, value: usize, bits: usize) {
        for i in 0..bits {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> i & 1) as u8) << (self.count % 8);
            self.count += 1;
        }
    }

    /// A Huffman code: its most significant bit comes first.
    fn code(&mut self, code: usize, bits: usize) {
        (0..bits).rev().for_each(|i| self.push(code >> i & 1, 1));
    }
}
