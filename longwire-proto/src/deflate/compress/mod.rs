//! Compresses messages to raw DEFLATE (RFC 1951), as permessage-deflate requires (RFC 7692 7.2.1).
//!
//! `fast` and `chains` find matches with the tables in `matches`. `block` collects them and writes blocks, with
//! `header`, `huffman`, `symbols` and `bits`. [`Compressor`] belongs to a thread, [`History`] to a connection.

mod bits;
mod block;
mod chains;
mod fast;
mod header;
mod huffman;
mod matches;
mod symbols;
#[cfg(test)]
mod tests;

use block::{Block, BlockWriter};
use matches::{Input, MatchTables, TableSizes};

/// The tables and buffers that a thread compresses with, for any number of connections.
///
/// A message leaves positions and hashes in the tables, never bytes. No output depends on them (see `matches`).
pub(crate) struct Compressor {
    /// The tables for messages that are compressed by themselves.
    tables: MatchTables,
    /// The position at which the next of these messages begins.
    position: u32,
    block: Block,
}

impl Compressor {
    pub(crate) fn new() -> Self {
        Self { tables: MatchTables::default(), position: 0, block: Block::new() }
    }

    /// Compresses a message by itself and appends it to `out`, without the four octets that the receiver adds (RFC 7692
    /// 7.2.1).
    pub(crate) fn compress_message(&mut self, payload: &[u8], level: u8, window_bits: u8, out: &mut Vec<u8>) {
        let window = 1 << window_bits;
        self.tables.set_sizes(TableSizes::of(level, payload.len(), window, true));
        let input = Input { data: payload, base: self.position, window };
        let mut writer = BlockWriter::new(payload, out);
        let mut at = 0;
        while at < payload.len() {
            at = self.tables.find_matches(level, input, at, &mut self.block);
            writer.write(&mut self.block, at);
        }
        writer.finish(true);
        // No position is used twice: entries of this message are out of reach of the next one.
        self.position = input.position(payload.len());
    }

    /// Compresses a message, or a piece of one, with references into `history`, and appends it to `out`. The `last`
    /// piece ends as in [`compress_message`](Self::compress_message). The receiver can decompress an earlier piece at
    /// once.
    pub(crate) fn compress_piece(
        &mut self,
        history: &mut History,
        payload: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) {
        let mut writer = BlockWriter::new(payload, out);
        let mut rest = payload;
        while !rest.is_empty() {
            let (mut at, taken) = history.append(rest);
            rest = rest.get(taken..).unwrap_or_default();
            let input = Input { data: &history.data, base: history.base, window: history.window() };
            while at < input.data.len() {
                at = history.tables.find_matches(history.level, input, at, &mut self.block);
                // A block may continue when the history has moved its data, because it takes its literals from the
                // payload.
                let done = payload.len() - rest.len() - (input.data.len() - at);
                if self.block.is_full() || done == payload.len() {
                    writer.write(&mut self.block, done);
                }
            }
        }
        writer.finish(last);
    }
}

/// The data that a connection may refer back to: earlier messages, or earlier pieces of the same message.
pub(crate) struct History {
    /// The last bytes that were compressed: the window, and those since it was moved last.
    data: Vec<u8>,
    /// The position of the first byte of `data`.
    base: u32,
    tables: MatchTables,
    level: u8,
    window_bits: u8,
}

impl History {
    /// Makes an empty history, which allocates memory as it is used.
    pub(crate) fn new(level: u8, window_bits: u8) -> Self {
        Self { data: Vec::new(), base: 0, tables: MatchTables::default(), level, window_bits }
    }

    /// Returns the most bytes that it allocates.
    pub(crate) const fn size(level: u8, window_bits: u8) -> usize {
        Self::data_max(window_bits) + Self::table_sizes(level, 1 << window_bits, window_bits).bytes()
    }

    /// Forgets all data. The positions go on, so that the tables need not be cleared.
    pub(crate) fn clear(&mut self) {
        self.base = self.base.wrapping_add(self.data.len() as u32);
        self.data.clear();
    }

    const fn window(&self) -> usize {
        1 << self.window_bits
    }

    /// Returns the most bytes of `data`. The more there are beyond the window, the less often it is moved.
    const fn data_max(window_bits: u8) -> usize {
        let window = 1 << window_bits;
        window + if window_bits < 11 { 1024 } else { window / 2 }
    }

    /// Returns the sizes of the tables for `len` bytes.
    const fn table_sizes(level: u8, len: usize, window_bits: u8) -> TableSizes {
        TableSizes::of(level, len, 1 << window_bits, false)
    }

    /// Appends as much of `bytes` as fits. Returns its index in `data`, and how much it was.
    fn append(&mut self, bytes: &[u8]) -> (usize, usize) {
        let (limit, window) = (Self::data_max(self.window_bits), self.window());
        if bytes.len().min(limit - window) > limit - self.data.len() {
            // This cannot underflow: with no more than a window, `limit - window` bytes would fit.
            let gone = self.data.len() - window;
            self.data.drain(..gone);
            self.base = self.base.wrapping_add(gone as u32);
        }
        let start = self.data.len();
        let taken = bytes.len().min(limit - start);
        let len = start + taken;
        if len > self.data.capacity() {
            // Doubled, but never beyond the limit, which is what the budget accounts for.
            self.data.reserve_exact((2 * len).min(limit) - start);
        }
        self.data.extend_from_slice(bytes.get(..taken).unwrap_or_default());

        // Larger tables find nothing that is in the old ones, so that all positions are inserted again.
        if self.tables.set_sizes(Self::table_sizes(self.level, len, self.window_bits)) {
            let input = Input { data: &self.data, base: self.base, window };
            self.tables.insert(self.level, input, start);
        }
        (start, taken)
    }
}
