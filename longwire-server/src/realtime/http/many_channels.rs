//! Several channels in one request (`/-/events`): authorises and opens each of them.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::super::requests::{ErrorCode, RequestError};
use super::super::server_events::{Reply, ServerEvent};
use super::super::{Client, channel, position};
use super::Http;
use super::query::{ChannelQuery, Query};
use super::subscriptions::{ChannelSubscription, DeliveryMode, SubscriptionStart};
use crate::hub::{ChannelName, Position};

impl Http {
    /// Opens the requested channels that the client may subscribe to. Returns them with the initial events:
    /// `subscribed` or `error` for each channel.
    pub(super) async fn open_channels(
        &self,
        query: &Query,
        client: &Client,
        mode: DeliveryMode,
    ) -> Result<(Vec<ChannelSubscription>, Vec<InitialEvent>), RequestError> {
        let requested = query.required_channels()?;
        let authorised = join_all(requested.iter().map(|requested| self.authorise(requested, client))).await;
        let (mut names, mut channels, mut initial) = (HashSet::new(), Vec::new(), Vec::new());
        for (requested, authorised) in requested.iter().zip(authorised) {
            let opened = authorised.and_then(|(name, after)| {
                if !names.insert(name.clone()) {
                    let text = format!("{name} is listed more than once");
                    return Err(RequestError::new(ErrorCode::AlreadySubscribed, text));
                }
                Ok(ChannelSubscription::open(
                    &self.realtime,
                    name,
                    after,
                    mode,
                    client.user(),
                    requested.presence,
                )?)
            });
            initial.push(match opened {
                Ok((channel, start)) => {
                    channels.push(channel);
                    InitialEvent::subscribed(&requested.name, start)
                }
                Err(error) => {
                    let event =
                        ServerEvent::Error { id: None, channel: Some(&requested.name), error: &error };
                    InitialEvent { text: event.to_json(), lost: false }
                }
            });
        }
        Ok((channels, initial))
    }

    async fn authorise(
        &self,
        requested: &ChannelQuery,
        client: &Client,
    ) -> Result<(ChannelName, Option<Position>), RequestError> {
        let name = channel(&requested.name)?;
        let after = requested.after.as_deref().map(position).transpose()?;
        self.authorise_subscribe(&client.identity, &name).await?;
        Ok((name, after))
    }
}

/// The initial event of a channel.
pub(super) struct InitialEvent {
    pub(super) text: String,
    /// Messages after the requested position are lost.
    pub(super) lost: bool,
}

impl InitialEvent {
    fn subscribed(name: &str, start: SubscriptionStart) -> Self {
        let SubscriptionStart { head, recovered, presence, .. } = start;
        let reply = Reply::Subscribed { position: head.to_string(), recovered, presence };
        let text = ServerEvent::Subscribed { channel: name, reply: &reply }.to_json();
        Self { text, lost: recovered == Some(false) }
    }
}
