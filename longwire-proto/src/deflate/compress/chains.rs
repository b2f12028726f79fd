//! Finds matches for levels 2 to 9 with hash chains, as zlib does: each position leads to the one before with the same
//! hash. A match is emitted only if the next byte does not begin a better one (lazy matching).

use std::ops::Range;

use super::block::Block;
use super::matches::{HASHED_LENGTH, Input, MATCH_MAX, Match, hash};

/// The greatest distances of matches of three and of four bytes. Farther ones mostly take more bits than their
/// literals.
const THREE_DISTANCE_MAX: usize = 256;
const FOUR_DISTANCE_MAX: usize = 2048;

/// The average number of candidates that are compared for a byte of a block.
///
/// Without this bound, data with few different bytes makes levels 8 and 9 take seconds for a mebibyte, which an
/// attacker could use.
const COMPARED_PER_BYTE: usize = 64;

/// The bytes of budget that a block begins with, so that its first searches are not cut short.
const HEAD_START: usize = 64;

/// The number of candidates that are compared even when the budget is used up.
const COMPARED_MIN: usize = 8;

/// How long to search at a level.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// The most candidates to compare at a position.
    depth: usize,
    /// A match of this length ends the search.
    nice: usize,
    /// A match of this length is emitted without a search at the next byte.
    lazy: usize,
}

impl Effort {
    /// Returns the effort of a level; `None` for level 1, which uses [`fast`](super::fast).
    pub(super) const fn of(level: u8) -> Option<Self> {
        let (depth, nice, lazy) = match level {
            ..=1 => return None,
            2 => (6, 32, 16),
            3 => (10, 32, 16),
            4 => (16, 48, 24),
            5 => (32, 64, 32),
            6 => (64, 128, 64),
            7 => (128, 192, 128),
            8 => (512, MATCH_MAX, MATCH_MAX),
            9.. => (2048, MATCH_MAX, MATCH_MAX),
        };
        Some(Self { depth, nice, lazy })
    }
}

impl Match {
    /// Returns whether it is worth one literal more than `other`, which begins a byte earlier.
    fn is_better_than(self, other: Self) -> bool {
        let bits = |found: Self| found.distance.max(1).ilog2();
        // As in libdeflate: a byte saves about four bits, and the logarithm of a distance is what its extra bits take.
        4 * self.length + bits(other) as usize > 4 * other.length + bits(self) as usize + 2
    }
}

/// The tables of the hash chains.
///
/// `fours` and `threes` hold the last position of each hash. `chain`, indexed by the low bits of a position, holds the
/// distance from it to the one before with the same hash. It has as many entries as the window, or the data if that is
/// shorter. Entries of older positions are overwritten by newer ones, and are wrong when followed. That is harmless: a
/// search checks each position and compares the bytes there.
pub(super) struct HashChains<'a> {
    pub(super) fours: &'a mut [u32],
    pub(super) threes: &'a mut [u32],
    pub(super) chain: &'a mut [u16],
}

impl HashChains<'_> {
    /// Inserts `position`, whose bytes are `word`. Returns the last positions with the same hash, of four bytes and of
    /// three.
    #[inline(always)]
    fn insert(&mut self, position: u32, word: u32) -> (u32, u32) {
        // A position that is its own predecessor ends the search.
        let (mut four, mut three) = (position, position);
        let entries = self.fours.len();
        if let Some(entry) = self.fours.get_mut(hash(word, entries)) {
            four = std::mem::replace(entry, position);
        }
        let entries = self.threes.len();
        if let Some(entry) = self.threes.get_mut(hash(word << 8, entries)) {
            three = std::mem::replace(entry, position);
        }
        let mask = self.chain.len().wrapping_sub(1);
        if let Some(link) = self.chain.get_mut(position as usize & mask) {
            // Farther than any window: the end of the chain.
            *link = u16::try_from(position.wrapping_sub(four)).unwrap_or(0);
        }
        (four, three)
    }

    /// Returns the distance from `position` to the one before with the same hash, or 0 at the end of the chain.
    #[inline(always)]
    fn distance_to_previous(&self, position: u32) -> u32 {
        let mask = self.chain.len().wrapping_sub(1);
        self.chain.get(position as usize & mask).copied().unwrap_or(0).into()
    }
}

/// Inserts a range of positions.
pub(super) fn insert(chains: &mut HashChains<'_>, input: &Input<'_>, range: Range<usize>) {
    for at in range {
        let Some(word) = input.word(at) else { break };
        chains.insert(input.position(at), word);
    }
}

/// The search for the matches of a block.
struct Search<'a> {
    chains: HashChains<'a>,
    input: Input<'a>,
    /// The index where the block begins.
    start: usize,
    /// Candidates that were compared for the block.
    compared: usize,
}

