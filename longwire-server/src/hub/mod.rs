//! Channels: who publishes what to whom, what is kept of it, and who is there. State without sockets.
//!
//! The hub never waits (but for a [`Store`], in the calls that say so), its time is an argument, and what it hands out
//! goes to callbacks that run under the lock of the channel. So what a subscriber is handed at first, and what is
//! delivered later, is one stream: each message once, in the order of offsets, or it is said that some are lost.
//!
//! **A callback must not call the hub, nor drop a [`Subscription`]**: the lock it runs under is not its own. It hands
//! on, and returns.
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

/// Locks for all channels: so many that threads seldom meet.
const SHARDS: usize = 256;

/// All channels. It clones into further handles of the same.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

/// Tells how a channel behaves, by its name.
type Options = Box<dyn Fn(&str) -> Arc<ChannelOptions> + Send + Sync>;

struct Inner {
    shards: Box<[Slot]>,
    hasher: RandomState,
    options: Options,
    limits: Limits,
    store: Option<Store>,
    /// Bytes of all histories in memory, the number of keys, and of channels.
    bytes: AtomicUsize,
    keys: AtomicUsize,
    channels: AtomicUsize,
    /// The latest time that was heard, in milliseconds.
    latest: AtomicU64,
    /// Held by who cuts histories.
    evicting: Mutex<()>,
    sweep: Mutex<upkeep::Sweep>,
}

#[derive(Default)]
struct Slot {
    shard: Mutex<Shard>,
    /// When its history was used that was used least recently; [`NEVER`] without any.
    oldest: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// How a message is published.
#[derive(Clone, Debug)]
pub struct PublishOptions<'a> {
    /// Who does.
    pub from: Option<User>,
    /// Names the message: published again with the same key, within [`Keys`], it is not delivered again.
    pub key: Option<&'a str>,
    /// The present moment.
    pub now: Time,
}

impl PublishOptions<'_> {
    /// By nobody who is told, without a key.
    pub const fn at(now: Time) -> Self {
        Self { from: None, key: None, now }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishReceipt {
    /// Where it stands.
    pub position: Position,
    /// It was published before with the same key, and stands there.
    pub duplicate: bool,
}

/// What a subscriber is told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Where the channel stands. What is delivered from now on comes directly behind it.
    pub position: Position,
    /// What came before that.
    pub recovery: Recovery,
    /// Who is there, as it was told last; `None` where presence is off.
    pub counts: Option<Counts>,
}

/// What came between the position that a subscriber gave and the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It gave none.
    New,
    /// These, and no other.
    Complete(Vec<Published>),
    /// It cannot be told: some of it is gone or too much, or the position is of another epoch.
    Lost,
}

/// A part of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Messages without a hole, the oldest first.
    pub messages: Vec<Published>,
    /// Where the channel stands; `None` if there is no such channel.
    pub position: Option<Position>,
    /// There are messages behind these.
    pub more: bool,
    /// They continue the position that was given. Otherwise they begin with the oldest that is kept.
    pub recovered: bool,
}

/// Who is in a channel, as it was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// How many.
    pub counts: Counts,
    /// The users, sorted; `None` where they are not listed.
    pub members: Option<Vec<User>>,
}

/// One subscriber of one channel. It leaves when this is dropped, which must not happen within a callback of the hub.
#[derive(Debug)]
#[must_use = "it leaves the channel when it is dropped"]
pub struct Subscription {
    hub: Hub,
    name: ChannelName,
    user: Option<User>,
}

impl Subscription {
    /// The channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.name
    }

    /// Who subscribed.
    pub const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let now = Time::from_millis(self.hub.0.latest.load(Ordering::Relaxed));
        let user = self.user.as_ref();
        // It is there while it has a subscriber, and nothing is read for this.
        let _ = self.hub.visit(&self.name, IfAbsent::Skip, now, |channel, _| channel.leave(user));
    }
}

/// What to do with a channel that is not in memory, or whose history is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfAbsent {
    /// Nothing.
    Skip,
    /// Load it from the store.
    Load,
    /// Make it if it is not there.
    Create,
}

impl Hub {
    /// A hub without a store. `options` is asked once for each channel that comes to be; it must not call the hub.
    pub fn new(
        limits: Limits,
        options: impl Fn(&str) -> Arc<ChannelOptions> + Send + Sync + 'static,
    ) -> Self {
        Self::build(limits, Box::new(options), None)
    }

    /// A hub whose channels with a history are kept in a store. Publishing and loading wait for it.
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

    /// Publishes a message. `deliver` gets it under the lock of the channel, after it was stored, unless it is a
    /// duplicate. A payload that is part of a larger buffer keeps all of that in memory, as long as it is kept. What `now` says, no later call takes back: a channel's time does not go backwards.
    ///
    /// # Errors
    ///
    /// [`HubError`]: then it has no place and was not delivered.
    pub fn publish(
        &self,
        name: &ChannelName,
        message: Message,
        how: PublishOptions<'_>,
        deliver: &mut dyn FnMut(&Published),
    ) -> Result<PublishReceipt, HubError> {
        if let Some(key) = how.key {
            crate::value::validate(key).map_err(HubError::Key)?;
        }
        let (inner, now) = (&*self.0, how.now);
        let most = inner.limits.keys;
        let full = inner.keys.load(Ordering::Relaxed) >= most;
        let room = if full { Err(HubError::TooManyKeys(most)) } else { Ok(()) };
        let store = inner.store.as_ref();
        resume_panic(
            self.visit_or_create(name, now, |channel, _| {
                channel.publish(message, how, room, store, deliver)
            })?,
        )
    }

