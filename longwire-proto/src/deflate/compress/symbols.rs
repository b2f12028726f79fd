//! The alphabets of literals, lengths and distances, and the fixed codes (RFC 1951 3.2.5 and 3.2.6).

use super::huffman::Code;

/// Literals, the end of a block, and lengths; two symbols never occur.
pub(super) const LITLEN_SYMBOLS: usize = 288;

/// Distances; two symbols never occur.
pub(super) const DISTANCE_SYMBOLS: usize = 32;

/// The end of a block.
pub(super) const END_OF_BLOCK: usize = 256;

/// A symbol that never occurs, and has no code.
pub(super) const NO_SYMBOL: usize = LITLEN_SYMBOLS - 1;

pub(super) static FIXED_LITLENS: Code<LITLEN_SYMBOLS> = {
    let mut lengths = [8; LITLEN_SYMBOLS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    let mut code = Code::of(&lengths);
    code.entries[NO_SYMBOL] = 0;
    code
};

pub(super) static FIXED_DISTANCES: Code<DISTANCE_SYMBOLS> = Code::of(&[5; DISTANCE_SYMBOLS]);

/// How a length is written: `value << 16 | extra bits << 9 | symbol`.
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
        // The first eight have no extra bits, then four symbols have each number of them.
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
    // The greatest length has its own.
    table[255] = LengthEntry(285);
    table
};

/// How a length of 3 to 258 is written.
#[inline(always)]
pub(super) fn length_entry(length: u16) -> LengthEntry {
    LENGTH_ENTRIES[usize::from(length.wrapping_sub(3) as u8)]
}

/// Symbols of the distances below 257, then of every 128th, all less one.
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

/// The symbol of a distance of `less_one` + 1.
#[inline(always)]
pub(super) fn distance_symbol(less_one: u16) -> usize {
    let at = if less_one < 256 { less_one } else { 256 + (less_one >> 7) };
    usize::from(SYMBOL_OF_DISTANCE[usize::from(at & 511)]) & 31
}

/// Extra bits of a distance symbol.
#[inline(always)]
pub(super) const fn distance_extra_bits(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// Extra bits of a symbol from [`END_OF_BLOCK`] on.
#[inline(always)]
pub(super) const fn length_extra_bits(symbol: usize) -> u32 {
    if symbol < 285 { (symbol as u32).saturating_sub(257 + 4) / 4 } else { 0 }
}
