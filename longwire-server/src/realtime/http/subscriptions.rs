//! Many channels, heard by one client at its own pace: what is next, and waiting for it. It holds no messages.

use futures_util::future::select_all;

use super::super::Realtime;
use super::super::presence_broadcast::{Change, Lagged, PresenceReceiver};
use super::super::server_events::{PresenceData, ServerEvent};
use crate::hub::{
    Batch, ChannelName, Cursor, HubError, Position, PresenceSnapshot, Published, Subscription, User,
};

/// What comes next on a channel.
pub(super) enum Event {
    Message(Published),
    /// What came before this position is lost, for the client reads too slowly.
    Gap(Position),
    /// Who is there has changed: what a session is told.
    Presence(Change),
}

/// Where a channel stands when it begins to be heard.
pub(super) struct SubscriptionStart {
    /// Where the channel is.
    pub(super) head: Position,
    /// Where it is heard from.
    pub(super) from: Position,
    /// Whether nothing is missing behind the position that the client gave, if it gave one.
    pub(super) recovered: Option<bool>,
    pub(super) presence: Option<PresenceData>,
}

/// How a channel is heard.
#[derive(Clone, Copy)]
pub(super) enum DeliveryMode {
    /// In one answer: who polls is not counted as present.
    Once,
    /// As long as there is a connection.
    Live,
}

/// One channel that is heard.
pub(super) struct Channel {
    name: ChannelName,
    cursor: Cursor,
    /// It is present with this.
    _seat: Option<Subscription>,
    presence_changes: Option<PresenceReceiver>,
    /// What has come of them while it was waited for anything.
    pending_change: Option<Result<Change, Lagged>>,
}

impl Channel {
    /// Begins to hear a channel, behind a position or from now on.
    pub(super) fn open(
        realtime: &Realtime,
        name: ChannelName,
        after: Option<Position>,
        mode: DeliveryMode,
        user: Option<User>,
        presence: bool,
    ) -> Result<(Self, SubscriptionStart), HubError> {
        let (hub, now) = (&realtime.0.hub, realtime.now());
        let mut cursor = hub.cursor(&name, after, now)?;
        let (head, recovered) = cursor.resume(now)?;
        let (mut add_cors_headers, mut presence_changes, mut present) = (None, None, None);
        match mode {
            DeliveryMode::Live => {
                // Under the lock of the channel: what changes later continues what is seen now.
                let see = |seen: &dyn Fn() -> Option<PresenceSnapshot>| {
                    presence.then(|| (seen(), realtime.0.presence_broadcast.subscribe(&name)))
                };
                let (taken, seen) =
                    hub.subscribe_with_presence(&name, user, None, now, |_, seen| see(seen))?;
                add_cors_headers = Some(taken);
                if let Some((seen, listener)) = seen {
                    (present, presence_changes) = (seen, Some(listener));
                }
            }
            DeliveryMode::Once if presence => {
                // Nobody is there, it may be: who saw somebody at the last poll has to be told.
                let nobody = PresenceSnapshot { counts: Default::default(), members: None };
                present = Some(hub.presence(&name).unwrap_or(nobody));
            }
            DeliveryMode::Once => {}
        }
        let start = SubscriptionStart {
            head,
            from: cursor.position(),
            recovered: after.map(|_| recovered),
            presence: present.as_ref().map(PresenceData::from),
        };
        Ok((Self { name, cursor, _seat: add_cors_headers, presence_changes, pending_change: None }, start))
    }

    fn next(&mut self, realtime: &Realtime) -> Result<Option<Event>, HubError> {
        if let Some(pending_change) =
            self.pending_change.take().or_else(|| self.presence_changes.as_mut()?.try_next())
        {
            return Ok(Some(Event::Presence(pending_change.unwrap_or_else(|Lagged| self.present(realtime)))));
        }
        if !self.cursor.is_behind() {
            return Ok(None);
        }
        // One by one, so that what is held for a client is what it is about to be sent.
        Ok(match self.cursor.read(1, realtime.now())? {
            Batch::Messages(messages) => messages.into_iter().next().map(Event::Message),
            Batch::Gap(position) => Some(Event::Gap(position)),
            Batch::Nothing => None,
        })
    }

    /// Who is there, for somebody who has missed how that came.
    fn present(&self, realtime: &Realtime) -> Change {
        let present = realtime.0.hub.presence(&self.name);
        let nobody = PresenceSnapshot { counts: Default::default(), members: None };
        let presence = (&present.unwrap_or(nobody)).into();
        ServerEvent::Presence { channel: &self.name, presence }.to_json().into()
    }

    /// Waits until there is something. Cancel-safe.
    async fn changed(&mut self) {
        if self.pending_change.is_some() {
            return;
        }
        let Self { cursor, presence_changes: Some(presence_changes), pending_change, .. } = self else {
            return self.cursor.changed().await;
        };
        tokio::select! {
            () = cursor.changed() => {}
            change = presence_changes.next() => *pending_change = Some(change),
        }
    }
}

/// The channels of one client.
pub(super) struct Subscriptions {
    realtime: Realtime,
    channels: Vec<Channel>,
    /// Whose turn it is.
    turn: usize,
}

impl Subscriptions {
    pub(super) const fn new(realtime: Realtime, channels: Vec<Channel>) -> Self {
        Self { realtime, channels, turn: 0 }
    }

    /// What is next, if anything is there: of each channel in turn.
    pub(super) fn next(&mut self) -> Result<Option<(&ChannelName, Event)>, HubError> {
        for _ in 0..self.channels.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.channels.len();
            if let Some(event) = self.channels[turn].next(&self.realtime)? {
                return Ok(Some((&self.channels[turn].name, event)));
            }
        }
        Ok(None)
    }

    /// Waits until there may be something. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if self.channels.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.channels.iter_mut().map(|channel| Box::pin(channel.changed()))).await;
    }
}
