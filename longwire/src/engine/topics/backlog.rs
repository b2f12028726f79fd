//! What becomes of those who read more slowly than others publish.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longwire_proto::{Outgoing, SharedFrame};

/// What each message that waits costs besides its payload, in bytes.
const ITEM: usize = 128;

/// How far a connection may be behind what is published to it, and what becomes of it then.
///
/// ```
/// use std::time::Duration;
/// use longwire::engine::SlowConsumer;
///
/// let chat = SlowConsumer::close(1024 * 1024);
/// let quotes = SlowConsumer::keep_latest(64 * 1024).max_age(Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowConsumer {
    pub(crate) bytes: usize,
    pub(crate) age: Option<Duration>,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    DropOldest,
    KeepLatest,
}

impl SlowConsumer {
    /// Closes the connection with 1008 and [`Error::SlowConsumer`](crate::Error::SlowConsumer) when more
    /// than `bytes` wait for it.
    #[must_use]
    pub const fn close(bytes: usize) -> Self {
        Self { bytes, age: None, then: Then::Close }
    }

    /// Drops the oldest messages that wait, so that no more than `bytes` do.
    #[must_use]
    pub const fn drop_oldest(bytes: usize) -> Self {
        Self { bytes, age: None, then: Then::DropOldest }
    }

    /// As [`drop_oldest`](Self::drop_oldest); and of those that were published with a key only the latest
    /// of each key waits, in the place of the one before it if it fits there.
    #[must_use]
    pub const fn keep_latest(bytes: usize) -> Self {
        Self { bytes, age: None, then: Then::KeepLatest }
    }

    /// What has waited for this long is too old: it is dropped, or the connection closed.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

/// What a connection that takes nothing waits for, in order.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    items: VecDeque<Item>,
    /// The number of the first item; numbers rise.
    first: u64,
    /// The number of the item of each key, by topic and key.
    keys: HashMap<(Arc<str>, Arc<str>), u64>,
    bytes: usize,
    /// Nothing is too old before this.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Item {
    message: Queued,
    bytes: usize,
    since: Instant,
}

/// A message that waits.
#[derive(Debug)]
pub(crate) enum Queued {
    /// Sent to this connection.
    Direct(Outgoing<'static>),
    /// Published.
    Published(Published),
}

#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) frame: SharedFrame,
    pub(crate) topic: Arc<str>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) slow: SlowConsumer,
}

/// What was done to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evicted {
    pub(crate) dropped: u64,
    pub(crate) replaced: u64,
    /// There is none: the connection is to be closed.
    pub(crate) close: bool,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that wait, and what the messages cost besides.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, message: Queued, now: Instant) {
        self.put(Item { bytes: ITEM + message.size(), message, since: now });
    }

    fn put(&mut self, item: Item) {
        if let Some(key) = item.key() {
            self.keys.insert(key, self.first + self.items.len() as u64);
        }
        self.bytes += item.bytes;
        self.due = self.due.into_iter().chain(item.due()).min();
        self.items.push_back(item);
    }

    /// Adds a published message by the policy of its topic. `ahead` are the bytes that wait in front of it.
    pub(crate) fn publish(&mut self, published: Published, ahead: usize, now: Instant) -> Evicted {
        let mut evicted = Evicted::default();
        let SlowConsumer { bytes, then, .. } = published.slow;
        let size = ITEM + published.frame.payload_len();
        let item = Item { message: Queued::Published(published), bytes: size, since: now };
        if let Some(number) = item.key().and_then(|key| self.keys.get(&key))
            && let at = (number - self.first) as usize
            && let Some(before) = self.items.get_mut(at)
        {
            evicted.replaced = 1;
            if size <= before.bytes || ahead + self.bytes - before.bytes + size <= bytes {
                self.bytes = self.bytes - before.bytes + size;
                *before = item;
                return evicted;
            }
            self.remove(at);
        }
        if ahead + self.bytes + size > bytes {
            if then == Then::Close {
                // One message may be larger than all that may wait.
                evicted.close = ahead + self.bytes > 0;
                if evicted.close {
                    return evicted;
                }
            }
            while ahead + self.bytes + size > bytes && self.drop_oldest() {
                evicted.dropped += 1;
            }
        }
        self.put(item);
        evicted
    }

    /// Drops the oldest published message that may be; those that were sent to this connection alone stay.
    fn drop_oldest(&mut self) -> bool {
        // They are few: who sends is told when there is no room.
        let droppable = |item: &Item| match &item.message {
            Queued::Published(published) => published.slow.then != Then::Close,
            _ => false,
        };
        let Some(at) = self.items.iter().position(droppable) else { return false };
        self.remove(at);
        true
    }

    fn remove(&mut self, at: usize) {
        if at == 0 {
            self.pop();
        } else if let Some(item) = self.items.remove(at) {
            self.forget(&item);
            // The numbers behind it are one less now.
            let number = self.first + at as u64;
            self.keys.values_mut().filter(|other| **other > number).for_each(|other| *other -= 1);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let item = self.items.pop_front()?;
        self.forget(&item);
        self.first += 1;
        if self.items.is_empty() {
            *self = Self { first: self.first, ..Self::default() };
        }
        Some(item.message)
    }

    fn forget(&mut self, item: &Item) {
        self.bytes -= item.bytes;
        if let Some(key) = item.key() {
            self.keys.remove(&key);
        }
    }

    /// When something may be too old.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Drops what is too old.
    pub(crate) fn expire(&mut self, now: Instant) -> Evicted {
        let mut evicted = Evicted::default();
        if self.due.is_none_or(|due| now < due) {
            return evicted;
        }
        for item in std::mem::take(self).items {
            match &item.message {
                Queued::Published(published) if item.due().is_some_and(|due| now >= due) => {
                    evicted.close |= published.slow.then == Then::Close;
                    evicted.dropped += u64::from(published.slow.then != Then::Close);
                }
                _ => self.put(item),
            }
        }
        evicted
    }
}

