//! Connections that end together: a graceful shutdown that includes the WebSockets.
//!
//! Each connection looks by itself whether its turn to say goodbye has come: there is one place to ask, and no
//! channel to anybody. Nothing here reads or writes a stream; that is `drive`'s.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use longwire_proto::{CloseCode, CloseFrame};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::connection::WebSocket;
use crate::connection::timer::now;

/// How a server shuts down: which Close frame each connection gets, and over what time.
///
/// [`Connections::shutdown`] and the engine's [`Handle::shutdown`](crate::engine::Handle::shutdown) take it.
///
/// ```
/// use std::time::Duration;
/// use longwire::Shutdown;
///
/// // Clients reconnect after 1012; the spread keeps them from doing so all at once.
/// let shutdown = Shutdown::new(1012, "restart").spread(Duration::from_secs(20));
/// ```
#[derive(Clone, Debug)]
pub struct Shutdown {
    pub(crate) frame: CloseFrame,
    pub(crate) spread: Duration,
    pub(crate) timeout: Duration,
}

impl Default for Shutdown {
    /// Closes all connections at once, with 1001.
    fn default() -> Self {
        Self::new(CloseCode::GOING_AWAY, "")
    }
}

impl Shutdown {
    /// Closes the connections with this code and reason: 1001 if the server goes away, 1012 if it restarts (RFC 6455
    /// 7.4.1 and IANA's registry).
    ///
    /// A shutdown never fails because of them: a code that may not be sent (RFC 6455 7.4) is replaced by 1001, and
    /// the reason is cut to 123 bytes.
    pub fn new(code: impl Into<CloseCode>, reason: &str) -> Self {
        let code = code.into();
        let code = if code.is_sendable() { code } else { CloseCode::GOING_AWAY };
        let frame = CloseFrame::truncated(code, reason);
        Self { frame, spread: Duration::ZERO, timeout: Duration::from_secs(5) }
    }

    /// Spreads the Close frames evenly over this time, so that the clients do not reconnect all at once; default:
    /// none.
    #[must_use]
    pub const fn spread(mut self, time: Duration) -> Self {
        self.spread = time;
        self
    }

    /// Drops the connections that are left this long after the last Close frame; default: 5 s.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }
}

/// The connections of a server, to close them all when it stops: [`serve`](Self::serve) each, and
/// [`shutdown`](Self::shutdown) once. Clones are the same set. It works whoever has opened them: an
/// [`Acceptor`](crate::Acceptor), hyper or axum.
///
/// No server of HTTP waits for WebSockets over HTTP/1.1, which it has given away, and any waits without end for
/// those over HTTP/2. So stop both at once:
///
/// ```no_run
/// use std::time::Duration;
/// # #[cfg(feature = "axum")]
/// # mod example {
/// # use std::time::Duration;
/// use axum::{Extension, Router, response::Response, routing::any};
/// use longwire::{Connections, Shutdown, axum::WebSocketUpgrade};
///
/// async fn echo(ws: WebSocketUpgrade, Extension(connections): Extension<Connections>) -> Response {
///     ws.on_upgrade(move |socket| connections.serve(socket, async |mut socket| {
///         // Ends with `Ok(None)` at the shutdown, as when anybody closes the connection.
///         while let Ok(Some(message)) = socket.recv().await {
///             if socket.send(message).await.is_err() {
///                 break;
///             }
///         }
///     }))
/// }
///
/// async fn run(listener: tokio::net::TcpListener) -> std::io::Result<()> {
///     let connections = Connections::new();
///     let app = Router::new().route("/echo", any(echo)).layer(Extension(connections.clone()));
///     let server = axum::serve(listener, app).with_graceful_shutdown(connections.stopping());
///     let stop = async {
///         let _ = tokio::signal::ctrl_c().await;
///         // 1012: the clients are to come back (RFC 6455 7.4; IANA's registry), not all at once.
///         connections.shutdown(Shutdown::new(1012, "restart").spread(Duration::from_secs(10))).await
///     };
///     tokio::join!(server, stop).0
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// How many are served.
    served: watch::Sender<usize>,
    /// Numbers for turns.
    tickets: AtomicU32,
    /// Known before `stopping` is cancelled.
    farewell: OnceLock<Farewell>,
    stopping: CancellationToken,
    /// Who is still there is dropped. Known before `over` is cancelled.
    is_over: AtomicBool,
    over: CancellationToken,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            served: watch::Sender::new(0),
            tickets: AtomicU32::new(0),
            farewell: OnceLock::new(),
            stopping: CancellationToken::new(),
            is_over: AtomicBool::new(false),
            over: CancellationToken::new(),
        }
    }
}

/// What all are told, and when.
#[derive(Debug)]
struct Farewell {
    frame: CloseFrame,
    began: Instant,
    spread: Duration,
}

impl Connections {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are served now.
    pub fn count(&self) -> usize {
        *self.0.served.borrow()
    }

