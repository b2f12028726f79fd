//! The channel subscriptions of an HTTP client, which reads at its own pace. They hold no messages.

use futures_util::future::select_all;

use super::super::Realtime;
use super::super::presence_broadcast::{Change, Lagged, PresenceReceiver};
use super::super::server_events::{PresenceData, ServerEvent};
use crate::hub::{
    Batch, ChannelName, Cursor, HubError, Position, PresenceSnapshot, Published, Subscription, User,
};

/// The next event of a channel.
pub(super) enum Event {
    Message(Published),
    /// The messages before this position are lost, because the client reads too slowly.
    Gap(Position),
    /// The members have changed: the JSON that sessions receive.
    Presence(Change),
}

/// The state of a channel at the start of a subscription.
pub(super) struct SubscriptionStart {
    /// The latest position of the channel.
    pub(super) head: Position,
    /// The position where the subscription starts.
    pub(super) from: Position,
    /// Whether no message after the client's position is missing; `None` without such a position.
    pub(super) recovered: Option<bool>,
    pub(super) presence: Option<PresenceData>,
}

/// How events are delivered.
#[derive(Clone, Copy)]
pub(super) enum DeliveryMode {
    /// In a single response. A polling client does not count as a member.
    Once,
    /// As a stream.
    Live,
}

/// The subscription to one channel.
pub(super) struct ChannelSubscription {
    name: ChannelName,
    cursor: Cursor,
    /// Makes the client a member of the channel.
    _membership: Option<Subscription>,
    presence_changes: Option<PresenceReceiver>,
    /// A change that arrived while waiting.
    pending_change: Option<Result<Change, Lagged>>,
}

impl ChannelSubscription {
    /// Subscribes to a channel, from a position or from now on.
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
        let (mut membership, mut presence_changes, mut present) = (None, None, None);
        match mode {
            DeliveryMode::Live => {
                // Under the lock of the channel, so that later changes continue this state.
                let see = |seen: &dyn Fn() -> Option<PresenceSnapshot>| {
                    presence.then(|| (seen(), realtime.0.presence_broadcast.subscribe(&name)))
                };
                let (subscription, seen) =
                    hub.subscribe_with_presence(&name, user, None, now, |_, seen| see(seen))?;
                membership = Some(subscription);
                if let Some((seen, listener)) = seen {
                    (present, presence_changes) = (seen, Some(listener));
                }
            }
            DeliveryMode::Once if presence => {
                // The list may be empty now, and a client that saw members in its last poll must learn that.
                let empty = PresenceSnapshot { counts: Default::default(), members: None };
                present = Some(hub.presence(&name).unwrap_or(empty));
            }
            DeliveryMode::Once => {}
        }
        let start = SubscriptionStart {
            head,
            from: cursor.position(),
            recovered: after.map(|_| recovered),
            presence: present.as_ref().map(PresenceData::from),
        };
        Ok((Self { name, cursor, _membership: membership, presence_changes, pending_change: None }, start))
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
        // Read one message at a time, so that only the message about to be sent is held.
        Ok(match self.cursor.read(1, realtime.now())? {
            Batch::Messages(messages) => messages.into_iter().next().map(Event::Message),
            Batch::Gap(position) => Some(Event::Gap(position)),
            Batch::Nothing => None,
        })
    }

    /// Returns the members, for a client that missed changes.
    fn present(&self, realtime: &Realtime) -> Change {
        let present = realtime.0.hub.presence(&self.name);
        let empty = PresenceSnapshot { counts: Default::default(), members: None };
        let presence = (&present.unwrap_or(empty)).into();
        ServerEvent::Presence { channel: &self.name, presence }.to_json().into()
    }

    /// Waits for an event. Cancel-safe.
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

/// The subscriptions of one client.
pub(super) struct Subscriptions {
    realtime: Realtime,
    channels: Vec<ChannelSubscription>,
    /// The channel to read next.
    turn: usize,
}

impl Subscriptions {
    pub(super) const fn new(realtime: Realtime, channels: Vec<ChannelSubscription>) -> Self {
        Self { realtime, channels, turn: 0 }
    }

    /// Returns the next event, if any, taking turns between the channels.
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

    /// Waits until there may be an event. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if self.channels.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.channels.iter_mut().map(|channel| Box::pin(channel.changed()))).await;
    }
}
