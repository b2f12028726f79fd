//! Reading a channel at one's own pace.

use tokio::sync::watch;

use super::{Hub, HubError};
use crate::value::{ChannelName, Position, Published, Time};

/// A place in a channel, for who reads in batches: server-sent events, long polling. It holds no messages. While
/// there are cursors a channel keeps at least [`CURSOR_BACKLOG`](super::CURSOR_BACKLOG).
#[derive(Debug)]
pub struct Cursor {
    hub: Hub,
    name: ChannelName,
    at: Position,
    head: watch::Receiver<u64>,
}

/// What a cursor has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// The next messages, at least one.
    Messages(Vec<Published>),
    /// There is nothing yet.
    Nothing,
    /// What came next is gone: it has expired, was cut, or was of another epoch. The cursor goes on from this position.
    Gap(Position),
}

impl Cursor {
    pub(super) const fn new(hub: Hub, name: ChannelName, at: Position, head: watch::Receiver<u64>) -> Self {
        Self { hub, name, at, head }
    }

    /// Behind which message it stands.
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Where the channel stands, and whether nothing between the cursor and that is missing: if something is, the cursor
    /// goes on from there.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn resume(&mut self, now: Time) -> Result<(Position, bool), HubError> {
        let page = self.hub.history(&self.name, Some(self.at), 1, now)?;
        // The channel lives while it has a cursor.
        let Some(head) = page.position else { return Ok((self.at, true)) };
        if !page.recovered {
            self.at = head;
        }
        Ok((head, page.recovered))
    }

    /// There is something to read. Look before the first time: a position of another epoch is not told from one of this.
    pub fn is_behind(&self) -> bool {
        *self.head.borrow() > self.at.offset
    }

    /// The next messages: at most `limit`, and as many and as large as a page may be.
    ///
    /// # Errors
    ///
    /// [`HubError::Store`] where they are to be read from a store that fails; the cursor stands where it stood.
    pub fn read(&mut self, limit: usize, now: Time) -> Result<Batch, HubError> {
        let page = self.hub.history(&self.name, Some(self.at), limit.max(1), now)?;
        // The channel lives while it has a cursor.
        let Some(head) = page.position else { return Ok(Batch::Nothing) };
        if !page.recovered {
            self.at = head;
            return Ok(Batch::Gap(head));
        }
        let Some(last) = page.messages.last() else { return Ok(Batch::Nothing) };
        self.at = last.position;
        Ok(Batch::Messages(page.messages))
    }

    /// Waits until there is something to read. Read before the first time: only that tells of a gap.
    ///
    /// Cancel-safe: what has come stays to be read.
    pub async fn changed(&mut self) {
        let at = self.at.offset;
        // It fails only without the channel, which lives while it has a cursor.
        let _ = self.head.wait_for(|head| *head > at).await;
    }
}
