//! What was published in a loop and is not delivered yet.
//!
//! Most subscribers get everything that was published to one topic, as one batch. A subscriber that is to get something
//! else has a cursor instead: one that sent something itself, changed its subscriptions, or was sent a message in between.

use std::num::NonZeroU32;
use std::sync::Arc;

use longwire_proto::SharedFrame;

/// Bytes that are published before they are delivered, in the middle of an iteration if need be.
const LOG_MAX: usize = 256 * 1024;

/// What each message counts besides its payload, in bytes: messages without payload have to be bounded too.
const MESSAGE_COST: usize = 128;

/// How far a connection is in the log: it gets the entries behind this one by one. Encoded as position + 1, so that a
/// connection without a cursor needs no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct LogCursor(NonZeroU32);

impl LogCursor {
    pub(in crate::engine) const START: Self = Self(NonZeroU32::MIN);

    /// Behind the first `position` entries.
    fn behind(position: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(position as u32))
    }

    const fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What was published and is not delivered yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct Log {
    pub(in crate::engine) entries: Vec<Logged>,
    bytes: usize,
}

#[derive(Debug)]
pub(in crate::engine) struct Logged {
    pub(in crate::engine) topic: u32,
    pub(in crate::engine) frame: SharedFrame,
    pub(in crate::engine) key: Option<Arc<str>>,
    /// The connection that published it, and does not get it.
    pub(in crate::engine) except: Option<u32>,
}

impl Log {
    pub(in crate::engine) fn push(&mut self, logged: Logged) {
        self.bytes += MESSAGE_COST + logged.frame.payload_len();
        self.entries.push(logged);
    }

    pub(in crate::engine) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries behind a cursor, and the cursor behind all of them.
    pub(in crate::engine) fn after(&self, cursor: LogCursor) -> (&[Logged], LogCursor) {
        let entries = self.entries.get(cursor.position()..).unwrap_or_default();
        (entries, LogCursor::behind(self.entries.len()))
    }

    pub(in crate::engine) const fn is_full(&self) -> bool {
        self.bytes >= LOG_MAX
    }

    pub(in crate::engine) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_full_of_messages_without_payload_too() {
        let mut log = Log::default();
        let frame = SharedFrame::new("");
        while !log.is_full() {
            log.push(Logged { topic: 0, frame: frame.clone(), key: None, except: None });
        }
        assert!(log.entries.len() <= LOG_MAX / MESSAGE_COST);
        log.clear();
        assert!(!log.is_full());
    }
}
