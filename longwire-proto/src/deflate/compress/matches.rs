//! Finding matches (LZ77): what may be referred to, and the tables by which it is found.
//!
//! Positions rise for as long as a table is used, by all that it is used for, so that it need not be cleared:
//! an entry counts only if its distance lies within what may be referred to, and the bytes there are compared.
//! What else is in a table, or has wrapped around, does no harm.

use super::block::Block;
use super::chains::{self, HashChains};
use super::fast;

/// Matches of this length or more are looked for by the hash of their first bytes.
pub(super) const HASHED_LENGTH: usize = 4;

/// The longest match that exists (RFC 1951 3.2.5).
pub(super) const MATCH_MAX: usize = 258;

/// Hashes of three bytes at most: such matches are near, or of no use.
const THREES_MAX: usize = 4096;

/// What is to be compressed, after what it may refer to.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) data: &'a [u8],
    /// The position of the first byte of `data`.
    pub(super) base: u32,
    /// How far back a match may be: a power of two.
    pub(super) window: usize,
}

impl Input<'_> {
    /// The four bytes at `at`, as an integer.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.data.get(at..)?.first_chunk()?))
    }

    #[inline(always)]
    pub(super) const fn position(&self, at: usize) -> u32 {
        self.base.wrapping_add(at as u32)
    }

    /// Where `position` is in the data, if it is there.
    #[inline(always)]
    pub(super) const fn index(&self, position: u32) -> usize {
        position.wrapping_sub(self.base) as usize
    }

    /// How many bytes are the same at `at` and at `before`. Not inlined: the search around it needs the registers.
    #[inline(never)]
    pub(super) fn match_length(&self, at: usize, before: usize) -> usize {
        let here = self.data.get(at..).unwrap_or_default();
        let here = here.get(..MATCH_MAX).unwrap_or(here);
        let there = self.data.get(before..).unwrap_or_default();
        let (heres, here_rest) = here.as_chunks::<8>();
        let (theres, _) = there.as_chunks::<8>();
        let mut length = 0;
        for (here, there) in heres.iter().zip(theres) {
            let differ = u64::from_le_bytes(*here) ^ u64::from_le_bytes(*there);
            if differ != 0 {
                return length + (differ.trailing_zeros() / 8) as usize;
            }
            length += 8;
        }
        let there_rest = there.get(length..).unwrap_or_default();
        length + here_rest.iter().zip(there_rest).take_while(|(here, there)| here == there).count()
    }
}

/// A match.
#[derive(Clone, Copy)]
pub(super) struct Match {
    pub(super) length: usize,
    pub(super) distance: usize,
}

impl Match {
    /// So that any match of [`HASHED_LENGTH`] bytes is longer.
    pub(super) const NONE: Self = Self { length: HASHED_LENGTH - 1, distance: 0 };
}

/// A hash of `word` below `entries`, a power of two of at most 2^16.
#[inline(always)]
pub(super) const fn hash(word: u32, entries: usize) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> 16) as usize >> (16 - entries.trailing_zeros())
}

/// How many entries each of the [`MatchTables`] has, powers of two or none.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct TableSizes {
    fours: usize,
    threes: usize,
    chain: usize,
}

impl TableSizes {
    /// For `len` bytes of which matches are at most `window` apart; `large` if memory matters less.
    pub(super) const fn of(level: u8, len: usize, window: usize, large: bool) -> Self {
        let len = if len < window { len } else { window };
        if level <= 1 {
            return Self { fours: fast::entries(len, large), threes: 0, chain: 0 };
        }
        let entries = len.next_power_of_two();
        let entries = if entries < 256 { 256 } else { entries };
        let fours = if large { entries } else { entries / 2 };
        let threes = if fours < THREES_MAX { fours } else { THREES_MAX };
        Self { fours, threes, chain: entries }
    }

    pub(super) const fn bytes(self) -> usize {
        (self.fours + self.threes) * size_of::<u32>() + self.chain * size_of::<u16>()
    }
}

/// What was seen where. They are allocated when they are used, and grow.
#[derive(Default)]
pub(super) struct MatchTables {
    /// Positions by the hash of four bytes.
    fours: Vec<u32>,
    /// Positions by the hash of three bytes, for [`chains`].
    threes: Vec<u32>,
    /// How far before each position the one before with the same hash is, or 0, for [`chains`].
    chain: Vec<u16>,
    sizes: TableSizes,
}

impl MatchTables {
    /// Uses these sizes from now on. Tells whether they are others than before, so that nothing that was entered
    /// is found.
    pub(super) fn set_sizes(&mut self, sizes: TableSizes) -> bool {
        if self.sizes == sizes {
            return false;
        }
        self.sizes = sizes;
        grow(&mut self.fours, sizes.fours);
        grow(&mut self.threes, sizes.threes);
        grow(&mut self.chain, sizes.chain);
        true
    }

    /// Adds literals and matches for `input` from `at` on to `block` until either ends; tells where.
    pub(super) fn find_matches(
        &mut self,
        level: u8,
        input: Input<'_>,
        at: usize,
        block: &mut Block,
    ) -> usize {
        match chains::Effort::of(level) {
            None => fast::find_matches(self.fours(), input, at, block),
            Some(effort) => chains::find_matches(self.chains(), effort, input, at, block),
        }
    }

    /// Enters the first `len` bytes of `input`.
    pub(super) fn insert(&mut self, level: u8, input: Input<'_>, len: usize) {
        match chains::Effort::of(level) {
            None => fast::insert(self.fours(), input, 0..len),
            Some(_) => chains::insert(&mut self.chains(), &input, 0..len),
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        (self.fours.capacity() + self.threes.capacity()) * size_of::<u32>() + self.chain.capacity() * 2
    }

    fn fours(&mut self) -> &mut [u32] {
        self.fours.get_mut(..self.sizes.fours).unwrap_or_default()
    }

    /// For [`chains`].
    fn chains(&mut self) -> HashChains<'_> {
        HashChains {
            fours: self.fours.get_mut(..self.sizes.fours).unwrap_or_default(),
            threes: self.threes.get_mut(..self.sizes.threes).unwrap_or_default(),
            chain: self.chain.get_mut(..self.sizes.chain).unwrap_or_default(),
        }
    }
}

fn grow<T: Copy + Default>(table: &mut Vec<T>, entries: usize) {
    if table.len() < entries {
        table.reserve_exact(entries - table.len());
        table.resize(entries, T::default());
    }
}
