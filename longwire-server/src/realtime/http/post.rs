//! POST requests: publish one or several messages, read history, list members.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use longwire::http::{HeaderMap, Request, Response, header};
use longwire::{Bytes, Message, Utf8Bytes};
use serde::Serialize;
use tokio::time::timeout;

use super::super::requests::{self, ErrorCode, KEY_MAX, Publication, RequestError};
use super::super::server_events;
use super::super::{Client, channel, position};
use super::response::{self, ErrorResponse};
use super::{Body, Http, channel_at_path};
use crate::hub::{ChannelName, PublishReceipt};

/// Timeout for receiving a body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Maximum size of a batch, in multiples of the largest message.
const BATCH_FACTOR: usize = 16;

/// Maximum time for all webhook requests of a batch.
const WEBHOOK_TIME: Duration = Duration::from_secs(30);

/// Maximum size of a history or presence request, in bytes.
const QUERY_MAX: usize = 4096;

/// The result of a publication.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Published(server_events::Reply<'static>),
    Failed { error: RequestError },
}

impl From<Result<PublishReceipt, RequestError>> for Outcome {
    fn from(published: Result<PublishReceipt, RequestError>) -> Self {
        match published {
            Ok(receipt) => Self::Published(receipt.into()),
            Err(error) => Self::Failed { error },
        }
    }
}

impl Http {
    /// Publishes the body as one message.
    pub(super) async fn post<B>(
        &self,
        request: &Request<()>,
        body: B,
        mut client: Client,
    ) -> Result<Response<Body>, ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let name = channel_at_path(request.uri().path())?;
        let headers = request.headers();
        // Before the body is read.
        let is_allowed = self.realtime.may_publish(&client.identity, &name)?;
        let key = headers.get("idempotency-key").map(|key| idempotency_key(key.as_bytes())).transpose()?;
        let body = read(body, self.realtime.max_message(&name)).await?;
        let message = if is_text(headers) {
            let text = Utf8Bytes::try_from(body);
            Message::Text(text.map_err(|_| {
                RequestError::new(
                    ErrorCode::BadRequest,
                    "the text is not UTF-8; encode it as UTF-8, or send another Content-Type",
                )
            })?)
        } else {
            Message::Binary(body)
        };
        // Before the webhook is asked, because a webhook request costs as much.
        self.realtime.check_limits(&mut client, &name, message.len())?;
        if !is_allowed {
            let decision = self.realtime.0.access.publish(
                &client.identity,
                &name,
                message.as_bytes(),
                SystemTime::now(),
            );
            decision.await?;
        }
        let receipt = self
            .realtime
            .publish_unchecked(&name, message, client.user(), key, None)
            .map_err(RequestError::from)?;
        Ok(response::json(&server_events::Reply::from(receipt)))
    }

    /// Publishes several messages in order, each with its own result.
    pub(super) async fn post_many<B>(
        &self,
        body: B,
        mut client: Client,
    ) -> Result<Response<Body>, ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        #[derive(Serialize)]
        struct Results {
            results: Vec<Outcome>,
        }
        let max = self.realtime.0.config.max_message.in_memory().saturating_mul(BATCH_FACTOR);
        let body = read(body, max).await?;
        let publications = requests::parse_batch(&body)?;
        drop(body);
        let deadline = tokio::time::Instant::now() + WEBHOOK_TIME;
        let mut results = Vec::with_capacity(publications.len());
        for publication in publications {
            let published = match publication {
                Ok(publication) => self.publish(publication, &mut client, deadline).await,
                Err(error) => Err(error),
            };
            results.push(published.into());
        }
        Ok(response::json(&Results { results }))
    }

    async fn publish(
        &self,
        publication: Publication,
        client: &mut Client,
        deadline: tokio::time::Instant,
    ) -> Result<PublishReceipt, RequestError> {
        let Publication { channel: name, message, key } = publication;
        let name = channel(&name)?;
        let is_allowed = self.realtime.may_publish(&client.identity, &name)?;
        self.realtime.check_limits(client, &name, message.len())?;
        if !is_allowed {
            let decision = self.realtime.0.access.publish(
                &client.identity,
                &name,
                message.as_bytes(),
                SystemTime::now(),
            );
            let late = || {
                RequestError::new(
                    ErrorCode::Unavailable,
                    "the webhook takes too long for this batch; send fewer messages",
                )
            };
            tokio::time::timeout_at(deadline, decision).await.map_err(|_| late())??;
        }
        Ok(self.realtime.publish_unchecked(&name, message, client.user(), key.as_deref(), None)?)
    }

    /// Returns a page of history.
    pub(super) async fn post_history<B>(
        &self,
        body: B,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let request = self.read_query("history", body, client).await?;
        let (name, requests::Request::History { after, limit, .. }) = request else {
            return Err(ErrorResponse::not_found());
        };
        let after = after.as_deref().map(position).transpose()?;
        let page = self.realtime.0.hub.history(&name, after, limit, self.realtime.now())?;
        Ok(response::json(&server_events::Reply::History((&page).into())))
    }

    /// Returns the members.
    pub(super) async fn post_presence<B>(
        &self,
        body: B,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (name, _) = self.read_query("presence", body, client).await?;
        Ok(self.realtime.presence(&name, |answer| response::json(&answer)))
    }
}

