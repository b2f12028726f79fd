//! A client that connects again when its connection is lost.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use longwire::reconnect::{Event, Offline, Reconnect};
//! use longwire::Client;
//!
//! let mut feed = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/quotes")
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
//! The waits are those of [`Backoff`]. Nothing runs in the background: [`Feed::next`] does it all.
//!
//! # What is tried again
//!
//! Another attempt is made where time, load or the network may be the reason, and not where the same
//! program would meet the same end.
//!
//! | end | again? | why |
//! |---|---|---|
//! | connection failed, reset, silent (Ping), timed out, 1006 | yes | the network |
//! | 1000 | no | the purpose is fulfilled: the server has no more to say (RFC 6455 7.4.1) |
//! | 1001, 1005, 1011, 1014 | yes | the server goes, says nothing, or has a trouble of its own |
//! | 1002, 1003, 1007, 1010 | no | the server does not understand what this program speaks |
//! | 1008, 3000, 3003 | no | the client may not |
//! | 1009 | yes | it was one message that was too big, which is not sent again |
//! | 1012 | yes, after 5 s to 30 s | the service restarts; the wait spreads those who come back |
//! | 1013 | yes, after `max` to 2 · `max` of the backoff | overload: later than usual |
//! | other 3000 to 4999 | yes | only the application knows |
//! | the server broke a rule or limit of an open connection | yes | it may be damage, or one message of many |
//! | 408, 421, 425, 429, 500 and above but 501, 505 | yes, not before Retry-After | a reason that passes |
//! | all other statuses | no | the URL, the credentials or the request are wrong |
//! | an answer that is none of a WebSocket server | yes | a gateway whose server starts |
//! | a subprotocol or extension that was not offered | no | the two cannot agree |
//! | a bad URL or header; a certificate that is not trusted | no | it stays so |
//! | the hook failed or was too slow | yes | the application knows its reasons |
//!
//! [`Reconnect::retry_when`] decides otherwise.

mod backoff;
mod cause;
mod feed;
mod hook;
mod offline;
mod sender;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::Client;
use crate::connection::WebSocket;
use crate::end::ConnectError;
use crate::net::transport::Transport;

pub use self::backoff::Backoff;
pub use self::cause::Cause;
pub use self::feed::{Event, Feed, GaveUp};
pub use self::hook::NewConnection;
pub use self::offline::Offline;
pub use self::sender::{NotSent, Sender};

/// Which attempt it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Counted from 1, and from 1 again after a connection that was
    /// [stable](Backoff::stable_after).
    pub number: u32,
    /// How many connections of the feed were open before: 0 until the first is.
    pub opened: u64,
}

impl Attempt {
    /// Makes one, for tests of code that handles it.
    pub const fn new(number: u32, opened: u64) -> Self {
        Self { number, opened }
    }
}

type Prepared = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send>>;

type Connecting<S> = Pin<Box<dyn Future<Output = Result<WebSocket<S>, ConnectError>> + Send>>;
type Connect<S> = dyn Fn(Attempt) -> Connecting<S> + Send + Sync;
type Hook<S> = dyn Fn(NewConnection<S>, Attempt) -> Prepared + Send + Sync;

/// How a [`Feed`] is connected, and connected again.
pub struct Reconnect<S = Transport> {
    connect: Arc<Connect<S>>,
    hook: Option<Arc<Hook<S>>>,
    backoff: Backoff,
    offline: Offline,
    open_timeout: Duration,
    max_attempts: Option<u32>,
    give_up_after: Option<Duration>,
    retry_when: Arc<dyn Fn(&Cause) -> bool + Send + Sync>,
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Reconnect {
    /// Connects to `url` as `client` does.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self::among(client, [url])
    }

