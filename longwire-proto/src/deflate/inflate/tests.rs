use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use zlib_rs::{
    Deflate, DeflateConfig, DeflateFlush, Inflate, InflateError as ZlibError, InflateFlush, Method, Status,
};

use super::output::MATCH_MAX;
use super::*;

/// Writes a stream bit by bit (RFC 1951 3.1.1).
#[derive(Clone, Default)]
struct Writer {
    bytes: Vec<u8>,
    free: u32,
}

impl Writer {
    fn bits(mut self, value: usize, count: u32) -> Self {
        for bit in 0..count {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (8 - self.free);
            self.free -= 1;
        }
        self
    }

    /// Huffman codes begin with their highest bit.
    fn code(self, (code, count): (usize, u32)) -> Self {
        (0..count).rev().fold(self, |writer, bit| writer.bits(code >> bit & 1, 1))
    }

    fn codes(self, lengths: &[u8], symbols: &[usize]) -> Self {
        symbols.iter().fold(self, |writer, &symbol| writer.code(code(lengths, symbol)))
    }

    fn stored(self, header: usize, bytes: &[u8]) -> Self {
        let mut writer = self.bits(header, 3).aligned();
        writer.bytes.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        writer.bytes.extend_from_slice(&(!bytes.len() as u16).to_le_bytes());
        writer.bytes.extend_from_slice(bytes);
        writer
    }

    fn aligned(mut self) -> Self {
        self.free = 0;
        self
    }

    fn padded_with_ones(self) -> Self {
        let free = self.free;
        self.bits(255, free)
    }

    /// The header of a dynamic block whose code lengths are all sent by themselves, with 4 bits.
    fn dynamic(self, litlens: &[u8], distances: &[u8]) -> Self {
        let writer = self.bits(4, 3).bits(litlens.len() - 257, 5).bits(distances.len() - 1, 5).bits(15, 4);
        let writer = (0..19).fold(writer, |writer, at| writer.bits(if at < 3 { 0 } else { 4 }, 3));
        litlens.iter().chain(distances).fold(writer, |writer, &length| writer.code((length.into(), 4)))
    }

    /// Ends the message in the header of an empty stored block.
    fn end(self) -> Vec<u8> {
        self.bits(0, 3).bytes
    }
}

/// Returns the code of a symbol (RFC 1951 3.2.2).
fn code(lengths: &[u8], symbol: usize) -> (usize, u32) {
    let of = lengths[symbol];
    let codes = |length: u8| lengths.iter().filter(|&&other| other == length).count();
    let first = (1..of).fold(0, |first, length| (first + codes(length)) * 2);
    (first + lengths[..symbol].iter().filter(|&&other| other == of).count(), of.into())
}

fn lengths(count: usize, coded: &[(usize, u8)]) -> Vec<u8> {
    let mut lengths = vec![0; count];
    coded.iter().for_each(|&(symbol, length)| lengths[symbol] = length);
    lengths
}

/// Returns the lengths of the fixed literal and length code (RFC 1951 3.2.6).
fn fixed() -> Vec<u8> {
    [(144, 8), (112, 9), (24, 7), (8, 8)].iter().flat_map(|&(times, length)| vec![length; times]).collect()
}

/// Writes a match of a fixed block.
fn fixed_match(writer: Writer, length: usize, distance: usize) -> Writer {
    let base = |entry: &dyn Fn(usize) -> (usize, u32), value: usize, last: usize| {
        let symbol = (0..=last).rev().find(|&symbol| entry(symbol).0 <= value).unwrap();
        (symbol, value - entry(symbol).0, entry(symbol).1)
    };
    let lengths = |symbol: usize| match symbol {
        0..8 => (3 + symbol, 0),
        28 => (258, 0),
        _ => (3 + ((4 + symbol % 4) << (symbol / 4 - 1)), symbol as u32 / 4 - 1),
    };
    let distances = |symbol: usize| match symbol {
        0..4 => (1 + symbol, 0),
        _ => (1 + ((2 + symbol % 2) << (symbol / 2 - 1)), symbol as u32 / 2 - 1),
    };
    let (symbol, more, bits) = base(&lengths, length, 28);
    let writer = writer.codes(&fixed(), &[257 + symbol]).bits(more, bits);
    let (symbol, more, bits) = base(&distances, distance, 29);
    writer.code((symbol, 5)).bits(more, bits)
}

