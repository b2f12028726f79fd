//! Usage by address or user. The number of entries is bounded, and idle entries are removed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Bucket, LimitExceeded, Resource, Scope, SharedRules};

/// Entries that are checked for each new one, so that removal keeps up with insertion.
const SWEPT_PER_INSERT: usize = 4;

/// The retry delay if it depends on other clients.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Usage by key. Without limits, nothing is stored.
pub(super) struct Table<K> {
    rules: Option<SharedRules>,
    max: usize,
    entries: Mutex<Entries<K>>,
}

struct Entries<K> {
    by_key: HashMap<K, Arc<Entry>>,
    /// Each key once, in the order in which the entries are checked.
    keys: Vec<K>,
    next: usize,
}

#[derive(Debug)]
struct Entry {
    rules: SharedRules,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    connections: u32,
    connects: Bucket,
    messages: Bucket,
    bytes: Bucket,
}

/// The permit of one connection in an entry.
#[derive(Debug)]
pub(super) struct EntryPermit(Arc<Entry>);

impl<K: Clone + Eq + Hash> Table<K> {
    pub(super) fn new(rules: SharedRules, max: usize) -> Self {
        let entries = Entries { by_key: HashMap::new(), keys: Vec::new(), next: 0 };
        Self { rules: (rules != SharedRules::default()).then_some(rules), max, entries: Mutex::new(entries) }
    }

    /// Counts another connection of this key.
    pub(super) fn acquire(&self, key: K, now: Instant) -> Result<Option<EntryPermit>, LimitExceeded> {
        let Some(rules) = self.rules else { return Ok(None) };
        // Holds the lock until the connection is counted, so that the entry is not removed in between.
        let mut entries = lock(&self.entries);
        let entry = match entries.by_key.get(&key) {
            Some(entry) => entry.clone(),
            None => entries.add(key, rules, self.max, now)?,
        };
        entry.acquire(now)?;
        Ok(Some(EntryPermit(entry)))
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.entries).by_key.len()
    }
}

impl<K: Clone + Eq + Hash> Entries<K> {
    fn add(
        &mut self,
        key: K,
        rules: SharedRules,
        max: usize,
        now: Instant,
    ) -> Result<Arc<Entry>, LimitExceeded> {
        for _ in 0..SWEPT_PER_INSERT {
            self.sweep(|entry| entry.is_idle(now));
        }
        // The table is full of active entries. Removing one without a connection resets its rates. Fewer
        // addresses than entries gain nothing by this. The search is bounded, so that an attack stays cheap.
        for _ in 0..self.keys.len().min(64) {
            if self.keys.len() < max || self.sweep(|entry| lock(&entry.used).connections == 0) {
                break;
            }
        }
        if self.keys.len() >= max {
            return Err(limited(Resource::TooManyClients, RETRY_AFTER));
        }
        let new = || Bucket::new(now);
        let used = Used { connections: 0, connects: new(), messages: new(), bytes: new() };
        let entry = Arc::new(Entry { rules, used: Mutex::new(used) });
        self.keys.push(key.clone());
        self.by_key.insert(key, entry.clone());
        Ok(entry)
    }

    /// Checks the next entry, and removes it if possible. Returns whether it was removed.
    fn sweep(&mut self, can_remove: impl Fn(&Entry) -> bool) -> bool {
        if self.next >= self.keys.len() {
            self.next = 0;
        }
        let Some(key) = self.keys.get(self.next) else { return false };
        if self.by_key.get(key).is_some_and(|entry| !can_remove(entry)) {
            self.next += 1;
            return false;
        }
        let key = self.keys.swap_remove(self.next);
        self.by_key.remove(&key);
        true
    }
}

impl Entry {
    fn acquire(&self, now: Instant) -> Result<(), LimitExceeded> {
        let mut used = lock(&self.used);
        if self.rules.connections > 0 && used.connections >= self.rules.connections {
            return Err(limited(Resource::Connections, RETRY_AFTER));
        }
        take(&mut used.connects, self.rules.connects, 1, now, Resource::Connects)?;
        used.connections += 1;
        Ok(())
    }

