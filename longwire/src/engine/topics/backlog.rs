//! Slow consumers: the policy of a topic, and the messages that wait for a connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longwire_proto::{Outgoing, SharedFrame};

/// What each message that waits counts besides its payload, in bytes.
const MESSAGE_COST: usize = 128;

/// A policy for slow consumers: how much may wait for a subscriber, and what happens when it is more.
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
    pub(in crate::engine) bytes: usize,
    pub(in crate::engine) age: Option<Duration>,
    pub(in crate::engine) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Then {
    Close,
    DropOldest,
    KeepLatest,
}

impl SlowConsumer {
    /// Closes the connection with 1013 and [`Error::SlowConsumer`](crate::Error::SlowConsumer) if more than `bytes` would
    /// wait for it.
    #[must_use]
    pub const fn close(bytes: usize) -> Self {
        Self { bytes, age: None, then: Then::Close }
    }

    /// Drops the oldest messages, so that no more than `bytes` wait.
    #[must_use]
    pub const fn drop_oldest(bytes: usize) -> Self {
        Self { bytes, age: None, then: Then::DropOldest }
    }

    /// Like [`drop_oldest`](Self::drop_oldest), and keeps only the latest message of each key. It takes the place of the
    /// one before it, if it fits there. Publish with a key by [`Conn::publish_latest`](crate::engine::Conn::publish_latest).
    #[must_use]
    pub const fn keep_latest(bytes: usize) -> Self {
        Self { bytes, age: None, then: Then::KeepLatest }
    }

    /// Sets a maximum age. A message that has waited longer is dropped, or the connection is closed, as the policy says.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

/// The messages that wait for a connection whose socket takes no more, in order.
#[derive(Debug, Default)]
pub(in crate::engine) struct Backlog {
    items: VecDeque<Item>,
    /// The number of the first item. The items behind it are numbered consecutively.
    first: u64,
    /// The numbers of the items with a key, by topic and key.
    keys: HashMap<(Arc<str>, Arc<str>), u64>,
    bytes: usize,
    /// No item is too old before this.
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
pub(in crate::engine) enum Queued {
    /// Sent to this connection.
    Direct(Outgoing<'static>),
    /// Published.
    Published(Published),
}

#[derive(Debug)]
pub(in crate::engine) struct Published {
    pub(in crate::engine) frame: SharedFrame,
    pub(in crate::engine) topic: Arc<str>,
    pub(in crate::engine) key: Option<Arc<str>>,
    pub(in crate::engine) slow: SlowConsumer,
}

/// What was given up to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Evicted {
    pub(in crate::engine) dropped: u64,
    pub(in crate::engine) replaced: u64,
    /// The policy is to close the connection.
    pub(in crate::engine) close: bool,
}

impl Backlog {
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that wait, [`MESSAGE_COST`] included.
    pub(in crate::engine) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::engine) fn push(&mut self, message: Queued, now: Instant) {
        self.put(Item { bytes: MESSAGE_COST + message.size(), message, since: now });
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
    pub(in crate::engine) fn publish(&mut self, published: Published, ahead: usize, now: Instant) -> Evicted {
        let mut evicted = Evicted::default();
        let SlowConsumer { bytes, then, .. } = published.slow;
        let size = MESSAGE_COST + published.frame.payload_len();
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
                // A single message may be larger than the limit: it could never be sent otherwise.
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

    /// Drops the oldest published message of a policy that drops. Messages that were sent to this connection alone stay.
    fn drop_oldest(&mut self) -> bool {
        // Those that stay are few, for `send` returns `Full`: the search is short.
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
            // The items behind it have moved up by one. That walks all keys, but only while messages that were sent
            // directly are in front: otherwise the oldest is the first.
            let number = self.first + at as u64;
            self.keys.values_mut().filter(|other| **other > number).for_each(|other| *other -= 1);
        }
    }

    pub(in crate::engine) fn pop(&mut self) -> Option<Queued> {
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

    /// When an item may be too old.
    pub(in crate::engine) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Drops the items that are too old.
    pub(in crate::engine) fn expire(&mut self, now: Instant) -> Evicted {
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
    /// The key by which a later message finds this one, to take its place.
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

    /// When the item is too old.
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
        let slow = SlowConsumer::close(3 * (MESSAGE_COST + 10));
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
        let slow = SlowConsumer::drop_oldest(3 * (MESSAGE_COST + 1));
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
        let slow = SlowConsumer::keep_latest(4 * (MESSAGE_COST + 2));
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
        let slow = SlowConsumer::keep_latest(3 * (MESSAGE_COST + 2));
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
