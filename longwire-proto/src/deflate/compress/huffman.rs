//! Builds Huffman codes for given frequencies: first the length of each code, then the codes (RFC 1951 3.2.2).
//!
//! Indices are reduced by `% LIST` where the compiler cannot know that they are in bounds. They always are, so that
//! this changes nothing. It takes one instruction, no branch, and leaves no path to a panic.

/// The classes of the counting sort: one for each low frequency. The last one takes all higher frequencies, which are
/// few and are sorted by comparing.
const CLASSES: usize = 64;

/// More than the symbols of the largest alphabet, and a power of two, so that `% LIST` is a mask.
const LIST: usize = 512;

/// The bits of a symbol in `frequency << SYMBOL_BITS | symbol`. Frequencies have the other 23, and no block has that
/// many symbols.
const SYMBOL_BITS: u32 = LIST.ilog2();

/// A code for the symbols 0..N.
pub(super) struct Code<const N: usize> {
    /// `code << 8 | length` of each symbol, with the first bit of the code lowest; 0 without a code.
    pub(super) entries: [u32; N],
    /// The symbols that have a code, ascending.
    used: [u16; LIST],
    count: usize,
}

impl<const N: usize> Code<N> {
    pub(super) const fn new() -> Self {
        // Below `LIST`, not up to it: `build` writes one entry after the last symbol.
        const { assert!(1 < N && N < LIST) };
        Self { entries: [0; N], used: [0; LIST], count: 0 }
    }

    /// Returns the code with these lengths.
    pub(super) const fn of(lengths: &[u8; N]) -> Self {
        let mut code = Self::new();
        let mut counts = [0; 16];
        let mut symbol = 0;
        while symbol < N {
            if lengths[symbol] != 0 {
                code.used[code.count] = symbol as u16;
                code.count += 1;
                code.entries[symbol] = lengths[symbol] as u32;
                counts[(lengths[symbol] & 15) as usize] += 1;
            }
            symbol += 1;
        }
        code.assign(&counts);
        code
    }

    /// The symbols that have a code, ascending.
    fn used(&self) -> &[u16] {
        self.used.get(..self.count).unwrap_or_default()
    }

    /// Returns the symbols that have a code, ascending, with the length of each code.
    pub(super) fn lengths(&self) -> impl DoubleEndedIterator<Item = (u16, u8)> {
        self.used().iter().map(|&symbol| (symbol, self.entries[usize::from(symbol)] as u8))
    }

    /// Returns how many bits those symbols take that have a code in `other`.
    pub(super) fn bits(&self, other: &Self, frequencies: &[u32; N]) -> u32 {
        let symbols = other.used().iter().map(|&symbol| usize::from(symbol));
        symbols.map(|symbol| (self.entries[symbol] & 15) * frequencies[symbol]).sum()
    }

    /// Builds the code for these frequencies, with no length above `limit`, which is 15 or less. Returns how many bits
    /// all the symbols take.
    ///
    /// The code is optimal unless the limit shortens it, and always complete. At least two symbols get a code, because
    /// some decoders reject a code with one.
    pub(super) fn build(&mut self, frequencies: &[u32; N], limit: usize) -> u32 {
        self.count = 0;
        for (chunk, first) in frequencies.chunks(8).zip((0..).step_by(8)) {
            if chunk.iter().fold(0, |any, frequency| any | frequency) == 0 {
                continue;
            }
            for (&frequency, symbol) in chunk.iter().zip(first..) {
                // Written in any case, without a branch; the next symbol overwrites it unless `count` moves on.
                self.used[self.count % LIST] = symbol;
                self.count += usize::from(frequency != 0);
            }
        }
        while self.count < 2 {
            // The lowest symbol without a code: 0, or 1 if that is taken.
            self.used[self.count] = u16::from(self.count == 1 && self.used[0] == 0);
            self.count += 1;
            self.used[..self.count].sort_unstable();
        }

        let mut sorted = [0; LIST];
        let sorted = sort(self.used(), frequencies, &mut sorted);
        let counts = lengths(sorted, limit);

        // The rarest symbols get the longest codes.
        self.entries.fill(0);
        let mut rarest = sorted.iter();
        let mut bits = 0;
        for (length, &count) in (0..16).zip(&counts).rev() {
            for &leaf in rarest.by_ref().take(count as usize) {
                self.entries[leaf as usize % LIST] = length;
                bits += (leaf >> SYMBOL_BITS) * length;
            }
        }
        self.assign(&counts);
        bits
    }

