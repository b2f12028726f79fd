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
    places: HashMap<ChannelName, u32>,
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
            places: HashMap::new(),
            channels: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            changed: VecDeque::new(),
        }
    }
}

impl Shard {
    pub(super) fn place(&self, name: &ChannelName) -> Option<u32> {
        self.places.get(name).copied()
    }

    /// The channel at a place; `None` where none is.
    pub(super) fn channel(&mut self, place: u32) -> Option<&mut Channel> {
        self.channels.get_mut(place as usize)?.as_deref_mut()
    }

    /// Places there are, with a channel or without.
    pub(super) fn places(&self) -> Range<u32> {
        0..self.channels.len() as u32
    }

    pub(super) fn insert(&mut self, channel: Channel) -> u32 {
        let name = channel.name.clone();
        let place = match self.free.pop() {
            Some(place) => {
                self.channels[place as usize] = Some(Box::new(channel));
                place
            }
            None => {
                self.channels.push(Some(Box::new(channel)));
                self.channels.len() as u32 - 1
            }
        };
        self.places.insert(name, place);
        place
    }

    /// Drops a channel whose presence has no change that waits.
    pub(super) fn remove(&mut self, place: u32) {
        self.unlink(place);
        if let Some(channel) = self.channels.get_mut(place as usize).and_then(Option::take) {
            self.places.remove(&channel.name);
            self.free.push(place);
        }
        if self.places.is_empty() {
            // What a crowd has taken is given back.
            *self = Self::default();
        }
    }

    /// Makes a channel's history the one that was used most recently; takes it off the list if it is empty.
    pub(super) fn used(&mut self, place: u32) {
        self.unlink(place);
        let newest = self.newest;
        let Some(channel) = self.channel(place) else { return };
        if channel.weight().bytes == 0 {
            return;
        }
        (channel.before, channel.behind) = (newest, NONE);
        match self.channel(newest) {
            Some(before) => before.behind = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let Some(channel) = self.channel(place) else { return };
        let before = std::mem::replace(&mut channel.before, NONE);
        let behind = std::mem::replace(&mut channel.behind, NONE);
        if let Some(channel) = self.channel(before) {
            channel.behind = behind;
        } else if self.oldest == place {
            self.oldest = behind;
        } else {
            return;
        }
        match self.channel(behind) {
            Some(channel) => channel.before = before,
            None => self.newest = before,
        }
    }

    /// When the history was used that was used least recently.
    pub(super) fn oldest_use(&mut self) -> Option<Time> {
        let oldest = self.oldest;
        self.channel(oldest).map(|channel| channel.used)
    }

    /// Cuts that history; returns the bytes it was counted with.
    pub(super) fn cut_oldest(&mut self) -> usize {
        let oldest = self.oldest;
        let Some(channel) = self.channel(oldest) else { return 0 };
        let cost = channel.weight().bytes;
        channel.cut();
        self.unlink(oldest);
        cost
    }

    /// The presence of a channel has changed, and it was not yet said so.
    pub(super) fn presence_changed(&mut self, place: u32) {
        self.changed.push_back((place, None));
    }

    /// Tells of the changes that have been gathered for long enough.
    pub(super) fn tell_presence(
        &mut self,
        now: Time,
        interval: Duration,
        tell: &mut dyn FnMut(&ChannelName, PresenceChange),
    ) {
        for _ in 0..self.changed.len() {
            let Some((place, due)) = self.changed.pop_front() else { return };
            if due.is_none_or(|due| due > now) {
                self.changed.push_back((place, Some(due.unwrap_or_else(|| now.after(interval)))));
                continue;
            }
            let Some(channel) = self.channel(place) else { continue };
            if let Some((presence, mode)) = channel.presence_mut() {
                let change = presence.take(mode);
                channel.forget_presence();
                if let Some(change) = change {
                    tell(&channel.name, change);
                }
            }
        }
    }
}
