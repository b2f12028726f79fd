//! A client that connects again when its connection is lost: [`longwire::reconnect`](crate::reconnect) in a browser.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use longwire::Client;
//! use longwire::reconnect::{Event, Offline, Reconnect};
//!
//! let mut feed = Reconnect::new(Client::new(), "wss://example.com/quotes")
//!     .offline(Offline::Hold { messages: 100, bytes: 64 * 1024 })
//!     .on_open(async |mut ws, _| Ok(ws.send("subscribe 股票 📈").await?))
//!     .start();
//! while let Some(event) = feed.next().await {
//!     match event {
//!         Event::Message(message) => println!("{message:?}"),
//!         Event::Lost { cause, retry_in } => eprintln!("{cause}; again in {retry_in:?}"),
//!         Event::GivenUp { cause, .. } => return Err(cause.into()),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The waits are those of [`Backoff`]. Nothing runs in the background: [`Feed::next`] does it all. To connect as soon
//! as the network is back, call [`Sender::retry_now`] when the page gets the event `online`.
//!
//! # What is retried
//!
//! The rules are those of every other target, but a browser reports less: a request that was refused, a certificate
//! that is not trusted and a network that is down look alike to a page. All of them are retried. Use
//! [`Reconnect::max_attempts`], or ask the server with `fetch` when attempts keep failing.

#[path = "../../reconnect/attempts.rs"]
mod attempts;
#[path = "../../reconnect/backoff.rs"]
mod backoff;
#[path = "../../reconnect/cause.rs"]
mod cause;
#[path = "../../reconnect/event.rs"]
mod event;
mod feed;
mod hook;
#[path = "../../reconnect/not_sent.rs"]
mod not_sent;
#[path = "../../reconnect/offline.rs"]
mod offline;
mod sender;
mod system;
mod transport;

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::client::Client;
use super::websocket::WebSocket;
use crate::end::ConnectError;

use self::attempts::Limits;

pub use self::backoff::Backoff;
pub use self::cause::{Cause, Retry};
pub use self::event::{Attempt, Event, GaveUp};
pub use self::feed::Feed;
pub use self::hook::NewConnection;
pub use self::not_sent::NotSent;
pub use self::offline::Offline;
pub use self::sender::Sender;

type BoxError = Box<dyn Error + Send + Sync>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;
type Prepare = dyn Fn(Client, Attempt) -> BoxFuture<Result<Client, BoxError>>;
type Connect = dyn Fn(Attempt, Option<Rc<Prepare>>) -> BoxFuture<Result<WebSocket, BoxError>>;
type Hook = dyn Fn(NewConnection, Attempt) -> BoxFuture<Result<(), BoxError>>;

/// How a [`Feed`] connects and reconnects.
pub struct Reconnect {
    connect: Rc<Connect>,
    prepare: Option<Rc<Prepare>>,
    /// Each attempt computes its own request.
    computes_request: bool,
    hook: Option<Rc<Hook>>,
    backoff: Backoff,
    offline: Offline,
    open_timeout: Duration,
    limits: Limits,
    retry_when: Rc<dyn Fn(&Cause) -> Retry>,
}