    fn is_idle(&self, now: Instant) -> bool {
        let used = lock(&self.used);
        let idle = |bucket: &Bucket, rate: Option<_>| rate.is_none_or(|rate| bucket.is_idle(&rate, now));
        used.connections == 0
            && idle(&used.connects, self.rules.connects)
            && idle(&used.messages, self.rules.messages)
            && idle(&used.bytes, self.rules.bytes)
    }
}

impl EntryPermit {
    pub(super) fn message(&self, bytes: u64, now: Instant) -> Result<(), LimitExceeded> {
        let Entry { rules, used } = &*self.0;
        if rules.messages.is_none() && rules.bytes.is_none() {
            return Ok(());
        }
        let mut used = lock(used);
        take(&mut used.messages, rules.messages, 1, now, Resource::Messages)?;
        take(&mut used.bytes, rules.bytes, bytes, now, Resource::Bytes)
    }
}

impl Drop for EntryPermit {
    fn drop(&mut self) {
        lock(&self.0.used).connections -= 1;
    }
}

fn take(
    bucket: &mut Bucket,
    rate: Option<super::Rate>,
    amount: u64,
    now: Instant,
    resource: Resource,
) -> Result<(), LimitExceeded> {
    match rate {
        Some(rate) => bucket.take(&rate, amount, now).map_err(|wait| limited(resource, wait)),
        None => Ok(()),
    }
}

/// The caller sets the scope.
fn limited(resource: Resource, wait: Duration) -> LimitExceeded {
    LimitExceeded { scope: Scope::Address, resource, wait }
}

/// No code panics while it holds this lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Rate;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn idle_entries_are_removed() {
        let rules = SharedRules { connects: Some(Rate::per_second(1)), ..SharedRules::default() };
        let (table, start) = (Table::new(rules, 1000), Instant::now());
        for key in 0..100 {
            drop(table.acquire(key, start));
        }
        assert_eq!(table.len(), 100);
        // Two of them are active, one without a connection.
        let kept = table.acquire(7, start + SECOND * 2).expect("a place");
        drop(table.acquire(8, start + SECOND * 2));
        for key in 1000..1100 {
            drop(table.acquire(key, start + SECOND * 2));
        }
        assert_eq!(table.len(), 102);
        assert!(table.acquire(8, start + SECOND * 2).is_err(), "it is remembered");
        drop(kept);
    }

    #[test]
    fn the_table_is_bounded() {
        let rules = SharedRules {
            connections: 1,
            connects: Some("1/h".parse().expect("a rate")),
            ..SharedRules::default()
        };
        let (table, now) = (Table::new(rules, 3), Instant::now());
        let places: Vec<_> = (0..3).map(|key| table.acquire(key, now).expect("a place")).collect();
        // All of them have a connection.
        assert_eq!(table.acquire(3, now).expect_err("full").resource, Resource::TooManyClients);
        drop(places);
        // All are active, but one without a connection can be removed.
        let place = table.acquire(3, now).expect("a place");
        assert_eq!(table.len(), 3);
        drop(place);
        for key in 4..10_000 {
            drop(table.acquire(key, now).expect("a place"));
            assert_eq!(table.len(), 3);
        }
    }

    #[test]
    fn connections_are_counted_across_threads() {
        let rules = SharedRules { connections: 50, ..SharedRules::default() };
        let (table, now) = (Table::new(rules, 1000), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let _places: Vec<_> =
                            (0..12).map(|_| table.acquire("one", now).expect("48 at most")).collect();
                        drop(table.acquire("other", now + SECOND * round));
                    }
                });
            }
        });
        let places: Vec<_> =
            (0..50).map(|_| table.acquire("one", now).expect("all are free again")).collect();
        assert!(table.acquire("one", now).is_err());
        drop(places);
    }
}
