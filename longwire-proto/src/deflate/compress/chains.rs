//! Finding matches with more effort: of all the places where three or four bytes occurred before, some or many,
//! and of this byte and the next, the better one.

use std::ops::Range;

use super::block::Block;
use super::matches::{HASHED_LENGTH, Input, MATCH_MAX, Match, hash};

/// Matches of three bytes, or of four, from farther away take more bits than their literals, mostly.
const THREE_DISTANCE_MAX: usize = 256;
const FOUR_DISTANCE_MAX: usize = 2048;

/// Places that are compared for a byte, on average over a block: else there is data for which the highest levels
/// would take seconds a mebibyte.
const COMPARED_PER_BYTE: usize = 64;

/// Bytes for which a block may do so before it has come to them.
const HEAD_START: usize = 64;

/// Places that are compared anyway.
const COMPARED_MIN: usize = 8;

/// How much is tried.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Places that are compared.
    depth: usize,
    /// A match of this length ends the search.
    nice: usize,
    /// A match of this length is taken without a look at the next byte.
    lazy: usize,
}

impl Effort {
    /// The effort of a level; `None` where [`fast`](super::fast) is enough.
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
    /// Whether it is worth a literal more than `other`, which begins a byte before.
    fn is_better_than(self, other: Self) -> bool {
        let bits = |found: Self| found.distance.max(1).ilog2();
        4 * self.length + bits(other) as usize > 4 * other.length + bits(self) as usize + 2
    }
}

/// The tables.
pub(super) struct HashChains<'a> {
    pub(super) fours: &'a mut [u32],
    pub(super) threes: &'a mut [u32],
    pub(super) chain: &'a mut [u16],
}

impl HashChains<'_> {
    /// Enters `position`; what was inserted for the same bytes last, by four bytes and by three.
    #[inline(always)]
    fn insert(&mut self, position: u32, word: u32) -> (u32, u32) {
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
            *link = u16::try_from(position.wrapping_sub(four)).unwrap_or(0);
        }
        (four, three)
    }

    /// How far before `position` the one before with the same hash is, or 0.
    #[inline(always)]
    fn distance_to_previous(&self, position: u32) -> u32 {
        let mask = self.chain.len().wrapping_sub(1);
        self.chain.get(position as usize & mask).copied().unwrap_or(0).into()
    }
}

/// Enters a range of positions.
pub(super) fn insert(chains: &mut HashChains<'_>, input: &Input<'_>, range: Range<usize>) {
    for at in range {
        let Some(word) = input.word(at) else { break };
        chains.insert(input.position(at), word);
    }
}

struct Search<'a> {
    chains: HashChains<'a>,
    input: Input<'a>,
    /// Where the block begins.
    start: usize,
    /// Places that were compared for it.
    compared: usize,
}

impl Search<'_> {
    /// Enters `at`, and finds a match there that is longer than `least`.
    fn find(&mut self, at: usize, least: usize, nice: usize, depth: usize) -> Match {
        let mut best = Match { length: least.max(HASHED_LENGTH - 1), distance: 0 };
        let Some(word) = self.input.word(at) else { return Match { length: 0, distance: 0 } };
        let (mut position, three) = self.chains.insert(self.input.position(at), word);
        let allowed = (HEAD_START + at - self.start) * COMPARED_PER_BYTE;
        let depth = depth.min(allowed.saturating_sub(self.compared)).max(COMPARED_MIN);
        let mut left = depth;
        let here = self.input.data.get(at..).unwrap_or_default();
        loop {
            let before = self.input.index(position);
            if before >= at || at - before > self.input.window {
                break;
            }
            let distance = at - before;
            let there = self.input.data.get(before..).unwrap_or_default();
            // To be longer, it must be the same at the end of the best so far.
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

/// As [`MatchTables::find_matches`](super::matches::MatchTables::find_matches).
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

    /// Two bytes at random: each four of them were there a sixteenth of the time.
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
