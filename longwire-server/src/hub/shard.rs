//! A group of channels behind one lock. They are found by name, and in the order in which their histories
//! were used.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::channel::Channel;
use super::presence::PresenceChange;
use crate::value::{ChannelName, Time};

/// No channel.
const NONE: u32 = u32::MAX;

/// Each channel has an index, which is stable until the channel is dropped.
pub(super) struct Shard {
    indices: HashMap<ChannelName, u32>,
    channels: Vec<Option<Box<Channel>>>,
    free: Vec<u32>,
    /// The ends of the list of channels with a history, in order of use.
    oldest: u32,
    newest: u32,
    /// Channels whose presence has changed, in order, and when it is reported.
    changed: VecDeque<(u32, Option<Time>)>,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            indices: HashMap::new(),
            channels: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            changed: VecDeque::new(),
        }
    }
}

impl Shard {
    pub(super) fn index(&self, name: &ChannelName) -> Option<u32> {
        self.indices.get(name).copied()
    }

    /// Returns the channel at an index.
    pub(super) fn channel(&mut self, index: u32) -> Option<&mut Channel> {
        self.channels.get_mut(index as usize)?.as_deref_mut()
    }

    /// Returns all indices, including free ones.
    pub(super) fn indices(&self) -> Range<u32> {
        0..self.channels.len() as u32
    }

    pub(super) fn insert(&mut self, channel: Channel) -> u32 {
        let name = channel.name.clone();
        let index = match self.free.pop() {
            Some(index) => {
                self.channels[index as usize] = Some(Box::new(channel));
                index
            }
            None => {
                self.channels.push(Some(Box::new(channel)));
                self.channels.len() as u32 - 1
            }
        };
        self.indices.insert(name, index);
        index
    }

    /// Drops a channel that has no unreported presence change.
    pub(super) fn remove(&mut self, index: u32) {
        self.unlink(index);
        if let Some(channel) = self.channels.get_mut(index as usize).and_then(Option::take) {
            self.indices.remove(&channel.name);
            self.free.push(index);
        }
        if self.indices.is_empty() {
            // Release the memory of a past peak.
            *self = Self::default();
        }
    }

    /// Marks a channel's history as most recently used; removes it from the list if it is empty.
    pub(super) fn used(&mut self, index: u32) {
        self.unlink(index);
        let newest = self.newest;
        let Some(channel) = self.channel(index) else { return };
        if channel.usage().bytes == 0 {
            return;
        }
        (channel.older, channel.newer) = (newest, NONE);
        match self.channel(newest) {
            Some(older) => older.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let Some(channel) = self.channel(index) else { return };
        let older = std::mem::replace(&mut channel.older, NONE);
        let newer = std::mem::replace(&mut channel.newer, NONE);
        if let Some(channel) = self.channel(older) {
            channel.newer = newer;
        } else if self.oldest == index {
            self.oldest = newer;
        } else {
            return;
        }
        match self.channel(newer) {
            Some(channel) => channel.older = older,
            None => self.newest = older,
        }
    }

    /// Returns when the least recently used history was used.
    pub(super) fn oldest_use(&mut self) -> Option<Time> {
        let oldest = self.oldest;
        self.channel(oldest).map(|channel| channel.used)
    }

    /// Evicts that history and returns its accounted size, in bytes.
    pub(super) fn evict_oldest(&mut self) -> usize {
        let oldest = self.oldest;
        let Some(channel) = self.channel(oldest) else { return 0 };
        let cost = channel.usage().bytes;
        channel.evict();
        self.unlink(oldest);
        cost
    }

    /// Queues a presence report of a channel.
    pub(super) fn presence_changed(&mut self, index: u32) {
        self.changed.push_back((index, None));
    }

    /// Reports the presence changes whose interval has passed.
    pub(super) fn take_presence_changes(
        &mut self,
        now: Time,
        interval: Duration,
        report: &mut dyn FnMut(&ChannelName, PresenceChange),
    ) {
        for _ in 0..self.changed.len() {
            let Some((index, due)) = self.changed.pop_front() else { return };
            if due.is_none_or(|due| due > now) {
                self.changed.push_back((index, Some(due.unwrap_or_else(|| now.after(interval)))));
                continue;
            }
            let Some(channel) = self.channel(index) else { continue };
            if let Some((presence, mode)) = channel.presence_mut() {
                let change = presence.take(mode);
                channel.forget_presence();
                if let Some(change) = change {
                    report(&channel.name, change);
                }
            }
        }
    }
}
