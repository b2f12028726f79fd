//! The requests of `longwire.v1` (docs/protocol.md), and the errors that answer them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longwire::{Bytes, Message};
use serde::{Deserialize, Serialize};

/// Maximum length of an idempotency key, in bytes.
pub(super) const KEY_MAX: usize = 64;

/// Maximum and default number of messages in a page of history.
pub(super) const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;

/// The largest exact integer in JavaScript, for `id`.
const ID_MAX: u64 = 1 << 53;

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Subscribe { channel: String, after: Option<String>, presence: bool },
    Unsubscribe { channel: String },
    Publish(Publication),
    History { channel: String, after: Option<String>, limit: usize },
    Presence { channel: String },
    Token { token: String },
    Ping,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Publication {
    pub(super) channel: String,
    pub(super) message: Message,
    pub(super) key: Option<String>,
}

/// Why a request failed: a code of docs/protocol.md, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RequestError {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorCode {
    BadRequest,
    BadChannel,
    BadPosition,
    Forbidden,
    Unauthorized,
    NotSubscribed,
    AlreadySubscribed,
    TooLarge,
    TooMany,
    RateLimited,
    Unavailable,
}

impl RequestError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }
}

/// All fields of requests. Unknown fields are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRequest {
    r#type: String,
    id: Option<u64>,
    channel: Option<String>,
    after: Option<String>,
    presence: bool,
    data: Option<String>,
    base64: Option<String>,
    key: Option<String>,
    limit: Option<usize>,
    token: Option<String>,
}

/// Parses a request. Returns its `id`, if present, and the request.
pub(super) fn parse_request(text: &str) -> (Option<u64>, Result<Request, RequestError>) {
    match serde_json::from_str::<RawRequest>(text) {
        Ok(fields) => (fields.id, fields.validate()),
        Err(error) => (None, Err(RequestError::bad_request(format!("invalid request: {error}")))),
    }
}

/// Parses the body of a POST to `/-/history` or `/-/presence`: a request without `type` and `id`.
pub(super) fn parse_body(kind: &str, body: &[u8]) -> Result<Request, RequestError> {
    let mut fields: RawRequest = serde_json::from_slice(body)
        .map_err(|error| RequestError::bad_request(format!("invalid request: {error}")))?;
    kind.clone_into(&mut fields.r#type);
    fields.id = Some(0);
    fields.validate()
}

/// Parses the body of `/-/publish`.
pub(super) fn parse_batch(body: &[u8]) -> Result<Vec<Result<Publication, RequestError>>, RequestError> {
    #[derive(Deserialize)]
    struct Batch {
        messages: Vec<RawRequest>,
    }
    let parse_batch: Batch = serde_json::from_slice(body)
        .map_err(|error| RequestError::bad_request(format!("invalid batch: {error}")))?;
    if parse_batch.messages.len() > PAGE_MAX {
        return Err(RequestError::new(
            ErrorCode::TooMany,
            format!("too many messages; the maximum per batch is {PAGE_MAX}"),
        ));
    }
    Ok(parse_batch.messages.into_iter().map(RawRequest::publication).collect())
}

impl RawRequest {
    fn validate(mut self) -> Result<Request, RequestError> {
        if self.id.is_none_or(|id| id > ID_MAX) {
            return Err(RequestError::bad_request("`id` must be a number from 0 to 2^53"));
        }
        match &*self.r#type {
            "subscribe" => {
                let (after, presence) = (self.after.take(), self.presence);
                Ok(Request::Subscribe { channel: self.channel()?, after, presence })
            }
            "unsubscribe" => Ok(Request::Unsubscribe { channel: self.channel()? }),
            "publish" => Ok(Request::Publish(self.publication()?)),
            "history" => {
                let limit = self.limit.unwrap_or(PAGE_DEFAULT);
                if !(1..=PAGE_MAX).contains(&limit) {
                    return Err(RequestError::bad_request(format!("`limit` must be 1 to {PAGE_MAX}")));
                }
                Ok(Request::History { channel: self.channel()?, after: self.after, limit })
            }
            "presence" => Ok(Request::Presence { channel: self.channel()? }),
            "token" => {
                let token = self.token.ok_or_else(|| RequestError::bad_request("`token` is missing"))?;
                Ok(Request::Token { token })
            }
            "ping" => Ok(Request::Ping),
            other => Err(RequestError::bad_request(format!(
                "`type` must be subscribe, unsubscribe, publish, history, presence, token or ping, not {:?}",
                other.chars().take(32).collect::<String>()
            ))),
        }
    }

    fn channel(&mut self) -> Result<String, RequestError> {
        self.channel.take().ok_or_else(|| RequestError::bad_request("`channel` is missing"))
    }

    fn publication(mut self) -> Result<Publication, RequestError> {
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_MAX) {
            return Err(RequestError::bad_request(format!("`key` must have 1 to {KEY_MAX} bytes")));
        }
        let message = match (self.data.take(), self.base64.take()) {
            (Some(text), None) => Message::from(text),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(text);
                let bytes = bytes.map_err(|error| RequestError::bad_request(format!("`base64`: {error}")))?;
                Message::Binary(Bytes::from(bytes))
            }
            _ => return Err(RequestError::bad_request("exactly one of `data` and `base64` is required")),
        };
        Ok(Publication { channel: self.channel()?, message, key: self.key })
    }
}

/// A payload in JSON: text in `data`, bytes in `base64`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Payload<'a> {
    Data(&'a str),
    Base64(String),
}

impl<'a> From<&'a Message> for Payload<'a> {
    fn from(message: &'a Message) -> Self {
        match message.as_text() {
            Some(text) => Self::Data(text),
            None => Self::Base64(STANDARD.encode(message.as_bytes())),
        }
    }
}
