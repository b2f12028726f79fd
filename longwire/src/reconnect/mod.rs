//! A client that reconnects when its connection is lost.
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
//!         Event::Lost { cause, retry_in } => eprintln!("{cause}; retrying in {retry_in:?}"),
//!         Event::GivenUp { cause, .. } => return Err(cause.into()),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Backoff`] sets the waits. There is no background task: [`Feed::next`] does all the work.
//!
//! # What is retried
//!
//! A feed tries again if the cause may be time, load or the network. It does not if the same program would fail in the
//! same way. Some causes are probably permanent, but also occur while a server restarts: they are retried for a limited
//! time, the [patience](Reconnect::patience). Each failure is an [`Event::Lost`].
//!
//! | cause | retried? | why |
//! |---|---|---|
//! | connection failed, reset, silent (Ping), timed out, 1006 | yes | the network |
//! | 1000 | no | the purpose is fulfilled (RFC 6455 7.4.1) |
//! | 1001, 1005, 1011, 1014 | yes | the server shuts down, gives no reason, or has a problem of its own |
//! | 1002, 1003, 1007, 1010 | no | the server does not understand this program |
//! | 1008, 3000, 3003 | no | the client is not allowed |
//! | 1009 | yes | one message was too big, and is not sent again |
//! | 1012 | yes, after 5 s to 30 s | the service restarts; the wait spreads its clients |
//! | 1013 | yes, after `max` to 2 · `max` of the backoff | overload: later than usual |
//! | other 3000 to 4999 | yes | only the application knows |
//! | the server broke a rule or limit of an open connection | yes | it may be damage, or one message of many |
//! | 408, 421, 425, 429, 500 and above except 501, 505 | yes, not before Retry-After | a passing reason |
//! | 400, 401, 403, 404 before the first connection | no | the URL, the credentials or the request are wrong |
//! | 400, 401, 403, 404 after a connection | for a limited time | a gateway whose server restarts |
//! | 401 if the request is computed for each attempt | for a limited time | the token expired; the next one is new |
//! | all other statuses | no | the request is wrong |
//! | a response that is not of a WebSocket server | yes | a gateway whose server starts |
//! | a subprotocol or extension that was not offered | no | client and server cannot agree |
//! | the server closes or breaks off the TLS handshake, or does not speak TLS | yes | a gateway whose server starts |
//! | a TLS alert, a certificate that is not accepted | for a limited time | a clock, a certificate that is replaced, a gateway that starts |
//! | an invalid URL, header or TLS setting; a redirect that is not followed | no | it stays so |
//! | an error of the application, of its hook, or of its time limit | yes | only the application knows |
//!
//! [`Reconnect::retry_when`] overrides the table.

mod attempts;
mod backoff;
mod cause;
mod event;
mod feed;
mod hook;
mod not_sent;
mod offline;
mod sender;
mod system;
mod transport;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::Client;
use crate::connection::WebSocket;
use crate::net::transport::Transport;

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

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Prepare = dyn Fn(Client, Attempt) -> BoxFuture<Result<Client, BoxError>> + Send + Sync;
type Connect<S> =
    dyn Fn(Attempt, Option<Arc<Prepare>>) -> BoxFuture<Result<WebSocket<S>, BoxError>> + Send + Sync;
type Hook<S> = dyn Fn(NewConnection<S>, Attempt) -> BoxFuture<Result<(), BoxError>> + Send + Sync;

/// How a [`Feed`] connects and reconnects.
pub struct Reconnect<S = Transport> {
    connect: Arc<Connect<S>>,
    prepare: Option<Arc<Prepare>>,
    /// Each attempt computes its own request, so that a rejected token is not sent again.
    computes_request: bool,
    hook: Option<Arc<Hook<S>>>,
    backoff: Backoff,
    offline: Offline,
    open_timeout: Duration,
    limits: Limits,
    retry_when: Arc<dyn Fn(&Cause) -> Retry + Send + Sync>,
}

