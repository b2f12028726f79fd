//! Writes the header of a dynamic block: the code lengths, run-length and Huffman coded (RFC 1951 3.2.7).

use super::bits::BitWriter;
use super::huffman::Code;
use super::symbols::{DISTANCE_SYMBOLS, LITLEN_SYMBOLS};

/// The longest code in the code length code: its lengths are sent in three bits each.
const LENGTH_CODE_LIMIT: usize = 7;

/// The order in which the lengths of the code length code are sent (RFC 1951 3.2.7).
const LENGTH_CODE_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Extra bits of the symbols of the code length code (RFC 1951 3.2.7). 32 entries, so that a masked index needs no
/// check.
const LENGTH_EXTRA_BITS: [u32; 32] = {
    let mut table = [0; 32];
    (table[16], table[17], table[18]) = (2, 3, 7);
    table
};

/// The code lengths at the beginning of a dynamic block (RFC 1951 3.2.7).
pub(super) struct DynamicHeader {
    /// Symbols of the code length code with their extra bits, as `extra << 8 | symbol`. Each stands for one length or
    /// more, so that the array cannot overflow.
    symbols: [u16; LITLEN_SYMBOLS + DISTANCE_SYMBOLS],
    count: usize,
    frequencies: [u32; 19],
    code: Code<19>,
    /// How many code lengths are sent: of literals and lengths, of distances, and of the code length code.
    literals: u16,
    distances: u16,
    lengths: usize,
}

impl DynamicHeader {
    pub(super) const fn new() -> Self {
        Self {
            symbols: [0; LITLEN_SYMBOLS + DISTANCE_SYMBOLS],
            count: 0,
            frequencies: [0; 19],
            code: Code::new(),
            literals: 0,
            distances: 0,
            lengths: 0,
        }
    }

    /// Prepares the header for these codes. Returns its size in bits.
    pub(super) fn build(
        &mut self,
        literals: &Code<LITLEN_SYMBOLS>,
        distances: &Code<DISTANCE_SYMBOLS>,
    ) -> u32 {
        let last = |symbol: Option<(u16, u8)>| symbol.map_or(0, |(symbol, _)| symbol);
        self.literals = (last(literals.lengths().next_back()) + 1).max(257);
        self.distances = last(distances.lengths().next_back()) + 1;
        self.count = 0;
        self.frequencies.fill(0);

        // The lengths of both codes are one list, and a run may go from one into the other. Only symbols with a code
        // are visited; the gaps between them are runs of zeros.
        let beyond = self.literals;
        let distances = distances.lengths().map(|(symbol, length)| (symbol + beyond, length));
        let mut next = 0;
        let (mut length, mut run) = (0, 0);
        literals.lengths().chain(distances).for_each(|(symbol, this)| {
            if symbol != next || this != length {
                self.repeat(length, run);
                self.zeros(symbol - next);
                (length, run) = (this, 0);
            }
            run += 1;
            next = symbol + 1;
        });
        self.repeat(length, run);

        let bits = self.code.build(&self.frequencies, LENGTH_CODE_LIMIT);
        // Trailing zeros of the order are not sent. The format cannot send fewer than four.
        let sent = LENGTH_CODE_ORDER.iter().rposition(|&symbol| self.code.entries[symbol] != 0);
        self.lengths = sent.map_or(4, |at| (at + 1).max(4));
        let extra = 2 * self.frequencies[16] + 3 * self.frequencies[17] + 7 * self.frequencies[18];
        5 + 5 + 4 + 3 * self.lengths as u32 + bits + extra
    }

    fn push(&mut self, symbol: u16, extra: u16) {
        self.frequencies[usize::from(symbol)] += 1;
        self.symbols[self.count] = extra << 8 | symbol;
        self.count += 1;
    }

    /// Adds `run` lengths that are the same and not zero: the first as it is, and symbol 16 for 3 to 6 more.
    fn repeat(&mut self, length: u8, mut run: u16) {
        if run > 3 {
            self.push(length.into(), 0);
            run -= 1;
            while run >= 3 {
                self.push(16, run.min(6) - 3);
                run -= run.min(6);
            }
        }
        for _ in 0..run {
            self.push(length.into(), 0);
        }
    }

    /// Adds `run` zeros: symbol 18 for 11 to 138 of them, 17 for 3 to 10.
    fn zeros(&mut self, mut run: u16) {
        while run >= 11 {
            self.push(18, run.min(138) - 11);
            run -= run.min(138);
        }
        if run >= 3 {
            self.push(17, run - 3);
        } else {
            for _ in 0..run {
                self.push(0, 0);
            }
        }
    }

    /// Writes the header. At most 56 bits are added between two flushes.
    #[inline(always)]
    pub(super) fn write<'a>(&self, mut bits: BitWriter<'a>) -> BitWriter<'a> {
        bits.add(u64::from(self.literals - 257), 5);
        bits.add(u64::from(self.distances - 1), 5);
        bits.add(self.lengths as u64 - 4, 4);
        bits.flush();
        for symbols in LENGTH_CODE_ORDER.get(..self.lengths).unwrap_or_default().chunks(10) {
            for &symbol in symbols {
                bits.add(u64::from(self.code.entries[symbol] & 15), 3);
            }
            bits.flush();
        }
        for items in self.symbols.get(..self.count).unwrap_or_default().chunks(4) {
            for &item in items {
                // Up to 7 bits of the code and 7 extra bits, four times.
                let symbol = usize::from(item & 31);
                bits.add_code(self.code.entries.get(symbol).copied().unwrap_or(0));
                bits.add(u64::from(item >> 8), LENGTH_EXTRA_BITS[symbol]);
            }
            bits.flush();
        }
        bits
    }
}
