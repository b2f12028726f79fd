//! The webhook: asks an HTTP backend about connections, subscriptions and messages.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, Uri, header};
use longwire::Refusal;
use longwire::http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::api_key::to_hex;
use super::fetch::Http;
use super::identity::{RequestContext, is_valid_user};
use super::token::{deserialize_date, parse_object};
use crate::config::{self, WhenDown};
use crate::pattern::Patterns;

/// Maximum size of a response, in bytes.
const RESPONSE_MAX: usize = 64 * 1024;

/// Maximum number of cached responses.
const CACHE_MAX: usize = 10_000;

/// Minimum interval between warnings about an unavailable webhook.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The header with the signature of the body, if a secret is configured.
const SIGNATURE: &str = "x-longwire-signature";

/// Sends requests to the webhook.
pub(super) struct Webhook {
    http: Http,
    url: Uri,
    headers: Vec<String>,
    sends_body: bool,
    timeout: Duration,
    slots: Semaphore,
    when_down: WhenDown,
    cache: Duration,
    secret: Option<config::Secret>,
    cached_responses: Mutex<HashMap<[u8; 32], (Instant, Decision)>>,
    /// When the last warning was logged.
    last_report: Mutex<Option<Instant>>,
}

/// The body of a webhook request.
#[derive(Clone, Serialize)]
pub(super) struct WebhookRequest<'a> {
    event: &'static str,
    /// Seconds since 1970. It is part of the signed body, so a request cannot be replayed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    path: &'a str,
    query: Option<&'a str>,
    headers: BTreeMap<&'a str, &'a str>,
    user: Option<&'a str>,
    address: IpAddr,
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// For a message that is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> WebhookRequest<'a> {
    pub(super) fn new(
        event: &'static str,
        context: &'a RequestContext,
        user: Option<&'a str>,
        channel: Option<&'a str>,
    ) -> Self {
        Self {
            event,
            time: None,
            path: &context.path,
            query: context.query.as_deref(),
            headers: context.headers.iter().map(|(name, value)| (&**name, &**value)).collect(),
            user,
            address: context.address,
            channel,
            size: None,
            body: None,
            body_base64: None,
        }
    }
}

/// The body of a webhook response.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct WebhookResponse {
    allow: bool,
    pub(super) user: Option<String>,
    pub(super) subscribe: Option<Patterns>,
    pub(super) publish: Option<Patterns>,
    #[serde(deserialize_with = "deserialize_date")]
    pub(super) expires: Option<SystemTime>,
}

/// The decision about a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    Allow(WebhookResponse),
    Deny(Refusal),
}

/// The result of a webhook request.
enum Outcome {
    Decided(Decision),
    /// The webhook limits the rate. This result is not cached.
    Throttled(Refusal),
    /// There is no valid response, for this reason.
    Failed(String),
}

impl Webhook {
    pub(super) fn new(http: Http, url: Uri, config: &config::Webhook) -> Self {
        Self {
            http,
            url,
            headers: config.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            sends_body: config.body,
            timeout: config.timeout.duration(),
            slots: Semaphore::new(config.concurrency.into()),
            when_down: config.when_down,
            cache: config.cache.duration(),
            secret: config.secret.clone(),
            cached_responses: Mutex::default(),
            last_report: Mutex::default(),
        }
    }

    /// Collects the parts of a request that the webhook is sent.
    pub(super) fn context(&self, request: &Request<()>, address: IpAddr) -> RequestContext {
        let headers = self
            .headers
            .iter()
            .filter_map(|name| Some((name.clone(), joined_values(request.headers(), name)?)));
        RequestContext {
            path: request.uri().path().to_owned(),
            query: request.uri().query().map(str::to_owned),
            headers: headers.collect(),
            address,
        }
    }

