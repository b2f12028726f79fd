//! The backend that is asked by HTTP: about connections, subscriptions and messages.

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

use super::api_key::hexadecimal;
use super::fetch::Http;
use super::identity::{Asked, is_user};
use super::token::{date, object};
use crate::config::{self, WhenDown};
use crate::pattern::Patterns;

/// Bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// Answers that are remembered.
const CACHE_MAX: usize = 10_000;

/// That it gives no answer is told of at most this often.
const REPORT: Duration = Duration::from_secs(10);

/// The signature of the body, where there is a secret.
const SIGNATURE: &str = "x-longwire-signature";

/// Asks the backend.
pub(super) struct Webhook {
    http: Http,
    url: Uri,
    headers: Vec<String>,
    tells_body: bool,
    timeout: Duration,
    open: Semaphore,
    when_down: WhenDown,
    cache: Duration,
    secret: Option<config::Secret>,
    answers: Mutex<HashMap<[u8; 32], (Instant, Verdict)>>,
    /// When it was told of.
    reported: Mutex<Option<Instant>>,
}

/// What the backend is asked.
#[derive(Clone, Serialize)]
pub(super) struct Question<'a> {
    event: &'static str,
    /// Seconds since 1970, so that nobody can ask the same again later: it is signed with the rest.
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
    /// What is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> Question<'a> {
    pub(super) fn new(
        event: &'static str,
        asked: &'a Asked,
        user: Option<&'a str>,
        channel: Option<&'a str>,
    ) -> Self {
        Self {
            event,
            time: None,
            path: &asked.path,
            query: asked.query.as_deref(),
            headers: asked.headers.iter().map(|(name, value)| (&**name, &**value)).collect(),
            user,
            address: asked.address,
            channel,
            size: None,
            body: None,
            body_base64: None,
        }
    }
}

/// What the backend says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    allow: bool,
    pub(super) user: Option<String>,
    pub(super) subscribe: Option<Patterns>,
    pub(super) publish: Option<Patterns>,
    #[serde(deserialize_with = "date")]
    pub(super) expires: Option<SystemTime>,
}

/// What comes of a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Yes(Answer),
    No(Refusal),
}

/// What became of asking.
enum Outcome {
    Said(Verdict),
    /// For now, and for no other question.
    Later(Refusal),
    /// No answer, or none that is understood: why.
    Down(String),
}

