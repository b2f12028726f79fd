//! Round trips, through zlib-rs and through a decoder that checks every rule.

use proptest::prelude::*;
use zlib_rs::{Inflate, InflateFlush};

use super::*;

/// What RFC 7692 7.2.2 appends to a message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A slow decoder that checks every rule.
struct Reference {
    window: usize,
    /// All data that the codes may refer to.
    seen: Vec<u8>,
    /// The number of blocks of each type: stored, fixed, dynamic.
    blocks: [usize; 3],
    farthest: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: usize) -> usize {
        let bit = |at: usize| usize::from(self.bytes[at / 8] >> (at % 8) & 1);
        let value = (0..count).map(|i| bit(self.at + i) << i).sum();
        self.at += count;
        value
    }

    fn symbol(&mut self, code: &Canonical) -> usize {
        let (mut bits, mut first, mut before) = (0, 0, 0);
        for &count in &code.counts[1..] {
            bits = bits << 1 | self.bits(1);
            if bits - first < count {
                return code.symbols[before + bits - first];
            }
            before += count;
            first = (first + count) << 1;
        }
        panic!("no such code");
    }
}

/// A Huffman code: how many codes have each length, and their symbols in order.
struct Canonical {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Canonical {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        let mut symbols: Vec<_> = (0..lengths.len()).filter(|&symbol| lengths[symbol] != 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        for &symbol in &symbols {
            counts[lengths[symbol]] += 1;
        }
        let sum: usize = counts.iter().enumerate().map(|(length, count)| count << (15 - length)).sum();
        assert_eq!(sum, 1 << 15, "Kraft's equality: {lengths:?}");
        Self { counts, symbols }
    }
}

impl Reference {
    fn new(window_bits: u8) -> Self {
        Self { window: 1 << window_bits, seen: Vec::new(), blocks: [0; 3], farthest: 0 }
    }

    /// Decodes blocks up to the end of `bytes`, the last of which is an empty stored one.
    fn inflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let start = self.seen.len();
        let mut from = Reader { bytes, at: 0 };
        loop {
            assert_eq!(from.bits(1), 0, "BFINAL");
            let kind = from.bits(2);
            self.blocks[kind] += 1;
            if kind == 0 {
                while !from.at.is_multiple_of(8) {
                    assert_eq!(from.bits(1), 0, "padding");
                }
                let len = from.bits(16);
                assert_eq!(from.bits(16), len ^ 0xffff);
                self.seen.extend((0..len).map(|_| from.bits(8) as u8));
                if from.at / 8 == bytes.len() {
                    assert_eq!(len, 0, "the last is empty");
                    return self.seen[start..].to_vec();
                }
                continue;
            }
            let (literals, distances) = if kind == 1 { fixed_codes() } else { dynamic_codes(&mut from) };
            self.symbols(&mut from, &literals, &distances);
        }
    }

    fn symbols(&mut self, from: &mut Reader<'_>, literals: &Canonical, distances: &Canonical) {
        loop {
            let symbol = from.symbol(literals);
            match symbol {
                ..256 => self.seen.push(symbol as u8),
                256 => return,
                _ => {
                    let length = match symbol - 257 {
                        symbol @ ..8 => 3 + symbol,
                        28 => 258,
                        symbol => 3 + ((4 + symbol % 4) << (symbol / 4 - 1)) + from.bits(symbol / 4 - 1),
                    };
                    let distance = match from.symbol(distances) {
                        symbol @ ..4 => 1 + symbol,
                        symbol => 1 + ((2 + symbol % 2) << (symbol / 2 - 1)) + from.bits(symbol / 2 - 1),
                    };
                    assert!(length <= 258 && symbol < 286);
                    assert!(distance <= self.window, "{distance} is beyond the window");
                    assert!(distance <= self.seen.len(), "{distance} is before the beginning");
                    self.farthest = self.farthest.max(distance);
                    for _ in 0..length {
                        self.seen.push(self.seen[self.seen.len() - distance]);
                    }
                }
            }
        }
    }
}

fn fixed_codes() -> (Canonical, Canonical) {
    let lengths = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
    (Canonical::new(&lengths), Canonical::new(&[5; 32]))
}

fn dynamic_codes(from: &mut Reader<'_>) -> (Canonical, Canonical) {
    let (literals, distances, lengths) = (from.bits(5) + 257, from.bits(5) + 1, from.bits(4) + 4);
    assert!(literals <= 286 && distances <= 30);
    let mut code = vec![0; 19];
    for &symbol in &[16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15][..lengths] {
        code[symbol] = from.bits(3);
    }
    let code = Canonical::new(&code);
    let mut all: Vec<usize> = Vec::new();
    while all.len() < literals + distances {
        let (count, length) = match from.symbol(&code) {
            16 => (3 + from.bits(2), *all.last().unwrap()),
            17 => (3 + from.bits(3), 0),
            18 => (11 + from.bits(7), 0),
            length => (1, length),
        };
        all.extend(vec![length; count]);
    }
    assert_eq!(all.len(), literals + distances);
    (Canonical::new(&all[..literals]), Canonical::new(&all[literals..]))
}

