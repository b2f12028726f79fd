//! Real-time channels for clients: admission, publishing and delivery.
//!
//! [`Realtime`] combines the hub with the access rules, the limits and the engine. `connections` has the
//! engine's callbacks for raw connections and sessions (`session`). `requests` and `server_events` are the
//! two directions of `longwire.v1`. [`http`] offers the same channels without WebSocket; `presence_broadcast`
//! reports the members there.
//!
//! This example serves everything in docs/protocol.md, including WebSockets, in an axum application, at the
//! paths that its router does not know:
//!
//! ```
//! use std::net::SocketAddr;
//! use axum::Router;
//! use axum::extract::{ConnectInfo, Request};
//! use axum::routing::get;
//! use longwire::Acceptor;
//! use longwire_server::config::Config;
//! use longwire_server::realtime::{Realtime, SUBPROTOCOL, http::Http};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let realtime = Realtime::new(Config::default())?;
//! let engine = realtime.engine(|_| ()).start_without_listener()?;
//! realtime.set_engine(engine.handle());
//! let kept = realtime.clone();
//! tokio::spawn(async move { kept.upkeep(|on_error| eprintln!("{on_error}")).await });
//!
//! let http = Http::new(realtime.clone()).websockets(Acceptor::new().subprotocols([SUBPROTOCOL]));
//! let channels = move |ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request| async move {
//!     http.handle(request, from).await
//! };
//! let app = Router::new().route("/about", get(|| async { "你好" })).fallback(channels);
//! let app = app.into_make_service_with_connect_info::<SocketAddr>();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! tokio::spawn(async move { axum::serve(listener, app).await });
//!
//! let mut ws = longwire::connect(format!("ws://{address}/news")).await?;
//! # while realtime.hub().presence(&"news".parse()?).is_none_or(|there| there.counts.connections == 0) {
//! #     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
//! # }
//! # tokio::time::sleep(std::time::Duration::from_millis(50)).await;
//! realtime.publish(&"news".parse()?, "开门了 🎉")?;
//! assert_eq!(ws.recv().await?.as_ref().and_then(|message| message.as_text()), Some("开门了 🎉"));
//! # Ok(())
//! # }
//! ```

mod assets;
mod connections;
pub mod http;
mod presence_broadcast;
mod requests;
mod server_events;
mod session;
mod static_files;
mod stats;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::marker;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use longwire::engine::{Engine, Handle, Id, SlowConsumer};
use longwire::http::{StatusCode, header};
use longwire::{Counters, Message, Refusal, SharedFrame, Snapshot};

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use crate::access::{Access, Identity, IdentityKind};
use crate::config::{Config, PresenceDetail, SlowPolicy, Sync};
use crate::hub::{
    ChannelName, ChannelOptions, Clock, History, Hub, HubError, Keys, Limits as HubLimits, Position,
    Presence, PresenceSnapshot, PublishOptions, PublishReceipt, Published, Time, User,
};
use crate::limits::{Bucket, LimitExceeded, Limits, Permit, Rate};
use crate::pattern;
use crate::store::{Store, Sync as StoreSync};

pub use connections::ConnectionHandler;

use presence_broadcast::PresenceBroadcast;
use requests::{ErrorCode, RequestError};
use server_events::ServerEvent;
use static_files::StaticFiles;
use stats::Stats;

/// The subprotocol of sessions.
pub const SUBPROTOCOL: &str = "longwire.v1";

/// How often periodic work runs, such as reporting presence and expiring history.
const UPKEEP: Duration = Duration::from_millis(100);

/// Limits of the idempotency keys of a channel.
const KEYS: Keys = Keys { count: 1000, window: Duration::from_secs(300) };

/// Maximum number of messages and bytes in a replay.
const REPLAY_MESSAGES: usize = 1000;
const REPLAY_BYTES: usize = 512 << 10;

/// The number of tracked channel rates above which idle ones are removed, and the maximum.
const RATES_SWEEP_MIN: usize = 1024;
const RATES_MAX: usize = 1 << 20;

/// The rates of channels with a rate limit.
#[derive(Default)]
struct Rates {
    by_name: HashMap<ChannelName, Bucket>,
    /// The number of entries at which idle ones are removed again.
    sweep_at: usize,
}

