//! Counted connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of a counted number, which is given back when this is dropped.
#[derive(Default)]
pub(super) struct Permit(Option<Arc<AtomicUsize>>);

impl Permit {
    /// Counts one more.
    pub(super) fn acquire(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self::of_counted(count)
    }

    /// For one that is counted already.
    pub(super) const fn of_counted(count: Arc<AtomicUsize>) -> Self {
        Self(Some(count))
    }

    /// It stays counted. The caller gives it back.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
