//! Finds matches for level 1: compares the last two positions with the same hash and takes the longer match.
//!
//! The functions are generic over the size of the table. A hash is below a size that the compiler knows, so that no
//! access to the table needs a bounds check.

use std::ops::Range;

use super::block::Block;
use super::matches::{HASHED_LENGTH, Input, Match, hash};

/// The greatest distance of a match of four bytes. Farther ones mostly take more bits than their literals.
const FOUR_DISTANCE_MAX: usize = 256;

/// A match of this length is emitted without a search at the next byte.
const LAZY_MAX: usize = 16;

/// How many positions within a match are inserted. What occurs again mostly begins where it began before.
const INSERTED_MAX: usize = 16;

/// The last two positions of each hash, the newer one first.
type Table<const BUCKETS: usize> = [[u32; 2]; BUCKETS];

const SMALL: usize = 512;
const MEDIUM: usize = 2048;
const LARGE: usize = 16 * 1024;

/// Returns the number of entries of a table for `len` bytes. A `large` one finds more, and is used where all
/// connections of a thread share it.
pub(super) const fn entries(len: usize, large: bool) -> usize {
    2 * match len {
        ..=2048 if !large => SMALL,
        8192.. if large => LARGE,
        _ => MEDIUM,
    }
}

/// Finds matches as [`MatchTables::find_matches`](super::matches::MatchTables::find_matches) does.
pub(super) fn find_matches(table: &mut [u32], input: Input<'_>, at: usize, block: &mut Block) -> usize {
    let (table, _) = table.as_chunks_mut();
    if let Some(table) = table.first_chunk_mut::<LARGE>() {
        find_all(table, input, at, block)
    } else if let Some(table) = table.first_chunk_mut::<MEDIUM>() {
        find_all(table, input, at, block)
    } else {
        // No table is smaller than this; the alternative only avoids a panic.
        let table = table.first_chunk_mut::<SMALL>();
        find_all(table.unwrap_or(&mut [[0; 2]; SMALL]), input, at, block)
    }
}

/// Inserts a range of positions. Only a [`History`](super::History) needs it, whose table is never large.
pub(super) fn insert(table: &mut [u32], input: Input<'_>, range: Range<usize>) {
    let (table, _) = table.as_chunks_mut();
    if let Some(table) = table.first_chunk_mut::<MEDIUM>() {
        insert_range(table, &input, range);
    } else if let Some(table) = table.first_chunk_mut::<SMALL>() {
        insert_range(table, &input, range);
    }
}

#[inline(always)]
fn insert_range<const BUCKETS: usize>(table: &mut Table<BUCKETS>, input: &Input<'_>, range: Range<usize>) {
    // The hash of the last position covers the three bytes after the range.
    let end = (range.end + HASHED_LENGTH - 1).min(input.data.len());
    let mut position = input.position(range.start);
    for word in input.data.get(range.start..end).unwrap_or_default().windows(HASHED_LENGTH) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let bucket = &mut table[hash(word, BUCKETS)];
        *bucket = [position, bucket[0]];
        position = position.wrapping_add(1);
    }
}

/// Inserts `at`, whose bytes are `word`. Returns the longest match there, or `best` if none is longer.
#[inline(always)]
fn find<const BUCKETS: usize>(
    table: &mut Table<BUCKETS>,
    input: &Input<'_>,
    at: usize,
    word: u32,
    mut best: Match,
) -> Match {
    let bucket = &mut table[hash(word, BUCKETS)];
    let candidates = *bucket;
    *bucket = [input.position(at), candidates[0]];
    best = compare(input, at, word, input.index(candidates[0]), best);
    compare(input, at, word, input.index(candidates[1]), best)
}

/// Returns the match of `at`, whose bytes are `word`, with `candidate`, or `best` if that is not longer.
#[inline(always)]
fn compare(input: &Input<'_>, at: usize, word: u32, candidate: usize, best: Match) -> Match {
    // A position of another message, or one that has wrapped, is not below `at`, or its bytes differ.
    if candidate < at
        && at - candidate <= input.window
        && input.word(candidate) == Some(word)
        // A longer match has the same byte where the best one ends.
        && (best.length < HASHED_LENGTH || input.data.get(candidate + best.length) == input.data.get(at + best.length))
    {
        let length = input.match_length(at, candidate);
        let distance = at - candidate;
        if length > best.length && (length > HASHED_LENGTH || distance <= FOUR_DISTANCE_MAX) {
            return Match { length, distance };
        }
    }
    best
}

fn find_all<const BUCKETS: usize>(
    table: &mut Table<BUCKETS>,
    input: Input<'_>,
    mut at: usize,
    block: &mut Block,
) -> usize {
    let mut start = at;
    loop {
        let end = input.data.len().min(start + block.room());
        let mut found = Match::NONE;
        while at < end
            && let Some(word) = input.word(at)
        {
            found = find(table, &input, at, word, Match::NONE);
            if found.length >= HASHED_LENGTH {
                break;
            }
            block.count_literal(word as u8);
            at += 1;
        }
        if found.length < HASHED_LENGTH {
            for &literal in input.data.get(at..end).unwrap_or_default() {
                block.count_literal(literal);
            }
            block.add_literals(end - start);
            return end;
        }
        let mut inserted = at + 1;
        while found.length < LAZY_MAX
            && let Some(word) = input.word(inserted)
        {
            let next = find(table, &input, inserted, word, found);
            inserted += 1;
            if next.length <= found.length {
                break;
            }
            block.count_literal(input.data.get(at).copied().unwrap_or(0));
            at = inserted - 1;
            found = next;
        }
        block.add_match(at - start, found);
        start = at + found.length;
        insert_range(table, &input, inserted..start.min(inserted + INSERTED_MAX));
        at = start;
        if at >= input.data.len() || block.is_full() {
            return at;
        }
    }
}