/// The channels of a server. Cloning creates another handle to the same channels.
#[derive(Clone)]
pub struct Realtime(Arc<Inner>);

struct Inner {
    config: Config,
    hub: Hub,
    clock: Clock,
    access: Access,
    limits: Limits,
    /// The publishing rates of channels with a rate limit.
    rates: Mutex<Rates>,
    engine: OnceLock<Handle>,
    counters: OnceLock<Counters>,
    stats: Stats,
    pages: StaticFiles,
    /// Reports presence changes to HTTP clients.
    presence_broadcast: PresenceBroadcast,
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime").field("channels", &self.0.hub.channels()).finish_non_exhaustive()
    }
}

/// The engine topics of a channel: raw messages, session events, and presence.
#[derive(Clone, Copy)]
enum Topic {
    Raw = b'r' as isize,
    Session = b's' as isize,
    Presence = b'p' as isize,
}

impl Topic {
    fn name_for(self, channel: &str) -> String {
        let mut topic = String::with_capacity(channel.len() + 1);
        topic.push(char::from(self as u8));
        topic.push_str(channel);
        topic
    }
}

impl Realtime {
    /// Creates the channels of a configuration.
    ///
    /// # Errors
    ///
    /// Returns a description if keys, static files or the store cannot be opened.
    pub fn new(config: Config) -> Result<Self, String> {
        let access = Access::new(&config.access)?;
        let limits = Limits::new(config.limits);
        let hub_limits = HubLimits {
            replay_messages: REPLAY_MESSAGES,
            replay_bytes: REPLAY_BYTES,
            ..HubLimits::default()
        };
        let rules = config.clone();
        let options = move |name: &str| Arc::new(options(&rules, name));
        let hub = match &config.data {
            Some(folder) => Hub::with_store(hub_limits, open(folder, config.sync)?, options),
            None => Hub::new(hub_limits, options),
        };
        Ok(Self(Arc::new(Inner {
            access,
            limits,
            hub,
            clock: Clock::start(),
            rates: Mutex::default(),
            engine: OnceLock::new(),
            counters: OnceLock::new(),
            stats: Stats::default(),
            pages: config.pages.as_deref().map(StaticFiles::read).transpose()?.unwrap_or_default(),
            presence_broadcast: PresenceBroadcast::default(),
            config,
        })))
    }

    /// Returns the underlying hub.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Returns the current time of the hub's clock.
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Fetches the token keys if they come from a URL. A wrong URL then shows at startup.
    ///
    /// # Errors
    ///
    /// Returns a description of the failure.
    pub async fn fetch_keys(&self) -> Result<(), String> {
        self.0.access.fetch_keys().await
    }

    /// Returns an engine for these channels. Set its limits, TLS and further services, then start it with a
    /// listener, or without one if requests arrive through [`Http`](http::Http). `accept_failed` receives the
    /// errors of its listening socket.
    pub fn engine<F>(&self, accept_failed: F) -> Engine<ConnectionHandler>
    where
        F: Fn(&io::Error) + Send + marker::Sync + 'static,
    {
        let (authoriser, slow) = (self.clone(), self.clone());
        Engine::new(ConnectionHandler::new(self.clone(), accept_failed))
            .on_request(move |request, from| ConnectionHandler::authorise(authoriser.clone(), request, from))
            .slow_consumers_of(move |topic| slow.slow_consumer(topic))
    }

    /// Sets the engine that delivers messages and calls [`ConnectionHandler`]. Call it once, before clients
    /// connect.
    pub fn set_engine(&self, engine: Handle) {
        let _ = self.0.engine.set(engine);
    }

    /// Sets counters that include connections outside the engine. Call it once, before clients connect.
    pub fn set_counters(&self, counters: &Counters) {
        let _ = self.0.counters.set(counters.clone());
    }

    /// Returns the counters.
    fn snapshot(&self) -> Snapshot {
        match (self.0.counters.get(), self.0.engine.get()) {
            (Some(counters), _) => counters.snapshot(),
            (None, Some(engine)) => engine.counters(),
            (None, None) => Counters::new().snapshot(),
        }
    }

