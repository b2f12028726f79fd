//! The alphabets of literals and lengths, and of distances, and the fixed codes (RFC 1951 3.2.5 and 3.2.6).

use super::huffman::Code;

/// The size of the alphabet of literals, the end of a block, and lengths. The last two symbols never occur.
pub(super) const LITLEN_SYMBOLS: usize = 288;

/// The size of the alphabet of distances. The last two symbols never occur.
pub(super) const DISTANCE_SYMBOLS: usize = 32;

/// The symbol of the end of a block.
pub(super) const END_OF_BLOCK: usize = 256;

/// A symbol that never occurs. Its entry is 0 in every code: writing it adds no bits.
pub(super) const NO_SYMBOL: usize = LITLEN_SYMBOLS - 1;

pub(super) static FIXED_LITLENS: Code<LITLEN_SYMBOLS> = {
    let mut lengths = [8; LITLEN_SYMBOLS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    let mut code = Code::of(&lengths);
    // RFC 1951 gives it a code of 8 bits, which must not be written for a missing literal.
    code.entries[NO_SYMBOL] = 0;
    code
};

pub(super) static FIXED_DISTANCES: Code<DISTANCE_SYMBOLS> = Code::of(&[5; DISTANCE_SYMBOLS]);

/// How a length is written, as `extra << 16 | extra_bits << 9 | symbol`.
#[derive(Clone, Copy)]
pub(super) struct LengthEntry(u32);

impl LengthEntry {
    #[inline(always)]
    pub(super) const fn symbol(self) -> usize {
        (self.0 & 0x1ff) as usize
    }

    #[inline(always)]
    pub(super) const fn extra_bits(self) -> u32 {
        self.0 >> 9 & 7
    }

    #[inline(always)]
    pub(super) const fn extra(self) -> u64 {
        (self.0 >> 16) as u64
    }
}

static LENGTH_ENTRIES: [LengthEntry; 256] = {
    let mut table = [LengthEntry(0); 256];
    let mut at = 0;
    while at < 256 {
        // The first eight symbols have no extra bits. Then there are four symbols with one, four with two, and so on.
        let value = at as u32;
        table[at] = LengthEntry(if value < 8 {
            257 + value
        } else {
            let extra_bits = value.ilog2() - 2;
            let symbol = 257 + 4 * extra_bits + (value >> extra_bits);
            (value & ((1 << extra_bits) - 1)) << 16 | extra_bits << 9 | symbol
        });
        at += 1;
    }
    // 258 has a symbol of its own, without extra bits.
    table[255] = LengthEntry(285);
    table
};

/// Returns how a length of 3 to 258 is written. Such lengths less 3 are all the values of a byte: no bounds check.
#[inline(always)]
pub(super) fn length_entry(length: u16) -> LengthEntry {
    LENGTH_ENTRIES[usize::from(length.wrapping_sub(3) as u8)]
}

/// The symbols of distances less one: of 0 to 255, then of each 128 from there, which share a symbol.
static SYMBOL_OF_DISTANCE: [u8; 512] = {
    let mut table = [0; 512];
    let mut at = 0;
    while at < 512 {
        let distance = if at < 256 { at } else { (at - 256) * 128 };
        table[at] = if distance < 2 {
            distance as u8
        } else {
            let log = distance.ilog2();
            (2 * log) as u8 + (distance >> (log - 1) & 1) as u8
        };
        at += 1;
    }
    table
};

/// Returns the symbol of the distance `less_one + 1`, up to 32,768. The masks only spare bounds checks.
#[inline(always)]
pub(super) fn distance_symbol(less_one: u16) -> usize {
    let at = if less_one < 256 { less_one } else { 256 + (less_one >> 7) };
    usize::from(SYMBOL_OF_DISTANCE[usize::from(at & 511)]) & 31
}

/// Returns the number of extra bits of a distance symbol.
#[inline(always)]
pub(super) const fn distance_extra_bits(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// Returns the number of extra bits of a symbol from [`END_OF_BLOCK`] on.
#[inline(always)]
pub(super) const fn length_extra_bits(symbol: usize) -> u32 {
    if symbol < 285 { (symbol as u32).saturating_sub(257 + 4) / 4 } else { 0 }
}
