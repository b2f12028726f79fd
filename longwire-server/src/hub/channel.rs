//! The state of one channel. The caller holds its lock.

use std::sync::Arc;

use longwire::Message;
use tokio::sync::watch;

use super::history::History;
use super::keys::Keys;
use super::options::{CURSOR_BACKLOG, ChannelOptions, History as Bounds, Limits, Presence as Mode};
use super::presence::Presence;
use super::{HubError, Page, PublishOptions, PublishReceipt, Recovery};
use crate::store::{Log, Store, StoreError};
use crate::value::{ChannelName, Epoch, Position, Published, Time, User};

/// What a channel contributes to the limits over all channels.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    /// Bytes of history.
    pub(super) bytes: usize,
    pub(super) keys: usize,
}

pub(super) struct Channel {
    pub(super) name: ChannelName,
    options: Arc<ChannelOptions>,
    epoch: Epoch,
    /// The offset of the latest message.
    head: u64,
    /// The latest time seen; it never goes back.
    latest: Time,
    /// The time of last use, which decides what is evicted or dropped first.
    pub(super) used: Time,
    subscribers: u32,
    /// The neighbours in the shard's list of histories.
    pub(super) older: u32,
    pub(super) newer: u32,
    /// The history was evicted from memory and is still in the store.
    evict: bool,
    history: History,
    // Boxed, because most channels have none of these.
    keys: Option<Box<Keys>>,
    presence: Option<Box<Presence>>,
    /// Notifies cursors of a new offset.
    wake: Option<watch::Sender<u64>>,
    log: Option<Box<Log>>,
}

impl Channel {
    /// Creates a channel without history.
    pub(super) fn fresh(name: ChannelName, options: Arc<ChannelOptions>, now: Time) -> Self {
        Self {
            name,
            options,
            epoch: Epoch::fresh(),
            head: 0,
            latest: now,
            used: now,
            subscribers: 0,
            older: u32::MAX,
            newer: u32::MAX,
            evict: false,
            history: History::default(),
            keys: None,
            presence: None,
            wake: None,
            log: None,
        }
    }

    /// Loads the channel from the store. Returns `false` if it is not stored.
    pub(super) fn load(&mut self, store: &Store, now: Time) -> Result<bool, StoreError> {
        if !self.is_stored() {
            return Ok(false);
        }
        let (bounds, mut latest) = (self.bounds(), self.latest);
        let (mut history, mut keys) = (History::default(), Keys::default());
        let loaded = store.load(&self.name, &mut |published, key| {
            latest = latest.max(published.at);
            if let Some(key) = key {
                // Repeat the expiry of that moment: an expired key may have been used again.
                keys.expire(&self.options.keys, published.at);
                keys.insert(&key, published.position.offset, published.at);
                keys.expire(&self.options.keys, published.at);
            }
            history.push(published);
            history.expire(&bounds, Time::default());
        })?;
        self.evict = false;
        let Some((log, epoch)) = loaded else {
            // The store had none, or the files were removed.
            self.log = None;
            return Ok(false);
        };
        if self.head > 0 && (self.epoch, self.head) != (epoch, log.last()) {
            return Err(store.changed(&self.name));
        }
        (self.epoch, self.head, self.latest) = (epoch, log.last(), latest);
        self.history = history;
        self.keys = (!keys.is_empty()).then(|| Box::new(keys));
        self.log = Some(Box::new(log));
        self.expire(now);
        Ok(true)
    }

    /// Returns whether the history must be loaded before it is read.
    pub(super) const fn is_evicted(&self) -> bool {
        self.evict
    }

    /// Returns whether the channel is stored. A channel without history lives as long as the process.
    fn is_stored(&self) -> bool {
        self.options.history.messages > 0
    }

    fn bounds(&self) -> Bounds {
        if !self.has_cursors() {
            return self.options.history;
        }
        let mut bounds = self.options.history.or(CURSOR_BACKLOG);
        // Keep the latest message, whatever its size, so that every cursor can read it once.
        bounds.bytes = bounds.bytes.max(self.history.latest_len());
        bounds
    }

    fn has_cursors(&self) -> bool {
        self.wake.as_ref().is_some_and(|wake| wake.receiver_count() > 0)
    }

