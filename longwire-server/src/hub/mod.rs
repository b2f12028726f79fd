//! Channels: publishing, subscriptions, history and presence. It is plain state without sockets.
//!
//! The hub never waits, except for a [`Store`] in the calls that say so. The current time is an argument.
//! Messages are delivered through callbacks that run under the lock of the channel. A subscriber's replay and
//! its later deliveries therefore form one stream: each message once, in the order of offsets, or a notice
//! that messages were lost.
//!
//! **A callback must not call the hub or drop a [`Subscription`]**, because it runs under the hub's lock. It
//! enqueues the message and returns.
//!
//! ```
//! use std::sync::Arc;
//! use longwire_server::hub::{ChannelName, ChannelOptions, Clock, Hub, Limits, PublishOptions, Recovery};
//!
//! let options = Arc::new(ChannelOptions::default());
//! let hub = Hub::new(Limits::default(), move |_| options.clone());
//! let (clock, room) = (Clock::start(), ChannelName::new("房间")?);
//!
//! let (alice, position) = hub.subscribe(&room, None, None, clock.now(), |subscribed| subscribed.position)?;
//! hub.publish(&room, "你好 👋".into(), PublishOptions::at(clock.now()), &mut |published| {
//!     println!("{}: {:?}", published.position, published.message);
//! })?;
//! drop(alice);
//!
//! let (_again, missed) = hub.subscribe(&room, None, Some(position), clock.now(), |subscribed| subscribed.recovery)?;
//! assert!(matches!(missed, Recovery::Complete(messages) if messages.len() == 1));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod channel;
mod cursor;
mod error;
mod history;
mod keys;
mod options;
mod presence;
mod shard;
mod upkeep;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use longwire::Message;

pub use cursor::{Batch, Cursor};
pub use error::HubError;
pub use options::{CURSOR_BACKLOG, ChannelOptions, History, Keys, Limits, MESSAGE_COST, Presence};
pub use presence::{Counts, Members, PresenceChange};

pub use crate::value::{
    ChannelName, Clock, Epoch, InvalidName, InvalidPosition, NAME_MAX, Position, Published, Time, User,
};

use crate::store::Store;
use channel::{Channel, Usage};
use shard::Shard;

/// Number of locks for all channels; enough that threads rarely contend.
const SHARDS: usize = 256;

/// All channels. Cloning creates another handle to the same hub.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

/// Returns the options of a channel by its name.
type Options = Box<dyn Fn(&str) -> Arc<ChannelOptions> + Send + Sync>;

struct Inner {
    shards: Box<[Slot]>,
    hasher: RandomState,
    options: Options,
    limits: Limits,
    store: Option<Store>,
    /// Totals: bytes of history in memory, number of keys, number of channels.
    bytes: AtomicUsize,
    keys: AtomicUsize,
    channels: AtomicUsize,
    /// The latest time seen, in milliseconds.
    latest: AtomicU64,
    /// Held by the thread that evicts histories.
    evicting: Mutex<()>,
    sweep: Mutex<upkeep::Sweep>,
}

#[derive(Default)]
struct Slot {
    shard: Mutex<Shard>,
    /// When the least recently used history was used; [`NEVER`] if there is none.
    oldest: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// Options of a publication.
#[derive(Clone, Debug)]
pub struct PublishOptions<'a> {
    /// The publishing user.
    pub from: Option<User>,
    /// The idempotency key. A message with the same key is not delivered again within the limits of [`Keys`].
    pub key: Option<&'a str>,
    /// The current time.
    pub now: Time,
}

impl PublishOptions<'_> {
    /// Options without a user and a key.
    pub const fn at(now: Time) -> Self {
        Self { from: None, key: None, now }
    }
}

/// The result of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishReceipt {
    /// The position of the message.
    pub position: Position,
    /// A message with the same key was published before, at this position.
    pub duplicate: bool,
}

/// The state of a channel at the moment of subscribing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The position of the latest message. Deliveries begin directly after it.
    pub position: Position,
    /// The messages before that.
    pub recovery: Recovery,
    /// The number of members as last reported; `None` if presence is off.
    pub counts: Option<Counts>,
}

/// The messages between the subscriber's position and the latest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The subscriber gave no position.
    New,
    /// All of them.
    Complete(Vec<Published>),
    /// Unknown: some have expired, there are too many, or the position belongs to another epoch.
    Lost,
}