    /// Returns the data of the dashboard: the current values, and the samples of the last hour after this
    /// time.
    fn stats(&self, after: u64) -> stats::StatsReport {
        self.0.stats.report(SystemTime::now(), after, &self.snapshot(), &self.0.hub)
    }

    /// Returns the policy for slow consumers of an engine topic.
    pub fn slow_consumer(&self, topic: &str) -> SlowConsumer {
        let slow = self.0.config.channel(topic.get(1..).unwrap_or_default()).map(|channel| channel.slow);
        let slow = slow.unwrap_or_default();
        let bytes = slow.bytes.in_memory();
        let policy = match slow.policy {
            // Presence is sent as changes, and none may be dropped.
            _ if topic.starts_with(char::from(Topic::Presence as u8)) => SlowConsumer::close(bytes),
            SlowPolicy::Close => SlowConsumer::close(bytes),
            SlowPolicy::DropOldest => SlowConsumer::drop_oldest(bytes),
            SlowPolicy::KeepLatest => SlowConsumer::keep_latest(bytes),
        };
        match slow.age {
            Some(age) => policy.max_age(age.duration()),
            None => policy,
        }
    }

    /// Runs the periodic work: reports presence, drops expired state, and syncs the store as configured.
    /// Never completes; errors are passed to `on_error`.
    pub async fn upkeep(&self, mut on_error: impl FnMut(&HubError)) {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last_sync, mut sync_task) = (Instant::now(), None);
        loop {
            ticks.tick().await;
            let now = self.now();
            if let Some(done) = sync_task.take_if(|task: &mut JoinHandle<_>| task.is_finished())
                && let Ok(Err(error)) = done.await
            {
                on_error(&error);
            }
            if let Sync::Every(age) = self.0.config.sync
                && sync_task.is_none()
                && last_sync.elapsed() >= age.duration()
            {
                last_sync = Instant::now();
                let realtime = self.clone();
                // The disk may be slow.
                sync_task = Some(spawn_blocking(move || realtime.sync()));
            }
            self.0.stats.sample(SystemTime::now(), || self.snapshot(), &self.0.hub);
            self.0.hub.take_presence_changes(now, &mut |name, change| {
                let text = ServerEvent::Presence { channel: name, presence: (&change).into() }.to_json();
                self.0.presence_broadcast.send(name, &text);
                if let Some(engine) = self.0.engine.get() {
                    // If the queue of a loop is full, the other loops still get it.
                    let _ = engine.publish(&Topic::Presence.name_for(name), text);
                }
            });
            if let Err(error) = self.0.hub.tick(now) {
                on_error(&error);
            }
        }
    }

    /// Syncs the store to disk.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::Store`].
    pub fn sync(&self) -> Result<(), HubError> {
        self.0.hub.store().map_or(Ok(()), |store| store.sync().map_err(HubError::from))
    }

    /// Publishes a message as the server, without access rules and limits.
    ///
    /// # Errors
    ///
    /// Returns [`HubError`].
    pub fn publish(
        &self,
        channel: &ChannelName,
        message: impl Into<Message>,
    ) -> Result<PublishReceipt, HubError> {
        self.publish_unchecked(channel, message.into(), None, None, None)
    }

    /// Publishes a message and passes it to the engine in the order of positions.
    fn publish_unchecked(
        &self,
        name: &ChannelName,
        message: Message,
        from: Option<User>,
        key: Option<&str>,
        except: Option<Id>,
    ) -> Result<PublishReceipt, HubError> {
        let options = PublishOptions { from, key, now: self.now() };
        self.0.hub.publish(name, message, options, &mut |published| {
            self.0.stats.published(published.message.len());
            self.deliver(name, published, except);
        })
    }

    fn deliver(&self, name: &ChannelName, published: &Published, except: Option<Id>) {
        let Some(engine) = self.0.engine.get() else { return };
        let latest =
            self.0.config.channel(name).is_some_and(|channel| channel.slow.policy == SlowPolicy::KeepLatest);
        let key = latest.then_some("");
        let raw = SharedFrame::new(published.message.clone());
        let raw = engine.publish_except(&Topic::Raw.name_for(name), key, &raw, except);
        let session = SharedFrame::new(server_events::message(name, published));
        let session = engine.publish_except(&Topic::Session.name_for(name), key, &session, None);
        if raw.and(session).is_err() {
            // Sessions detect it by the positions.
            warn!(target: "longwire", channel = %name, "the queue of an event loop is full (64 MiB); its clients miss a message");
        }
    }

    /// Checks the size limit and counts the message against the rate limits, whatever happens to it.
    fn check_limits(
        &self,
        client: &mut Client,
        name: &ChannelName,
        bytes: usize,
    ) -> Result<(), RequestError> {
        let most = self.max_message(name);
        if bytes > most {
            return Err(RequestError::new(
                ErrorCode::TooLarge,
                format!("the message is too large; the maximum on {name} is {most} bytes"),
            ));
        }
        let now = Instant::now();
        client.permit.message(bytes, now)?;
        match self.0.config.channel(name).and_then(|channel| channel.rate) {
            Some(rate) => self.take_from_rate(name, &rate, now),
            None => Ok(()),
        }
    }

    /// Publishes a message of a client that has the right to, within its limits.
    fn publish_for(
        &self,
        client: &mut Client,
        name: &ChannelName,
        message: Message,
        key: Option<&str>,
        except: Option<Id>,
    ) -> Result<PublishReceipt, RequestError> {
        self.check_limits(client, name, message.len())?;
        Ok(self.publish_unchecked(name, message, client.user(), key, except)?)
    }

    /// Returns the maximum message size of a channel, in bytes.
    fn max_message(&self, name: &ChannelName) -> usize {
        let own = self.0.config.channel(name).and_then(|channel| channel.max_message);
        own.unwrap_or(self.0.config.max_message).in_memory()
    }

    fn take_from_rate(&self, name: &ChannelName, rate: &Rate, now: Instant) -> Result<(), RequestError> {
        let mut rates = self.0.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { by_name, sweep_at } = &mut *rates;
        if by_name.len() >= (*sweep_at).max(RATES_SWEEP_MIN) && !by_name.contains_key(name) {
            by_name.retain(|name, bucket| {
                let rate = self.0.config.channel(name).and_then(|channel| channel.rate);
                rate.is_some_and(|rate| !bucket.is_idle(&rate, now))
            });
            // Doubling avoids a search for each new name while most entries are active.
            *sweep_at = by_name.len() * 2;
        }
        if by_name.len() >= RATES_MAX && !by_name.contains_key(name) {
            let text = "too many channels with a rate limit are active; try again later";
            return Err(RequestError::new(ErrorCode::Unavailable, text));
        }
        let bucket = by_name.entry(name.clone()).or_insert_with(|| Bucket::new(now));
        bucket.take(rate, 1, now).map_err(|wait| RequestError {
            code: ErrorCode::RateLimited,
            message: format!("the rate limit of {name} is exceeded"),
            retry_after: Some(millis(wait)),
        })
    }

    /// Passes the members to `see` under the lock of the channel, so that later changes continue them.
    fn presence<R>(&self, name: &ChannelName, see: impl FnOnce(server_events::Reply<'static>) -> R) -> R {
        self.0.hub.presence_with(name, |present| {
            let empty = PresenceSnapshot { counts: Default::default(), members: None };
            see(server_events::Reply::Presence((&present.unwrap_or(empty)).into()))
        })
    }

    /// Returns whether a client may subscribe to a channel; `Ok(false)` means that the webhook decides.
    fn may_subscribe(&self, client: &Identity, name: &ChannelName) -> Result<bool, RequestError> {
        let (webhook_decides, _) = self.0.access.webhook_decides();
        match client.kind() == IdentityKind::Open || client.may_subscribe(name) {
            true => Ok(true),
            false if webhook_decides => Ok(false),
            false => {
                Err(RequestError::new(ErrorCode::Forbidden, format!("not allowed to subscribe to {name}")))
            }
        }
    }

    /// Returns whether a client may publish to a channel; `Ok(false)` means that the webhook decides.
    fn may_publish(&self, client: &Identity, name: &ChannelName) -> Result<bool, RequestError> {
        let publishers = self.0.config.channel(name).map(|channel| channel.publish).unwrap_or_default();
        let (_, webhook_decides) = self.0.access.webhook_decides();
        match client.kind() == IdentityKind::Open || client.may_publish(name) {
            _ if !client.is_publisher(publishers) => {}
            true => return Ok(true),
            false if webhook_decides => return Ok(false),
            false => {}
        }
        Err(RequestError::new(ErrorCode::Forbidden, format!("not allowed to publish to {name}")))
    }

    /// Admits a client: identifies it and takes a permit.
    async fn admit(&self, request: &longwire::http::Request<()>, from: IpAddr) -> Result<Client, Refusal> {
        let now = Instant::now();
        // Before any more expensive work.
        let mut permit = self.0.limits.connect(from, now)?;
        let identity = self.0.access.connect(request, from, SystemTime::now()).await?;
        if let Some(user) = identity.user() {
            self.0.limits.user(&mut permit, user, now)?;
        }
        Ok(Client { identity, permit })
    }
}

