//! What is done now and then: presence is told of, what has expired is dropped, histories beyond the budget are cut.

use std::ops::Range;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::channel::{Channel, Usage};
use super::{Hub, HubError, NEVER, PresenceChange, SHARDS, Slot, lock_unpoisoned};
use crate::value::{ChannelName, Time};

/// In so long every channel is looked at once.
const ROUND: Duration = Duration::from_secs(30);

/// Files of the store that are looked at in one tick.
const FILES: usize = 32;

/// Channels that are looked at, and removed from the store, while their shard is locked.
const PORTION: usize = 64;

/// Where looking at the channels has come to.
#[derive(Default)]
pub(super) struct Sweep {
    next: usize,
    last: Option<Time>,
}

impl Hub {
    /// Tells of the changes of presence that were gathered for [`Limits::presence_interval`], each of a channel as one.
    /// Call it a few times in every such interval. `report` runs under the lock of the channel.
    ///
    /// [`Limits::presence_interval`]: super::Limits::presence_interval
    pub fn take_presence_changes(&self, now: Time, report: &mut dyn FnMut(&ChannelName, PresenceChange)) {
        for slot in &self.0.shards {
            lock_unpoisoned(&slot.shard).take_presence_changes(now, self.0.limits.presence_interval, report);
        }
    }

    /// Drops what has expired, and channels that nobody uses and that keep nothing. Call it some ten times a second:
    /// each call looks at as many channels as it takes to see all of them in half a minute, and at some files of the store.
    ///
    /// # Errors
    ///
    /// [`HubError::Store`] with the first failure to remove a file; everything else was done.
    pub fn tick(&self, now: Time) -> Result<(), HubError> {
        self.0.latest.fetch_max(now.as_millis(), Ordering::Relaxed);
        let mut sweep = lock_unpoisoned(&self.0.sweep);
        let passed = now.as_millis().saturating_sub(sweep.last.unwrap_or(now).as_millis());
        sweep.last = Some(now);
        let share = u128::from(passed) * SHARDS as u128 / ROUND.as_millis();
        let count = usize::try_from(share).unwrap_or(SHARDS).clamp(1, SHARDS);
        let mut done = Ok(());
        for _ in 0..count {
            sweep.next = (sweep.next + 1) % SHARDS;
            done = done.and(self.sweep(&self.0.shards[sweep.next], now));
        }
        drop(sweep);
        done.and(self.sweep_store(now))
    }

    fn sweep(&self, slot: &Slot, now: Time) -> Result<(), HubError> {
        let indices = lock_unpoisoned(&slot.shard).indices();
        let mut done = Ok(());
        for first in indices.clone().step_by(PORTION) {
            let end = indices.end.min(first + PORTION as u32);
            done = done.and(self.sweep_portion(slot, first..end, now));
        }
        done
    }

    fn sweep_portion(&self, slot: &Slot, indices: Range<u32>, now: Time) -> Result<(), HubError> {
        let mut shard = lock_unpoisoned(&slot.shard);
        let mut done = Ok(());
        for index in indices {
            let Some(channel) = shard.channel(index) else { continue };
            let before = channel.usage();
            channel.expire(now);
            let after = channel.usage();
            self.account(before, after);
            let unused = channel.used.after(self.0.limits.linger) <= now;
            if unused {
                channel.release_resources();
            }
            let idle = unused && channel.is_idle();
            if before.bytes > 0 && after.bytes == 0 {
                shard.used(index);
            }
            let Some(channel) = shard.channel(index).filter(|_| idle) else { continue };
            let (nothing, stored) = (channel.keeps_nothing(), channel.has_log());
            if !nothing && !stored {
                // It is kept here only.
                continue;
            }
            if nothing
                && stored
                && let Some(store) = &self.0.store
                && let Err(error) = store.remove(&channel.name)
            {
                done = done.and(Err(error.into()));
                continue;
            }
            self.account(after, Usage::default());
            self.0.channels.fetch_sub(1, Ordering::Relaxed);
            shard.remove(index);
        }
        slot.record_oldest_use(&mut shard);
        done
    }

    /// Removes channels from the store that are not in memory, and of which nothing is wanted.
    fn sweep_store(&self, now: Time) -> Result<(), HubError> {
        let Some(store) = &self.0.store else { return Ok(()) };
        let mut done = Ok(());
        store.sweep(FILES, &mut |name, written| {
            let options = (self.0.options)(&name);
            let wanted = options.history.age.max(options.keys.window).max(self.0.limits.linger);
            if written.after(wanted) > now {
                return;
            }
            let shard = self.lock(&name);
            if shard.index(&name).is_some() {
                return;
            }
            // The times of files are another clock's, which may have been set; so it is looked into. What is wrong with
            // a file is said when its channel is asked for.
            let mut channel = Channel::fresh(name, options, now);
            let done_with = match channel.load(store, now) {
                Ok(_) => channel.keeps_nothing(),
                Err(_) => false,
            };
            if done_with
                && let Err(error) = store.remove(&channel.name)
                && done.is_ok()
            {
                done = Err(HubError::from(error));
            }
        })?;
        done
    }

    /// Cuts the histories that were used least recently while all together are beyond the budget, and a little more, so
    /// that it is not done for each message.
    pub(super) fn evict(&self) {
        let (bytes, budget) = (&self.0.bytes, self.0.limits.history_memory);
        if bytes.load(Ordering::Relaxed) <= budget {
            return;
        }
        // One thread does it for all.
        let evicting = match self.0.evicting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        while bytes.load(Ordering::Relaxed) > budget - budget / 64 {
            let oldest = self.0.shards.iter().min_by_key(|slot| slot.oldest.load(Ordering::Relaxed));
            let Some(slot) = oldest.filter(|slot| slot.oldest.load(Ordering::Relaxed) != NEVER) else {
                break;
            };
            let mut shard = lock_unpoisoned(&slot.shard);
            bytes.fetch_sub(shard.evict_oldest(), Ordering::Relaxed);
            slot.record_oldest_use(&mut shard);
        }
        drop(evicting);
    }
}
