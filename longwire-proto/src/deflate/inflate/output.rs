//! The output of a call: makes room in it, and copies matches from it and from the window of earlier calls.

use super::InflateError;

/// The longest match (RFC 1951 3.2.5).
pub(super) const MATCH_MAX: usize = 258;

/// Matches are copied in chunks of this many bytes. The last chunk may write beyond the end of the match; the next
/// symbol overwrites that.
const COPY_CHUNK: usize = 16;

/// The most literals that are decoded without checking room and limit between them.
pub(super) const LITERALS_IN_A_ROW: usize = 3;

/// The room that must be left before a symbol is decoded: literals, a match, and its last chunk. With less, a slice
/// index would panic.
pub(super) const SYMBOL_ROOM: usize = LITERALS_IN_A_ROW + MATCH_MAX + COPY_CHUNK;

/// The most bytes, beyond a symbol, by which the output grows at once.
const GROWTH_MAX: usize = 32 * 1024;

/// The output of a call, and the window of what was decoded before it.
pub(super) struct Output<'a> {
    pub(super) window: &'a [u8],
    /// The greatest distance. `window` may hold more than that.
    pub(super) window_size: usize,
    /// Decoded by this call from `start` to `at`; the bytes after `at` are room.
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) start: usize,
    pub(super) at: usize,
    /// The index at which decoding stops.
    pub(super) limit: usize,
}

impl Output<'_> {
    /// Makes room for at least one symbol. The first guess is three times the input; after that the output doubles.
    /// [`GROWTH_MAX`] bounds both, so that memory follows what was decoded, not what the peer may send.
    #[inline(always)]
    pub(super) fn make_room(&mut self, input_left: usize) {
        if self.bytes.len() - self.at < SYMBOL_ROOM {
            let guess = (input_left * 3).max(self.at - self.start).min(GROWTH_MAX).min(self.limit - self.at);
            self.bytes.resize(self.at + SYMBOL_ROOM + guess, 0);
        }
    }

    pub(super) fn target(&mut self) -> OutputCursor<'_> {
        OutputCursor {
            window: self.window,
            window_size: self.window_size,
            bytes: self.bytes,
            start: self.start,
            at: self.at,
        }
    }
}

/// Output as a slice, with room for some symbols. It cannot grow, so that its address can stay in a register.
pub(super) struct OutputCursor<'a> {
    pub(super) window: &'a [u8],
    pub(super) window_size: usize,
    pub(super) bytes: &'a mut [u8],
    pub(super) start: usize,
    pub(super) at: usize,
}

impl OutputCursor<'_> {
    #[inline(always)]
    pub(super) fn push_literal(&mut self, literal: u8) {
        self.bytes[self.at] = literal;
        self.at += 1;
    }

    /// Appends `length` bytes from `distance` back (RFC 1951 3.2.3). Up to [`COPY_CHUNK`] - 1 bytes of room after them
    /// may be overwritten.
    #[inline(always)]
    pub(super) fn copy_match(&mut self, distance: usize, length: usize) -> Result<(), InflateError> {
        if distance > self.window_size {
            return Err(InflateError::Distance);
        }
        let end = self.at + length;
        let made = self.at - self.start;
        if distance > made {
            // It begins in the window of earlier calls.
            let back = distance - made;
            let mut from = self.window.len().checked_sub(back).ok_or(InflateError::Distance)?;
            // Even the last chunk is read from within the window.
            if back >= length + COPY_CHUNK {
                while self.at < end {
                    self.bytes[self.at..self.at + COPY_CHUNK]
                        .copy_from_slice(&self.window[from..from + COPY_CHUNK]);
                    self.at += COPY_CHUNK;
                    from += COPY_CHUNK;
                }
                self.at = end;
                return Ok(());
            }
            let source = &self.window[from..from + back.min(length)];
            self.bytes[self.at..self.at + source.len()].copy_from_slice(source);
            self.at += source.len();
        }
        // A chunk may read only bytes that are written already.
        if distance >= COPY_CHUNK {
            while self.at < end {
                let from = self.at - distance;
                self.bytes.copy_within(from..from + COPY_CHUNK, self.at);
                self.at += COPY_CHUNK;
            }
        } else if distance == 1 && self.at < end {
            let byte = self.bytes[self.at - 1];
            self.bytes[self.at..end].fill(byte);
        } else {
            // Byte by byte: each may read one that this loop has just written.
            for at in self.at..end {
                self.bytes[at] = self.bytes[at - distance];
            }
        }
        self.at = end;
        Ok(())
    }
}