/// Inflates a message in pieces, with this limit for each call.
fn message(
    inflater: &mut Inflater,
    bytes: &[u8],
    window_bits: u8,
    piece: usize,
    limit: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    inflater.begin_message(window_bits, true);
    let (mut at, mut end) = (0, piece.min(bytes.len()));
    loop {
        let (before, given) = (out.len(), end - at);
        let progress = inflater.inflate(&bytes[at..end], end == bytes.len(), limit, &mut out)?;
        at += progress.consumed;
        let made = out.len() - before;
        assert!(given == 0 || made < limit.saturating_add(MATCH_MAX), "{made} of {limit}");
        if progress.more {
            assert!(at < end && made >= limit);
            continue;
        }
        assert_eq!(at, end, "all of it is consumed");
        if end == bytes.len() {
            return Ok(out);
        }
        end = (end + piece).min(bytes.len());
    }
}

/// Checks the result with pieces and limits of many sizes.
fn in_all_ways(name: &str, bytes: &[u8], expected: &Result<Vec<u8>, InflateError>) {
    let limits = match expected {
        Ok(out) if out.len() > 400 => vec![1, 2, 3, 258, 5000, out.len() - 1, out.len(), usize::MAX],
        _ => (1..=400).chain([usize::MAX]).collect(),
    };
    let mut inflater = Inflater::new();
    for limit in limits {
        for piece in [1, 2, 7, 8, 9, usize::MAX] {
            inflater.window().clear();
            let inflated = message(&mut inflater, bytes, 15, piece, limit);
            assert_eq!(&inflated, expected, "{name}, pieces of {piece}, limit {limit}");
        }
    }
}

