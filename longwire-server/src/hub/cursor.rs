//! Cursors: read a channel at the reader's own pace.

use tokio::sync::watch;

use super::{Hub, HubError};
use crate::value::{ChannelName, Position, Published, Time};

/// A position in a channel for clients that read in batches: server-sent events and long polling. It holds no
/// messages. A channel with cursors keeps at least [`CURSOR_BACKLOG`](super::CURSOR_BACKLOG).
#[derive(Debug)]
pub struct Cursor {
    hub: Hub,
    name: ChannelName,
    at: Position,
    head: watch::Receiver<u64>,
}

/// The result of reading from a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// The next messages, at least one.
    Messages(Vec<Published>),
    /// There are no new messages.
    Nothing,
    /// The next messages are lost: they expired, were evicted, or belong to another epoch. The cursor
    /// continues from this position.
    Gap(Position),
}

impl Cursor {
    pub(super) const fn new(hub: Hub, name: ChannelName, at: Position, head: watch::Receiver<u64>) -> Self {
        Self { hub, name, at, head }
    }

    /// Returns the position of the last message that was read.
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Returns the latest position of the channel, and whether the cursor can continue without a gap. If not,
    /// the cursor moves to the latest position.
    ///
    /// # Errors
    ///
    /// Like [`read`](Self::read).
    pub fn resume(&mut self, now: Time) -> Result<(Position, bool), HubError> {
        let page = self.hub.history(&self.name, Some(self.at), 1, now)?;
        // The channel exists while it has a cursor.
        let Some(head) = page.position else { return Ok((self.at, true)) };
        if !page.recovered {
            self.at = head;
        }
        Ok((head, page.recovered))
    }

    /// Returns whether there are unread messages. Call [`resume`](Self::resume) first: this method does not
    /// detect another epoch.
    pub fn is_behind(&self) -> bool {
        *self.head.borrow() > self.at.offset
    }

    /// Reads the next messages: at most `limit`, and at most one page.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::Store`] if the store fails. The cursor does not move.
    pub fn read(&mut self, limit: usize, now: Time) -> Result<Batch, HubError> {
        let page = self.hub.history(&self.name, Some(self.at), limit.max(1), now)?;
        // The channel exists while it has a cursor.
        let Some(head) = page.position else { return Ok(Batch::Nothing) };
        if !page.recovered {
            self.at = head;
            return Ok(Batch::Gap(head));
        }
        let Some(last) = page.messages.last() else { return Ok(Batch::Nothing) };
        self.at = last.position;
        Ok(Batch::Messages(page.messages))
    }

    /// Waits until there are unread messages. Call [`read`](Self::read) first, because only that detects a
    /// gap.
    ///
    /// Cancel-safe: unread messages remain.
    pub async fn changed(&mut self) {
        let at = self.at.offset;
        // This fails only without the channel, which exists while it has a cursor.
        let _ = self.head.wait_for(|head| *head > at).await;
    }
}