    /// Assigns codes to the lengths in `entries`, which occur `counts` times each (RFC 1951 3.2.2).
    const fn assign(&mut self, counts: &[u32; 16]) {
        let mut next = [0u32; 16];
        let mut length = 1;
        while length < 15 {
            // Codes are counted in the upper bits of 16, which are the lower bits once reversed: no shift by the
            // length.
            next[length + 1] = next[length] + (counts[length] << (16 - length));
            length += 1;
        }
        let mut at = 0;
        while at < self.count {
            let entry = &mut self.entries[self.used[at % LIST] as usize];
            let length = (*entry & 15) as usize;
            let [low, high] = (next[length] as u16).to_le_bytes();
            next[length] += 1 << (16 - length);
            *entry |= (REVERSED[low as usize] as u32) << 16 | (REVERSED[high as usize] as u32) << 8;
            at += 1;
        }
    }
}

/// Each byte with its bits reversed.
static REVERSED: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).reverse_bits();
        byte += 1;
    }
    table
};

/// Sorts `symbols` by frequency, rarest first. Returns them as `frequency << SYMBOL_BITS | symbol`, which one integer
/// comparison puts in order.
fn sort<'a>(symbols: &[u16], frequencies: &[u32], sorted: &'a mut [u32; LIST]) -> &'a [u32] {
    let class = |frequency: u32| (frequency as usize).min(CLASSES - 1);
    let frequency = |symbol: u16| frequencies.get(usize::from(symbol)).copied().unwrap_or(0);
    let mut ends = [0u16; CLASSES];
    for &symbol in symbols {
        ends[class(frequency(symbol))] += 1;
    }
    // From the sizes of the classes to where each begins. It becomes its end as symbols are added.
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    let frequent = usize::from(ends[CLASSES - 1]);
    for &symbol in symbols {
        let frequency = frequency(symbol);
        let end = &mut ends[class(frequency)];
        sorted[usize::from(*end) % LIST] = frequency << SYMBOL_BITS | u32::from(symbol);
        *end += 1;
    }
    let sorted = sorted.get_mut(..symbols.len()).unwrap_or_default();
    sorted.get_mut(frequent..).unwrap_or_default().sort_unstable();
    sorted
}

