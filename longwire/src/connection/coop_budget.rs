//! Charges a task's cooperative budget for the input that it works off: one peer must not occupy a thread for long.

use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Work that the task was not charged for yet, in inflated bytes, or what takes as long as those.
///
/// A task has 128 units of budget for each poll (`tokio::task::coop`), and Tokio charges one for each read anyway.
#[derive(Debug, Default)]
pub(crate) struct Work(usize);

/// The work that costs one unit of the budget.
const UNIT: usize = 64 * 1024;

/// What handing out a message, a part or a control frame costs, whatever its size.
const FOUND: usize = 2 * 1024;

/// What reading a byte costs where messages may be compressed: it may belong to the description of a Huffman
/// code, which takes long to build and produces no byte.
const COMPRESSED: usize = 32;

impl Work {
    /// Counts something that was handed out, and the bytes that were inflated for it.
    #[inline]
    pub(crate) const fn found(&mut self, inflated: usize) {
        self.0 += FOUND + inflated;
    }

    /// Counts bytes that were inflated.
    pub(crate) const fn inflated(&mut self, bytes: usize) {
        self.0 += bytes;
    }

    /// Counts bytes that were read and may be compressed.
    pub(crate) const fn read_compressed(&mut self, bytes: usize) {
        self.0 += bytes * COMPRESSED;
    }

    /// Whether less than a unit is left to charge.
    pub(crate) const fn is_paid(&self) -> bool {
        self.0 < UNIT
    }

    /// Charges the task. Pending if its budget is used up; Tokio then wakes it at once.
    #[inline]
    pub(crate) fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.0 >= UNIT {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.0 -= UNIT;
        }
        Poll::Ready(())
    }
}
