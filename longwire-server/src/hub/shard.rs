//! Some of the channels, behind one lock: found by name, and in the order in which their histories were used.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::channel::Channel;
use super::presence::PresenceChange;
use crate::value::{ChannelName, Time};

/// No channel.
const NONE: u32 = u32::MAX;

/// Channels have a place each, and its number until they are dropped.
pub(super) struct Shard {
    indices: HashMap<ChannelName, u32>,
    channels: Vec<Option<Box<Channel>>>,
    free: Vec<u32>,
    /// The ends of the list of channels that have a history: the one that was used least recently, and the most.
    oldest: u32,
    newest: u32,
    /// Channels whose presence has changed, in order, and when that is told of.
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

    /// The channel at a place; `None` where none is.
    pub(super) fn channel(&mut self, index: u32) -> Option<&mut Channel> {
        self.channels.get_mut(index as usize)?.as_deref_mut()
    }

    /// Places there are, with a channel or without.
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

    /// Drops a channel whose presence has no change that waits.
    pub(super) fn remove(&mut self, index: u32) {
        self.unlink(index);
        if let Some(channel) = self.channels.get_mut(index as usize).and_then(Option::take) {
            self.indices.remove(&channel.name);
            self.free.push(index);
        }
        if self.indices.is_empty() {
            // What a crowd has taken is given back.
            *self = Self::default();
        }
    }

    /// Makes a channel's history the one that was used most recently; takes it off the list if it is empty.
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

    /// When the history was used that was used least recently.
    pub(super) fn oldest_use(&mut self) -> Option<Time> {
        let oldest = self.oldest;
        self.channel(oldest).map(|channel| channel.used)
    }

    /// Cuts that history; returns the bytes it was counted with.
    pub(super) fn evict_oldest(&mut self) -> usize {
        let oldest = self.oldest;
        let Some(channel) = self.channel(oldest) else { return 0 };
        let cost = channel.usage().bytes;
        channel.evict();
        self.unlink(oldest);
        cost
    }

    /// The presence of a channel has changed, and it was not yet said so.
    pub(super) fn presence_changed(&mut self, index: u32) {
        self.changed.push_back((index, None));
    }

    /// Tells of the changes that have been gathered for long enough.
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
