//! Graceful shutdown of many connections.
//!
//! Each connection checks by itself whether its turn to close has come: they share one state, and there is no channel to
//! each of them. Nothing here reads or writes a stream; the driver does.

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

/// The connections of a server, to close them all when it stops: call [`serve`](Self::serve) for each, and
/// [`shutdown`](Self::shutdown) once. Clones share the same set. The connections can come from an
/// [`Acceptor`](crate::Acceptor), hyper or axum.
///
/// HTTP servers do not wait for WebSockets over HTTP/1.1, because they have given the connection away, and wait without a
/// limit for those over HTTP/2. So stop both at the same time:
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
///         // Returns `Ok(None)` at the shutdown, as for every closing handshake.
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
///         // 1012 asks the clients to reconnect (IANA's registry); the spread staggers them.
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
    /// The number of connections being served.
    served: watch::Sender<usize>,
    /// The ticket of the next connection: its place in the order of closing.
    tickets: AtomicU32,
    /// Set before `stopping` is cancelled.
    plan: OnceLock<ClosePlan>,
    stopping: CancellationToken,
    /// The remaining connections are dropped. Set before `over` is cancelled.
    is_over: AtomicBool,
    over: CancellationToken,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            served: watch::Sender::new(0),
            tickets: AtomicU32::new(0),
            plan: OnceLock::new(),
            stopping: CancellationToken::new(),
            is_over: AtomicBool::new(false),
            over: CancellationToken::new(),
        }
    }
}

/// The Close frame of the shutdown, and when each connection sends it.
#[derive(Debug)]
struct ClosePlan {
    frame: CloseFrame,
    began: Instant,
    spread: Duration,
}

impl Connections {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of connections being served.
    pub fn count(&self) -> usize {
        *self.0.served.borrow()
    }

    /// Runs `handler` on a connection that belongs to this set.
    ///
    /// When its turn in a [`shutdown`](Self::shutdown) comes, the connection closes itself. Receiving then returns
    /// `Ok(None)`, as after every closing handshake, and the handler runs to its end. A handler that has not ended when the
    /// shutdown is over is dropped, with its connection. After that, new handlers are not started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler.
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

    /// Closes all connections, waits until they have ended, and drops those that remain after [`Shutdown::timeout`].
    /// Returns the number of dropped connections.
    ///
    /// The Close frames are spread evenly over [`Shutdown::spread`]. A connection that is added meanwhile is closed at
    /// once. A second call waits for the first shutdown, with its own times.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the shutdown: the connections close, and none is dropped.
    pub async fn shutdown(&self, shutdown: Shutdown) -> usize {
        let Shutdown { frame, spread, timeout } = shutdown;
        self.0.plan.get_or_init(|| ClosePlan { frame, began: now(), spread });
        self.0.stopping.cancel();
        let left = self.gone_within(spread.saturating_add(timeout)).await;
        self.0.is_over.store(true, Ordering::Release);
        self.0.over.cancel();
        left
    }

    /// Returns a future that completes when a shutdown begins, for `with_graceful_shutdown` of an HTTP server.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.stopping.clone().cancelled_owned()
    }

    /// Waits until all connections have ended, for at most this time. Returns the number of those that remain.
    async fn gone_within(&self, time: Duration) -> usize {
        let mut served = self.0.served.subscribe();
        let _ = timeout(time, served.wait_for(|count| *count == 0)).await;
        self.count()
    }
}

/// Counts a connection while it is served.
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

/// Wakes a task when a token is cancelled. Registering takes a lock that all connections share, so a connection does it once
/// per task, not on every wait.
#[derive(Debug)]
struct Signal {
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The task that is registered.
    waker: Waker,
}

impl Signal {
    fn new(token: &CancellationToken) -> Self {
        Self { cancelled: Box::pin(token.clone().cancelled_owned()), waker: Waker::noop().clone() }
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            // The result does not matter: the state is read without a lock.
            let _: Poll<()> = self.cancelled.as_mut().poll(cx);
        }
    }
}

/// A connection's part in the set: when it has to close.
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

    /// Returns when its turn comes, if a shutdown has begun.
    pub(crate) fn due(&self) -> Option<Instant> {
        let plan = self.shared.plan.get()?;
        plan.began.checked_add(plan.spread.mul_f64(turn(self.ticket)))
    }

    /// Returns the Close frame to send, if its turn has come.
    pub(crate) fn close_frame(&self, now: impl FnOnce() -> Instant) -> Option<CloseFrame> {
        let plan = self.shared.plan.get()?;
        (self.due()? <= now()).then(|| plan.frame.clone())
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