impl Reconnect {
    /// Connects to `url` as `client` does.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self::among(client, [url])
    }

    /// Connects to several URLs in turn: after each failure, and after each connection, to the next. They share the
    /// backoff, and where one of them is [permanent](GaveUp::Permanent) the others are not tried. Without any URL the
    /// first attempt fails like one with a bad URL.
    pub fn among<I>(client: Client, urls: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let urls: Rc<[String]> = urls.into_iter().map(Into::into).collect();
        let next = Cell::new(0_usize);
        Self::from_connect(move |attempt, prepare| {
            let (mut client, urls) = (client.clone(), Rc::clone(&urls));
            let turn = next.replace(next.get().wrapping_add(1));
            Box::pin(async move {
                if let Some(prepare) = prepare {
                    client = prepare(client, attempt).await?;
                }
                // A browser takes an empty URL for that of the page.
                let Some(url) = urls.get(turn % urls.len().max(1)) else {
                    return Err(ConnectError::Invalid("there is no URL to connect to".into()).into());
                };
                Ok(client.connect(url).await?)
            })
        })
    }

    /// Computes the client for each attempt, for example with a new token as a subprotocol. An error of `prepare` is
    /// [`Cause::Application`], which is retried; it counts towards [`open_timeout`](Self::open_timeout).
    #[must_use]
    pub fn prepare<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Client, Attempt) -> Fut + 'static,
        Fut: Future<Output = Result<Client, E>> + 'static,
        E: Into<BoxError>,
    {
        let before = self.prepare.take();
        let prepare = Rc::new(prepare);
        self.computes_request = true;
        self.prepare = Some(Rc::new(move |mut client, attempt| {
            let (before, prepare) = (before.clone(), Rc::clone(&prepare));
            Box::pin(async move {
                if let Some(before) = before {
                    client = before(client, attempt).await?;
                }
                prepare(client, attempt).await.map_err(Into::into)
            })
        }));
        self
    }

    /// Connects with a function, for everything that is computed for each attempt. Its error is a [`ConnectError`], or one
    /// of the application, which is [`Cause::Application`] and retried.
    ///
    /// ```no_run
    /// use longwire::{Client, reconnect::Reconnect};
    /// # async fn fresh_token() -> std::io::Result<String> { Ok(String::new()) }
    ///
    /// type BoxError = Box<dyn std::error::Error + Send + Sync>;
    /// let plan = Reconnect::with(async |_| {
    ///     let token = fresh_token().await?;
    ///     Ok::<_, BoxError>(Client::new().connect(format!("wss://example.com/quotes?token={token}")).await?)
    /// });
    /// ```
    pub fn with<F, Fut, E>(connect: F) -> Self
    where
        F: Fn(Attempt) -> Fut + 'static,
        Fut: Future<Output = Result<WebSocket, E>> + 'static,
        E: Into<BoxError>,
    {
        let mut plan = Self::from_connect(move |attempt, _| {
            let connecting = connect(attempt);
            Box::pin(async move { connecting.await.map_err(Into::into) })
        });
        plan.computes_request = true;
        plan
    }

    fn from_connect(
        connect: impl Fn(Attempt, Option<Rc<Prepare>>) -> BoxFuture<Result<WebSocket, BoxError>> + 'static,
    ) -> Self {
        Self {
            connect: Rc::new(connect),
            prepare: None,
            computes_request: false,
            hook: None,
            backoff: Backoff::new(),
            offline: Offline::Refuse,
            open_timeout: Duration::from_secs(30),
            limits: Limits::new(),
            retry_when: Rc::new(Cause::retry),
        }
    }

    /// Sets how long to wait between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets what happens to messages that are sent while there is no connection. Default [`Offline::Refuse`].
    #[must_use]
    pub const fn offline(mut self, offline: Offline) -> Self {
        self.offline = offline;
        self
    }

    /// Sets a hook that prepares each new connection before anything else is sent: it logs in, subscribes, waits for
    /// an answer. Nothing else uses the connection meanwhile. If the hook fails, the connection is dropped and counts
    /// as lost; if the connection failed or was closed, that is the cause.
    ///
    /// Takes an async closure, or one that returns a future.
    #[must_use]
    pub fn on_open<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(NewConnection, Attempt) -> Fut + 'static,
        Fut: Future<Output = Result<(), BoxError>> + 'static,
    {
        self.hook = Some(Rc::new(move |ws, attempt| Box::pin(hook(ws, attempt))));
        self
    }

    /// Sets the time for connecting, the opening handshake and the hook together. Default 30 s.
    /// [`Client::connect_timeout`] may end it earlier.
    #[must_use]
    pub const fn open_timeout(mut self, time: Duration) -> Self {
        self.open_timeout = time;
        self
    }

    /// Gives up after this many attempts without a [stable](Backoff::stable_after) connection; by default never. At
    /// least one is made.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits.max_attempts = Some(attempts);
        self
    }

    /// Gives up after this time without a [stable](Backoff::stable_after) connection, counted from the first attempt
    /// or the end of the last such connection; by default never. It ends an attempt that is under way, not an open
    /// connection.
    #[must_use]
    pub const fn give_up_after(mut self, time: Duration) -> Self {
        self.limits.give_up_after = Some(time);
        self
    }

    /// Sets how long causes that are probably permanent are retried: before a connection was open, default 1 min, and
    /// after one was, default 10 min. A browser reports no such cause, but [`retry_when`](Self::retry_when) can return
    /// [`Retry::Limited`].
    #[must_use]
    pub const fn patience(mut self, before_open: Duration, after_open: Duration) -> Self {
        self.limits.patience = [before_open, after_open];
        self
    }

    /// Decides whether to try again after a cause, instead of [`Cause::retry`]. The function returns [`Retry`] or `bool`.
    #[must_use]
    pub fn retry_when<R: Into<Retry>>(mut self, decide: impl Fn(&Cause) -> R + 'static) -> Self {
        self.retry_when = Rc::new(move |cause| decide(cause).into());
        self
    }

    /// Makes the feed. Its first attempt begins with the first call of [`Feed::next`].
    #[must_use = "a feed connects when it is polled"]
    pub fn start(self) -> Feed {
        Feed::new(self)
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("backoff", &self.backoff)
            .field("offline", &self.offline)
            .field("open_timeout", &self.open_timeout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
