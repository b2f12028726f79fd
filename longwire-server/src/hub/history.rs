//! The latest messages of a channel, without a hole.

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
    /// Appends the next message. The caller expires afterwards.
    pub(super) fn push(&mut self, published: Published) {
        self.bytes += published.message.len();
        self.kept.push_back(published);
    }

    /// Drops what is beyond the bounds: in all as many steps as messages were pushed.
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

    /// Bytes of the latest message.
    pub(super) fn latest_len(&self) -> usize {
        self.kept.back().map_or(0, |published| published.message.len())
    }

    /// The offset of the oldest message.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.front().map(|published| published.position.offset)
    }

    /// The messages behind an offset that is at least the one before the first.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = &Published> + Clone {
        let skipped = self.first().map_or(0, |first| offset.saturating_add(1).saturating_sub(first));
        self.kept.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Bytes that it is counted with.
    pub(super) fn cost(&self) -> usize {
        self.bytes + self.kept.len() * MESSAGE_COST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