impl Search<'_> {
    /// Inserts `at`, and finds the longest match there, if it is longer than `least`. Length 0 means none.
    fn find(&mut self, at: usize, least: usize, nice: usize, depth: usize) -> Match {
        let mut best = Match { length: least.max(HASHED_LENGTH - 1), distance: 0 };
        let Some(word) = self.input.word(at) else { return Match { length: 0, distance: 0 } };
        let (mut position, three) = self.chains.insert(self.input.position(at), word);
        let allowed = (HEAD_START + at - self.start) * COMPARED_PER_BYTE;
        let depth = depth.min(allowed.saturating_sub(self.compared)).max(COMPARED_MIN);
        // At least `COMPARED_MIN`, so that it does not reach 0 before the loop subtracts.
        let mut left = depth;
        let here = self.input.data.get(at..).unwrap_or_default();
        loop {
            let before = self.input.index(position);
            // A position before the data, or of another message, has wrapped to a large index: it ends the search, too.
            if before >= at || at - before > self.input.window {
                break;
            }
            let distance = at - before;
            let there = self.input.data.get(before..).unwrap_or_default();
            // A longer match has the same byte where the best one ends, which rules most candidates out with one load.
            if there.get(best.length) == here.get(best.length) && self.input.word(before) == Some(word) {
                let length = self.input.match_length(at, at - distance);
                if length > best.length && (length > HASHED_LENGTH || distance <= FOUR_DISTANCE_MAX) {
                    best = Match { length, distance };
                    if length >= nice || length >= here.len() {
                        break;
                    }
                }
            }
            let link = self.chains.distance_to_previous(position);
            left -= 1;
            if link == 0 || left == 0 {
                break;
            }
            position = position.wrapping_sub(link);
        }
        self.compared += depth - left;
        // Three bytes are not worth a search: only the last position with their hash, if it is near, is compared.
        if best.distance == 0
            && least < 3
            && let before = self.input.index(three)
            && before < at
            && at - before <= THREE_DISTANCE_MAX.min(self.input.window)
            && self.input.word(before).is_some_and(|there| (there ^ word) << 8 == 0)
        {
            best = Match { length: self.input.match_length(at, before), distance: at - before };
        }
        if best.distance == 0 { Match { length: 0, distance: 0 } } else { best }
    }
}

/// Finds matches as [`MatchTables::find_matches`](super::matches::MatchTables::find_matches) does.
pub(super) fn find_matches(
    chains: HashChains<'_>,
    effort: Effort,
    input: Input<'_>,
    mut at: usize,
    block: &mut Block,
) -> usize {
    let mut search = Search { chains, input, start: at, compared: 0 };
    let mut start = at;
    loop {
        let end = input.data.len().min(start + block.room());
        let mut found = Match { length: 0, distance: 0 };
        while at < end {
            found = search.find(at, 0, effort.nice, effort.depth);
            if found.length != 0 {
                break;
            }
            block.count_literal(input.data.get(at).copied().unwrap_or(0));
            at += 1;
        }
        if found.length == 0 {
            block.add_literals(end - start);
            return end;
        }
        // Positions up to here are in the tables. Inserting one twice would link it to itself, which ends its chain.
        let mut inserted = at + 1;
        while found.length < effort.lazy && inserted < end {
            let next = search.find(inserted, found.length - 1, effort.nice, effort.depth.div_ceil(2));
            inserted += 1;
            if next.length == 0 || !next.is_better_than(found) {
                break;
            }
            block.count_literal(input.data.get(at).copied().unwrap_or(0));
            at = inserted - 1;
            found = next;
        }
        block.add_match(at - start, found);
        start = at + found.length;
        insert(&mut search.chains, &input, inserted..start);
        at = start;
        if at >= input.data.len() || block.is_full() {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns random text of two letters: any four bytes occur at every sixteenth position on average.
    fn hard(size: usize) -> Vec<u8> {
        let mut state = 7u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'a' + (state >> 63) as u8
        };
        (0..size).map(next).collect()
    }

    #[test]
    fn no_data_makes_a_search_long_on_average() {
        const ENTRIES: usize = 32 * 1024;
        for size in [100, 1000, 100_000] {
            let data = hard(size);
            let (mut fours, mut threes) = (vec![0; ENTRIES], vec![0; ENTRIES]);
            let mut chain = vec![0; ENTRIES];
            let chains = HashChains { fours: &mut fours, threes: &mut threes, chain: &mut chain };
            let input = Input { data: &data, base: 0, window: ENTRIES };
            let mut search = Search { chains, input, start: 0, compared: 0 };
            let Effort { depth, nice, .. } = Effort::of(9).unwrap();
            for at in 0..size {
                let before = search.compared;
                search.find(at, 0, nice, depth);
                let compared = search.compared - before;
                assert!(
                    compared <= depth
                        && search.compared <= (HEAD_START + at) * COMPARED_PER_BYTE + COMPARED_MIN * (at + 1)
                );
            }
            assert!(size < 100_000 || search.compared >= size * COMPARED_PER_BYTE, "{}", search.compared);
        }
    }
}
