//! Messages that the browser has delivered and nobody has received yet, within a bound.

use std::collections::VecDeque;

use longwire_proto::Message;

/// Counted for each message beside its payload, so that the number of empty messages is bounded too.
const OVERHEAD: usize = 64;

/// An empty inbox keeps room for at most this many messages.
const KEPT: usize = 1024;

/// Limits of one connection, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_message: usize,
    pub(super) receive_buffer: usize,
    pub(super) write_buffer: usize,
}

#[derive(Debug)]
pub(super) struct Inbox {
    limits: Limits,
    messages: VecDeque<Message>,
    /// Payloads and the overhead of each.
    bytes: usize,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    TooBig,
    Full,
}

impl Inbox {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { limits, messages: VecDeque::new(), bytes: 0 }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether there is room for a message of so many bytes. One that is not too big always has room in an empty
    /// inbox.
    pub(super) fn room_for(&self, length: usize) -> Result<(), NotTaken> {
        if length > self.limits.max_message {
            return Err(NotTaken::TooBig);
        }
        let would_be = self.bytes.saturating_add(length).saturating_add(OVERHEAD);
        if self.messages.is_empty() || would_be <= self.limits.receive_buffer {
            Ok(())
        } else {
            Err(NotTaken::Full)
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.len() + OVERHEAD;
        self.messages.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len() + OVERHEAD;
        if self.messages.is_empty() && self.messages.capacity() > KEPT {
            self.messages = VecDeque::new();
        }
        Some(message)
    }
}
