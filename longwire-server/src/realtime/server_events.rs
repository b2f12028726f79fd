//! What the server sends to clients (docs/protocol.md): replies and events.

use longwire::Message;
use serde::Serialize;

use super::requests::{Payload, RequestError};
use crate::hub::{
    Members, Page, Position, PresenceChange, PresenceSnapshot, PublishReceipt, Published, User,
};

/// An event or a reply, as a JSON object.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerEvent<'a> {
    Welcome {
        connection: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    Ok {
        id: u64,
        #[serde(flatten)]
        reply: &'a Reply<'a>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a str>,
        #[serde(flatten)]
        error: &'a RequestError,
    },
    Message {
        channel: &'a str,
        #[serde(flatten)]
        message: MessageData<'a>,
    },
    Presence {
        channel: &'a str,
        #[serde(flatten)]
        presence: PresenceData,
    },
    Unsubscribed {
        channel: &'a str,
        #[serde(flatten)]
        error: &'a RequestError,
    },
    Subscribed {
        channel: &'a str,
        #[serde(flatten)]
        reply: &'a Reply<'a>,
    },
}

impl ServerEvent<'_> {
    /// Returns the JSON text.
    pub(super) fn to_json(&self) -> String {
        // Serialising cannot fail, because all map keys are strings.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The reply to a successful request.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Reply<'a> {
    Subscribed {
        position: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        presence: Option<PresenceData>,
    },
    Published {
        position: String,
        #[serde(skip_serializing_if = "is_false")]
        duplicate: bool,
    },
    History(HistoryPage<'a>),
    Presence(PresenceData),
    Token {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    Done {},
}

impl From<PublishReceipt> for Reply<'_> {
    fn from(receipt: PublishReceipt) -> Self {
        Self::Published { position: receipt.position.to_string(), duplicate: receipt.duplicate }
    }
}

/// A page of history.
#[derive(Serialize)]
pub(super) struct HistoryPage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    recovered: bool,
    more: bool,
    messages: Vec<HistoryMessage<'a>>,
}

#[derive(Serialize)]
struct HistoryMessage<'a> {
    position: String,
    #[serde(flatten)]
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    time: u64,
}

impl<'a> From<&'a Page> for HistoryPage<'a> {
    fn from(page: &'a Page) -> Self {
        let messages = page.messages.iter().map(|published| HistoryMessage {
            position: published.position.to_string(),
            payload: Payload::from(&published.message),
            user: published.from.as_deref(),
            time: published.at.as_millis(),
        });
        Self {
            position: page.position.as_ref().map(Position::to_string),
            recovered: page.recovered,
            more: page.more,
            messages: messages.collect(),
        }
    }
}

/// The members of a channel, or a change of them.
#[derive(Serialize)]
pub(super) struct PresenceData {
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    joined: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
}

fn names(users: &[User]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

impl From<&PresenceSnapshot> for PresenceData {
    fn from(present: &PresenceSnapshot) -> Self {
        let users = present.members.as_deref().map(names);
        Self { count: present.counts.connections, users, joined: Vec::new(), left: Vec::new() }
    }
}

impl From<&PresenceChange> for PresenceData {
    fn from(change: &PresenceChange) -> Self {
        let (users, joined, left) = match &change.members {
            Members::All(users) => (Some(names(users)), Vec::new(), Vec::new()),
            Members::Changed { joined, left } => (None, names(joined), names(left)),
            Members::Unlisted => Default::default(),
        };
        Self { count: change.counts.connections, users, joined, left }
    }
}

/// A message of a channel.
#[derive(Serialize)]
pub(super) struct MessageData<'a> {
    position: String,
    #[serde(flatten)]
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

impl<'a> From<&'a Published> for MessageData<'a> {
    fn from(published: &'a Published) -> Self {
        Self {
            position: published.position.to_string(),
            payload: Payload::from(&published.message),
            user: published.from.as_deref(),
        }
    }
}

/// Returns a message event for sessions.
pub(super) fn message(channel: &str, published: &Published) -> Message {
    ServerEvent::Message { channel, message: published.into() }.to_json().into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
