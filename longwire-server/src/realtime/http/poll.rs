//! Long polling: what there is of channels in one answer, as soon as there is something.

use std::time::Duration;

use longwire::http::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::server_events::{Answer, Said, Told};
use super::super::{REPLAY_BYTES, REPLAY_MESSAGES, Who, position};
use super::response::{self, Denial};
use super::subscriptions::{Channel, Event, Hearing, How};
use super::query::Query;
use super::{Body, End, Http};
use crate::hub::{ChannelName, Refused};

impl Http {
    /// One channel, which may be heard.
    pub(super) async fn poll_one(
        &self,
        name: ChannelName,
        query: &Query,
        who: Who,
    ) -> Result<Response<Body>, Denial> {
        #[derive(Serialize)]
        struct Polled<'a> {
            position: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            recovered: Option<bool>,
            messages: Vec<Said<'a>>,
        }
        let after = query.after.as_deref().map(position).transpose()?;
        let (channel, begun) = Channel::open(&self.realtime, name, after, How::Once, None, false)?;
        let (mut position, mut recovered, mut messages) = (begun.from, begun.recovered, Vec::new());
        if recovered == Some(true) {
            let mut hearing = Hearing::new(self.realtime.clone(), vec![channel]);
            for (_, event) in hear(&mut hearing, query.wait, self.end_of(&who)).await? {
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
        let messages = messages.iter().map(Said::from).collect();
        Ok(response::json(&Polled { position: position.to_string(), recovered, messages }))
    }

    /// Many channels, each of which may be heard or not.
    pub(super) async fn poll_many(&self, query: &Query, who: Who) -> Result<Response<Body>, Denial> {
        let (channels, first) = self.open_many(query, &who, How::Once).await?;
        // A client that has to be told, or has nothing to wait for, is not kept waiting.
        let wait = if channels.is_empty() || first.iter().any(|first| first.lost) { 0 } else { query.wait };
        let mut events: Vec<_> = first.into_iter().map(|first| first.text).collect();
        let mut hearing = Hearing::new(self.realtime.clone(), channels);
        for (name, event) in hear(&mut hearing, wait, self.end_of(&who)).await? {
            events.push(match event {
                Event::Message(published) => {
                    Told::Message { channel: &name, message: (&published).into() }.text()
                }
                Event::Gap(at) => {
                    let answer = Answer::Subscribed {
                        position: at.to_string(),
                        recovered: Some(false),
                        presence: None,
                    };
                    Told::Subscribed { channel: &name, answer: &answer }.text()
                }
                Event::Presence(change) => change.as_ref().to_owned(),
            });
        }
        Ok(response::json_text(format!("{{\"events\":[{}]}}", events.join(","))))
    }
}

/// What comes first, and what else is there by then, as much as is resumed in one go; nothing if the time is over, or the wait
/// comes to another end.
async fn hear(
    hearing: &mut Hearing,
    seconds: u64,
    mut end: End,
) -> Result<Vec<(ChannelName, Event)>, Refused> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < REPLAY_MESSAGES
            && bytes < REPLAY_BYTES
            && let Some((name, event)) = hearing.next()?
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
            () = hearing.changed() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(events),
            () = end.come() => return Ok(events),
        }
    }
}