    /// Adds the size of a message, and its content if configured.
    pub(super) fn add_message<'a>(&self, webhook_request: &mut WebhookRequest<'a>, message: &'a [u8]) {
        webhook_request.size = Some(message.len());
        if self.sends_body {
            match std::str::from_utf8(message) {
                Ok(text) => webhook_request.body = Some(text),
                Err(_) => webhook_request.body_base64 = Some(STANDARD.encode(message)),
            }
        }
    }

    /// Asks the webhook, or returns the cached decision. Cancel-safe: a cancelled request is not cached.
    pub(super) async fn ask(&self, webhook_request: WebhookRequest<'_>, now: SystemTime) -> Decision {
        let key = self.key(&webhook_request);
        if let Some(decision) = key.and_then(|key| self.cached(&key)) {
            return check_expiry(decision, now);
        }
        let deadline = Instant::now() + self.timeout;
        // Waits for a free slot for at most half of the timeout, so that there is time left for the response.
        let Ok(Ok(_slot)) = tokio::time::timeout(self.timeout / 2, self.slots.acquire()).await else {
            // A flood of requests must not grant access, even with `when_down = "allow"`.
            return Decision::Deny(unavailable("too many webhook requests are waiting; try again later"));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.exchange(webhook_request, left, now).await {
            Outcome::Decided(decision) => {
                if let Some(key) = key {
                    self.store_in_cache(key, &decision);
                }
                check_expiry(decision, now)
            }
            Outcome::Throttled(refusal) => Decision::Deny(refusal),
            Outcome::Failed(reason) => match self.apply_failure_policy(&reason) {
                WhenDown::Allow => {
                    Decision::Allow(WebhookResponse { allow: true, ..WebhookResponse::default() })
                }
                WhenDown::Deny => Decision::Deny(unavailable("the webhook is unavailable; try again later")),
            },
        }
    }

    async fn exchange(
        &self,
        mut webhook_request: WebhookRequest<'_>,
        timeout: Duration,
        now: SystemTime,
    ) -> Outcome {
        webhook_request.time = Some(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
        let Some(request) = self.request(&webhook_request) else {
            return Outcome::Failed("cannot serialise the webhook request".into());
        };
        match self.http.send(request, RESPONSE_MAX, timeout).await {
            Ok(response) => interpret(&response),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn request(&self, webhook_request: &WebhookRequest<'_>) -> Option<Request<Full<Bytes>>> {
        let body = serde_json::to_vec(webhook_request).ok()?;
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "longwire");
        if let Some(secret) = &self.secret {
            request = request
                .header(SIGNATURE, format!("sha256={}", signature(secret.reveal().as_bytes(), &body)?));
        }
        request.body(Full::new(body.into())).ok()
    }

    /// Logs that the webhook is unavailable, and returns the configured policy.
    fn apply_failure_policy(&self, reason: &str) -> WhenDown {
        let mut last_report = self.last_report.lock().unwrap_or_else(PoisonError::into_inner);
        if last_report.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            *last_report = Some(Instant::now());
            tracing::warn!(host = self.url.host(), reason, policy = ?self.when_down, "the webhook is unavailable");
        }
        self.when_down
    }

    /// Returns the cache key: the request without its time and message size. Requests with a message body are
    /// not cached, because they rarely repeat.
    fn key(&self, webhook_request: &WebhookRequest<'_>) -> Option<[u8; 32]> {
        if self.cache.is_zero() || (webhook_request.size.is_some() && self.sends_body) {
            return None;
        }
        let webhook_request = WebhookRequest { size: None, ..webhook_request.clone() };
        Some(Sha256::digest(serde_json::to_vec(&webhook_request).ok()?).into())
    }

    fn cached(&self, key: &[u8; 32]) -> Option<Decision> {
        let cached_responses = self.cached_responses.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, decision) = cached_responses.get(key)?;
        (Instant::now() < *until).then(|| decision.clone())
    }

    fn store_in_cache(&self, key: [u8; 32], decision: &Decision) {
        let mut cached_responses = self.cached_responses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if cached_responses.len() >= CACHE_MAX {
            cached_responses.retain(|_, (until, _)| now < *until);
        }
        if cached_responses.len() < CACHE_MAX {
            cached_responses.insert(key, (now + self.cache, decision.clone()));
        }
    }
}

/// Denies a decision whose validity has expired.
fn check_expiry(decision: Decision, now: SystemTime) -> Decision {
    match &decision {
        Decision::Allow(response) if response.expires.is_some_and(|expires| now >= expires) => {
            Decision::Deny(Refusal::new(
                StatusCode::FORBIDDEN,
                "the access granted by the webhook has expired\n",
            ))
        }
        _ => decision,
    }
}

fn interpret(response: &Response<Bytes>) -> Outcome {
    let refusal = |status, text| Refusal::new(status, text);
    let denied =
        || Outcome::Decided(Decision::Deny(refusal(StatusCode::FORBIDDEN, "the webhook denied access\n")));
    match response.status() {
        StatusCode::OK => match parse_object::<WebhookResponse>(response.body()) {
            Ok(response) if response.user.as_deref().is_some_and(|user| !is_valid_user(user)) => {
                Outcome::Failed(
                    "its response names an invalid user: empty, too long, or with control characters".into(),
                )
            }
            Ok(response) if response.allow => Outcome::Decided(Decision::Allow(response)),
            Ok(_) => denied(),
            Err(error) => Outcome::Failed(format!("its response is invalid: {error}")),
        },
        StatusCode::FORBIDDEN => denied(),
        StatusCode::UNAUTHORIZED => Outcome::Decided(Decision::Deny(super::unauthorized(None))),
        StatusCode::TOO_MANY_REQUESTS => {
            let refusal =
                refusal(StatusCode::TOO_MANY_REQUESTS, "the webhook limits the rate; try again later\n");
            let wait = response.headers().get(header::RETRY_AFTER).cloned();
            Outcome::Throttled(
                refusal.header(header::RETRY_AFTER, wait.unwrap_or(HeaderValue::from_static("1"))),
            )
        }
        status => Outcome::Failed(format!("it responded with {status}")),
    }
}

