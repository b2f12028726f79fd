//! Huffman codes as lookup tables (RFC 1951 3.2.2 and 3.2.5): their entries, and how they are built from code lengths.
//!
//! A [`Table`] begins with `1 << PRIMARY` entries, indexed by the next `PRIMARY` bits of the stream. A shorter code has
//! an entry for each value of the bits after it. Longer codes that begin with the same `PRIMARY` bits share an entry:
//! a link to a second table, which is indexed by the bits after these. The second tables follow the primary entries,
//! each as large as its longest code needs.
//!
//! The bits of a code arrive first bit first, and the stream is read from the lowest bit: an index is a code with its
//! bits reversed.

use std::sync::LazyLock;

use super::InflateError;

/// The table of literals and lengths. 288 codes of up to 15 bits need at most 1334 entries (zlib's `enough`).
pub(super) type LitLenTable = Table<2048, 10>;
/// The table of distances. 32 codes of up to 15 bits need at most 402 entries.
pub(super) type DistanceTable = Table<512, 8>;
/// The table of the code lengths of the other two. Its codes have up to 7 bits: no second tables.
pub(super) type LengthTable = Table<128, 7>;

/// The number of symbols of the literal and length code (RFC 1951 3.2.6).
const LITLEN_SYMBOLS: usize = 288;
/// The number of symbols of the distance code (RFC 1951 3.2.6).
const DISTANCE_SYMBOLS: usize = 32;
/// The symbol of the end of a block (RFC 1951 3.2.5).
const END_OF_BLOCK: usize = 256;
/// The longest code (RFC 1951 3.2.7).
const CODE_MAX: usize = 15;

/// A symbol that has a code, and the length of its code: `symbol << 4 | length`.
#[derive(Clone, Copy)]
pub(super) struct SymbolLength(u16);

impl SymbolLength {
    pub(super) const fn new(symbol: usize, length: u8) -> Self {
        Self((symbol as u16) << 4 | length as u16)
    }

    const fn symbol(self) -> usize {
        (self.0 >> 4) as usize
    }

    const fn length(self) -> usize {
        (self.0 & 15) as usize
    }
}

/// The meaning of a code. All that decoding needs is in one word, so that a symbol costs one load.
///
/// | bits   |                                                              |
/// |--------|--------------------------------------------------------------|
/// | 0..8   | the length of the code and of the extra bits after it        |
/// | 8..12  | the length of the code; in a link, that of the second index  |
/// | 12..16 | the kind                                                     |
/// | 16..32 | the literal, the base, or the start of the second table      |
#[derive(Clone, Copy)]
pub(super) struct Entry(u32);

impl Entry {
    const LITERAL: u32 = 1 << 15;
    const LINK: u32 = 1 << 14;
    const END: u32 = 1 << 13;
    const INVALID: u32 = 1 << 12;

    /// No code. One bit long, because the first bit already shows that the code is invalid: see [`Table::build`].
    const NONE: Self = Self(Self::INVALID | 1 << 8 | 1);

    const fn value(value: u16, extra: u8) -> Self {
        Self((value as u32) << 16 | extra as u32)
    }

    /// Returns this meaning with a code of `bits`.
    const fn with_code(self, bits: usize) -> Self {
        Self(self.0 + ((bits as u32) << 8 | bits as u32))
    }

    const fn link(start: usize, bits: usize, primary: u32) -> Self {
        Self((start as u32) << 16 | Self::LINK | (bits as u32) << 8 | primary)
    }

    #[inline(always)]
    pub(super) const fn is_literal(self) -> bool {
        self.0 & Self::LITERAL != 0
    }

    /// Returns whether it is neither a literal nor the base of a length or distance.
    #[inline(always)]
    pub(super) const fn is_special(self) -> bool {
        self.0 & (Self::LINK | Self::END | Self::INVALID) != 0
    }

    #[inline(always)]
    pub(super) const fn is_link(self) -> bool {
        self.0 & Self::LINK != 0
    }

    #[inline(always)]
    pub(super) const fn is_end(self) -> bool {
        self.0 & Self::END != 0
    }

    #[inline(always)]
    pub(super) const fn is_invalid(self) -> bool {
        self.0 & Self::INVALID != 0
    }

    /// Returns the bits that it takes from the stream. They are the low byte, from which a CPU such as x86 takes the
    /// count of a shift without a mask.
    #[inline(always)]
    pub(super) const fn bits(self) -> u32 {
        self.0 & 0xff
    }

