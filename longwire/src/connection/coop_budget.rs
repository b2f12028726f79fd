//! What a task is charged for the input that it works off: one peer must not hold a thread for long.

use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Work that the budget of the task was not charged for yet, in bytes that were inflated or what takes as long.
///
/// A task has 128 units of budget in a turn (`tokio::task::coop`), and each read costs one of them anyway.
#[derive(Debug, Default)]
pub(crate) struct Work(usize);

/// Work for one unit of the budget.
const UNIT: usize = 64 * 1024;

/// A message, a part of one, or a control frame, whatever its size.
const FOUND: usize = 2 * 1024;

/// A byte that is read where messages may be compressed: it may be a part of a code that takes long to
/// build, and becomes nothing.
const COMPRESSED: usize = 32;

impl Work {
    /// Something was found, and so many bytes inflated for it.
    #[inline]
    pub(crate) const fn found(&mut self, inflated: usize) {
        self.0 += FOUND + inflated;
    }

    pub(crate) const fn inflated(&mut self, bytes: usize) {
        self.0 += bytes;
    }

    /// So many bytes were read, which may be compressed.
    pub(crate) const fn read_compressed(&mut self, bytes: usize) {
        self.0 += bytes * COMPRESSED;
    }

    /// Less than a unit is left to charge.
    pub(crate) const fn is_paid(&self) -> bool {
        self.0 < UNIT
    }

    /// Charges the task; pending when its turn is over.
    #[inline]
    pub(crate) fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.0 >= UNIT {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.0 -= UNIT;
        }
        Poll::Ready(())
    }
}
