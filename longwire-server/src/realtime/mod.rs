//! Channels as clients meet them: who may do what on them, and how what is published reaches everyone.
//!
//! [`Realtime`] joins the hub with its rules and the engine. `clients` is what the engine calls: raw connections and
//! sessions (`session`), whose words are in `wire` (what they ask) and `told` (what they hear). [`http`] is the same
//! channels for those who come without WebSocket; `audience` tells them who is there.
//!
//! Within an application of axum, all of docs/protocol.md, WebSockets included, at the paths that its router does not know:
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
//! realtime.deliver_by(engine.handle());
//! let kept = realtime.clone();
//! tokio::spawn(async move { kept.upkeep(|trouble| eprintln!("{trouble}")).await });
//!
//! let http = Http::new(realtime.clone()).websockets(Acceptor::new().subprotocols([SUBPROTOCOL]));
//! let channels = move |ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request| async move {
//!     http.answer(request, from).await
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

mod audience;
mod clients;
pub mod http;
mod pages;
mod session;
mod site;
mod stats;
mod told;
mod wire;

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

use crate::access::{Access, Identity, Kind as By};
use crate::config::{Config, OnSlow, Show, Sync};
use crate::hub::{
    ChannelName, ChannelOptions, Clock, History, Hub, Keys, Limits as HubLimits, Position, Presence, Present,
    Publish, Published, Receipt, Refused, Time, User,
};
use crate::limits::{Bucket, Limited, Limits, Rate, Seat};
use crate::pattern;
use crate::store::{Store, Sync as StoreSync};

pub use clients::Clients;

use audience::Audience;
use pages::Pages;
use stats::Stats;
use told::Told;
use wire::{Code, Fault};

/// The subprotocol of sessions.
pub const SUBPROTOCOL: &str = "longwire.v1";

/// How often what is due is done: presence told, history expired.
const UPKEEP: Duration = Duration::from_millis(100);

/// How long the key of a publication is remembered.
const KEYS: Keys = Keys { count: 1000, window: Duration::from_secs(300) };

/// Messages and bytes that are resumed in one go.
const REPLAY_MESSAGES: usize = 1000;
const REPLAY_BYTES: usize = 512 << 10;

/// Channels of which the rate is known at a time before those that are quiet are forgotten, and at the most.
const RATES: usize = 1024;
const RATES_MAX: usize = 1 << 20;

/// How fast is spoken on the channels that have a rate.
#[derive(Default)]
struct Rates {
    by_name: HashMap<ChannelName, Bucket>,
    /// With how many those that are quiet are looked for again.
    sweep_at: usize,
}

/// The channels of a server. It clones into further handles of the same.
#[derive(Clone)]
pub struct Realtime(Arc<Inner>);

struct Inner {
    config: Config,
    hub: Hub,
    clock: Clock,
    access: Access,
    limits: Limits,
    /// How fast all who speak on a channel may, where that is bounded.
    rates: Mutex<Rates>,
    engine: OnceLock<Handle>,
    counters: OnceLock<Counters>,
    stats: Stats,
    pages: Pages,
    /// Who is told of presence over HTTP.
    audience: Audience,
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime").field("channels", &self.0.hub.channels()).finish_non_exhaustive()
    }
}

/// Topics of the engine: what a channel is for those who hear it raw, in sessions, and who is there.
#[derive(Clone, Copy)]
enum Kind {
    Raw = b'r' as isize,
    Session = b's' as isize,
    Presence = b'p' as isize,
}

impl Kind {
    fn topic(self, channel: &str) -> String {
        let mut topic = String::with_capacity(channel.len() + 1);
        topic.push(char::from(self as u8));
        topic.push_str(channel);
        topic
    }
}

