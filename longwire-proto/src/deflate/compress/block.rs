//! Collects the symbols of a block, chooses the smallest of its three forms, and writes it (RFC 1951 3.2.3).

use super::bits::{BitWriter, PartialByte};
use super::header::DynamicHeader;
use super::huffman::Code;
use super::matches::Match;
use super::symbols::{
    DISTANCE_SYMBOLS, END_OF_BLOCK, FIXED_DISTANCES, FIXED_LITLENS, LITLEN_SYMBOLS, NO_SYMBOL,
    distance_extra_bits, distance_symbol, length_entry, length_extra_bits,
};

/// The number of symbols that ends a block. A lazy match may add a few more.
///
/// More would amortise the header, fewer would follow changes in the data. The frequencies must fit beside a symbol in
/// 32 bits (see `SYMBOL_BITS` in `huffman`).
const SYMBOLS_MAX: usize = 16 * 1024;

/// The longest code of literals and lengths, where RFC 1951 allows 15 bits.
///
/// A flush leaves room for 56 bits, which are four codes of 14. With 15, four literals between two flushes could
/// overflow the buffer and lose bits.
const LITLEN_LIMIT: usize = 14;
/// The longest code of distances. A match takes at most 14 + 5 + 15 + 13 bits, fewer than 56.
const DISTANCE_LIMIT: usize = 15;

/// The longest stored block (RFC 1951 3.2.4).
const STORED_MAX: usize = 0xffff;

/// A number of literals, and the match that follows them. The literals themselves are read from the payload again.
#[derive(Clone, Copy)]
struct Sequence {
    literals: u32,
    /// 0 if no match follows.
    length: u16,
    /// The distance less one, so that 32,768 fits as well as any.
    distance: u16,
}

/// The block being collected, and the codes to write it with.
pub(super) struct Block {
    sequences: Vec<Sequence>,
    /// Literals and matches so far.
    symbols: usize,
    litlen_frequencies: [u32; LITLEN_SYMBOLS],
    distance_frequencies: [u32; DISTANCE_SYMBOLS],
    literals: Code<LITLEN_SYMBOLS>,
    distances: Code<DISTANCE_SYMBOLS>,
    header: DynamicHeader,
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            sequences: Vec::new(),
            symbols: 0,
            litlen_frequencies: [0; LITLEN_SYMBOLS],
            distance_frequencies: [0; DISTANCE_SYMBOLS],
            literals: Code::new(),
            distances: Code::new(),
            header: DynamicHeader::new(),
        }
    }

    /// Returns how many literals still fit.
    pub(super) fn room(&self) -> usize {
        SYMBOLS_MAX.saturating_sub(self.symbols)
    }

    pub(super) const fn is_full(&self) -> bool {
        self.symbols >= SYMBOLS_MAX
    }

    /// Counts a literal. It becomes part of the block with the next match, or with `add_literals`.
    #[inline(always)]
    pub(super) fn count_literal(&mut self, literal: u8) {
        self.litlen_frequencies[usize::from(literal)] += 1;
    }

    /// Adds literals that are counted already, and a match of 3 to 258 bytes at a distance of 1 to 32,768.
    #[inline(always)]
    pub(super) fn add_match(&mut self, literals: usize, found: Match) {
        self.symbols += literals + 1;
        let length = found.length as u16;
        let distance = (found.distance - 1) as u16;
        self.litlen_frequencies[length_entry(length).symbol()] += 1;
        self.distance_frequencies[distance_symbol(distance)] += 1;
        self.sequences.push(Sequence { literals: literals as u32, length, distance });
    }

    /// Adds literals that are counted already, without a match after them.
    pub(super) fn add_literals(&mut self, literals: usize) {
        self.symbols += literals;
        self.sequences.push(Sequence { literals: literals as u32, length: 0, distance: 0 });
    }

    /// Builds the codes of the block. Returns its size in bits with these, and with the fixed codes.
    fn measure(&mut self) -> (u32, u32) {
        self.litlen_frequencies[END_OF_BLOCK] = 1;
        let lengths = self.litlen_frequencies[END_OF_BLOCK..].iter().enumerate();
        let lengths = lengths.map(|(symbol, count)| count * length_extra_bits(symbol + END_OF_BLOCK));
        let distances = self.distance_frequencies.iter().enumerate();
        let distances = distances.map(|(symbol, count)| count * distance_extra_bits(symbol));
        let extra = lengths.sum::<u32>() + distances.sum::<u32>();
        let dynamic = self.literals.build(&self.litlen_frequencies, LITLEN_LIMIT)
            + self.distances.build(&self.distance_frequencies, DISTANCE_LIMIT)
            + self.header.build(&self.literals, &self.distances);
        let fixed = FIXED_LITLENS.bits(&self.literals, &self.litlen_frequencies)
            + FIXED_DISTANCES.bits(&self.distances, &self.distance_frequencies);
        (extra + dynamic, extra + fixed)
    }

    fn clear(&mut self) {
        self.sequences.clear();
        self.symbols = 0;
        self.litlen_frequencies.fill(0);
        self.distance_frequencies.fill(0);
    }

    /// Writes the symbols and the end of the block. `raw` has all bytes of the block, the literals among them.
    ///
    /// Between two flushes at most 56 bits may be added: the invariant of every step below.
    #[inline(always)]
    fn write_symbols<'a>(
        &self,
        mut raw: &[u8],
        litlen_code: &Code<LITLEN_SYMBOLS>,
        distance_code: &Code<DISTANCE_SYMBOLS>,
        mut bits: BitWriter<'a>,
    ) -> BitWriter<'a> {
        bits.flush();
        for sequence in &self.sequences {
            let Some((literals, rest)) = raw.split_at_checked(sequence.literals as usize) else { break };
            let (fours, few) = literals.as_chunks::<4>();
            for four in fours {
                for &literal in four {
                    bits.add_code(litlen_code.entries[usize::from(literal)]);
                }
                bits.flush();
            }
            // Always three codes, because a branch on their number would often be mispredicted. `NO_SYMBOL` has a code
            // of no bits in every table, so that a missing literal adds nothing.
            for at in 0..3 {
                let literal = few.get(at).map_or(NO_SYMBOL, |&literal| usize::from(literal));
                bits.add_code(litlen_code.entries[literal]);
            }
            bits.flush();
            raw = rest;
            if sequence.length == 0 {
                continue;
            }
            raw = raw.get(usize::from(sequence.length)..).unwrap_or_default();
            let length = length_entry(sequence.length);
            bits.add_code(litlen_code.entries[length.symbol()]);
            bits.add(length.extra(), length.extra_bits());
            let symbol = distance_symbol(sequence.distance);
            bits.add_code(distance_code.entries[symbol]);
            let extra_bits = distance_extra_bits(symbol);
            // The first distance of a symbol, less one, is a multiple of the number of its distances: the low bits are
            // the offset.
            bits.add(u64::from(sequence.distance) & ((1 << extra_bits) - 1), extra_bits);
            bits.flush();
        }
        bits.add_code(litlen_code.entries[END_OF_BLOCK]);
        bits
    }
}

