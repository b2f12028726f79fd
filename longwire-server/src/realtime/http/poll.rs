//! Long polling: waits for messages and returns them in one response.

use std::time::Duration;

use longwire::http::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::server_events::{MessageData, Reply, ServerEvent};
use super::super::{Client, REPLAY_BYTES, REPLAY_MESSAGES, position};
use super::query::Query;
use super::response::{self, ErrorResponse};
use super::subscriptions::{ChannelSubscription, DeliveryMode, Event, Subscriptions};
use super::{Body, EndCondition, Http};
use crate::hub::{ChannelName, HubError};

impl Http {
    /// Polls one channel.
    pub(super) async fn poll_one(
        &self,
        name: ChannelName,
        query: &Query,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse> {
        #[derive(Serialize)]
        struct Polled<'a> {
            position: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            recovered: Option<bool>,
            messages: Vec<MessageData<'a>>,
        }
        let after = query.after.as_deref().map(position).transpose()?;
        let (channel, start) =
            ChannelSubscription::open(&self.realtime, name, after, DeliveryMode::Once, None, false)?;
        let (mut position, mut recovered, mut messages) = (start.from, start.recovered, Vec::new());
        if recovered == Some(true) {
            let mut subscriptions = Subscriptions::new(self.realtime.clone(), vec![channel]);
            for (_, event) in poll(&mut subscriptions, query.wait, self.end_condition(&client)).await? {
                match event {
                    Event::Message(published) => {
                        position = published.position;
                        messages.push(published);
                    }
                    Event::Gap(at) => {
                        (position, recovered) = (at, Some(false));
                        messages.clear();
                    }
                    Event::Presence(_) => {}
                }
            }
        }
        let messages = messages.iter().map(MessageData::from).collect();
        Ok(response::json(&Polled { position: position.to_string(), recovered, messages }))
    }

    /// Polls several channels and authorises each.
    pub(super) async fn poll_many(
        &self,
        query: &Query,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse> {
        let (channels, first) = self.open_channels(query, &client, DeliveryMode::Once).await?;
        // Do not wait if messages were lost or there is no channel to wait for.
        let wait = if channels.is_empty() || first.iter().any(|first| first.lost) { 0 } else { query.wait };
        let mut events: Vec<_> = first.into_iter().map(|first| first.text).collect();
        let mut subscriptions = Subscriptions::new(self.realtime.clone(), channels);
        for (name, event) in poll(&mut subscriptions, wait, self.end_condition(&client)).await? {
            events.push(match event {
                Event::Message(published) => {
                    ServerEvent::Message { channel: &name, message: (&published).into() }.to_json()
                }
                Event::Gap(at) => {
                    let reply = Reply::Subscribed {
                        position: at.to_string(),
                        recovered: Some(false),
                        presence: None,
                    };
                    ServerEvent::Subscribed { channel: &name, reply: &reply }.to_json()
                }
                Event::Presence(change) => change.as_ref().to_owned(),
            });
        }
        Ok(response::json_text(format!("{{\"events\":[{}]}}", events.join(","))))
    }
}

/// Waits for the first event, and returns all available events up to the size of a replay. Returns nothing
/// after the time, or if the wait ends early.
async fn poll(
    subscriptions: &mut Subscriptions,
    seconds: u64,
    mut end: EndCondition,
) -> Result<Vec<(ChannelName, Event)>, HubError> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < REPLAY_MESSAGES
            && bytes < REPLAY_BYTES
            && let Some((name, event)) = subscriptions.next()?
        {
            if let Event::Message(published) = &event {
                bytes += published.message.len();
            }
            events.push((name.clone(), event));
        }
        if !events.is_empty() {
            return Ok(events);
        }
        tokio::select! {
            () = subscriptions.changed() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(events),
            () = end.wait() => return Ok(events),
        }
    }
}