/// Returns the most bytes that `len` bytes may be compressed to.
fn bound(len: usize) -> usize {
    len + 5 * len.div_ceil(0xffff) + 1
}

fn zlib(inflate: &mut Inflate, bytes: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len + 1];
    let before = inflate.total_out();
    let _ = inflate.decompress(bytes, &mut out, InflateFlush::SyncFlush).unwrap();
    out.truncate((inflate.total_out() - before) as usize);
    out
}

fn message(compressor: &mut Compressor, payload: &[u8], level: u8, window_bits: u8) -> Vec<u8> {
    let mut out = vec![];
    compressor.compress_message(payload, level, window_bits, &mut out);
    assert!(out.len() <= bound(payload.len()), "{} of {}", out.len(), payload.len());
    out.extend(TAIL);
    assert!(Reference::new(window_bits).inflate(&out) == payload, "level {level}, {window_bits} bits");
    assert!(zlib(&mut Inflate::new(false, 15), &out, payload.len()) == payload);
    out
}

/// Both ends of a connection that takes over its context.
struct Pair {
    history: History,
    reference: Reference,
    inflate: Inflate,
}

impl Pair {
    fn new(level: u8, window_bits: u8) -> Self {
        Self {
            history: History::new(level, window_bits),
            reference: Reference::new(window_bits),
            inflate: Inflate::new(false, 15),
        }
    }

    fn piece(&mut self, compressor: &mut Compressor, payload: &[u8], last: bool) -> Vec<u8> {
        let mut out = vec![];
        compressor.compress_piece(&mut self.history, payload, last, &mut out);
        let compressed = out.clone();
        assert!(out.len() <= bound(payload.len()) + if last { 0 } else { 4 });
        if last {
            out.extend(TAIL);
        }
        assert!(self.reference.inflate(&out) == payload);
        assert!(zlib(&mut self.inflate, &out, payload.len()) == payload);
        let History { level, window_bits, .. } = self.history;
        assert!(self.history.held() <= History::size(level, window_bits));
        compressed
    }
}

impl History {
    fn held(&self) -> usize {
        self.data.capacity() + self.tables.allocated()
    }
}

/// Returns text of few words, so that there are matches of all lengths and distances.
fn text(mut seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "\"symbol\":",
        "你好",
        "👋",
        " ",
        ",",
        "{",
        "}",
        "a",
        "\"price\":",
        "the ",
        "other ",
        "1732412345678",
    ];
    let mut out = vec![];
    while out.len() < len {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (seed >> 33) % 20 {
            at @ ..12 => out.extend(WORDS[at as usize].bytes()),
            12..18 => out.extend((seed >> 40 & 0xfff).to_string().bytes()),
            18 => out.push((seed >> 40) as u8),
            _ => {
                let from = (seed >> 40) as usize % (out.len() + 1);
                out.extend_from_within(from..out.len().min(from + 300));
            }
        }
    }
    out.truncate(len);
    out
}

fn random(len: usize) -> Vec<u8> {
    let mut seed = 88_172_645_463_325_252_u64;
    let next = |_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 24) as u8
    };
    (0..len).map(next).collect()
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(0u8..3, 0..600),
        prop::collection::vec(any::<u8>(), 0..2000),
        (any::<u64>(), 0usize..5000).prop_map(|(seed, len)| text(seed, len)),
        (any::<u64>(), 0usize..70_000).prop_map(|(seed, len)| text(seed, len)),
        (any::<u8>(), 0usize..3000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_without_context(
        messages in prop::collection::vec((payloads(), 1u8..=9, 8u8..=15), 1..6),
        position: u32,
    ) {
        let mut compressor = Compressor { position, ..Compressor::new() };
        for (payload, level, window_bits) in messages {
            message(&mut compressor, &payload, level, window_bits);
        }
    }

    #[test]
    fn messages_and_pieces_that_refer_back(
        pieces in prop::collection::vec((payloads(), any::<bool>()), 1..12),
        level in 1u8..=9,
        window_bits in 8u8..=15,
        base: u32,
    ) {
        let mut compressor = Compressor::new();
        let mut pair = Pair::new(level, window_bits);
        pair.history.base = base;
        for (payload, last) in pieces {
            pair.piece(&mut compressor, &payload, last);
        }
    }
}