impl Item {
    /// By what a later one finds it, to take its place.
    fn key(&self) -> Option<(Arc<str>, Arc<str>)> {
        match &self.message {
            Queued::Published(Published { topic, key: Some(key), slow, .. })
                if slow.then == Then::KeepLatest =>
            {
                Some((Arc::clone(topic), Arc::clone(key)))
            }
            _ => None,
        }
    }

    /// When it is too old.
    fn due(&self) -> Option<Instant> {
        match &self.message {
            Queued::Published(published) => self.since.checked_add(published.slow.age?),
            _ => None,
        }
    }
}

impl Queued {
    fn size(&self) -> usize {
        match self {
            Self::Direct(message) => message.len(),
            Self::Published(published) => published.frame.payload_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str, key: Option<&str>, slow: SlowConsumer) -> Published {
        Published { frame: SharedFrame::new(text), topic: "七".into(), key: key.map(Into::into), slow }
    }

    fn texts(backlog: &mut Backlog) -> Vec<String> {
        let text = |what| match what {
            Queued::Direct(message) => message.into_message().to_string(),
            Queued::Published(Published { frame, .. }) => frame.message().as_text().unwrap().to_owned(),
        };
        let all = std::iter::from_fn(|| backlog.pop().map(text)).collect();
        assert_eq!(backlog.bytes(), 0);
        assert!(backlog.keys.is_empty());
        all
    }

    #[test]
    fn who_is_too_far_behind_is_closed_and_not_before() {
        let now = Instant::now();
        let slow = SlowConsumer::close(3 * (ITEM + 10));
        let mut backlog = Backlog::default();
        for _ in 0..3 {
            assert_eq!(backlog.publish(published("0123456789", None, slow), 0, now), Evicted::default());
        }
        assert!(backlog.publish(published("", None, slow), 0, now).close);
        assert_eq!(texts(&mut backlog).len(), 3);
        let large = "x".repeat(1000);
        assert!(!backlog.publish(published(&large, None, slow), 0, now).close, "one may be larger than all");
        assert!(Backlog::default().publish(published(&large, None, slow), 1, now).close);
    }

    #[test]
    fn the_oldest_are_dropped_and_those_that_were_sent_to_one_stay() {
        let now = Instant::now();
        let slow = SlowConsumer::drop_oldest(3 * (ITEM + 1));
        let mut backlog = Backlog::default();
        backlog.push(Queued::Direct("d".into()), now);
        let mut dropped = 0;
        for text in ["1", "2", "3", "4", "5"] {
            dropped += backlog.publish(published(text, None, slow), 0, now).dropped;
        }
        assert_eq!(dropped, 3);
        assert_eq!(texts(&mut backlog), ["d", "4", "5"]);
    }

    #[test]
    fn the_latest_of_a_key_takes_the_place_of_the_one_before() {
        let now = Instant::now();
        let slow = SlowConsumer::keep_latest(4 * (ITEM + 2));
        let mut backlog = Backlog::default();
        backlog.push(Queued::Direct(SharedFrame::new("d").into()), now);
        let mut sum = Evicted::default();
        for (text, key) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("b2", "b"), ("e1", "e")] {
            let evicted = backlog.publish(published(text, Some(key), slow), 0, now);
            sum = Evicted {
                dropped: sum.dropped + evicted.dropped,
                replaced: sum.replaced + evicted.replaced,
                ..sum
            };
        }
        // `a` made room for `e`, in the middle of the queue: the numbers behind it still hold.
        assert_eq!(sum, Evicted { dropped: 1, replaced: 2, close: false });
        assert_eq!(backlog.publish(published("c2", Some("c"), slow), 0, now).replaced, 1);
        assert_eq!(backlog.publish(published("x", None, slow), 0, now).dropped, 1);
        assert_eq!(texts(&mut backlog), ["d", "c2", "e1", "x"]);
    }

