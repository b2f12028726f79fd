//! Blocks: what they are made of, which kind is the smallest, and how each is written (RFC 1951 3.2.3).

use super::bits::{BitWriter, PartialByte};
use super::header::DynamicHeader;
use super::huffman::Code;
use super::matches::Match;
use super::symbols::{
    DISTANCE_SYMBOLS, END_OF_BLOCK, FIXED_DISTANCES, FIXED_LITLENS, LITLEN_SYMBOLS, NO_SYMBOL,
    distance_extra_bits, distance_symbol, length_entry, length_extra_bits,
};

/// Symbols that a block has at most, but for a few.
const SYMBOLS_MAX: usize = 16 * 1024;

/// The longest literal and length code that is made: four literals fit between two flushes.
const LITLEN_LIMIT: usize = 14;
const DISTANCE_LIMIT: usize = 15;

/// The longest stored block (RFC 1951 3.2.4).
const STORED_MAX: usize = 0xffff;

/// Literals, and the match that follows them.
#[derive(Clone, Copy)]
struct Sequence {
    literals: u32,
    length: u16,
    distance: u16,
}

/// A block that is being collected, and what is needed to write it.
pub(super) struct Block {
    sequences: Vec<Sequence>,
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

    /// How many literals may be added.
    pub(super) fn room(&self) -> usize {
        SYMBOLS_MAX.saturating_sub(self.symbols)
    }

    pub(super) const fn is_full(&self) -> bool {
        self.symbols >= SYMBOLS_MAX
    }

    /// Counts a literal, which is added later.
    #[inline(always)]
    pub(super) fn count_literal(&mut self, literal: u8) {
        self.litlen_frequencies[usize::from(literal)] += 1;
    }

    /// Adds literals, which are counted already, and a match of 3 to 258 bytes at a distance of 1 to 32,768.
    #[inline(always)]
    pub(super) fn add_match(&mut self, literals: usize, found: Match) {
        self.symbols += literals + 1;
        let length = found.length as u16;
        let distance = (found.distance - 1) as u16;
        self.litlen_frequencies[length_entry(length).symbol()] += 1;
        self.distance_frequencies[distance_symbol(distance)] += 1;
        self.sequences.push(Sequence { literals: literals as u32, length, distance });
    }

    /// Adds literals, which are counted already, and no match, for now.
    pub(super) fn add_literals(&mut self, literals: usize) {
        self.symbols += literals;
        self.sequences.push(Sequence { literals: literals as u32, length: 0, distance: 0 });
    }

    /// Makes the codes; how many bits the block takes with its own, or with the fixed ones.
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
            // Always three, without a branch: those that are not there have no code.
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
            // What the ranges begin with is a multiple of their size.
            bits.add(u64::from(sequence.distance) & ((1 << extra_bits) - 1), extra_bits);
            bits.flush();
        }
        bits.add_code(litlen_code.entries[END_OF_BLOCK]);
        bits
    }
}

/// Where blocks go.
pub(super) struct BlockWriter<'a> {
    payload: &'a [u8],
    out: &'a mut Vec<u8>,
    partial: PartialByte,
    /// How much of the payload is written.
    written: usize,
    /// What is collected in a block begins here: what is between is going to be stored, in as few blocks as can be.
    start: usize,
}

impl<'a> BlockWriter<'a> {
    pub(super) fn new(payload: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        Self { payload, out, partial: PartialByte::default(), written: 0, start: 0 }
    }

    /// Writes a block, which goes to `end` of the payload, and empties it.
    pub(super) fn write(&mut self, block: &mut Block, end: usize) {
        let (dynamic, fixed) = block.measure();
        let smallest = dynamic.min(fixed) as usize + 3;
        if self.stored_bits(end) - self.stored_bits(self.start) > smallest {
            self.store();
            let raw = self.payload.get(self.start..end).unwrap_or_default();
            let before = self.out.len();
            self.out.resize(before + smallest / 8 + 16, 0);
            let mut bits = BitWriter::new(&mut self.out[before..], self.partial);
            // BFINAL, which is zero, and the type.
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

    /// Ends at a whole byte with an empty stored block, without its last four octets if this is the `last` of a
    /// message (RFC 7692 7.2.1).
    pub(super) fn finish(mut self, last: bool) {
        self.store();
        self.begin_stored();
        if !last {
            self.out.extend_from_slice(&[0, 0, 0xff, 0xff]);
        }
    }

    /// Bits of the payload to `end`, from what is written on, in stored blocks.
    fn stored_bits(&self, end: usize) -> usize {
        let len = end - self.written;
        if len == 0 {
            return 0;
        }
        // The first block begins after what there is of a byte, the others at whole bytes.
        let padding = (5u32.wrapping_sub(self.partial.count) & 7) as usize;
        (len + 5 * len.div_ceil(STORED_MAX)) * 8 + 3 + padding - 8
    }

    /// Writes what is to be stored.
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

    /// BFINAL and the type, three zero bits, and zeros to a whole byte (RFC 1951 3.2.4).
    fn begin_stored(&mut self) {
        self.out.push(self.partial.bits);
        if self.partial.count > 5 {
            self.out.push(0);
        }
        self.partial = PartialByte::default();
    }
}