/// Returns how many codes have each length, for two or more sorted leaves.
fn lengths(leaves: &[u32], limit: usize) -> [u32; 16] {
    // Huffman's algorithm with two queues: each inner node takes the two lightest of the leaves and the inner nodes
    // that are left. Inner nodes are made in the order of their weights, so that both queues stay sorted without a
    // heap.
    let mut weights = [0u32; LIST];
    let mut parents = [0u16; LIST];
    let mut leaves = leaves.iter().map(|leaf| leaf >> SYMBOL_BITS);
    // `u32::MAX` stands for no more leaves: it is heavier than any inner node, and is never taken.
    let mut leaf = leaves.next().unwrap_or(u32::MAX);
    let (nodes, mut root) = (leaves.len(), 0);
    for next in 0..nodes {
        let mut sum = 0;
        for _ in 0..2 {
            if root == next || leaf <= weights[root % LIST] {
                sum += leaf;
                leaf = leaves.next().unwrap_or(u32::MAX);
            } else {
                sum += weights[root % LIST];
                parents[root % LIST] = next as u16;
                root += 1;
            }
        }
        weights[next % LIST] = sum;
    }
    // Downwards from the root, which is the last inner node: each replaces a leaf at its depth by two that are one
    // level deeper. If that is too deep, it splits the deepest leaf that may be split. There always is one, because the
    // limits allow for many more codes than there are symbols. Each step keeps the code complete (Kraft's equality),
    // which decoders check.
    let mut counts = [0; 16];
    counts[1] = 2;
    // A parent comes after its children, so that its depth has replaced its own parent when theirs is computed.
    let depths = &mut parents;
    depths[(nodes - 1) % LIST] = 0;
    for node in (0..nodes - 1).rev() {
        let depth = depths[usize::from(depths[node % LIST]) % LIST] + 1;
        depths[node % LIST] = depth;
        let mut depth = usize::from(depth).min(limit - 1);
        while counts[depth % 16] == 0 {
            depth -= 1;
        }
        counts[depth % 16] -= 1;
        counts[(depth + 1) % 16] += 2;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lengths of the code for `frequencies`, after checking its size, limit and completeness.
    fn lengths_of<const N: usize>(frequencies: [u32; N], limit: usize) -> Vec<u8> {
        let mut code = Code::new();
        let bits = code.build(&frequencies, limit);
        assert_eq!(bits, code.bits(&code, &frequencies));
        let lengths: Vec<u8> = code.entries.iter().map(|&entry| entry as u8).collect();
        assert!(lengths.iter().all(|&length| usize::from(length) <= limit));
        let kraft: u32 = lengths.iter().filter(|&&length| length != 0).map(|length| 0x8000 >> length).sum();
        assert_eq!(kraft, 0x8000, "{lengths:?}");
        lengths
    }

    #[test]
    fn the_best_code() {
        assert_eq!(lengths_of([1, 1, 2, 4, 8, 0], 7), [4, 4, 3, 2, 1, 0]);
        assert_eq!(lengths_of([100, 100, 100, 100], 7), [2; 4]);
        assert_eq!(lengths_of([70, 64, 63, 62, 1, 1000], 15), [3, 3, 3, 4, 4, 1]);
    }

    #[test]
    fn at_least_two_symbols_have_a_code() {
        assert_eq!(lengths_of([0, 0, 0, 0], 7), [1, 1, 0, 0]);
        assert_eq!(lengths_of([9, 0, 0, 0], 7), [1, 1, 0, 0]);
        assert_eq!(lengths_of([0, 9, 0, 0], 7), [1, 1, 0, 0]);
        assert_eq!(lengths_of([0, 0, 0, 9], 7), [1, 0, 0, 1]);
    }

    #[test]
    fn lengths_are_limited() {
        // The depth of such a tree is the number of its symbols, less one.
        let fibonacci = |at: usize| (0..at).fold((1, 1), |(a, b), _| (b, a + b)).0;
        for limit in 7..=15 {
            let reached = lengths_of(std::array::from_fn::<u32, 8, _>(fibonacci), limit);
            assert_eq!(reached.iter().max(), Some(&7));
            let beyond = lengths_of(std::array::from_fn::<u32, 30, _>(fibonacci), limit);
            assert_eq!(beyond.iter().max(), Some(&(limit as u8)));
        }
        let mut all = [1; 288];
        for (symbol, frequency) in all.iter_mut().enumerate().take(20) {
            *frequency = 1 << symbol;
        }
        lengths_of(all, 14);
        lengths_of([1 << 18; 19], 7);
    }

    #[test]
    fn codes_are_in_the_order_of_rfc_1951() {
        // RFC 1951 3.2.2, the example, whose codes begin with their highest bit.
        let code = Code::of(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let expected = [(0b010, 3), (0b011, 3), (0b100, 3), (0b101, 3), (0b110, 3), (0b00, 2), (0b1110, 4)];
        for ((code, length), entry) in expected.into_iter().zip(code.entries) {
            let reversed = (0..length).fold(0, |bits, at| bits << 1 | code >> at & 1);
            assert_eq!(entry, reversed << 8 | length);
        }
    }
}