#[test]
fn the_examples_of_rfc_7692() {
    let mut compressor = Compressor::new();
    // RFC 7692 7.2.3.1
    assert_eq!(
        message(&mut compressor, b"Hello", 1, 15)[..],
        *b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff"
    );
    // RFC 7692 7.2.3.6
    assert_eq!(message(&mut compressor, b"", 1, 15), [0, 0, 0, 0xff, 0xff]);
    // RFC 7692 7.2.3.2; the second message is a match as a whole.
    let mut pair = Pair::new(1, 15);
    assert_eq!(pair.piece(&mut compressor, b"Hello", true)[..], *b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    assert_eq!(pair.piece(&mut compressor, b"Hello", true).len(), 4);
    assert_eq!(pair.piece(&mut compressor, b"", true), [0]);
    assert_eq!(pair.piece(&mut compressor, b"", false), [0, 0, 0, 0xff, 0xff]);
}

#[test]
fn all_kinds_of_blocks() {
    let mut compressor = Compressor::new();
    let rows: [(&str, Vec<u8>, [usize; 3]); 7] = [
        ("nothing", vec![], [1, 0, 0]),
        ("a few bytes", b"abc".to_vec(), [1, 1, 0]),
        ("few different bytes, with long codes", "é👋".repeat(9).into(), [1, 1, 0]),
        ("text", text(1, 2000), [1, 0, 1]),
        ("random", random(1000), [2, 0, 0]),
        ("as much as is stored in a block", random(0xffff), [2, 0, 0]),
        ("and one more", random(0x1_0000), [3, 0, 0]),
    ];
    for (name, payload, blocks) in rows {
        let mut reference = Reference::new(15);
        let mut out = vec![];
        compressor.compress_message(&payload, 1, 15, &mut out);
        out.extend(TAIL);
        assert!(reference.inflate(&out) == payload);
        assert_eq!(reference.blocks, blocks, "{name}");
    }
}

#[test]
fn matches_reach_to_the_end_of_the_window_and_no_further() {
    let mut compressor = Compressor::new();
    for level in 1..=9 {
        for window_bits in 8..=15 {
            for (beyond, found) in [(0, true), (1, false)] {
                let window = 1usize << window_bits;
                let mut payload = random(40);
                payload.resize(window + beyond, 0);
                payload.extend_from_within(..40);
                let mut reference = Reference::new(window_bits);
                reference.inflate(&message(&mut compressor, &payload, level, window_bits));
                assert_eq!(reference.farthest == window, found, "level {level}, {window_bits} bits");

                let mut pair = Pair::new(level, window_bits);
                pair.piece(&mut compressor, &payload[..100], true);
                pair.piece(&mut compressor, &payload[100..window + beyond], false);
                pair.piece(&mut compressor, &payload[window + beyond..], true);
                assert_eq!(pair.reference.farthest == window, found, "level {level}, {window_bits} bits");
            }
        }
    }
}

#[test]
fn a_cleared_history_is_not_referred_to() {
    let mut compressor = Compressor::new();
    for level in [1, 6] {
        let mut pair = Pair::new(level, 15);
        let payload = random(500);
        pair.piece(&mut compressor, &payload, true);
        assert!(pair.piece(&mut compressor, &payload, true).len() < 20);
        pair.history.clear();
        pair.reference = Reference::new(15);
        pair.inflate.reset(false);
        assert!(pair.piece(&mut compressor, &payload, true).len() > 500);
    }
}

#[test]
fn positions_may_wrap() {
    for level in [1, 6] {
        let payload = text(7, 20_000);
        let best = message(&mut Compressor::new(), &payload, level, 12);
        for before in [0, 1, 5, 10_000, 20_000] {
            let position = 0u32.wrapping_sub(before);
            let mut compressor = Compressor { position, ..Compressor::new() };
            assert_eq!(message(&mut compressor, &payload, level, 12).len(), best.len());
            let mut pair = Pair::new(level, 12);
            pair.history.base = position;
            for payload in payload.chunks(999) {
                pair.piece(&mut compressor, payload, true);
            }
        }
    }
}

#[test]
fn a_history_allocates_at_most_its_size() {
    let mut compressor = Compressor::new();
    for level in 1..=9 {
        for window_bits in 8..=15 {
            let mut pair = Pair::new(level, window_bits);
            assert_eq!(pair.history.held(), 0);
            pair.piece(&mut compressor, &text(3, 700), true);
            assert!(pair.history.held() <= 16 * 1024);
            for _ in 0..5 {
                pair.piece(&mut compressor, &text(3, 30_000), true);
            }
            assert_eq!(pair.history.held(), History::size(level, window_bits));
        }
    }
    assert!(History::size(1, 15) <= 64 * 1024);
    assert!(History::size(1, 10) <= 8 * 1024);
}
