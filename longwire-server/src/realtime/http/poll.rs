//! Long polling: what there is of channels in one answer, as soon as there is something.

use std::time::Duration;

use longwire::http::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::server_events::{MessageData, Reply, ServerEvent};
use super::super::{Client, REPLAY_BYTES, REPLAY_MESSAGES, position};
use super::query::Query;
use super::response::{self, ErrorResponse};
use super::subscriptions::{Channel, DeliveryMode, Event, Subscriptions};
use super::{Body, EndCondition, Http};
use crate::hub::{ChannelName, HubError};

impl Http {
    /// One channel, which may be heard.
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
        let (channel, start) = Channel::open(&self.realtime, name, after, DeliveryMode::Once, None, false)?;
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

    /// Many channels, each of which may be heard or not.
    pub(super) async fn poll_many(
        &self,
        query: &Query,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse> {
        let (channels, first) = self.open_channels(query, &client, DeliveryMode::Once).await?;
        // A client that has to be told, or has nothing to wait for, is not kept waiting.
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

/// What comes first, and what else is there by then, as much as is resumed in one go; nothing if the time is over, or the wait
/// comes to another end.
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