    /// Runs `handler` on a connection, as one of these.
    ///
    /// When its turn in a [`shutdown`](Self::shutdown) comes, the connection closes itself, and receiving ends
    /// as it does whenever a connection was closed by us; the handler goes on to its own end. One that has not
    /// come there when the shutdown is over is dropped, as every future may be, and what it was given with it.
    /// After that, handlers are not even begun.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the handler.
    pub fn serve<S, F, R>(&self, mut ws: WebSocket<S>, handler: F) -> impl Future<Output = ()> + use<S, F, R>
    where
        F: FnOnce(WebSocket<S>) -> R,
        R: Future<Output = ()>,
    {
        let served = Served::new(Arc::clone(&self.0));
        ws.member = Some(Box::new(Member::new(Arc::clone(&self.0))));
        async move {
            let mut over = Signal::new(&served.0.over);
            let mut handler = pin!(async { handler(ws).await });
            poll_fn(|cx| {
                over.listen(cx);
                if served.0.is_over.load(Ordering::Acquire) {
                    return Poll::Ready(());
                }
                handler.as_mut().poll(cx)
            })
            .await;
        }
    }

    /// Closes all connections, waits until they are gone, and drops those that are left after
    /// [`Shutdown::timeout`]. Returns how many it dropped.
    ///
    /// The Close frames are spread evenly over [`Shutdown::spread`]. A connection that is served meanwhile is closed
    /// at once. A second call waits for the shutdown that began first, for the times that it is given itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the shutdown: the connections close, and none is dropped.
    pub async fn shutdown(&self, shutdown: Shutdown) -> usize {
        let Shutdown { frame, spread, timeout } = shutdown;
        self.0.farewell.get_or_init(|| Farewell { frame, began: now(), spread });
        self.0.stopping.cancel();
        let left = self.gone_within(spread.saturating_add(timeout)).await;
        self.0.is_over.store(true, Ordering::Release);
        self.0.over.cancel();
        left
    }

    /// Ready when a shutdown has begun: for a server's own `with_graceful_shutdown`.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.stopping.clone().cancelled_owned()
    }

    /// How many are left when all are gone or the time is over.
    async fn gone_within(&self, time: Duration) -> usize {
        let mut served = self.0.served.subscribe();
        let _ = timeout(time, served.wait_for(|count| *count == 0)).await;
        self.count()
    }
}

/// Counts one that is served.
struct Served(Arc<Shared>);

impl Served {
    fn new(shared: Arc<Shared>) -> Self {
        shared.served.send_modify(|count| *count += 1);
        Self(shared)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.served.send_modify(|count| *count -= 1);
    }
}

/// Wakes a task when a token is cancelled. All connections ask at one place, which locks: once for each task they
/// are in, not whenever they wait.
#[derive(Debug)]
struct Signal {
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom it wakes.
    waker: Waker,
}

impl Signal {
    fn new(token: &CancellationToken) -> Self {
        Self { cancelled: Box::pin(token.clone().cancelled_owned()), waker: Waker::noop().clone() }
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            // What it is ready for is known without a lock.
            let _: Poll<()> = self.cancelled.as_mut().poll(cx);
        }
    }
}

/// What a connection knows of the others: when it is to go.
#[derive(Debug)]
pub(crate) struct Member {
    shared: Arc<Shared>,
    ticket: u32,
    stopping: Signal,
}

impl Member {
    fn new(shared: Arc<Shared>) -> Self {
        let ticket = shared.tickets.fetch_add(1, Ordering::Relaxed);
        let stopping = Signal::new(&shared.stopping);
        Self { shared, ticket, stopping }
    }

    /// Wakes the task when a shutdown begins.
    pub(crate) fn listen(&mut self, cx: &mut Context<'_>) {
        self.stopping.listen(cx);
    }

    /// When its turn comes, if a shutdown has begun.
    pub(crate) fn due(&self) -> Option<Instant> {
        let farewell = self.shared.farewell.get()?;
        farewell.began.checked_add(farewell.spread.mul_f64(turn(self.ticket)))
    }

    /// What is to be said, if its turn has come.
    pub(crate) fn farewell(&self, now: impl FnOnce() -> Instant) -> Option<CloseFrame> {
        let farewell = self.shared.farewell.get()?;
        (self.due()? <= now()).then(|| farewell.frame.clone())
    }
}

/// Where in the window a ticket has its turn, from 0 to 1: multiples of the golden ratio lie evenly, however many
/// of them there are and whichever are gone.
fn turn(ticket: u32) -> f64 {
    // 2^32 divided by the golden ratio.
    f64::from(ticket.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_evenly() {
        for count in [1, 10, 1000, 100_000] {
            let mut turns: Vec<f64> = (7..7 + count).map(turn).collect();
            turns.sort_by(f64::total_cmp);
            assert!(turns.iter().all(|turn| (0.0..=1.0).contains(turn)));
            let widest = turns.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(widest <= 2.0 / f64::from(count), "{count}: {widest}");
        }
    }
}
