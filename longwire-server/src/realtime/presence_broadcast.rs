//! Presence changes for HTTP clients: a broadcast channel for each channel with receivers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::hub::ChannelName;

/// Maximum number of queued changes for a slow receiver. Each channel reports at most one change per second.
const BACKLOG: usize = 16;

/// A presence change as JSON.
pub(super) type Change = Arc<str>;

type Senders = HashMap<ChannelName, broadcast::Sender<Change>>;

/// The broadcast channels, by channel name.
#[derive(Clone, Debug, Default)]
pub(super) struct PresenceBroadcast(Arc<Mutex<Senders>>);

impl PresenceBroadcast {
    fn senders(&self) -> MutexGuard<'_, Senders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a receiver. Called under the lock of the channel, it misses no later change.
    pub(super) fn subscribe(&self, name: &ChannelName) -> PresenceReceiver {
        let mut senders = self.senders();
        let sender = senders.entry(name.clone()).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        PresenceReceiver { changes: sender.subscribe(), name: name.clone(), broadcast: self.clone() }
    }

    /// Sends a change to all receivers. Called under the lock of the channel.
    pub(super) fn send(&self, name: &ChannelName, change: &str) {
        if let Some(sender) = self.senders().get(name) {
            // The last receiver may just have been dropped.
            let _ = sender.send(change.into());
        }
    }
}

/// A receiver; dropping it unsubscribes.
#[derive(Debug)]
pub(super) struct PresenceReceiver {
    changes: broadcast::Receiver<Change>,
    name: ChannelName,
    broadcast: PresenceBroadcast,
}

/// Changes were missed: query the members again.
pub(super) struct Lagged;

impl PresenceReceiver {
    /// Returns the next change, if there is one.
    pub(super) fn try_next(&mut self) -> Option<Result<Change, Lagged>> {
        match self.changes.try_recv() {
            Ok(change) => Some(Ok(change)),
            Err(TryRecvError::Lagged(_)) => Some(Err(self.resubscribe())),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// Waits for the next change. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Change, Lagged> {
        match self.changes.recv().await {
            Ok(change) => Ok(change),
            Err(RecvError::Lagged(_)) => Err(self.resubscribe()),
            // The sender exists while this receiver does.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Later changes continue the state that is queried after this.
    fn resubscribe(&mut self) -> Lagged {
        self.changes = self.changes.resubscribe();
        Lagged
    }
}

impl Drop for PresenceReceiver {
    fn drop(&mut self) {
        let mut senders = self.broadcast.senders();
        if senders.get(&self.name).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_receivers_have_a_bounded_queue_and_senders_are_removed() {
        let (broadcast, room) = (PresenceBroadcast::default(), ChannelName::new("房间").expect("a name"));
        broadcast.send(&room, "before");
        let mut quick = broadcast.subscribe(&room);
        let mut slow = broadcast.subscribe(&room);
        for change in 0..BACKLOG {
            broadcast.send(&room, &change.to_string());
            assert!(matches!(quick.try_next(), Some(Ok(change)) if *change == *change.to_string()));
        }
        assert!(quick.try_next().is_none());
        // As many as are queued.
        assert!(matches!(slow.try_next(), Some(Ok(change)) if &*change == "0"));
        for change in 0..2 {
            broadcast.send(&room, &change.to_string());
        }
        // One more than that.
        assert!(matches!(slow.try_next(), Some(Err(Lagged))));
        assert!(slow.try_next().is_none());
        broadcast.send(&room, "after");
        assert!(matches!(slow.try_next(), Some(Ok(change)) if &*change == "after"));
        drop(quick);
        assert_eq!(broadcast.senders().len(), 1);
        drop(slow);
        assert!(broadcast.senders().is_empty());
    }
}