impl Http {
    /// Reads a request about a channel, and checks the right to subscribe to it.
    async fn read_query<B>(
        &self,
        kind: &str,
        body: B,
        mut client: Client,
    ) -> Result<(ChannelName, requests::Request), ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let body = read(body, QUERY_MAX).await?;
        client.permit.message(body.len(), Instant::now()).map_err(RequestError::from)?;
        let request = requests::parse_body(kind, &body)?;
        let (requests::Request::History { channel: name, .. }
        | requests::Request::Presence { channel: name }) = &request
        else {
            return Err(ErrorResponse::not_found());
        };
        let name = channel(name)?;
        self.authorise_subscribe(&client.identity, &name).await?;
        Ok((name, request))
    }
}

/// Reads a body of limited size. It fails immediately if the declared length is too large, and otherwise as
/// soon as the limit is exceeded.
async fn read<B>(body: B, max: usize) -> Result<Bytes, ErrorResponse>
where
    B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let too_large = || {
        RequestError::new(ErrorCode::TooLarge, format!("the body is too large; the maximum is {max} bytes"))
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large().into());
    }
    match timeout(BODY_TIME, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large().into()),
        Ok(Err(error)) => Err(response::unreadable_body(&*error)),
        Err(_) => Err(ErrorResponse::timed_out(&format!(
            "the body was not received within {} s",
            BODY_TIME.as_secs()
        ))),
    }
}

fn idempotency_key(value: &[u8]) -> Result<&str, RequestError> {
    let key = std::str::from_utf8(value).ok().filter(|key| (1..=KEY_MAX).contains(&key.len()));
    key.ok_or_else(|| {
        RequestError::new(
            ErrorCode::BadRequest,
            format!("Idempotency-Key must have 1 to {KEY_MAX} bytes of UTF-8"),
        )
    })
}

/// Returns whether the content type denotes text.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/") || kind == "application/json" || kind == "application/x-www-form-urlencoded"
}

#[cfg(test)]
mod tests {
    use longwire::http::HeaderValue;

    use super::*;

    #[test]
    fn text_content_types() {
        for (kind, text) in [
            (None, false),
            (Some("text/plain"), true),
            (Some("Text/HTML ; charset=utf-8"), true),
            (Some("application/json"), true),
            (Some("application/x-www-form-urlencoded"), true),
            (Some("application/octet-stream"), false),
            (Some("image/png"), false),
            (Some("application/jsonx"), false),
            (Some("text"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            assert_eq!(is_text(&headers), text, "{kind:?}");
        }
    }
}