    #[test]
    fn what_is_too_old_is_dropped_or_closes() {
        let now = Instant::now();
        let slow = SlowConsumer::drop_oldest(10_000).max_age(Duration::from_secs(5));
        let mut backlog = Backlog::default();
        backlog.publish(published("1", None, slow), 0, now);
        backlog.publish(published("2", None, slow), 0, now + Duration::from_secs(3));
        assert_eq!(backlog.due(), Some(now + Duration::from_secs(5)));
        assert_eq!(backlog.expire(now + Duration::from_secs(4)), Evicted::default());
        assert_eq!(backlog.expire(now + Duration::from_secs(5)).dropped, 1);
        assert_eq!(texts(&mut backlog), ["2"]);
        let slow = SlowConsumer::close(10_000).max_age(Duration::from_secs(5));
        backlog.publish(published("3", None, slow), 0, now);
        assert!(backlog.expire(now + Duration::from_secs(5)).close);
    }

    #[test]
    fn a_key_is_a_topics_own() {
        let now = Instant::now();
        let slow = SlowConsumer::keep_latest(10_000);
        let mut backlog = Backlog::default();
        backlog.publish(published("1", Some("a"), slow), 0, now);
        let other = Published { topic: "八".into(), ..published("2", Some("a"), slow) };
        assert_eq!(backlog.publish(other, 0, now).replaced, 0);
        assert_eq!(backlog.publish(published("3", Some("a"), slow), 0, now).replaced, 1);
        assert_eq!(texts(&mut backlog), ["3", "2"]);
    }

    #[test]
    fn what_stands_in_front_keeps_nothing_young() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut backlog = Backlog::default();
        backlog.push(Queued::Direct("d".into()), now);
        let latest = SlowConsumer::keep_latest(10_000).max_age(5 * second);
        for (at, text) in [(0, "a1"), (4, "a2")] {
            backlog.publish(published(text, Some("a"), latest), 0, now + at * second);
        }
        backlog.publish(published("1", None, latest), 0, now + second);
        backlog.publish(published("b1", Some("b"), latest), 0, now + 2 * second);
        assert_eq!(backlog.expire(now + 5 * second), Evicted::default(), "a2 is young");
        assert_eq!(backlog.expire(now + 6 * second).dropped, 1);
        assert_eq!(backlog.publish(published("b2", Some("b"), latest), 0, now + 6 * second).replaced, 1);
        assert_eq!(texts(&mut backlog), ["d", "a2", "b2"]);
    }

    #[test]
    fn a_later_one_that_is_larger_keeps_the_bound() {
        let now = Instant::now();
        let slow = SlowConsumer::keep_latest(3 * (ITEM + 2));
        let mut backlog = Backlog::default();
        for (text, key) in [("a1", "a"), ("b1", "b"), ("c1", "c")] {
            backlog.publish(published(text, Some(key), slow), 0, now);
        }
        let evicted = backlog.publish(published(&"b".repeat(50), Some("b"), slow), 0, now);
        assert_eq!(evicted, Evicted { dropped: 1, replaced: 1, close: false });
        assert!(backlog.bytes() <= slow.bytes);
        assert_eq!(backlog.publish(published("b3", Some("b"), slow), 0, now).replaced, 1);
        assert_eq!(texts(&mut backlog), ["c1", "b3"]);
    }
}
