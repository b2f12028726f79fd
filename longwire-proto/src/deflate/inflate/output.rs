//! The output of a call: how it gets room, and how matches are copied from it and from what was decoded
//! before.

use super::InflateError;

/// The longest match (RFC 1951 3.2.5).
pub(super) const MATCH_MAX: usize = 258;

/// A match is copied in pieces of this size: its last one may write beyond its end.
const COPY_CHUNK: usize = 16;

/// Literals that are decoded in a row before room and limit are looked at.
pub(super) const LITERALS_IN_A_ROW: usize = 3;

/// Room that is made before a symbol is decoded.
pub(super) const SYMBOL_ROOM: usize = LITERALS_IN_A_ROW + MATCH_MAX + COPY_CHUNK;

/// The output grows by at most so much at once, in bytes.
const GROWTH_MAX: usize = 32 * 1024;

/// The output of a call, and what was decoded before.
pub(super) struct Output<'a> {
    pub(super) window: &'a [u8],
    pub(super) window_size: usize,
    /// Decoded from `start` to `at`; what is behind is room.
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) start: usize,
    pub(super) at: usize,
    /// Where decoding pauses.
    pub(super) limit: usize,
}

impl Output<'_> {
    /// Makes room for a symbol at least. What the input may become is only guessed, and then doubled.
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

/// Output with room for some symbols.
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

    /// Repeats what is `distance` back (RFC 1951 3.2.3). What is behind may be overwritten, by less than [`COPY_CHUNK`].
    #[inline(always)]
    pub(super) fn copy_match(&mut self, distance: usize, length: usize) -> Result<(), InflateError> {
        if distance > self.window_size {
            return Err(InflateError::Distance);
        }
        let end = self.at + length;
        let made = self.at - self.start;
        if distance > made {
            // It begins in the window.
            let back = distance - made;
            let mut from = self.window.len().checked_sub(back).ok_or(InflateError::Distance)?;
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
            for at in self.at..end {
                self.bytes[at] = self.bytes[at - distance];
            }
        }
        self.at = end;
        Ok(())
    }
}
