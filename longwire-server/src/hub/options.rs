//! What a channel keeps and tells, and the bounds over all channels.

use std::time::Duration;

/// How a channel behaves. It is asked for when the channel's state is made, and stays while that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// What is kept of its messages.
    pub history: History,
    /// What is told of who is there.
    pub presence: Presence,
    /// How idempotency keys are remembered.
    pub keys: Keys,
}

impl Default for ChannelOptions {
    /// 100 messages, 1 MiB, 5 minutes; up to 1,000 members are told of; 1,000 keys are remembered for 2 minutes.
    fn default() -> Self {
        Self {
            history: History { messages: 100, bytes: 1 << 20, age: Duration::from_secs(300) },
            presence: Presence::Members(1000),
            keys: Keys { count: 1000, window: Duration::from_secs(120) },
        }
    }
}

/// The latest messages that keep within all three bounds are kept, without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// How many. With 0 nothing is kept, nor stored: the channel's epoch ends with the process.
    pub messages: usize,
    /// Bytes of payload. A message that has more is delivered, and the history empty behind it.
    pub bytes: usize,
    /// How long. Zero is the same as no messages.
    pub age: Duration,
}

impl History {
    /// Nothing is kept.
    pub const OFF: Self = Self { messages: 0, bytes: 0, age: Duration::ZERO };

    /// The wider of each bound.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            messages: self.messages.max(other.messages),
            bytes: self.bytes.max(other.bytes),
            age: self.age.max(other.age),
        }
    }
}

/// While a channel has cursors at least so much is kept, so that they find what comes between two reads; and the latest
/// message, however large.
pub const CURSOR_BACKLOG: History = History { messages: 128, bytes: 256 << 10, age: Duration::from_secs(30) };

/// What is told of who is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Off,
    /// How many connections and users.
    Counts,
    /// Who joins and leaves as well, while there are at most so many users.
    Members(usize),
}

/// How idempotency keys are remembered, by each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// How many: the oldest is forgotten for a new one.
    pub count: usize,
    /// How long.
    pub window: Duration,
}

/// Bounds over all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all histories in memory, each message counted with [`MESSAGE_COST`] besides its payload. Beyond it the
    /// histories that were used least recently are cut: lost, or read from the store when they are asked for again.
    pub history_memory: usize,
    /// Idempotency keys in memory. While there are so many, a message with a new key is refused.
    pub keys: usize,
    /// Messages that are replayed to a subscriber, or given as a page.
    pub replay_messages: usize,
    /// Bytes of payload of these. A single message may be larger in a page, not in a replay.
    pub replay_bytes: usize,
    /// Channels in memory.
    pub channels: usize,
    /// How long joins and leaves are gathered before they are told.
    pub presence_interval: Duration,
    /// How long a channel that nobody uses, and that keeps nothing, is remembered.
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

/// Bytes that a message in a history is counted with besides its payload.
pub const MESSAGE_COST: usize = 128;