/// A page of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Messages without gaps, oldest first.
    pub messages: Vec<Published>,
    /// The latest position of the channel; `None` if there is no such channel.
    pub position: Option<Position>,
    /// There are more messages after these.
    pub more: bool,
    /// The page continues the given position. Otherwise it begins with the oldest kept message.
    pub recovered: bool,
}

/// The members of a channel, as last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// Their number.
    pub counts: Counts,
    /// The users, sorted; `None` if they are not listed.
    pub members: Option<Vec<User>>,
}

/// A subscription to one channel. Dropping it unsubscribes; it must not be dropped within a callback of the
/// hub.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    hub: Hub,
    name: ChannelName,
    user: Option<User>,
}

impl Subscription {
    /// Returns the channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.name
    }

    /// Returns the user who subscribed.
    pub const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let now = Time::from_millis(self.hub.0.latest.load(Ordering::Relaxed));
        let user = self.user.as_ref();
        // The channel exists while it has a subscriber, so nothing is loaded here.
        let _ = self.hub.visit(&self.name, IfAbsent::Skip, now, |channel, _| channel.leave(user));
    }
}

/// What to do if a channel or its history is not in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfAbsent {
    /// Nothing.
    Skip,
    /// Load it from the store.
    Load,
    /// Load it, or create it.
    Create,
}

impl Hub {
    /// Creates a hub without a store. `options` is called once for each new channel; it must not call the
    /// hub.
    pub fn new(
        limits: Limits,
        options: impl Fn(&str) -> Arc<ChannelOptions> + Send + Sync + 'static,
    ) -> Self {
        Self::build(limits, Box::new(options), None)
    }

    /// Creates a hub that stores all channels with a history. Publishing and loading wait for the store.
    pub fn with_store(
        limits: Limits,
        store: Store,
        options: impl Fn(&str) -> Arc<ChannelOptions> + Send + Sync + 'static,
    ) -> Self {
        Self::build(limits, Box::new(options), Some(store))
    }

    fn build(limits: Limits, options: Options, store: Option<Store>) -> Self {
        let slot = || Slot { oldest: AtomicU64::new(NEVER), ..Slot::default() };
        Self(Arc::new(Inner {
            shards: std::iter::repeat_with(slot).take(SHARDS).collect(),
            hasher: RandomState::new(),
            options,
            limits,
            store,
            bytes: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            channels: AtomicUsize::new(0),
            latest: AtomicU64::new(0),
            evicting: Mutex::new(()),
            sweep: Mutex::default(),
        }))
    }

    /// Publishes a message. `deliver` is called under the channel's lock after the message was stored, unless
    /// it is a duplicate. A payload that is part of a larger buffer keeps the whole buffer alive. A channel's
    /// time never goes back, even if a later call has an earlier `now`.
    ///
    /// # Errors
    ///
    /// Returns [`HubError`] if the message was not published.
    pub fn publish(
        &self,
        name: &ChannelName,
        message: Message,
        options: PublishOptions<'_>,
        deliver: &mut dyn FnMut(&Published),
    ) -> Result<PublishReceipt, HubError> {
        if let Some(key) = options.key {
            crate::value::validate(key).map_err(HubError::Key)?;
        }
        let (inner, now) = (&*self.0, options.now);
        let most = inner.limits.keys;
        let full = inner.keys.load(Ordering::Relaxed) >= most;
        let room = if full { Err(HubError::TooManyKeys(most)) } else { Ok(()) };
        let store = inner.store.as_ref();
        resume_panic(self.visit_or_create(name, now, |channel, _| {
            channel.publish(message, options, room, store, deliver)
        })?)
    }

    /// Subscribes to a channel. `on_subscribed` receives the replay and the latest position. It runs under
    /// the same lock as later deliveries. Enqueueing the replay there, and messages in `deliver`, therefore
    /// keeps them in order.
    ///
    /// # Errors
    ///
    /// Returns [`HubError`]; `on_subscribed` was not called.
    pub fn subscribe<R>(
        &self,
        name: &ChannelName,
        user: Option<User>,
        after: Option<Position>,
        now: Time,
        on_subscribed: impl FnOnce(Subscribed) -> R,
    ) -> Result<(Subscription, R), HubError> {
        self.subscribe_with_presence(name, user, after, now, |subscribed, _| on_subscribed(subscribed))
    }