impl Reconnect {
    /// Connects to `url` with `client`.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self::among(client, [url])
    }

    /// Connects to several URLs in turn: to the next one after each failure and after each connection. They share the
    /// backoff. If a failure of one of them is [permanent](GaveUp::Permanent), the feed does not try the others. Without
    /// a URL the first attempt fails like one with an invalid URL.
    pub fn among<I>(client: Client, urls: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let urls: Arc<[String]> = urls.into_iter().map(Into::into).collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        Self::from_connect(move |attempt, prepare| {
            let (mut client, urls) = (client.clone(), Arc::clone(&urls));
            let turn = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async move {
                if let Some(prepare) = prepare {
                    client = prepare(client, attempt).await?;
                }
                let url = urls.get(turn % urls.len().max(1)).map_or("", String::as_str);
                Ok(client.connect(url).await?)
            })
        })
    }

    /// Computes the client for each attempt, for example with a new token. An error of `prepare` is
    /// [`Cause::Application`], which is retried; it counts towards [`open_timeout`](Self::open_timeout).
    ///
    /// If the server rejects the request with 401, the feed tries again for a limited time
    /// ([`patience`](Self::patience)).
    ///
    /// ```
    /// use longwire::{Client, reconnect::Reconnect};
    /// # async fn fresh_token() -> std::io::Result<String> { Ok(String::new()) }
    ///
    /// let plan = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/quotes")
    ///     .prepare(async |client, _| std::io::Result::Ok(client.bearer_auth(fresh_token().await?)));
    /// ```
    #[must_use]
    pub fn prepare<F, Fut, E>(mut self, prepare: F) -> Self
    where
        F: Fn(Client, Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Client, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let before = self.prepare.take();
        let prepare = Arc::new(prepare);
        self.computes_request = true;
        self.prepare = Some(Arc::new(move |mut client, attempt| {
            let (before, prepare) = (before.clone(), Arc::clone(&prepare));
            Box::pin(async move {
                if let Some(before) = before {
                    client = before(client, attempt).await?;
                }
                let prepared = prepare(client, attempt);
                prepared.await.map_err(Into::into)
            })
        }));
        self
    }

    /// Computes a header for each attempt, instead of a value that the client has. For a value that has to be awaited,
    /// use [`prepare`](Self::prepare).
    ///
    /// If the server rejects the request with 401, the feed tries again for a limited time
    /// ([`patience`](Self::patience)).
    ///
    /// ```
    /// use longwire::{Client, reconnect::Reconnect};
    /// # fn current_token() -> String { String::new() }
    ///
    /// let plan = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/quotes")
    ///     .header_with("Authorization", || format!("Bearer {}", current_token()));
    /// ```
    #[must_use]
    pub fn header_with<V>(
        self,
        name: impl Into<String>,
        value: impl Fn() -> V + Send + Sync + 'static,
    ) -> Self
    where
        HeaderValue: TryFrom<V>,
    {
        let name = name.into();
        self.prepare(move |client, _| {
            let client = client.without_header(&name).header(&name, value());
            std::future::ready(Ok::<_, BoxError>(client))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Reconnect<S> {
    /// Connects with a function: over another kind of stream, or with everything computed for each attempt.
    ///
    /// The error is a [`ConnectError`](crate::ConnectError), which the [table](self#what-is-retried) decides about, or an
    /// error of the application, which is [`Cause::Application`] and retried. If the server rejects the request with 401,
    /// the feed tries again for a limited time ([`patience`](Self::patience)).
    ///
    /// ```
    /// use longwire::{Client, reconnect::Reconnect};
    /// # async fn fresh_token() -> std::io::Result<String> { Ok(String::new()) }
    ///
    /// type BoxError = Box<dyn std::error::Error + Send + Sync>;
    /// let plan = Reconnect::with(async |_| {
    ///     let token = fresh_token().await?;
    ///     let ws = Client::new().bearer_auth(token).connect("ws://127.0.0.1:8080/quotes").await?;
    ///     Ok::<_, BoxError>(ws)
    /// });
    /// ```
    pub fn with<F, Fut, E>(connect: F) -> Self
    where
        F: Fn(Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<WebSocket<S>, E>> + Send + 'static,
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
        connect: impl Fn(Attempt, Option<Arc<Prepare>>) -> BoxFuture<Result<WebSocket<S>, BoxError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            connect: Arc::new(connect),
            prepare: None,
            computes_request: false,
            hook: None,
            backoff: Backoff::new(),
            offline: Offline::Refuse,
            open_timeout: Duration::from_secs(30),
            limits: Limits::new(),
            retry_when: Arc::new(Cause::retry),
        }
    }

    /// Sets the waits between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets what happens to messages that are sent while there is no connection; default [`Offline::Refuse`].
    #[must_use]
    pub const fn offline(mut self, offline: Offline) -> Self {
        self.offline = offline;
        self
    }

    /// Sets a hook that prepares each new connection before anything else is sent: it can subscribe, name the last
    /// message that was received, and wait for an answer. Nothing else uses the connection meanwhile. If the hook fails,
    /// the connection is dropped and counts as lost; if the connection failed or was closed, that is the cause.
    ///
    /// Takes an async closure; a closure with captured state clones what each call needs first:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use longwire::{Client, reconnect::Reconnect};
    ///
    /// let last = Arc::new(AtomicU64::new(0)); // Updated with each message.
    /// let feed = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/quotes")
    ///     .on_open(move |mut ws, _| {
    ///         let from = last.load(Ordering::Relaxed);
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

    /// Sets the maximum time for connecting, the opening handshake and the hook together; default 30 s. The timeouts of
    /// the [`Client`] still apply.
    #[must_use]
    pub const fn open_timeout(mut self, time: Duration) -> Self {
        self.open_timeout = time;
        self
    }

    /// Sets the maximum number of attempts without a [stable](Backoff::stable_after) connection; by default there is no
    /// limit. The feed makes at least one attempt.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits.max_attempts = Some(attempts);
        self
    }

    /// Sets the maximum time without a [stable](Backoff::stable_after) connection, counted from the first attempt or the
    /// end of the last stable connection; by default there is no limit. It ends waits and attempts, but not an open
    /// connection.
    #[must_use]
    pub const fn give_up_after(mut self, time: Duration) -> Self {
        self.limits.give_up_after = Some(time);
        self
    }

    /// Sets how long causes that are probably permanent are retried (see the [table](self#what-is-retried)):
    /// `before_open` until a connection was open, default 1 min; `after_open` once one was, default 10 min. The time
    /// counts from the first of these causes since the start or the last open connection.
    #[must_use]
    pub const fn patience(mut self, before_open: Duration, after_open: Duration) -> Self {
        self.limits.patience = [before_open, after_open];
        self
    }

    /// Decides whether to try again after a cause, instead of [`Cause::retry`]. The function returns [`Retry`] or `bool`.
    ///
    /// ```
    /// use longwire::{Client, reconnect::{Cause, Reconnect, Retry}};
    ///
    /// // This server closes with 4001 if the account is closed.
    /// let plan = Reconnect::new(Client::new(), "ws://127.0.0.1:8080/").retry_when(|cause| match cause {
    ///     Cause::Closed(closed) if closed.frame.as_ref().is_some_and(|frame| frame.code == 4001) => Retry::Never,
    ///     other => other.retry(),
    /// });
    /// ```
    #[must_use]
    pub fn retry_when<R: Into<Retry>>(
        mut self,
        decide: impl Fn(&Cause) -> R + Send + Sync + 'static,
    ) -> Self {
        self.retry_when = Arc::new(move |cause| decide(cause).into());
        self
    }

    /// Creates the feed. The first call of [`Feed::next`] begins the first attempt.
    #[must_use = "a feed connects only when it is polled"]
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
            .field("limits", &self.limits)
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
