//! The latest messages of a channel, without gaps.

use std::collections::VecDeque;

use super::options::{History as Bounds, MESSAGE_COST};
use crate::value::{Published, Time};

/// Offsets are contiguous, so a message is found by its offset.
#[derive(Debug, Default)]
pub(super) struct History {
    kept: VecDeque<Published>,
    bytes: usize,
}

impl History {
    /// Appends the next message. The caller expires old ones afterwards.
    pub(super) fn push(&mut self, published: Published) {
        self.bytes += published.message.len();
        self.kept.push_back(published);
    }

    /// Drops messages beyond the limits. The total number of steps is the number of messages pushed.
    pub(super) fn expire(&mut self, bounds: &Bounds, now: Time) {
        while let Some(oldest) = self.kept.front()
            && (self.kept.len() > bounds.messages
                || self.bytes > bounds.bytes
                || oldest.at.after(bounds.age) <= now)
        {
            self.bytes -= oldest.message.len();
            self.kept.pop_front();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Returns the size of the latest message, in bytes.
    pub(super) fn latest_len(&self) -> usize {
        self.kept.back().map_or(0, |published| published.message.len())
    }

    /// Returns the offset of the oldest message.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.front().map(|published| published.position.offset)
    }

    /// Returns the messages after an offset, which must be at least the one before the first.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = &Published> + Clone {
        let skipped = self.first().map_or(0, |first| offset.saturating_add(1).saturating_sub(first));
        self.kept.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Returns the accounted size, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes + self.kept.len() * MESSAGE_COST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