#[test]
fn valid_streams() {
    let text = "你好 👋 Hello";
    let literals: Vec<usize> = text.bytes().map(usize::from).collect();
    let block = |header| Writer::default().bits(header, 3).codes(&fixed(), &literals).codes(&fixed(), &[256]);
    // Codes of 1 to 15 bits, of which the last two have as many.
    let long: Vec<(usize, u8)> =
        (0..14).map(|at| (97 + at, at as u8 + 1)).chain([(256, 15), (257, 15)]).collect();
    let long = lengths(258, &long);
    let many =
        lengths(30, &(0..15).map(|at| (at, if at == 14 { 14 } else { at as u8 + 1 })).collect::<Vec<_>>());
    let two = lengths(258, &[(97, 1), (256, 2), (257, 2)]);
    let most = lengths(286, &[(97, 1), (256, 2), (285, 2)]);
    let all_lengths =
        (3..=258).fold(block(2).bits(2, 3).codes(&fixed(), &[33]), |w, n| fixed_match(w, n, 1 + n % 30));
    let mut repeated = text.as_bytes().to_vec();
    repeated.push(33);
    for length in 3..=258 {
        (0..length).for_each(|_| repeated.push(repeated[repeated.len() - 1 - length % 30]));
    }
    let far = [&[b'.'; 200], &b"anmlkjanm..."[..]].concat();
    let rows: &[(&str, Vec<u8>, &[u8])] = &[
        ("RFC 7692 7.2.3.1", vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello"),
        (
            "RFC 7692 7.2.3.3",
            vec![0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            b"Hello",
        ),
        ("RFC 7692 7.2.3.4", vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello"),
        (
            "RFC 7692 7.2.3.5",
            vec![0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            b"Hello",
        ),
        ("RFC 7692 7.2.3.6", vec![0x00], b""),
        ("a final empty block", vec![0x01], b""),
        ("a final block alone", block(3).bytes, text.as_bytes()),
        ("a final stored block alone", Writer::default().stored(1, text.as_bytes()).bytes, text.as_bytes()),
        ("padding of ones", block(3).padded_with_ones().end(), text.as_bytes()),
        (
            "behind a final block",
            fixed_match(block(3).aligned().bits(2, 3), 4, 5).codes(&fixed(), &[256]).end(),
            "你好 👋 HelloHell".as_bytes(),
        ),
        ("fixed", block(2).end(), text.as_bytes()),
        ("all lengths", all_lengths.codes(&fixed(), &[256]).end(), &repeated),
        (
            "stored, also of nothing",
            Writer::default().stored(0, b"").stored(0, &[7; 300]).stored(0, b"").stored(1, &[7; 9]).end(),
            &[7; 309],
        ),
        ("the longest stored", Writer::default().stored(0, &[9; 65535]).end(), &[9; 65535]),
        (
            "codes of 15 bits",
            Writer::default()
                .stored(0, &[b'.'; 200])
                .dynamic(&long, &many)
                .codes(&long, &[97, 110, 109, 108, 107, 106, 257])
                .codes(&many, &[4])
                .bits(1, 1)
                .codes(&long, &[257])
                .codes(&many, &[14])
                .bits(0, 6)
                .codes(&long, &[256])
                .end(),
            &far,
        ),
        (
            "a single distance",
            Writer::default()
                .dynamic(&two, &[0, 1])
                .codes(&two, &[97, 97, 257])
                .bits(0, 1)
                .codes(&two, &[256])
                .end(),
            b"aaaaa",
        ),
        (
            "286 literals and lengths, 30 distances",
            Writer::default().dynamic(&most, &lengths(30, &[(0, 1), (29, 1)])).codes(&most, &[97, 256]).end(),
            b"a",
        ),
        ("no distance", Writer::default().dynamic(&two, &[0]).codes(&two, &[97, 97, 256]).end(), b"aa"),
        (
            "nothing but the end",
            Writer::default().dynamic(&lengths(257, &[(256, 1)]), &[0]).bits(0, 1).end(),
            b"",
        ),
    ];
    for (name, bytes, expected) in rows {
        in_all_ways(name, bytes, &Ok(expected.to_vec()));
    }
}

#[test]
fn invalid_streams() {
    let start = Writer::default;
    let literals = |count: usize| start().bits(2, 3).codes(&fixed(), &vec![97; count]);
    let with_end = |coded: &[(usize, u8)]| lengths(258, &[&[(256, 1)], coded].concat());
    let two = lengths(258, &[(97, 1), (256, 2), (257, 2)]);
    // The lengths of the code length code, for 16, 17, 18 and 0, and the code lengths themselves.
    let header = |codes: &[usize]| {
        codes.iter().fold(start().bits(4, 3).bits(0, 14), |writer, &length| writer.bits(length, 3))
    };
    use InflateError::*;
    let rows: &[(&str, Vec<u8>, InflateError)] = &[
        ("type 3", start().bits(6, 3).bytes, BlockType),
        ("type 3, final", start().bits(7, 3).bytes, BlockType),
        ("complement", vec![0, 1, 0, 0xfe, 0xfe, 1, 0], StoredLength),
        ("the tail is no data", vec![0, 4, 0, 0xfb, 0xff], End),
        ("the tail is no block", vec![], End),
        ("a tail that was sent", vec![0, 0, 0, 0xff, 0xff], End),
        ("half a length", vec![0, 0, 0], End),
        ("half a complement", vec![0, 0, 0, 0xff], End),
        ("half a stored block", vec![0, 5, 0, 0xfa, 0xff, 1, 2, 3, 4], End),
        ("behind a final block", vec![1, 0, 0, 0xff, 0xff, 2], End),
        ("within a block", literals(3).bytes, End),
        ("within a symbol", literals(3).bits(3, 5).bytes, End),
        ("behind the end of a block", literals(1).codes(&fixed(), &[200, 200, 200, 200, 256]).bytes, End),
        ("within a match", literals(3).codes(&fixed(), &[257]).bytes, End),
        ("within the counts", start().bits(4, 3).bits(0, 12).bytes, End),
        ("within code length lengths", start().bits(4, 3).bits(0, 14).bits(0, 5).bytes, End),
        ("within code lengths", start().dynamic(&two, &[0; 8]).bytes[..120].to_vec(), End),
        ("287 literals and lengths", start().bits(4, 3).bits(30, 5).bits(0, 9).bytes, Codes),
        ("31 distances", start().bits(4, 3).bits(0, 5).bits(30, 5).bits(0, 4).bytes, Codes),
        ("code lengths oversubscribed", header(&[1, 1, 1, 0]).bytes, Oversubscribed),
        ("code lengths incomplete", header(&[1, 2, 0, 0]).bytes, Incomplete),
        ("a single code length", header(&[0, 0, 1, 0]).bytes, Incomplete),
        ("no code lengths", header(&[0; 4]).bytes, Incomplete),
        ("nothing to repeat", header(&[1, 0, 0, 1]).bits(1, 1).bits(0, 2).bytes, Repeat),
        ("zeros beyond", header(&[0, 0, 1, 1]).bits(1, 1).bits(127, 7).bits(1, 1).bits(127, 7).bytes, Repeat),
        ("no end", header(&[0, 0, 1, 1]).bits(1, 1).bits(127, 7).bits(1, 1).bits(109, 7).bytes, NoEnd),
        ("no end, a distance", start().dynamic(&[0; 257], &[1]).bytes, NoEnd),
        (
            "literals oversubscribed",
            start().dynamic(&with_end(&[(1, 1), (2, 15)]), &[0]).bytes,
            Oversubscribed,
        ),
        ("literals incomplete", start().dynamic(&with_end(&[(1, 2)]), &[0]).bytes, Incomplete),
        ("an end of two bits", start().dynamic(&lengths(257, &[(256, 2)]), &[0]).bytes, Incomplete),
        ("distances oversubscribed", start().dynamic(&two, &[1, 1, 1]).bytes, Oversubscribed),
        ("distances incomplete", start().dynamic(&two, &[1, 2]).bytes, Incomplete),
        ("a distance of two bits", start().dynamic(&two, &[2]).bytes, Incomplete),
        ("not the single end", start().dynamic(&lengths(257, &[(256, 1)]), &[0]).bits(1, 1).bytes, Symbol),
        (
            "not the single distance",
            start().dynamic(&two, &[1]).codes(&two, &[97, 257]).bits(1, 1).bytes,
            Symbol,
        ),
        ("no distances", start().dynamic(&two, &[0]).codes(&two, &[97, 257]).bits(0, 1).bytes, Symbol),
        ("286", literals(1).codes(&fixed(), &[286]).bytes, Symbol),
        ("287", literals(1).codes(&fixed(), &[287]).bytes, Symbol),
        ("distance 30", literals(1).codes(&fixed(), &[257]).code((30, 5)).bytes, Symbol),
        ("distance 31", literals(1).codes(&fixed(), &[257]).code((31, 5)).bytes, Symbol),
        ("before the start", fixed_match(literals(5), 3, 6).bytes, Distance),
        ("at the start", fixed_match(literals(0), 3, 1).bytes, Distance),
    ];
    for (name, bytes, malformed) in rows {
        in_all_ways(name, bytes, &Err(*malformed));
    }
}

/// RFC 7692 7.1.2, also for data of earlier messages and earlier calls.
#[test]
fn distances_reach_to_the_end_of_the_window_and_no_further() {
    for window_bits in 8..=15_u8 {
        let size = 1_usize << window_bits;
        let history: Vec<u8> = (0..size + 5).map(|at| (at / 3) as u8 ^ at as u8).collect();
        let refer =
            |distance| fixed_match(Writer::default().bits(2, 3), 40, distance).codes(&fixed(), &[256]);
        for (in_message, piece) in
            [(false, usize::MAX), (false, 1), (true, usize::MAX), (true, 1000), (true, 1)]
        {
            for (distance, legal) in [(size, true), (size - 1, true), (size - 39, true), (size + 1, false)] {
                if distance > 32768 {
                    continue;
                }
                let mut inflater = Inflater::new();
                let mut first = Writer::default();
                for piece in history.chunks(65535) {
                    first = first.stored(0, piece);
                }
                let mut message =
                    |bytes: &[u8]| message(&mut inflater, bytes, window_bits, piece, usize::MAX);
                let inflated = if in_message {
                    first.bytes.extend_from_slice(&refer(distance).end());
                    message(&first.bytes).map(|out| out[history.len()..].to_vec())
                } else {
                    assert_eq!(message(&first.end()).as_ref(), Ok(&history));
                    message(&refer(distance).end())
                };
                let mut expected = history.clone();
                (0..40).for_each(|_| expected.push(expected[expected.len() - distance]));
                let expected =
                    if legal { Ok(expected.split_off(history.len())) } else { Err(InflateError::Distance) };
                assert_eq!(inflated, expected, "{window_bits} {distance} {in_message} {piece}");
            }
        }
    }
}

#[test]
fn a_cleared_window_is_out_of_reach() {
    let mut inflater = Inflater::new();
    let again = fixed_match(Writer::default().bits(2, 3), 5, 5).codes(&fixed(), &[256]).end();
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let message =
        |inflater: &mut Inflater, bytes: &[u8]| message(inflater, bytes, 15, usize::MAX, usize::MAX);
    message(&mut inflater, &hello).unwrap();
    assert_eq!(message(&mut inflater, &again).unwrap(), b"Hello", "RFC 7692 7.2.3.2");
    let kept = std::mem::take(inflater.window());
    assert_eq!(message(&mut inflater, &again), Err(InflateError::Distance));
    *inflater.window() = kept;
    assert_eq!(message(&mut inflater, &again).unwrap(), b"Hello");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let mut bomb = Writer::default().bits(2, 3).codes(&fixed(), &[0]);
    for _ in 0..40_000 {
        bomb = fixed_match(bomb, 258, 1);
    }
    let bomb = bomb.codes(&fixed(), &[256]).end();
    let mut inflater = Inflater::new();
    inflater.begin_message(15, true);
    let mut out = Vec::new();
    let progress = inflater.inflate(&bomb, true, 1_000_000, &mut out).unwrap();
    assert!(progress.more && (1_000_000..1_000_258).contains(&out.len()));
    assert!(out.capacity() <= 2_100_000, "it is not allocated what is not decoded");
    let mut at = progress.consumed;
    let mut all = out.len();
    while at < bomb.len() {
        out.clear();
        at += inflater.inflate(&bomb[at..], true, 1_000_000, &mut out).unwrap().consumed;
        all += out.len();
    }
    assert_eq!(all, 1 + 40_000 * 258);
}

#[test]
fn nothing_is_decoded_after_the_symbol_that_reaches_the_limit() {
    let begin = Writer::default().bits(2, 3).codes(&fixed(), &[65; 6]);
    // A length symbol without a meaning, with enough input after it for the fast loop.
    let wrong = fixed_match(begin, 100, 1).codes(&fixed(), &[286]).bits(0, 32).bits(0, 32).bits(0, 32).bytes;
    let mut inflater = Inflater::new();
    for limit in 7..=106 {
        let mut out = Vec::new();
        inflater.begin_message(15, true);
        let progress = inflater.inflate(&wrong, true, limit, &mut out);
        assert!(progress.is_ok_and(|progress| progress.more), "{limit}: {progress:?}");
        assert_eq!(out, [65; 106], "{limit}");
    }
    inflater.begin_message(15, true);
    assert_eq!(inflater.inflate(&wrong, true, 107, &mut Vec::new()), Err(InflateError::Symbol));
}

#[test]
fn the_window_grows_with_what_is_received_and_is_bounded() {
    for window_bits in 8..=15_u8 {
        let size = 1_usize << window_bits;
        for length in [1, 100, size / 4, size / 4 + 1, size, size + 1, 65535] {
            let mut inflater = Inflater::new();
            let mut received = Vec::new();
            for round in 0..20_u8 {
                let bytes: Vec<u8> = (0..length).map(|at| at as u8 ^ round).collect();
                let inflated = message(
                    &mut inflater,
                    &Writer::default().stored(0, &bytes).end(),
                    window_bits,
                    usize::MAX,
                    usize::MAX,
                );
                assert_eq!(inflated, Ok(bytes.clone()));
                received.extend(bytes);
                let window = inflater.window();
                assert!(window.capacity() <= (size + size / 4).min(received.len() * 2));
                assert!(received.ends_with(window) && window.len() >= size.min(received.len()));
            }
        }
    }
}

#[test]
fn empty_input_waits_for_more() {
    let mut inflater = Inflater::new();
    inflater.begin_message(15, true);
    let mut out = b"before ".to_vec();
    for bytes in [&[][..], &[0xf2, 0x48], &[], &[0xcd, 0xc9, 0xc9], &[], &[0x07, 0x00]] {
        let progress = inflater.inflate(bytes, false, usize::MAX, &mut out);
        assert_eq!(progress, Ok(Progress { consumed: bytes.len(), more: false }));
    }
    assert_eq!(inflater.inflate(&[], true, 1, &mut out), Ok(Progress { consumed: 0, more: false }));
    assert_eq!(out, b"before Hello");
    assert_eq!(inflater.window(), b"Hello");
}

/// Inflates a message with zlib. Also returns whether it ends where a message may end: in the header of a stored block,
/// which its length can follow, or after a final block.
fn zlib(bytes: &[u8], history: &[u8]) -> Result<(Vec<u8>, bool), ZlibError> {
    let run = |bytes: &[u8]| {
        let mut out = history.to_vec();
        let mut at = 0;
        let mut buffer = vec![0; 1 << 16];
        let mut last = None;
        while at < bytes.len() {
            let mut inflate = Inflate::new(false, 15);
            let from = out.len().saturating_sub(32768);
            if from < out.len() {
                inflate.set_dictionary(&out[from..])?;
            }
            // Until a final block has ended.
            loop {
                let (read, made) = (inflate.total_in(), inflate.total_out());
                last = Some(inflate.decompress(&bytes[at..], &mut buffer, InflateFlush::SyncFlush)?);
                let made = (inflate.total_out() - made) as usize;
                out.extend_from_slice(&buffer[..made]);
                at += (inflate.total_in() - read) as usize;
                if last == Some(Status::StreamEnd) || (at == bytes.len() && made < buffer.len()) {
                    break;
                }
            }
        }
        Ok((out.split_off(history.len()), last == Some(Status::StreamEnd)))
    };
    let (out, ended) = run(bytes)?;
    let marked = run(&[bytes, &[1, 0, 254, 255, b'Z', 1, 0, 0, 255, 255]].concat());
    let aligned = marked == Ok(([&out[..], b"Z"].concat(), true));
    Ok((out, ended || aligned))
}

/// Compresses as a sender of permessage-deflate does (RFC 7692 7.2.1), with blocks of all kinds.
fn compressed(text: &[u8], level: i32, kind: u8, window_bits: i32, cut: usize, last: bool) -> Vec<u8> {
    let strategies = [
        zlib_rs::Strategy::Default,
        zlib_rs::Strategy::Filtered,
        zlib_rs::Strategy::HuffmanOnly,
        zlib_rs::Strategy::Rle,
        zlib_rs::Strategy::Fixed,
    ];
    let mut deflate = Deflate::new_with_config(DeflateConfig {
        level,
        method: Method::Deflated,
        window_bits: -window_bits,
        mem_level: 1 + i32::from(kind) % 9,
        strategy: strategies[usize::from(kind) % 5],
    });
    let mut out = vec![0; text.len() * 2 + 1000];
    let (first, second) = text.split_at(cut.min(text.len()));
    let flushes = [DeflateFlush::NoFlush, DeflateFlush::PartialFlush, DeflateFlush::SyncFlush];
    deflate.compress(first, &mut out, flushes[usize::from(kind) % 3]).unwrap();
    let at = deflate.total_out() as usize;
    let flush = if last { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
    deflate.compress(second, &mut out[at..], flush).unwrap();
    out.truncate(deflate.total_out() as usize);
    if last {
        out.push(0);
    } else {
        assert_eq!(out.split_off(out.len() - 4), [0, 0, 255, 255]);
    }
    out
}

/// Generates bytes with repetitions.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(97..123_u8, 0..300),
        (any::<u8>(), 0..2000_usize).prop_map(|(byte, times)| vec![byte; times]),
        Just(r#"{"symbol":"AAPL","bid":187.43},你好 👋"#.repeat(9).into_bytes()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn streams_of_zlib_are_inflated(
        text in text(), level in 0..10, kind in any::<u8>(), window_bits in 9..16, cut in 0..3000_usize,
        last in any::<bool>(), piece in 1..500_usize, limit in 1..3000_usize,
    ) {
        let bytes = compressed(&text, level, kind, window_bits, cut, last);
        let mut inflater = Inflater::new();
        let bits = window_bits as u8;
        prop_assert_eq!(message(&mut inflater, &bytes, bits, usize::MAX, usize::MAX), Ok(text.clone()));
        // As the next message, after what it does not refer to.
        prop_assert_eq!(message(&mut inflater, &bytes, bits, piece, limit), Ok(text));
    }

    /// Both accept the same streams and decode the same bytes. They differ for a code length code without any code:
    /// zlib reports later that there is no end of the block.
    #[test]
    fn corrupt_streams_are_judged_as_by_zlib(
        text in text(), level in 0..10, kind in any::<u8>(), last in any::<bool>(),
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4),
        history in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = compressed(&text, level, kind, 15, 1000, last);
        for (index, byte, change) in changes {
            let at = index.index(bytes.len());
            match change {
                0 => bytes[at] ^= 1 << (byte % 8),
                1 => bytes[at] = byte,
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at + 1),
            }
        }
        let ours = |piece, limit| {
            let mut inflater = Inflater::new();
            inflater.window().extend_from_slice(&history);
            message(&mut inflater, &bytes, 15, piece, limit)
        };
        prop_assert_eq!(ours(1, 1), ours(usize::MAX, usize::MAX));
        let ours = ours(3, 1000);
        match zlib(&bytes, &history) {
            Ok((out, true)) => prop_assert_eq!(ours, Ok(out)),
            Ok((_, false)) => prop_assert!(matches!(ours, Err(InflateError::End | InflateError::Incomplete))),
            Err(_) => prop_assert!(!matches!(ours, Ok(_) | Err(InflateError::End))),
        }
    }
}