    /// Returns the literal, or the symbol of the code length code.
    #[inline(always)]
    pub(super) const fn symbol(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Returns the length or distance: the base and the extra bits, which follow the code in `stream`. The caller skips
    /// [`bits`](Self::bits) afterwards, code and extra bits at once.
    #[inline(always)]
    pub(super) const fn number(self, stream: u64) -> usize {
        let added = (stream & ((1 << (self.bits() & 63)) - 1)) >> (self.0 >> 8 & 63);
        (self.0 >> 16) as usize + added as usize
    }
}

/// A code as a lookup table, of at most `SIZE` entries.
#[derive(Clone)]
pub(super) struct Table<const SIZE: usize, const PRIMARY: u32>([Entry; SIZE]);

impl LengthTable {
    /// Builds the code of the code lengths, which must be complete.
    pub(super) fn build_lengths(&mut self, lengths: &[u8; 19]) -> Result<(), InflateError> {
        let mut coded = [SymbolLength::new(0, 0); 19];
        let mut known = 0;
        for (symbol, &length) in lengths.iter().enumerate().filter(|&(_, &length)| length != 0) {
            coded[known] = SymbolLength::new(symbol, length);
            known += 1;
        }
        self.build(&coded[..known], 0, &LENGTH_MEANINGS, false)
    }
}

impl<const SIZE: usize, const PRIMARY: u32> Table<SIZE, PRIMARY> {
    /// The mask of an index into the primary entries. The sizes make every masked index valid without a bounds check.
    const MASK: usize = {
        assert!(SIZE.is_power_of_two() && SIZE >> PRIMARY != 0);
        (1 << PRIMARY) - 1
    };

    pub(super) const fn new() -> Self {
        Self([Entry::NONE; SIZE])
    }

    /// Returns the entry for the next bits of the stream, which may be a link.
    #[inline(always)]
    pub(super) const fn lookup(&self, stream: u64) -> Entry {
        self.0[stream as usize & Self::MASK]
    }

    /// Returns the entry that a link leads to, for the bits of the stream after it.
    #[inline(always)]
    pub(super) const fn lookup_second(&self, link: Entry, stream: u64) -> Entry {
        let within = stream as usize & ((1 << (link.0 >> 8 & 15)) - 1);
        self.0[((link.0 >> 16) as usize + within) & (SIZE - 1)]
    }

    /// Builds the code (RFC 1951 3.2.2) of the symbols in `coded`, which are ascending. The symbol `first + n` stands
    /// for `meanings[n]`.
    ///
    /// The table keeps the entries of the block before: a complete code overwrites all that can be reached. That is why
    /// an incomplete one must be rejected, or be one of the two exceptions, which are filled in here.
    fn build(
        &mut self,
        coded: &[SymbolLength],
        first: usize,
        meanings: &[Entry],
        may_be_incomplete: bool,
    ) -> Result<(), InflateError> {
        let mut counts = [0_u16; CODE_MAX + 1];
        for coded in coded {
            counts[coded.length()] += 1;
        }

        // How many codes of a length are not taken, and where the symbols of each length begin in `sorted`.
        let mut free = 1_u32;
        let mut begin = [0_u16; CODE_MAX + 1];
        let mut used = 0;
        for (&count, begin) in counts.iter().zip(&mut begin).skip(1) {
            *begin = used;
            used += count;
            free = (free * 2).checked_sub(u32::from(count)).ok_or(InflateError::Oversubscribed)?;
        }
        let meaning = |coded: SymbolLength| meanings[coded.symbol() - first];
        if free != 0 {
            // RFC 1951 3.2.7: a block may have a single distance with a code of one bit, or no distance. As in zlib, a
            // block with nothing but its end may have a code of one bit as well.
            if !may_be_incomplete || used != counts[1] {
                return Err(InflateError::Incomplete);
            }
            let zero = coded.first().map_or(Entry::NONE, |&single| meaning(single).with_code(1));
            // Without links the second tables cannot be reached. Filling only the primary entries keeps such blocks,
            // which are tiny, from costing much more than their input: a message may have very many of them.
            let (pairs, _) = self.0[..=Self::MASK].as_chunks_mut();
            pairs.fill([zero, Entry::NONE]);
            return Ok(());
        }

        // By length, then by symbol: the order of the codes.
        let mut sorted = [Entry::NONE; LITLEN_SYMBOLS];
        for &coded in coded {
            let begin = &mut begin[coded.length()];
            sorted[*begin as usize] = meaning(coded);
            *begin += 1;
        }
        self.fill(&counts, &sorted);
        Ok(())
    }

