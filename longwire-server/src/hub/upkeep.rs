//! Periodic work: reporting presence, dropping expired state, and evicting histories above the limit.

use std::ops::Range;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::channel::{Channel, Usage};
use super::{Hub, HubError, NEVER, PresenceChange, SHARDS, Slot, lock_unpoisoned};
use crate::value::{ChannelName, Time};

/// Every channel is checked once in this time.
const ROUND: Duration = Duration::from_secs(30);

/// Number of store files that are checked per tick.
const FILES: usize = 32;

/// Number of channels that are checked while a shard is locked. They may also be removed from the store.
const PORTION: usize = 64;

/// How far the check of all channels has come.
#[derive(Default)]
pub(super) struct Sweep {
    next: usize,
    last: Option<Time>,
}

impl Hub {
    /// Reports presence changes that were collected for [`Limits::presence_interval`], one report per
    /// channel. Call it several times per interval. `report` runs under the lock of the channel.
    ///
    /// [`Limits::presence_interval`]: super::Limits::presence_interval
    pub fn take_presence_changes(&self, now: Time, report: &mut dyn FnMut(&ChannelName, PresenceChange)) {
        for slot in &self.0.shards {
            lock_unpoisoned(&slot.shard).take_presence_changes(now, self.0.limits.presence_interval, report);
        }
    }

    /// Drops expired state and unused channels. Call it about ten times a second. Each call checks a share of
    /// the channels, so that all are checked within half a minute, and some files of the store.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::Store`] with the first file that could not be removed. All other work was done.
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
                // It exists only in memory.
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

    /// Removes expired channels from the store that are not in memory.
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
            // File times come from another clock, which may have been changed, so the file is read. A corrupt
            // file is reported when its channel is used.
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

    /// Evicts the least recently used histories while the total exceeds the limit. It goes a little below the
    /// limit, so that it does not run for each message.
    pub(super) fn evict(&self) {
        let (bytes, budget) = (&self.0.bytes, self.0.limits.history_memory);
        if bytes.load(Ordering::Relaxed) <= budget {
            return;
        }
        // One thread does this for all.
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
