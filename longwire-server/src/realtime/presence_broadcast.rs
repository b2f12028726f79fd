//! Who is told over HTTP of who is there: for each channel those who listen, while any does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::hub::ChannelName;

/// Changes of a channel that wait for those who are slow: as many seconds as it is told at most once in each.
const BACKLOG: usize = 16;

/// A change, as it is told.
pub(super) type Change = Arc<str>;

type Channels = HashMap<ChannelName, broadcast::Sender<Change>>;

/// All who listen.
#[derive(Clone, Debug, Default)]
pub(super) struct Audience(Arc<Mutex<Channels>>);

impl Audience {
    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more listener. Called under the lock of the channel, it hears what changes from then on.
    pub(super) fn join(&self, name: &ChannelName) -> Listener {
        let mut channels = self.channels();
        let sender = channels.entry(name.clone()).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        Listener { changes: sender.subscribe(), name: name.clone(), audience: self.clone() }
    }

    /// Tells those who listen. Called under the lock of the channel.
    pub(super) fn tell(&self, name: &ChannelName, change: &str) {
        if let Some(sender) = self.channels().get(name) {
            // The last one may be about to leave.
            let _ = sender.send(change.into());
        }
    }
}

/// Somebody who listens, until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    changes: broadcast::Receiver<Change>,
    name: ChannelName,
    audience: Audience,
}

/// Changes were missed: ask who is there.
pub(super) struct Missed;

impl Listener {
    /// The next change, if there is one.
    pub(super) fn take(&mut self) -> Option<Result<Change, Missed>> {
        match self.changes.try_recv() {
            Ok(change) => Some(Ok(change)),
            Err(TryRecvError::Lagged(_)) => Some(Err(self.catch_up())),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// The next change. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Change, Missed> {
        match self.changes.recv().await {
            Ok(change) => Ok(change),
            Err(RecvError::Lagged(_)) => Err(self.catch_up()),
            // It has a sender while it is here.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// What comes from now on continues what is asked for after this.
    fn catch_up(&mut self) -> Missed {
        self.changes = self.changes.resubscribe();
        Missed
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut channels = self.audience.channels();
        if channels.get(&self.name).is_some_and(|sender| sender.receiver_count() <= 1) {
            channels.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_kept_for_the_slow_up_to_a_bound_and_nothing_is_kept_for_nobody() {
        let (audience, room) = (Audience::default(), ChannelName::new("房间").expect("a name"));
        audience.tell(&room, "before");
        let mut quick = audience.join(&room);
        let mut slow = audience.join(&room);
        for change in 0..BACKLOG {
            audience.tell(&room, &change.to_string());
            assert!(matches!(quick.take(), Some(Ok(told)) if *told == *change.to_string()));
        }
        assert!(quick.take().is_none());
        // As many as are kept.
        assert!(matches!(slow.take(), Some(Ok(told)) if &*told == "0"));
        for change in 0..2 {
            audience.tell(&room, &change.to_string());
        }
        // One more than that.
        assert!(matches!(slow.take(), Some(Err(Missed))));
        assert!(slow.take().is_none());
        audience.tell(&room, "after");
        assert!(matches!(slow.take(), Some(Ok(told)) if &*told == "after"));
        drop(quick);
        assert_eq!(audience.channels().len(), 1);
        drop(slow);
        assert!(audience.channels().is_empty());
    }
}