    /// Fills the table with a complete code, whose meanings are `sorted` in the order of their codes.
    ///
    /// `code` is the next code with its bits reversed. A longer code appends its bits at the top, so that going on to
    /// the next length changes nothing in `code`.
    fn fill(&mut self, counts: &[u16; CODE_MAX + 1], mut sorted: &[Entry]) {
        let mut code = 0;
        for (length, &count) in counts.iter().enumerate().take(PRIMARY as usize + 1).skip(1) {
            // The entries so far repeat with one more bit. Those of longer codes are copied unset, and are set below.
            let half = 1 << (length - 1);
            self.0.copy_within(..half, half);
            let (these, rest) = sorted.split_at(count as usize);
            for meaning in these {
                self.0[code & Self::MASK] = meaning.with_code(length);
                code = next_code(code, length);
            }
            sorted = rest;
        }

        let mut sorted = sorted.iter();
        let mut end = 1 << PRIMARY;
        let mut start = end;
        let mut prefix = usize::MAX;
        for length in PRIMARY as usize + 1..=CODE_MAX {
            let behind = length - PRIMARY as usize;
            for left in (1..=counts[length] as usize).rev() {
                if code & Self::MASK != prefix {
                    // The codes that begin with this prefix are the next ones in order. Their table has as many bits as
                    // it takes until they fill it. A complete code fills it exactly, at 15 bits at the latest.
                    prefix = code & Self::MASK;
                    let mut bits = behind;
                    let mut room = left;
                    while room < 1 << bits {
                        bits += 1;
                        room = room * 2 + counts[PRIMARY as usize + bits] as usize;
                    }
                    start = end;
                    end += 1 << bits;
                    self.0[prefix] = Entry::link(start, bits, PRIMARY);
                }
                let Some(meaning) = sorted.next() else { return };
                // One entry for each value of the bits after the code.
                for at in (start + (code >> PRIMARY)..end).step_by(1 << behind) {
                    self.0[at] = meaning.with_code(behind);
                }
                code = next_code(code, length);
            }
        }
    }
}

/// Returns the code that follows `code` at the same length: adds one with the bits reversed, where the carry moves
/// down. After the last code, of ones only, the result is not used.
fn next_code(code: usize, length: usize) -> usize {
    let zeros = !code & ((1 << length) - 1);
    let highest = 1_usize << (zeros | 1).ilog2();
    code & (highest - 1) | highest
}

/// The meanings of literals and lengths (RFC 1951 3.2.5).
static LITLEN_MEANINGS: [Entry; LITLEN_SYMBOLS] = litlen_meanings();
/// The meanings of distances (RFC 1951 3.2.5).
static DISTANCE_MEANINGS: [Entry; DISTANCE_SYMBOLS] = distance_meanings();
/// The meanings of the code length code: the symbols themselves, with extra bits for repetitions.
static LENGTH_MEANINGS: [Entry; 19] = {
    let mut meanings = [Entry::NONE; 19];
    let mut symbol = 0;
    while symbol < 19 {
        // RFC 1951 3.2.7: the extra bits of 16 to 18 are a number of repetitions.
        let extra = [2, 3, 7];
        meanings[symbol] = Entry::value(symbol as u16, if symbol < 16 { 0 } else { extra[symbol - 16] });
        symbol += 1;
    }
    meanings
};

const fn litlen_meanings() -> [Entry; LITLEN_SYMBOLS] {
    // 286 and 287 have codes in the fixed code, but no meaning (RFC 1951 3.2.6).
    let mut meanings = [Entry(Entry::INVALID); LITLEN_SYMBOLS];
    let mut symbol = 0;
    while symbol < 256 {
        meanings[symbol] = Entry((symbol as u32) << 16 | Entry::LITERAL);
        symbol += 1;
    }
    meanings[256] = Entry(Entry::END);
    let mut base = 3;
    let mut symbol = 257;
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol - 261) / 4 };
        meanings[symbol] = Entry::value(base, extra as u8);
        base += 1 << extra;
        symbol += 1;
    }
    meanings[285] = Entry::value(258, 0);
    meanings
}

const fn distance_meanings() -> [Entry; DISTANCE_SYMBOLS] {
    // 30 and 31 have no meaning (RFC 1951 3.2.6).
    let mut meanings = [Entry(Entry::INVALID); DISTANCE_SYMBOLS];
    let mut base = 1;
    let mut symbol = 0;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { (symbol - 2) / 2 };
        meanings[symbol] = Entry::value(base, extra as u8);
        base += 1 << extra;
        symbol += 1;
    }
    meanings
}

/// The two codes of a block.
#[derive(Clone)]
pub(super) struct Codes {
    pub(super) litlen: LitLenTable,
    pub(super) distances: DistanceTable,
}

impl Codes {
    pub(super) const fn new() -> Self {
        Self { litlen: LitLenTable::new(), distances: DistanceTable::new() }
    }

    /// Builds both codes from one ascending list, as it is sent (RFC 1951 3.2.7): symbols below `litlens` are literals
    /// and lengths, those from there on are distances.
    pub(super) fn build(&mut self, coded: &[SymbolLength], litlens: usize) -> Result<(), InflateError> {
        let (litlen, distances) = coded.split_at(coded.partition_point(|coded| coded.symbol() < litlens));
        if !litlen.iter().any(|coded| coded.symbol() == END_OF_BLOCK) {
            return Err(InflateError::NoEnd);
        }
        self.litlen.build(litlen, 0, &LITLEN_MEANINGS, true)?;
        self.distances.build(distances, litlens, &DISTANCE_MEANINGS, true)
    }
}

/// The fixed codes (RFC 1951 3.2.6).
pub(super) static FIXED: LazyLock<Codes> = LazyLock::new(|| {
    let coded: [SymbolLength; LITLEN_SYMBOLS + DISTANCE_SYMBOLS] = std::array::from_fn(|symbol| {
        let length = match symbol {
            144..256 => 9,
            256..280 => 7,
            LITLEN_SYMBOLS.. => 5,
            _ => 8,
        };
        SymbolLength::new(symbol, length)
    });
    let mut codes = Codes::new();
    // Cannot fail: both codes are complete, and there is an end of the block.
    let _ = codes.build(&coded, LITLEN_SYMBOLS);
    codes
});