impl Webhook {
    pub(super) fn new(http: Http, url: Uri, config: &config::Webhook) -> Self {
        Self {
            http,
            url,
            headers: config.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            tells_body: config.body,
            timeout: config.timeout.duration(),
            open: Semaphore::new(config.concurrency.into()),
            when_down: config.when_down,
            cache: config.cache.duration(),
            secret: config.secret.clone(),
            answers: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// What it will be told of a request.
    pub(super) fn asked(&self, request: &Request<()>, address: IpAddr) -> Asked {
        let headers =
            self.headers.iter().filter_map(|name| Some((name.clone(), joined(request.headers(), name)?)));
        Asked {
            path: request.uri().path().to_owned(),
            query: request.uri().query().map(str::to_owned),
            headers: headers.collect(),
            address,
        }
    }

    /// Adds what a message says, if it is told.
    pub(super) fn tell<'a>(&self, question: &mut Question<'a>, message: &'a [u8]) {
        question.size = Some(message.len());
        if self.tells_body {
            match std::str::from_utf8(message) {
                Ok(text) => question.body = Some(text),
                Err(_) => question.body_base64 = Some(STANDARD.encode(message)),
            }
        }
    }

    /// Asks, or remembers what was answered. Cancel-safe: a question that is given up is not remembered.
    pub(super) async fn ask(&self, question: Question<'_>, now: SystemTime) -> Verdict {
        let key = self.key(&question);
        if let Some(verdict) = key.and_then(|key| self.remembered(&key)) {
            return still_good(verdict, now);
        }
        let deadline = Instant::now() + self.timeout;
        // Half of the time at most is spent on waiting for a turn, so that who has one may hope for an answer.
        let Ok(Ok(_turn)) = tokio::time::timeout(self.timeout / 2, self.open.acquire()).await else {
            // A flood of questions is no reason to let anybody in.
            return Verdict::No(busy("too many questions are open"));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.exchange(question, left, now).await {
            Outcome::Said(verdict) => {
                if let Some(key) = key {
                    self.remember(key, &verdict);
                }
                still_good(verdict, now)
            }
            Outcome::Later(refusal) => Verdict::No(refusal),
            Outcome::Down(reason) => match self.report(&reason) {
                WhenDown::Allow => Verdict::Yes(Answer { allow: true, ..Answer::default() }),
                WhenDown::Deny => Verdict::No(busy("the backend that decides does not answer")),
            },
        }
    }

    async fn exchange(&self, mut question: Question<'_>, timeout: Duration, now: SystemTime) -> Outcome {
        question.time = Some(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
        let Some(request) = self.request(&question) else {
            return Outcome::Down("the question cannot be written".into());
        };
        match self.http.send(request, ANSWER_MAX, timeout).await {
            Ok(answer) => judge(&answer),
            Err(error) => Outcome::Down(error.to_string()),
        }
    }

    fn request(&self, question: &Question<'_>) -> Option<Request<Full<Bytes>>> {
        let body = serde_json::to_vec(question).ok()?;
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "longwire");
        if let Some(secret) = &self.secret {
            request = request
                .header(SIGNATURE, format!("sha256={}", signature(secret.reveal().as_bytes(), &body)?));
        }
        request.body(Full::new(body.into())).ok()
    }

    /// Tells the operator that there was no answer, and says what holds then.
    fn report(&self, reason: &str) -> WhenDown {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|last| last.elapsed() >= REPORT) {
            *reported = Some(Instant::now());
            tracing::warn!(host = self.url.host(), reason, policy = ?self.when_down, "the webhook gives no answer");
        }
        self.when_down
    }

    /// What an answer is remembered by: the question without its time and the size of a message. With a body in it nothing is
    /// remembered, for hardly anything is said twice.
    fn key(&self, question: &Question<'_>) -> Option<[u8; 32]> {
        if self.cache.is_zero() || (question.size.is_some() && self.tells_body) {
            return None;
        }
        let question = Question { size: None, ..question.clone() };
        Some(Sha256::digest(serde_json::to_vec(&question).ok()?).into())
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Verdict> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, verdict) = answers.get(key)?;
        (Instant::now() < *until).then(|| verdict.clone())
    }

    fn remember(&self, key: [u8; 32], verdict: &Verdict) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if answers.len() >= CACHE_MAX {
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() < CACHE_MAX {
            answers.insert(key, (now + self.cache, verdict.clone()));
        }
    }
}

/// What was allowed until a time is not allowed after it, remembered or not.
fn still_good(verdict: Verdict, now: SystemTime) -> Verdict {
    match &verdict {
        Verdict::Yes(answer) if answer.expires.is_some_and(|expires| now >= expires) => {
            Verdict::No(Refusal::new(StatusCode::FORBIDDEN, "what the backend allowed has expired\n"))
        }
        _ => verdict,
    }
}