impl Realtime {
    /// The channels that a configuration describes.
    ///
    /// # Errors
    ///
    /// In words, when keys, pages or the store cannot be opened.
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
            pages: config.pages.as_deref().map(Pages::read).transpose()?.unwrap_or_default(),
            audience: Audience::default(),
            config,
        })))
    }

    /// The hub below.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// The present moment, by the hub's clock.
    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Fetches the keys of tokens, where they are to be fetched: so that a wrong address shows at the start.
    ///
    /// # Errors
    ///
    /// In words.
    pub async fn fetch_keys(&self) -> Result<(), String> {
        self.0.access.fetch_keys().await
    }

    /// An engine for these channels, on which limits, TLS and what is served besides can be said; to be started
    /// with a listener, or without one where requests come by [`Http`](http::Http). Errors of its listening socket are
    /// handed to `accept_failed`.
    pub fn engine<F>(&self, accept_failed: F) -> Engine<Clients>
    where
        F: Fn(&io::Error) + Send + marker::Sync + 'static,
    {
        let (asked, slow) = (self.clone(), self.clone());
        Engine::new(Clients::new(self.clone(), accept_failed))
            .on_request(move |request, from| Clients::ask(asked.clone(), request, from))
            .slow_consumers_of(move |topic| slow.slow_consumer(topic))
    }

    /// Who is to deliver: the engine that calls [`Clients`]. Said once, before anybody connects.
    pub fn deliver_by(&self, engine: Handle) {
        let _ = self.0.engine.set(engine);
    }

    /// What counts besides the engine. Said once, before anybody connects.
    pub fn count_by(&self, counters: &Counters) {
        let _ = self.0.counters.set(counters.clone());
    }

    /// What was done so far.
    fn counted(&self) -> Snapshot {
        match (self.0.counters.get(), self.0.engine.get()) {
            (Some(counters), _) => counters.snapshot(),
            (None, Some(engine)) => engine.counters(),
            (None, None) => Counters::new().snapshot(),
        }
    }

    /// What the dashboard is told: the last hour, as far as it is later than this, and where everything stands.
    fn told_stats(&self, after: u64) -> stats::Stated {
        self.0.stats.told(SystemTime::now(), after, &self.counted(), &self.0.hub)
    }

    /// What becomes of those who read a topic of the engine too slowly.
    pub fn slow_consumer(&self, topic: &str) -> SlowConsumer {
        let slow = self.0.config.channel(topic.get(1..).unwrap_or_default()).map(|channel| channel.slow);
        let slow = slow.unwrap_or_default();
        let bytes = slow.bytes.in_memory();
        let policy = match slow.policy {
            // Who is there is told in changes: none of them may be missing.
            _ if topic.starts_with(char::from(Kind::Presence as u8)) => SlowConsumer::close(bytes),
            OnSlow::Close => SlowConsumer::close(bytes),
            OnSlow::DropOldest => SlowConsumer::drop_oldest(bytes),
            OnSlow::KeepLatest => SlowConsumer::keep_latest(bytes),
        };
        match slow.age {
            Some(age) => policy.max_age(age.duration()),
            None => policy,
        }
    }

    /// Tells who is there, drops what has expired, and brings what is stored to the disk as often as the configuration
    /// says. Never ends; what goes wrong is handed to `trouble`.
    pub async fn upkeep(&self, mut trouble: impl FnMut(&Refused)) {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut synced, mut syncing) = (Instant::now(), None);
        loop {
            ticks.tick().await;
            let now = self.now();
            if let Some(done) = syncing.take_if(|task: &mut JoinHandle<_>| task.is_finished())
                && let Ok(Err(error)) = done.await
            {
                trouble(&error);
            }
            if let Sync::Every(age) = self.0.config.sync
                && syncing.is_none()
                && synced.elapsed() >= age.duration()
            {
                synced = Instant::now();
                let realtime = self.clone();
                // A disk may take its time.
                syncing = Some(spawn_blocking(move || realtime.sync()));
            }
            self.0.stats.sample(SystemTime::now(), || self.counted(), &self.0.hub);
            self.0.hub.take_presence_changes(now, &mut |name, change| {
                let told = Told::Presence { channel: name, presence: (&change).into() }.text();
                self.0.audience.tell(name, &told);
                if let Some(engine) = self.0.engine.get() {
                    // A loop that is full has others to tell.
                    let _ = engine.publish(&Kind::Presence.topic(name), told);
                }
            });
            if let Err(error) = self.0.hub.tick(now) {
                trouble(&error);
            }
        }
    }

    /// Brings what is stored to the disk.
    ///
    /// # Errors
    ///
    /// [`Refused::Store`].
    pub fn sync(&self) -> Result<(), Refused> {
        self.0.hub.store().map_or(Ok(()), |store| store.sync().map_err(Refused::from))
    }

    /// Publishes in the name of the server: nobody's rights and limits are asked for.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn publish(&self, channel: &ChannelName, message: impl Into<Message>) -> Result<Receipt, Refused> {
        self.hand_on(channel, message.into(), None, None, None)
    }

    /// Gives a message its place, and hands it to the engine in the order of places.
    fn hand_on(
        &self,
        name: &ChannelName,
        message: Message,
        from: Option<User>,
        key: Option<&str>,
        except: Option<Id>,
    ) -> Result<Receipt, Refused> {
        let how = Publish { from, key, now: self.now() };
        self.0.hub.publish(name, message, how, &mut |published| {
            self.0.stats.published(published.message.len());
            self.deliver(name, published, except);
        })
    }

    fn deliver(&self, name: &ChannelName, published: &Published, except: Option<Id>) {
        let Some(engine) = self.0.engine.get() else { return };
        let latest =
            self.0.config.channel(name).is_some_and(|channel| channel.slow.policy == OnSlow::KeepLatest);
        let key = latest.then_some("");
        let raw = SharedFrame::new(published.message.clone());
        let raw = engine.publish_except(&Kind::Raw.topic(name), key, &raw, except);
        let told = SharedFrame::new(told::message(name, published));
        let told = engine.publish_except(&Kind::Session.topic(name), key, &told, None);
        if raw.and(told).is_err() {
            // In sessions the positions tell of it.
            warn!(target: "longwire", channel = %name, "a loop is behind by 64 MiB: its clients miss a message");
        }
    }

    /// Whether a client may publish so much now. It counts, whatever becomes of it.
    fn allow(&self, who: &mut Who, name: &ChannelName, bytes: usize) -> Result<(), Fault> {
        let most = self.max_message(name);
        if bytes > most {
            return Err(Fault::new(Code::TooLarge, format!("a message on {name} has at most {most} bytes")));
        }
        let now = Instant::now();
        who.seat.message(bytes, now)?;
        match self.0.config.channel(name).and_then(|channel| channel.rate) {
            Some(rate) => self.keep_rate(name, &rate, now),
            None => Ok(()),
        }
    }

    /// Publishes for a client that may, as fast as it may.
    fn publish_for(
        &self,
        who: &mut Who,
        name: &ChannelName,
        message: Message,
        key: Option<&str>,
        except: Option<Id>,
    ) -> Result<Receipt, Fault> {
        self.allow(who, name, message.len())?;
        Ok(self.hand_on(name, message, who.user(), key, except)?)
    }

    /// Bytes of the largest message that a channel takes.
    fn max_message(&self, name: &ChannelName) -> usize {
        let own = self.0.config.channel(name).and_then(|channel| channel.max_message);
        own.unwrap_or(self.0.config.max_message).in_memory()
    }

    fn keep_rate(&self, name: &ChannelName, rate: &Rate, now: Instant) -> Result<(), Fault> {
        let mut rates = self.0.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { by_name, sweep_at } = &mut *rates;
        if by_name.len() >= (*sweep_at).max(RATES) && !by_name.contains_key(name) {
            by_name.retain(|name, bucket| {
                let rate = self.0.config.channel(name).and_then(|channel| channel.rate);
                rate.is_some_and(|rate| !bucket.is_idle(&rate, now))
            });
            // Not for each name that is new: so long as many are not quiet, twice as many may be known.
            *sweep_at = by_name.len() * 2;
        }
        if by_name.len() >= RATES_MAX && !by_name.contains_key(name) {
            let text = "more channels are spoken on than can be told apart";
            return Err(Fault::new(Code::Unavailable, text));
        }
        let bucket = by_name.entry(name.clone()).or_insert_with(|| Bucket::new(now));
        bucket.take(rate, 1, now).map_err(|wait| Fault {
            code: Code::RateLimited,
            message: format!("more is said on {name} than it takes"),
            retry_after: Some(millis(wait)),
        })
    }

    /// Who is there, for somebody who sees it under the lock of the channel: so what is told later continues it.
    fn presence<R>(&self, name: &ChannelName, see: impl FnOnce(told::Answer<'static>) -> R) -> R {
        self.0.hub.presence_with(name, |present| {
            let nobody = Present { counts: Default::default(), members: None };
            see(told::Answer::Presence((&present.unwrap_or(nobody)).into()))
        })
    }

    /// Whether somebody may hear a channel: `Ok(false)` is that it has to be asked for.
    fn may_subscribe(&self, who: &Identity, name: &ChannelName) -> Result<bool, Fault> {
        let (asks, _) = self.0.access.asks();
        match who.kind() == By::Open || who.may_subscribe(name) {
            true => Ok(true),
            false if asks => Ok(false),
            false => Err(Fault::new(Code::Forbidden, format!("you may not hear {name}"))),
        }
    }

    /// And speak on it.
    fn may_publish(&self, who: &Identity, name: &ChannelName) -> Result<bool, Fault> {
        let publishers = self.0.config.channel(name).map(|channel| channel.publish).unwrap_or_default();
        let (_, asks) = self.0.access.asks();
        match who.kind() == By::Open || who.may_publish(name) {
            _ if !who.is_among(publishers) => {}
            true => return Ok(true),
            false if asks => return Ok(false),
            false => {}
        }
        Err(Fault::new(Code::Forbidden, format!("you may not speak on {name}")))
    }

    /// Lets somebody in: says who he is, and gives him a seat.
    async fn admit(&self, request: &longwire::http::Request<()>, from: IpAddr) -> Result<Who, Refusal> {
        let now = Instant::now();
        // Before anything that costs more.
        let mut seat = self.0.limits.connect(from, now)?;
        let identity = self.0.access.connect(request, from, SystemTime::now()).await?;
        if let Some(user) = identity.user() {
            self.0.limits.user(&mut seat, user, now)?;
        }
        Ok(Who { identity, seat })
    }
}