    /// Like [`subscribe`](Self::subscribe), and `on_subscribed` can read the members, as
    /// [`presence`](Self::presence) returns them.
    ///
    /// # Errors
    ///
    /// Like [`subscribe`](Self::subscribe).
    pub fn subscribe_with_presence<R>(
        &self,
        name: &ChannelName,
        user: Option<User>,
        after: Option<Position>,
        now: Time,
        on_subscribed: impl FnOnce(Subscribed, &dyn Fn() -> Option<PresenceSnapshot>) -> R,
    ) -> Result<(Subscription, R), HubError> {
        let subscribed_result = self.visit_or_create(name, now, |channel, limits| {
            channel.expire(now);
            let counts = channel
                .has_presence()
                .then(|| channel.presence().map_or_else(Counts::default, |(presence, _)| presence.counts()));
            channel.join(user.as_ref());
            let recovery = channel.recover(after, limits);
            let present = || {
                let (presence, mode) = channel.presence()?;
                Some(PresenceSnapshot { counts: presence.counts(), members: presence.members(mode) })
            };
            on_subscribed(Subscribed { position: channel.position(), recovery, counts }, &present)
        })?;
        // If `on_subscribed` has panicked, dropping this unsubscribes.
        let subscription = Subscription { hub: self.clone(), name: name.clone(), user };
        Ok((subscription, resume_panic(subscribed_result)))
    }

    /// Returns a page of history, from the oldest message or after a position. It has at most `limit`
    /// messages, and no more than [`Limits`] allow.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::Store`].
    pub fn history(
        &self,
        name: &ChannelName,
        after: Option<Position>,
        limit: usize,
        now: Time,
    ) -> Result<Page, HubError> {
        self.page(name, now, after.is_none(), |channel, limits| channel.page(after, limit, limits))
    }

    /// Returns the latest `limit` messages as a page, as far as they are kept. If they exceed a page, the
    /// page has the oldest of them. To continue as a subscriber, subscribe after the last one.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::Store`].
    pub fn latest(&self, name: &ChannelName, limit: usize, now: Time) -> Result<Page, HubError> {
        self.page(name, now, true, |channel, limits| channel.latest(limit, limits))
    }

    /// Reads a page; an empty one if there is no such channel.
    fn page(
        &self,
        name: &ChannelName,
        now: Time,
        recovered: bool,
        read: impl FnOnce(&Channel, &Limits) -> Page,
    ) -> Result<Page, HubError> {
        let page = self.visit(name, IfAbsent::Load, now, |channel, limits| {
            channel.expire(now);
            read(channel, limits)
        })?;
        let none = || Page { messages: Vec::new(), position: None, more: false, recovered };
        Ok(page.map_or_else(none, resume_panic))
    }

    /// Creates a cursor after a position, or after the latest message.
    ///
    /// # Errors
    ///
    /// Returns [`HubError`].
    pub fn cursor(&self, name: &ChannelName, after: Option<Position>, now: Time) -> Result<Cursor, HubError> {
        let visited = self.visit_or_create(name, now, |channel, _| {
            channel.expire(now);
            (channel.position(), channel.watch())
        })?;
        let (position, head) = resume_panic(visited);
        Ok(Cursor::new(self.clone(), name.clone(), after.unwrap_or(position), head))
    }

    /// Returns the members of a channel as last reported, so that the next change continues them. Returns
    /// `None` if there is no such channel, it has no members, or presence is off.
    pub fn presence(&self, name: &ChannelName) -> Option<PresenceSnapshot> {
        self.presence_with(name, |present| present)
    }

    /// Like [`presence`](Self::presence), but `see` runs under the lock under which changes are reported.
    pub fn presence_with<R>(&self, name: &ChannelName, see: impl FnOnce(Option<PresenceSnapshot>) -> R) -> R {
        let mut shard = self.lock(name);
        let present = shard.index(name).and_then(|index| {
            let (presence, mode) = shard.channel(index)?.presence()?;
            Some(PresenceSnapshot { counts: presence.counts(), members: presence.members(mode) })
        });
        see(present)
    }