/// An admitted client.
#[derive(Debug)]
struct Client {
    identity: Identity,
    permit: Permit,
}

impl Client {
    /// Returns the user name as the hub's type.
    fn user(&self) -> Option<User> {
        // Valid user names are valid here as well.
        User::new(self.identity.user()?).ok()
    }
}

/// The name of the channel at the path `/`.
const ROOT: &str = "/";

/// Parses a channel name.
fn channel(text: &str) -> Result<ChannelName, RequestError> {
    let bad = |reason: String| RequestError::new(ErrorCode::BadChannel, reason);
    let checked = if text == ROOT { Ok(()) } else { pattern::check_name(text) };
    checked.map_err(|error| bad(error.to_string()))?;
    ChannelName::new(text).map_err(|error| bad(error.to_string()))
}

/// Parses a position.
fn position(text: &str) -> Result<Position, RequestError> {
    text.parse().map_err(|error: crate::hub::InvalidPosition| {
        RequestError::new(ErrorCode::BadPosition, error.to_string())
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<LimitExceeded> for RequestError {
    fn from(limited: LimitExceeded) -> Self {
        Self {
            code: ErrorCode::RateLimited,
            message: limited.to_string(),
            retry_after: Some(millis(limited.wait)),
        }
    }
}

impl From<HubError> for RequestError {
    fn from(refused: HubError) -> Self {
        if let HubError::Store(error) = &refused {
            // Details are for the operator only.
            warn!(target: "longwire", %error, "the store failed");
            return Self::new(ErrorCode::Unavailable, "the history is unavailable; try again later");
        }
        let code = match refused {
            HubError::Key(_) => ErrorCode::BadRequest,
            _ => ErrorCode::Unavailable,
        };
        Self::new(code, refused.to_string())
    }
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status() {
            StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
            StatusCode::FORBIDDEN => ErrorCode::Forbidden,
            StatusCode::TOO_MANY_REQUESTS => ErrorCode::RateLimited,
            _ => ErrorCode::Unavailable,
        };
        let seconds =
            refusal.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(|seconds: u64| seconds.saturating_mul(1000));
        Self { retry_after, ..Self::new(code, refusal.text().trim_end()) }
    }
}

/// Returns the hub options of a channel from its settings.
fn options(config: &Config, name: &str) -> ChannelOptions {
    let channel = config.channel(name).cloned().unwrap_or_default();
    ChannelOptions {
        history: History {
            messages: channel.history.messages as usize,
            bytes: channel.history.bytes.in_memory(),
            age: channel.history.age.duration(),
        },
        presence: match channel.presence.show {
            PresenceDetail::Off => Presence::Off,
            PresenceDetail::Counts => Presence::Counts,
            PresenceDetail::Members => Presence::Members(channel.presence.max as usize),
        },
        keys: KEYS,
    }
}

fn open(folder: &Path, sync: Sync) -> Result<Store, String> {
    let sync = match sync {
        Sync::Os => StoreSync::Os,
        Sync::Every(age) => StoreSync::Interval(age.duration()),
        Sync::Always => StoreSync::Always,
    };
    Store::open(folder, sync).map_err(|error| error.to_string())
}
