//! Options of channels, and limits over all channels.

use std::time::Duration;

/// Options of a channel. They are read when its state is created, and do not change afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// How much history is kept.
    pub history: History,
    /// What subscribers learn about other subscribers.
    pub presence: Presence,
    /// How many idempotency keys are kept.
    pub keys: Keys,
}

impl Default for ChannelOptions {
    /// 100 messages, 1 MiB, 5 minutes; up to 1,000 listed members; 1,000 keys for 2 minutes.
    fn default() -> Self {
        Self {
            history: History { messages: 100, bytes: 1 << 20, age: Duration::from_secs(300) },
            presence: Presence::Members(1000),
            keys: Keys { count: 1000, window: Duration::from_secs(120) },
        }
    }
}

/// Limits of the history. The latest messages within all three limits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Number of messages. With 0, nothing is kept or stored, and the channel's epoch ends with the process.
    pub messages: usize,
    /// Bytes of payload. A larger message is delivered, but leaves an empty history.
    pub bytes: usize,
    /// Maximum age. Zero keeps no messages.
    pub age: Duration,
}

impl History {
    /// No history.
    pub const OFF: Self = Self { messages: 0, bytes: 0, age: Duration::ZERO };

    /// Returns the larger value of each limit.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            messages: self.messages.max(other.messages),
            bytes: self.bytes.max(other.bytes),
            age: self.age.max(other.age),
        }
    }
}

/// While a channel has cursors, it keeps at least this much, and the latest message of any size. Cursors then
/// find the messages that arrive between two reads.
pub const CURSOR_BACKLOG: History = History { messages: 128, bytes: 256 << 10, age: Duration::from_secs(30) };

/// What subscribers learn about other subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Off,
    /// The number of connections and users.
    Counts,
    /// Also joins and leaves by name, up to this number of users.
    Members(usize),
}

/// Limits of the idempotency keys of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Number of keys; a new key replaces the oldest.
    pub count: usize,
    /// Maximum age.
    pub window: Duration,
}

/// Limits over all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of history in memory; each message counts [`MESSAGE_COST`] in addition to its payload. Above
    /// this limit, the least recently used histories are evicted. They are lost, or loaded from the store
    /// when needed.
    pub history_memory: usize,
    /// Number of idempotency keys in memory. At this limit, messages with a new key are rejected.
    pub keys: usize,
    /// Number of messages in a replay or page.
    pub replay_messages: usize,
    /// Bytes of payload in a replay or page. A page, but not a replay, may contain a single larger message.
    pub replay_bytes: usize,
    /// Number of channels in memory.
    pub channels: usize,
    /// How long joins and leaves are collected before they are reported.
    pub presence_interval: Duration,
    /// How long an unused channel without history is kept.
    pub linger: Duration,
}

impl Default for Limits {
    /// 256 MiB; 1,000,000 keys; replays of 1,000 messages and 4 MiB; 2,000,000 channels; a second; a minute.
    fn default() -> Self {
        Self {
            history_memory: 256 << 20,
            keys: 1_000_000,
            replay_messages: 1000,
            replay_bytes: 4 << 20,
            channels: 2_000_000,
            presence_interval: Duration::from_secs(1),
            linger: Duration::from_secs(60),
        }
    }
}

/// Bytes that a message in a history counts in addition to its payload.
pub const MESSAGE_COST: usize = 128;