/// Writes blocks one after another.
///
/// Blocks that are not worth compressing are not written at once. Consecutive ones share the headers of their stored
/// blocks.
pub(super) struct BlockWriter<'a> {
    payload: &'a [u8],
    out: &'a mut Vec<u8>,
    partial: PartialByte,
    /// The payload is written up to here.
    written: usize,
    /// The next block begins here. The bytes from `written` to here wait to be stored.
    start: usize,
}

impl<'a> BlockWriter<'a> {
    pub(super) fn new(payload: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        Self { payload, out, partial: PartialByte::default(), written: 0, start: 0 }
    }

    /// Writes the block, which ends at `end` in the payload, and clears it.
    pub(super) fn write(&mut self, block: &mut Block, end: usize) {
        let (dynamic, fixed) = block.measure();
        let smallest = dynamic.min(fixed) as usize + 3;
        // What storing the block would add to the bytes that wait.
        if self.stored_bits(end) - self.stored_bits(self.start) > smallest {
            self.store();
            let raw = self.payload.get(self.start..end).unwrap_or_default();
            let before = self.out.len();
            // One byte to round up, one for the incomplete byte, and the 8 bytes that `BitWriter` needs after the last
            // one.
            self.out.resize(before + smallest / 8 + 16, 0);
            let mut bits = BitWriter::new(&mut self.out[before..], self.partial);
            // BFINAL, always zero, and the type of the block.
            let codes = if fixed <= dynamic {
                bits.add(0b01 << 1, 3);
                (&FIXED_LITLENS, &FIXED_DISTANCES)
            } else {
                bits.add(0b10 << 1, 3);
                bits = block.header.write(bits);
                (&block.literals, &block.distances)
            };
            let bits = block.write_symbols(raw, codes.0, codes.1, bits);
            let (len, partial) = bits.finish();
            self.out.truncate(before + len);
            self.partial = partial;
            self.written = end;
        }
        self.start = end;
        block.clear();
    }

    /// Ends at a whole byte with an empty stored block. At the `last` piece of a message its length and complement are
    /// left out, which the receiver appends (RFC 7692 7.2.1).
    pub(super) fn finish(mut self, last: bool) {
        self.store();
        self.begin_stored();
        if !last {
            self.out.extend_from_slice(&[0, 0, 0xff, 0xff]);
        }
    }

    /// Returns the bits that stored blocks take for the payload from `written` to `end`.
    fn stored_bits(&self, end: usize) -> usize {
        let len = end - self.written;
        if len == 0 {
            return 0;
        }
        // A stored block is 5 bytes and its content. The header of the first one shares a byte with the block before,
        // and takes 3 bits and the padding in place of a byte.
        let padding = (5u32.wrapping_sub(self.partial.count) & 7) as usize;
        (len + 5 * len.div_ceil(STORED_MAX)) * 8 + 3 + padding - 8
    }

    /// Writes the bytes that wait as stored blocks.
    fn store(&mut self) {
        let raw = self.payload.get(self.written..self.start).unwrap_or_default();
        for chunk in raw.chunks(STORED_MAX) {
            self.begin_stored();
            let len = chunk.len() as u16;
            self.out.extend_from_slice(&len.to_le_bytes());
            self.out.extend_from_slice(&(!len).to_le_bytes());
            self.out.extend_from_slice(chunk);
        }
        self.written = self.start;
    }

    /// Writes the header of a stored block: three zero bits for BFINAL and type, and zeros up to a whole byte (RFC 1951
    /// 3.2.4).
    fn begin_stored(&mut self) {
        self.out.push(self.partial.bits);
        // The three bits do not fit into the incomplete byte.
        if self.partial.count > 5 {
            self.out.push(0);
        }
        self.partial = PartialByte::default();
    }
}