/// Somebody who was let in.
#[derive(Debug)]
struct Who {
    identity: Identity,
    seat: Seat,
}

impl Who {
    /// As channels know him.
    fn user(&self) -> Option<User> {
        // What may be the name of a user there may be one here.
        User::new(self.identity.user()?).ok()
    }
}

/// The channel at the path `/`: the one whose name has nothing beside its slash.
const ROOT: &str = "/";

/// The name of a channel, if it is one.
fn channel(text: &str) -> Result<ChannelName, Fault> {
    let bad = |reason: String| Fault::new(Code::BadChannel, reason);
    let checked = if text == ROOT { Ok(()) } else { pattern::check_name(text) };
    checked.map_err(|error| bad(error.to_string()))?;
    ChannelName::new(text).map_err(|error| bad(error.to_string()))
}

/// A position, if it is one.
fn position(text: &str) -> Result<Position, Fault> {
    text.parse()
        .map_err(|error: crate::hub::InvalidPosition| Fault::new(Code::BadPosition, error.to_string()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<Limited> for Fault {
    fn from(limited: Limited) -> Self {
        Self {
            code: Code::RateLimited,
            message: limited.to_string(),
            retry_after: Some(millis(limited.wait)),
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        if let Refused::Store(error) = &refused {
            // Where it is, and what is the matter, is for those who run the server.
            warn!(target: "longwire", %error, "the store failed");
            return Self::new(Code::Unavailable, "the history cannot be read or written now");
        }
        let code = match refused {
            Refused::Key(_) => Code::BadRequest,
            _ => Code::Unavailable,
        };
        Self::new(code, refused.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status() {
            StatusCode::UNAUTHORIZED => Code::Unauthorized,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
            _ => Code::Unavailable,
        };
        let seconds =
            refusal.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(|seconds: u64| seconds.saturating_mul(1000));
        Self { retry_after, ..Self::new(code, refusal.text().trim_end()) }
    }
}

/// What the configuration says of a channel, as the hub has it.
fn options(config: &Config, name: &str) -> ChannelOptions {
    let channel = config.channel(name).cloned().unwrap_or_default();
    ChannelOptions {
        history: History {
            messages: channel.history.messages as usize,
            bytes: channel.history.bytes.in_memory(),
            age: channel.history.age.duration(),
        },
        presence: match channel.presence.show {
            Show::Off => Presence::Off,
            Show::Counts => Presence::Counts,
            Show::Members => Presence::Members(channel.presence.max as usize),
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
