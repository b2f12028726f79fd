//! Idempotency keys of a channel, and the offsets of their messages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::options::Keys as Bounds;
use crate::value::Time;

/// Keys in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Keys {
    offsets: HashMap<Arc<str>, u64>,
    order: VecDeque<(Time, Arc<str>)>,
}

impl Keys {
    /// Stores a new key.
    pub(super) fn insert(&mut self, key: &str, offset: u64, at: Time) {
        let key: Arc<str> = key.into();
        self.order.push_back((at, key.clone()));
        self.offsets.insert(key, offset);
    }

    /// Drops keys beyond the limits.
    pub(super) fn expire(&mut self, bounds: &Bounds, now: Time) {
        while let Some((at, key)) = self.order.front()
            && (self.order.len() > bounds.count || at.after(bounds.window) <= now)
        {
            self.offsets.remove(key);
            self.order.pop_front();
        }
    }

    /// Returns the offset of the message that was published with this key.
    pub(super) fn offset(&self, key: &str) -> Option<u64> {
        self.offsets.get(key).copied()
    }

    /// Returns the offset of the oldest key's message.
    pub(super) fn first(&self) -> Option<u64> {
        self.order.front().and_then(|(_, key)| self.offset(key))
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