    /// Subscribes: `on_subscribed` is told what was missed and where the channel stands, under the lock that what is delivered
    /// later is handed on under. So who enqueues the subscription in `on_subscribed`, and messages in `deliver`, has them in order.
    ///
    /// # Errors
    ///
    /// [`HubError`]: then `on_subscribed` was not called.
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

    /// As [`subscribe`](Self::subscribe), and `on_subscribed` may see who is there, as [`presence`](Self::presence) tells it.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
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
        // It leaves, too, if `on_subscribed` has panicked.
        let subscription = Subscription { hub: self.clone(), name: name.clone(), user };
        Ok((subscription, resume_panic(subscribed_result)))
    }

    /// A page of history, from the oldest message or behind a position: at most `limit` messages, and no more than
    /// [`Limits`] allow.
    ///
    /// # Errors
    ///
    /// [`HubError::Store`].
    pub fn history(
        &self,
        name: &ChannelName,
        after: Option<Position>,
        limit: usize,
        now: Time,
    ) -> Result<Page, HubError> {
        self.page(name, now, after.is_none(), |channel, limits| channel.page(after, limit, limits))
    }

    /// The last `limit` messages, as far as they are kept, as a page: of what is more than a page may be, its beginning.
    /// To go on from there as a subscriber, subscribe behind the last of them.
    ///
    /// # Errors
    ///
    /// [`HubError::Store`].
    pub fn latest(&self, name: &ChannelName, limit: usize, now: Time) -> Result<Page, HubError> {
        self.page(name, now, true, |channel, limits| channel.latest(limit, limits))
    }

    /// Reads a page, or one of a channel that there is not.
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

    /// A cursor behind a position, or behind the last message.
    ///
    /// # Errors
    ///
    /// [`HubError`].
    pub fn cursor(&self, name: &ChannelName, after: Option<Position>, now: Time) -> Result<Cursor, HubError> {
        let visited = self.visit_or_create(name, now, |channel, _| {
            channel.expire(now);
            (channel.position(), channel.watch())
        })?;
        let (position, head) = resume_panic(visited);
        Ok(Cursor::new(self.clone(), name.clone(), after.unwrap_or(position), head))
    }

    /// Who is in a channel, as it was told last, so that the next change continues it. `None` where there is no such
    /// channel, nobody in it, or presence is off.
    pub fn presence(&self, name: &ChannelName) -> Option<PresenceSnapshot> {
        self.presence_with(name, |present| present)
    }

    /// As [`presence`](Self::presence), and `see` runs under the lock that changes are told under.
    pub fn presence_with<R>(&self, name: &ChannelName, see: impl FnOnce(Option<PresenceSnapshot>) -> R) -> R {
        let mut shard = self.lock(name);
        let present = shard.index(name).and_then(|index| {
            let (presence, mode) = shard.channel(index)?.presence()?;
            Some(PresenceSnapshot { counts: presence.counts(), members: presence.members(mode) })
        });
        see(present)
    }

    /// Bytes of all histories in memory, as [`Limits::history_memory`] counts them.
    pub fn history_memory(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Channels in memory.
    pub fn channels(&self) -> usize {
        self.0.channels.load(Ordering::Relaxed)
    }

    /// The store, to [sync](Store::sync) it.
    pub fn store(&self) -> Option<&Store> {
        self.0.store.as_ref()
    }

    fn slot(&self, name: &ChannelName) -> &Slot {
        &self.0.shards[self.0.hasher.hash_one(name) as usize % SHARDS]
    }

    fn lock(&self, name: &ChannelName) -> MutexGuard<'_, Shard> {
        lock_unpoisoned(&self.slot(name).shard)
    }

    /// Visits a channel, which is made if need be.
    fn visit_or_create<R>(
        &self,
        name: &ChannelName,
        now: Time,
        visit: impl FnOnce(&mut Channel, &Limits) -> R,
    ) -> Result<thread::Result<R>, HubError> {
        let visited = self.visit(name, IfAbsent::Create, now, visit)?;
        // It is there, or the visit was refused.
        visited.ok_or(HubError::TooManyChannels(self.0.limits.channels))
    }

    /// The one way to a channel: finds, loads or makes it, and keeps the accounts of what the visit has changed.
    /// A panic of the visitor is handed over when they are settled.
    fn visit<R>(
        &self,
        name: &ChannelName,
        how: IfAbsent,
        now: Time,
        visit: impl FnOnce(&mut Channel, &Limits) -> R,
    ) -> Result<Option<thread::Result<R>>, HubError> {
        let inner = &*self.0;
        inner.latest.fetch_max(now.as_millis(), Ordering::Relaxed);
        let slot = self.slot(name);
        let mut shard = lock_unpoisoned(&slot.shard);
        let index = match shard.index(name) {
            Some(index) => index,
            None if how == IfAbsent::Skip => return Ok(None),
            None => {
                let mut channel = Channel::fresh(name.clone(), (inner.options)(name), now);
                let loaded = match &inner.store {
                    Some(store) => channel.load(store, now)?,
                    None => false,
                };
                if !loaded && how != IfAbsent::Create {
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
            && how != IfAbsent::Skip
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

    /// Keeps the accounts after a channel has changed, which weighed `before`.
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

/// A lock that no panic of another thread takes away: every visit leaves its channel whole.
fn lock_unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a visitor has returned; goes on with its panic.
fn resume_panic<R>(visited: thread::Result<R>) -> R {
    visited.unwrap_or_else(|panic| resume_unwind(panic))
}