fn judge(response: &Response<Bytes>) -> Outcome {
    let no = |status, text| Refusal::new(status, text);
    let refused = || Outcome::Said(Verdict::No(no(StatusCode::FORBIDDEN, "the backend does not allow it\n")));
    match response.status() {
        StatusCode::OK => match object::<Answer>(response.body()) {
            Ok(answer) if answer.user.as_deref().is_some_and(|user| !is_user(user)) => {
                Outcome::Down("the user that it names is empty, too long or has control characters".into())
            }
            Ok(answer) if answer.allow => Outcome::Said(Verdict::Yes(answer)),
            Ok(_) => refused(),
            Err(error) => Outcome::Down(format!("its answer is not understood: {error}")),
        },
        StatusCode::FORBIDDEN => refused(),
        StatusCode::UNAUTHORIZED => Outcome::Said(Verdict::No(super::unauthorized(None))),
        StatusCode::TOO_MANY_REQUESTS => {
            let refusal = no(StatusCode::TOO_MANY_REQUESTS, "the backend says: too often\n");
            let wait = response.headers().get(header::RETRY_AFTER).cloned();
            Outcome::Later(refusal.header(header::RETRY_AFTER, wait.unwrap_or(HeaderValue::from_static("1"))))
        }
        status => Outcome::Down(format!("its answer is {status}")),
    }
}

fn busy(text: &'static str) -> Refusal {
    super::unavailable(format!("{text}\n"))
}

/// In hexadecimal; keys of any length make an HMAC (RFC 2104 2).
fn signature(secret: &[u8], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(body);
    Some(hexadecimal(&mac.finalize().into_bytes()))
}

/// Several lines of one header are a list (RFC 9110 5.3), but for cookies, which are separated otherwise (RFC 9113 8.2.3).
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(if name == "cookie" { "; " } else { ", " }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in 100_u16..1000, body in "\\{(\"(allow|user|subscribe|expires)\":(true|-?[0-9.e]{1,6}|\"\\PC{0,6}\"|\\[\"[a*.>]{0,4}\"\\]|null),?){0,4}\\}|\\PC{0,30}") {
            let response = Response::builder().status(status).body(body.into()).expect("a response");
            if let Outcome::Said(Verdict::Yes(answer)) = judge(&response) {
                prop_assert!(status == 200 && answer.allow);
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
    fn what_is_remembered_is_bounded() {
        let config = config::Webhook { cache: config::Age::seconds(3600), ..config::Webhook::default() };
        let http = Http::new(&["http://127.0.0.1/"], None).expect("no files are needed");
        let webhook = Webhook::new(http, Uri::from_static("http://127.0.0.1/"), &config);
        let key = |index: usize| Sha256::digest(index.to_be_bytes()).into();
        let verdict = Verdict::Yes(Answer { allow: true, ..Answer::default() });
        for index in 0..=CACHE_MAX {
            webhook.remember(key(index), &verdict);
        }
        assert_eq!(webhook.remembered(&key(CACHE_MAX - 1)), Some(verdict));
        assert_eq!(webhook.remembered(&key(CACHE_MAX)), None);
    }

    #[test]
    fn what_answers_mean() {
        let judged = |status: u16, body: &str| {
            judge(&Response::builder().status(status).body(body.to_owned().into()).expect("a response"))
        };
        let yes = |body| matches!(judged(200, body), Outcome::Said(Verdict::Yes(_)));
        assert!(yes(r#"{"allow": true}"#));
        assert!(yes(
            r#"{"allow": true, "user": "李雷", "subscribe": ["a.*"], "expires": 4102444800, "more": 1}"#
        ));
        for body in [r#"{"allow": false}"#, "{}"] {
            assert!(matches!(judged(200, body), Outcome::Said(Verdict::No(_))), "{body}");
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
            assert!(matches!(judged(200, body), Outcome::Down(_)), "{body}");
        }
        for (status, said) in [(401, 401), (403, 403)] {
            assert!(
                matches!(judged(status, ""), Outcome::Said(Verdict::No(refusal)) if refusal.status() == said)
            );
        }
        assert!(
            matches!(judged(429, ""), Outcome::Later(refusal) if refusal.headers().contains_key(header::RETRY_AFTER))
        );
        for status in [201, 204, 301, 302, 400, 404, 500, 503] {
            assert!(matches!(judged(status, r#"{"allow": true}"#), Outcome::Down(_)), "{status}");
        }
    }
}
