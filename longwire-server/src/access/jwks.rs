//! Token keys that are fetched from a URL. They are cached, and fetched again when they are too old or a
//! token refers to an unknown key.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, header};
use jsonwebtoken::Algorithm;
use tokio::time::Instant;

use super::fetch::Http;
use super::keys::Keys;

/// Timeout and maximum size for fetching a key set.
const TIMEOUT: Duration = Duration::from_secs(5);
const SET_MAX: usize = 256 * 1024;

/// Delay before the next attempt after a failure, while there are no keys.
const RETRY: Duration = Duration::from_secs(2);

/// How long old keys stay valid if they cannot be fetched again. An identity provider may be down for a
/// while, but not forever.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The keys of a URL.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Inner>);

struct Inner {
    http: Http,
    url: Uri,
    default: Option<Algorithm>,
    max_age: Duration,
    refresh: Duration,
    state: Mutex<State>,
    /// Held by the task that fetches; other tasks wait for it.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    keys: Option<(Arc<Keys>, Instant)>,
    /// When the last fetch started or ended, and why it failed.
    last_attempt: Option<Instant>,
    fetching: bool,
    failure: Option<String>,
}

impl State {
    /// Returns the keys and their age, unless they are too old.
    fn usable(&self, now: Instant) -> Option<(&Arc<Keys>, Duration)> {
        let (keys, at) = self.keys.as_ref()?;
        let age = now.saturating_duration_since(*at);
        (age < STALE_MAX).then_some((keys, age))
    }

    /// Returns whether the last attempt was within this time.
    fn tried_within(&self, time: Duration, now: Instant) -> bool {
        self.last_attempt.is_some_and(|last_attempt| now.saturating_duration_since(last_attempt) < time)
    }
}

/// There are no keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unavailable(pub(super) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot fetch the token keys: {}", self.0)
    }
}

impl Jwks {
    pub(super) fn new(
        http: Http,
        url: Uri,
        default: Option<Algorithm>,
        max_age: Duration,
        refresh: Duration,
    ) -> Self {
        let (state, fetching) = (Mutex::default(), Arc::default());
        Self(Arc::new(Inner { http, url, default, max_age, refresh, state, fetching }))
    }

    /// Returns the cached keys if they suffice for a token with this key ID. Does not wait.
    pub(super) fn cached(&self, id: Option<&str>) -> Option<Arc<Keys>> {
        self.0.cached(id, Instant::now())
    }

    /// Returns the keys for a token with this key ID, and fetches them if necessary. Cancel-safe: a fetch
    /// that has started runs to completion.
    pub(super) async fn keys(&self, id: Option<&str>) -> Result<Arc<Keys>, Unavailable> {
        let guard = self.0.fetching.clone().lock_owned().await;
        if let Some(keys) = self.0.cached(id, Instant::now()) {
            return Ok(keys);
        }
        // In a separate task, so that a client that disconnects cannot interrupt the fetch for other clients.
        let inner = self.0.clone();
        let fetched = tokio::spawn(async move {
            inner.fetch().await;
            drop(guard);
        });
        if fetched.await.is_err() {
            return Err(Unavailable("the fetch was aborted".into()));
        }
        let state = self.0.state();
        match state.usable(Instant::now()) {
            Some((keys, _)) => Ok(keys.clone()),
            None => Err(Unavailable(state.failure.clone().unwrap_or_default())),
        }
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, id: Option<&str>, now: Instant) -> Option<Arc<Keys>> {
        let state = self.state();
        let (keys, age) = state.usable(now)?;
        // Keys that are old or lack the ID are still returned if an attempt was made recently: this limits
        // the request rate.
        let good = age < self.max_age && keys.can_verify(id);
        let last_attempt = !state.fetching && state.tried_within(self.refresh, now);
        (good || last_attempt).then(|| keys.clone())
    }

    async fn fetch(&self) {
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.usable(now).is_none() && state.failure.is_some() && state.tried_within(RETRY, now) {
                return;
            }
            (state.fetching, state.last_attempt) = (true, Some(now));
        }
        let fetched = self.fetch_set().await;
        let mut state = self.state();
        (state.fetching, state.last_attempt) = (false, Some(Instant::now()));
        match fetched {
            Ok(keys) => (state.keys, state.failure) = (Some((Arc::new(keys), Instant::now())), None),
            Err(failure) => {
                tracing::warn!(host = self.url.host(), reason = failure, "cannot fetch the token keys");
                state.failure = Some(failure);
            }
        }
    }

    async fn fetch_set(&self) -> Result<Keys, String> {
        let request = Request::get(&self.url)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, "longwire")
            .body(Full::<Bytes>::default())
            .map_err(|error| error.to_string())?;
        let answer = self.http.send(request, SET_MAX, TIMEOUT).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the server responded with {}", answer.status()));
        }
        Keys::jwks(answer.body(), self.default, false)
    }
}
