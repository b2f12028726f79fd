//! Finds matches (LZ77): the data that a match may refer to, and the hash tables that lead there.
//!
//! A table is never cleared. Positions rise from message to message, so that an entry of an earlier message is below
//! the first position of the data, and its index wraps to a number beyond the end. The searches reject it, because a
//! match must begin before the current byte and within the window. After 4 GiB positions wrap, and an old entry may
//! point into the data. It is only a wrong guess: a match is used only after its bytes were compared.
//!
//! Clearing the 128 KiB of a large table would take longer than compressing a short message.

use super::block::Block;
use super::chains::{self, HashChains};
use super::fast;

/// The bytes that are hashed to find matches of at least this length.
pub(super) const HASHED_LENGTH: usize = 4;

/// The longest match (RFC 1951 3.2.5).
pub(super) const MATCH_MAX: usize = 258;

/// The most entries for hashes of three bytes: such matches are near, or not worth their bits.
const THREES_MAX: usize = 4096;

/// The data to compress, preceded by the data that it may refer to.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) data: &'a [u8],
    /// The position of the first byte of `data`.
    pub(super) base: u32,
    /// The greatest distance of a match, a power of two.
    pub(super) window: usize,
}

impl Input<'_> {
    /// Returns the four bytes at `at` as an integer; `None` if fewer are left.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.data.get(at..)?.first_chunk()?))
    }

    #[inline(always)]
    pub(super) const fn position(&self, at: usize) -> u32 {
        self.base.wrapping_add(at as u32)
    }

    /// Returns the index of `position` in the data. It is out of range for a position that is not in the data.
    #[inline(always)]
    pub(super) const fn index(&self, position: u32) -> usize {
        position.wrapping_sub(self.base) as usize
    }

    /// Returns how many bytes are the same at `at` and at `before`, up to [`MATCH_MAX`]. Not inlined, because the
    /// search around it needs the registers.
    #[inline(never)]
    pub(super) fn match_length(&self, at: usize, before: usize) -> usize {
        let here = self.data.get(at..).unwrap_or_default();
        let here = here.get(..MATCH_MAX).unwrap_or(here);
        let there = self.data.get(before..).unwrap_or_default();
        // `there` is longer than `here`, which alone bounds the comparison: both may overlap, as in a run of one byte.
        let (heres, here_rest) = here.as_chunks::<8>();
        let (theres, _) = there.as_chunks::<8>();
        let mut length = 0;
        for (here, there) in heres.iter().zip(theres) {
            let differ = u64::from_le_bytes(*here) ^ u64::from_le_bytes(*there);
            if differ != 0 {
                // Little-endian: the lowest bit that differs is in the first byte that differs.
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
    /// No match. Any match of [`HASHED_LENGTH`] bytes is longer.
    pub(super) const NONE: Self = Self { length: HASHED_LENGTH - 1, distance: 0 };
}

/// Returns a hash of `word` below `entries`, which is a power of two and at most 2^16.
///
/// Fibonacci hashing: the upper bits of the product depend on all bits of the word.
#[inline(always)]
pub(super) const fn hash(word: u32, entries: usize) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> 16) as usize >> (16 - entries.trailing_zeros())
}

/// The numbers of entries of the [`MatchTables`]: powers of two, or 0 for a table that is not used.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct TableSizes {
    fours: usize,
    threes: usize,
    chain: usize,
}

impl TableSizes {
    /// Returns the sizes for `len` bytes with matches at most `window` apart; `large` where memory matters less.
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

/// The hash tables, which hold positions. They are allocated when they are first used, and never shrink.
#[derive(Default)]
pub(super) struct MatchTables {
    /// Positions by the hash of four bytes.
    fours: Vec<u32>,
    /// Positions by the hash of three bytes, for [`chains`].
    threes: Vec<u32>,
    /// The distance of each position to the one before with the same hash, or 0, for [`chains`].
    chain: Vec<u16>,
    sizes: TableSizes,
}

impl MatchTables {
    /// Uses these sizes from now on. Returns whether they changed: then earlier positions are in other places than
    /// their hashes lead to, and are not found.
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

    /// Adds literals and matches for `input` to `block`, from index `at` on, until the input ends or the block is full.
    /// Returns the index where it stopped.
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

    /// Inserts the positions of the first `len` bytes of `input`.
    pub(super) fn insert(&mut self, level: u8, input: Input<'_>, len: usize) {
        match chains::Effort::of(level) {
            None => fast::insert(self.fours(), input, 0..len),
            Some(_) => chains::insert(&mut self.chains(), &input, 0..len),
        }
    }

    /// Returns the allocated bytes.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        (self.fours.capacity() + self.threes.capacity()) * size_of::<u32>() + self.chain.capacity() * 2
    }

    /// Returns the part of the table in use: it may have been larger for an earlier message.
    fn fours(&mut self) -> &mut [u32] {
        self.fours.get_mut(..self.sizes.fours).unwrap_or_default()
    }

    /// Returns the tables for [`chains`].
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