fn unavailable(text: &'static str) -> Refusal {
    super::unavailable(format!("{text}\n"))
}

/// Returns the signature in hexadecimal. HMAC accepts keys of any length (RFC 2104 2).
fn signature(secret: &[u8], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(body);
    Some(to_hex(&mac.finalize().into_bytes()))
}

/// Joins several headers of one name into a list (RFC 9110 5.3). Cookies use another separator (RFC 9113
/// 8.2.3).
fn joined_values(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(if name == "cookie" { "; " } else { ", " }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_response_causes_a_panic(status in 100_u16..1000, body in "\\{(\"(allow|user|subscribe|expires)\":(true|-?[0-9.e]{1,6}|\"\\PC{0,6}\"|\\[\"[a*.>]{0,4}\"\\]|null),?){0,4}\\}|\\PC{0,30}") {
            let response = Response::builder().status(status).body(body.into()).expect("a response");
            if let Outcome::Decided(Decision::Allow(response)) = interpret(&response) {
                prop_assert!(status == 200 && response.allow);
            }
        }
    }

    #[test]
    fn the_signature_is_hmac_sha_256() {
        // RFC 4231 4.3.
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?").as_deref(),
            Some("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
    }

    #[test]
    fn the_cache_is_bounded() {
        let config = config::Webhook { cache: config::TimeSpan::seconds(3600), ..config::Webhook::default() };
        let http = Http::new(&["http://127.0.0.1/"], None).expect("no files are needed");
        let webhook = Webhook::new(http, Uri::from_static("http://127.0.0.1/"), &config);
        let key = |index: usize| Sha256::digest(index.to_be_bytes()).into();
        let decision = Decision::Allow(WebhookResponse { allow: true, ..WebhookResponse::default() });
        for index in 0..=CACHE_MAX {
            webhook.store_in_cache(key(index), &decision);
        }
        assert_eq!(webhook.cached(&key(CACHE_MAX - 1)), Some(decision));
        assert_eq!(webhook.cached(&key(CACHE_MAX)), None);
    }

    #[test]
    fn responses_are_interpreted() {
        let judged = |status: u16, body: &str| {
            interpret(&Response::builder().status(status).body(body.to_owned().into()).expect("a response"))
        };
        let yes = |body| matches!(judged(200, body), Outcome::Decided(Decision::Allow(_)));
        assert!(yes(r#"{"allow": true}"#));
        assert!(yes(
            r#"{"allow": true, "user": "李雷", "subscribe": ["a.*"], "expires": 4102444800, "more": 1}"#
        ));
        for body in [r#"{"allow": false}"#, "{}"] {
            assert!(matches!(judged(200, body), Outcome::Decided(Decision::Deny(_))), "{body}");
        }
        let long = format!(r#"{{"allow": true, "user": "{}"}}"#, "a".repeat(256));
        for body in [
            "",
            "true",
            "[]",
            "[true]",
            r#"{"allow": "yes"}"#,
            r#"{"allow": true"#,
            r#"{"allow": true, "user": ""}"#,
            r#"{"allow": true, "user": 7}"#,
            r#"{"allow": true, "subscribe": ["a*"]}"#,
            r#"{"allow": true, "expires": -1}"#,
            r#"{"allow": true, "expires": 1e300}"#,
            &long,
        ] {
            assert!(matches!(judged(200, body), Outcome::Failed(_)), "{body}");
        }
        for (status, expected) in [(401, 401), (403, 403)] {
            assert!(
                matches!(judged(status, ""), Outcome::Decided(Decision::Deny(refusal)) if refusal.status() == expected)
            );
        }
        assert!(
            matches!(judged(429, ""), Outcome::Throttled(refusal) if refusal.headers().contains_key(header::RETRY_AFTER))
        );
        for status in [201, 204, 301, 302, 400, 404, 500, 503] {
            assert!(matches!(judged(status, r#"{"allow": true}"#), Outcome::Failed(_)), "{status}");
        }
    }
}