    /// Connects to several URLs in turn: after each failure, and after each connection, to the next. They
    /// share the backoff, and where one of them is [hopeless](GaveUp::Hopeless) the others are not tried.
    /// Without any URL the first attempt fails as one with a bad URL.
    pub fn among<I>(client: Client, urls: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let urls: Arc<[String]> = urls.into_iter().map(Into::into).collect();
        let client = Arc::new(client);
        let next = std::sync::atomic::AtomicUsize::new(0);
        Self::with(move |_| {
            let (client, urls) = (Arc::clone(&client), Arc::clone(&urls));
            let turn = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                let url = urls.get(turn % urls.len().max(1)).map_or("", String::as_str);
                client.connect(url).await
            }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Reconnect<S> {
    /// Connects by a function: over a stream of another kind, or with what changes from attempt to attempt.
    ///
    /// ```
    /// use longwire::{Client, reconnect::Reconnect};
    /// # async fn fresh_token() -> String { String::new() }
    ///
    /// let plan = Reconnect::with(async |_| {
    ///     let token = format!("Bearer {}", fresh_token().await);
    ///     Client::new().header("Authorization", token).connect("ws://127.0.0.1:8080/quotes").await
    /// });
    /// ```
    pub fn with<F, Fut>(connect: F) -> Self
    where
        F: Fn(Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<WebSocket<S>, ConnectError>> + Send + 'static,
    {
        Self {
            connect: Arc::new(move |attempt| Box::pin(connect(attempt))),
            hook: None,
            backoff: Backoff::new(),
            offline: Offline::Refuse,
            open_timeout: Duration::from_secs(30),
            max_attempts: None,
            give_up_after: None,
            retry_when: Arc::new(Cause::is_retryable),
            random: Arc::new(backoff::random),
        }
    }

    /// How long to wait between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// What becomes of messages that are sent while there is no connection; default [`Offline::Refuse`].
    #[must_use]
    pub const fn offline(mut self, offline: Offline) -> Self {
        self.offline = offline;
        self
    }

    /// Sets a hook that prepares each new connection before anything else is sent: it subscribes, tells the last message
    /// that the application has received, waits for an answer. Only the hook uses the connection meanwhile. When it
    /// fails, the connection is dropped and counts as lost; if the connection failed or was closed, that is the cause.
    ///
    /// Takes an async closure; one with captured state clones what each call needs first:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use longwire::{Client, reconnect::Reconnect};
    ///
    /// let heard = Arc::new(AtomicU64::new(0)); // Moved on with each message.
    /// let feed = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/quotes")
    ///     .on_open(move |mut ws, _| {
    ///         let from = heard.load(Ordering::Relaxed);
    ///         async move {
    ///             ws.send(format!("subscribe from {from}")).await?;
    ///             match ws.recv().await? {
    ///                 Some(answer) if answer == "ok" => Ok(()),
    ///                 other => Err(format!("not subscribed: {other:?}").into()),
    ///             }
    ///         }
    ///     })
    ///     .start();
    /// ```
    #[must_use]
    pub fn on_open<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(NewConnection<S>, Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        self.hook = Some(Arc::new(move |ws, attempt| Box::pin(hook(ws, attempt))));
        self
    }

    /// Time for connecting, the opening handshake and the hook together; default 30 s. What it ends earlier
    /// is [`Client::handshake_timeout`].
    #[must_use]
    pub const fn open_timeout(mut self, time: Duration) -> Self {
        self.open_timeout = time;
        self
    }

    /// Gives up after so many attempts without a [stable](Backoff::stable_after) connection; by default
    /// never. At least one is made.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Gives up when it would wait beyond so much time without a [stable](Backoff::stable_after) connection,
    /// counted from the first attempt or the end of the last such connection; by default never. An attempt
    /// that is under way then is given up, an open connection is not.
    #[must_use]
    pub const fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = Some(time);
        self
    }

    /// Decides after which cause another attempt is made, instead of [`Cause::is_retryable`].
    ///
    /// ```
    /// use longwire::{Client, reconnect::{Cause, Reconnect}};
    ///
    /// // This server says 4001 where the account is closed, and 1000 when it restarts.
    /// let plan = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/").retry_when(|cause| match cause {
    ///     Cause::Closed(closed) => closed.frame.as_ref().is_none_or(|frame| frame.code != 4001),
    ///     other => other.is_retryable(),
    /// });
    /// ```
    #[must_use]
    pub fn retry_when(mut self, decide: impl Fn(&Cause) -> bool + Send + Sync + 'static) -> Self {
        self.retry_when = Arc::new(decide);
        self
    }

    /// The source of the jitter, uniform over all of `u64`: for tests that want to know each wait. By default
    /// it is the operating system.
    #[must_use]
    pub fn random(mut self, source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.random = Arc::new(source);
        self
    }

    /// The feed. Its first attempt begins with the first call of [`Feed::next`].
    #[must_use = "a feed connects when it is polled"]
    pub fn start(self) -> Feed<S> {
        Feed::new(self)
    }
}

impl<S> fmt::Debug for Reconnect<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("backoff", &self.backoff)
            .field("offline", &self.offline)
            .field("open_timeout", &self.open_timeout)
            .field("max_attempts", &self.max_attempts)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_and_senders_go_to_other_threads() {
        const fn sends<T: Send>() {}
        const fn shares<T: Send + Sync>() {}
        sends::<Feed>();
        shares::<Sender>();
        shares::<Reconnect>();
        sends::<Event>();
        shares::<NotSent>();
    }
}