    /// Returns the bytes of history in memory, as [`Limits::history_memory`] counts them.
    pub fn history_memory(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of channels in memory.
    pub fn channels(&self) -> usize {
        self.0.channels.load(Ordering::Relaxed)
    }

    /// Returns the store, to [sync](Store::sync) it.
    pub fn store(&self) -> Option<&Store> {
        self.0.store.as_ref()
    }

    fn slot(&self, name: &ChannelName) -> &Slot {
        &self.0.shards[self.0.hasher.hash_one(name) as usize % SHARDS]
    }

    fn lock(&self, name: &ChannelName) -> MutexGuard<'_, Shard> {
        lock_unpoisoned(&self.slot(name).shard)
    }

    /// Visits a channel, and creates it if necessary.
    fn visit_or_create<R>(
        &self,
        name: &ChannelName,
        now: Time,
        visit: impl FnOnce(&mut Channel, &Limits) -> R,
    ) -> Result<thread::Result<R>, HubError> {
        let visited = self.visit(name, IfAbsent::Create, now, visit)?;
        // With `Create`, a channel is absent only because the limit is reached.
        visited.ok_or(HubError::TooManyChannels(self.0.limits.channels))
    }

    /// The only access to a channel: finds, loads or creates it, and updates the totals afterwards. A panic
    /// of the visitor is returned after the totals are updated.
    fn visit<R>(
        &self,
        name: &ChannelName,
        if_absent: IfAbsent,
        now: Time,
        visit: impl FnOnce(&mut Channel, &Limits) -> R,
    ) -> Result<Option<thread::Result<R>>, HubError> {
        let inner = &*self.0;
        inner.latest.fetch_max(now.as_millis(), Ordering::Relaxed);
        let slot = self.slot(name);
        let mut shard = lock_unpoisoned(&slot.shard);
        let index = match shard.index(name) {
            Some(index) => index,
            None if if_absent == IfAbsent::Skip => return Ok(None),
            None => {
                let mut channel = Channel::fresh(name.clone(), (inner.options)(name), now);
                let loaded = match &inner.store {
                    Some(store) => channel.load(store, now)?,
                    None => false,
                };
                if !loaded && if_absent != IfAbsent::Create {
                    return Ok(None);
                }
                let most = inner.limits.channels;
                let counted = inner
                    .channels
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1));
                if counted.is_err() {
                    return Err(HubError::TooManyChannels(most));
                }
                let index = shard.insert(channel);
                self.update_accounts(slot, &mut shard, index, Usage::default());
                index
            }
        };
        let Some(channel) = shard.channel(index) else { return Ok(None) };
        let before = channel.usage();
        let mut loaded = Ok(());
        if channel.is_evicted()
            && if_absent != IfAbsent::Skip
            && let Some(store) = &inner.store
        {
            loaded = channel.load(store, now).map(drop);
        }
        channel.used = channel.used.max(now);
        let visited = loaded.map(|()| catch_unwind(AssertUnwindSafe(|| visit(channel, &inner.limits))));
        self.update_accounts(slot, &mut shard, index, before);
        drop(shard);
        self.evict();
        Ok(Some(visited?))
    }

    /// Updates the totals after a channel has changed. `before` is its previous usage.
    fn update_accounts(&self, slot: &Slot, shard: &mut Shard, index: u32, before: Usage) {
        let Some(channel) = shard.channel(index) else { return };
        self.account(before, channel.usage());
        if channel.presence_mut().is_some_and(|(presence, _)| presence.needs_report()) {
            shard.presence_changed(index);
        }
        shard.used(index);
        slot.record_oldest_use(shard);
    }

    fn account(&self, before: Usage, after: Usage) {
        let change = |count: &AtomicUsize, before: usize, after: usize| match after.checked_sub(before) {
            Some(0) => {}
            Some(more) => drop(count.fetch_add(more, Ordering::Relaxed)),
            None => drop(count.fetch_sub(before - after, Ordering::Relaxed)),
        };
        change(&self.0.bytes, before.bytes, after.bytes);
        change(&self.0.keys, before.keys, after.keys);
    }
}

impl Slot {
    fn record_oldest_use(&self, shard: &mut Shard) {
        self.oldest.store(shard.oldest_use().map_or(NEVER, Time::as_millis), Ordering::Relaxed);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("channels", &self.channels())
            .field("history_memory", &self.history_memory())
            .finish_non_exhaustive()
    }
}

/// Locks a mutex even if another thread has panicked: every visit leaves its channel consistent.
fn lock_unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the result of a visitor, or resumes its panic.
fn resume_panic<R>(visited: thread::Result<R>) -> R {
    visited.unwrap_or_else(|panic| resume_unwind(panic))
}