    /// Returns the position of the latest message.
    pub(super) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.head }
    }

    /// Returns the offset of the oldest kept message, or of the next one.
    fn first(&self) -> u64 {
        self.history.first().unwrap_or_else(|| self.head.saturating_add(1))
    }

    /// Drops expired messages and keys.
    pub(super) fn expire(&mut self, now: Time) {
        self.latest = self.latest.max(now);
        let bounds = self.bounds();
        self.history.expire(&bounds, self.latest);
        if let Some(keys) = &mut self.keys {
            keys.expire(&self.options.keys, self.latest);
            if keys.is_empty() {
                self.keys = None;
            }
        }
    }

    /// Stores, keeps and delivers a message, and wakes the cursors. `room` is the error for a new key if
    /// there is no room for it.
    pub(super) fn publish(
        &mut self,
        message: Message,
        options: PublishOptions<'_>,
        room: Result<(), HubError>,
        store: Option<&Store>,
        deliver: &mut dyn FnMut(&Published),
    ) -> Result<PublishReceipt, HubError> {
        self.expire(options.now);
        if let Some(key) = options.key
            && let Some(offset) = self.keys.as_ref().and_then(|keys| keys.offset(key))
        {
            let position = Position { epoch: self.epoch, offset };
            return Ok(PublishReceipt { position, duplicate: true });
        }
        if options.key.is_some() {
            room?;
        }
        let offset = self.head.checked_add(1).ok_or(HubError::Exhausted)?;
        let position = Position { epoch: self.epoch, offset };
        let published = Published { position, at: self.latest, from: options.from, message };
        if self.is_stored()
            && let Some(store) = store
        {
            let keyed = self.keys.as_ref().and_then(|keys| keys.first());
            let wanted = keyed.map_or(self.first(), |keyed| keyed.min(self.first()));
            let log = self.log.get_or_insert_with(|| Box::new(Log::fresh(self.head)));
            log.append(store, &self.name, &published, options.key, wanted)?;
        }
        self.head = offset;
        if let Some(key) = options.key {
            let keys = self.keys.get_or_insert_default();
            keys.insert(key, offset, self.latest);
            keys.expire(&self.options.keys, self.latest);
        }
        self.history.push(published.clone());
        let bounds = self.bounds();
        self.history.expire(&bounds, self.latest);
        if let Some(wake) = &self.wake {
            wake.send_replace(offset);
        }
        deliver(&published);
        Ok(PublishReceipt { position, duplicate: false })
    }

    /// Returns whether all messages after a position are kept.
    fn continues(&self, after: Position) -> bool {
        // Subtract on the left side to avoid an overflow at offset 2^64 - 1.
        after.epoch == self.epoch && after.offset <= self.head && self.first() - 1 <= after.offset
    }

    /// Returns the messages that a subscriber has missed.
    pub(super) fn recover(&self, after: Option<Position>, limits: &Limits) -> Recovery {
        let Some(after) = after else { return Recovery::New };
        if !self.continues(after) {
            return Recovery::Lost;
        }
        let missed = self.history.after(after.offset);
        let (mut messages, mut bytes) = (0, 0);
        for published in missed.clone() {
            messages += 1;
            bytes += published.message.len();
            if messages > limits.replay_messages || bytes > limits.replay_bytes {
                return Recovery::Lost;
            }
        }
        Recovery::Complete(missed.cloned().collect())
    }

    /// Returns one page of messages after a position.
    pub(super) fn page(&self, after: Option<Position>, limit: usize, limits: &Limits) -> Page {
        let oldest = Position { epoch: self.epoch, offset: self.first() - 1 };
        let recovered = after.is_none_or(|after| self.continues(after));
        let from = after.filter(|_| recovered).unwrap_or(oldest);
        let mut bytes = 0_usize;
        let messages: Vec<_> = self
            .history
            .after(from.offset)
            .take(limit.min(limits.replay_messages))
            .take_while(|published| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(published.message.len().max(1));
                first || bytes <= limits.replay_bytes
            })
            .cloned()
            .collect();
        let reached = messages.last().map_or(from.offset, |last| last.position.offset);
        Page { messages, position: Some(self.position()), more: reached < self.head, recovered }
    }

    /// Returns the latest messages, as far as they are kept and fit into a page.
    pub(super) fn latest(&self, limit: usize, limits: &Limits) -> Page {
        let oldest_wanted = self.head.saturating_sub(limit as u64).max(self.first() - 1);
        self.page(Some(Position { epoch: self.epoch, offset: oldest_wanted }), limit, limits)
    }

    pub(super) fn join(&mut self, user: Option<&User>) {
        self.subscribers += 1;
        if self.options.presence != Mode::Off {
            self.presence.get_or_insert_default().join(user, self.options.presence);
        }
    }

    pub(super) fn leave(&mut self, user: Option<&User>) {
        self.subscribers = self.subscribers.saturating_sub(1);
        if let Some(presence) = &mut self.presence {
            presence.leave(user, self.options.presence);
        }
    }

    /// Returns the presence state and its mode; `None` without any.
    pub(super) fn presence(&self) -> Option<(&Presence, Mode)> {
        Some((self.presence.as_deref()?, self.options.presence))
    }

    /// Like [`presence`](Self::presence), to report changes.
    pub(super) fn presence_mut(&mut self) -> Option<(&mut Presence, Mode)> {
        Some((self.presence.as_deref_mut()?, self.options.presence))
    }

    /// Returns whether presence is enabled.
    pub(super) fn has_presence(&self) -> bool {
        self.options.presence != Mode::Off
    }

    /// Drops the presence state if there are no members left to report.
    pub(super) fn forget_presence(&mut self) {
        if self.presence.as_ref().is_some_and(|presence| presence.is_empty()) {
            self.presence = None;
        }
    }

    /// Returns a receiver of the latest offset for another cursor.
    pub(super) fn watch(&mut self) -> watch::Receiver<u64> {
        self.wake.get_or_insert_with(|| watch::Sender::new(self.head)).subscribe()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { bytes: self.history.cost(), keys: self.keys.as_ref().map_or(0, |keys| keys.len()) }
    }

    /// Drops the history from memory.
    pub(super) fn evict(&mut self) {
        self.history = History::default();
        self.evict = self.log.is_some();
    }

    /// Returns whether the channel has no subscribers and no cursors.
    pub(super) fn is_idle(&self) -> bool {
        self.subscribers == 0
            && !self.has_cursors()
            && self.presence.as_ref().is_none_or(|presence| presence.is_empty())
    }

    /// Returns whether dropping the channel would lose nothing but its epoch.
    pub(super) fn keeps_nothing(&self) -> bool {
        !self.evict && self.history.is_empty() && self.keys.is_none()
    }

    /// Returns whether the channel is in the store.
    pub(super) const fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Releases resources that can be acquired again.
    pub(super) fn release_resources(&mut self) {
        if !self.has_cursors() {
            self.wake = None;
        }
        if let Some(log) = &mut self.log {
            log.release();
        }
    }
}
