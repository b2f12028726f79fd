//! Serves plain HTTP connections: HTTP/1.1 with keep-alive, and HTTP/2 over TLS. It limits the timeouts and
//! sizes of connections. `health` and the library handle the requests.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use longwire::engine::HttpStream;
use longwire_server::realtime::http::{Body, Http};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::health;
use crate::write_timeout::WriteTimeout;

/// Timeout for receiving a request header, and for finishing requests on shutdown. It bounds clients that
/// send one byte at a time.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);

/// How long remaining request data is read after the response.
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection without requests stays open.
const IDLE: Duration = Duration::from_secs(60);

/// HTTP/2: silence before a PING, and the timeout for its acknowledgement (RFC 9113 6.7).
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2: maximum number of concurrent streams and maximum header size (RFC 9113 6.5.2). hyper bounds resets
/// of streams before a response (CVE-2023-44487).
const MAX_STREAMS: u32 = 128;
const MAX_HEADER_LIST: u32 = 16 * 1024;

/// The bytes that an HTTP/2 client may send on a stream before they are read (RFC 9113 6.9.2). The connection's window is
/// that of all streams together, so that a stream which is not read stalls no other. It also bounds the memory for a
/// connection's unread bytes: 8 MiB.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// HTTP/1.1: size of the read buffer, which limits the header.
const HTTP1_BUFFER: usize = 32 * 1024;

/// How long a client may accept no bytes of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves connections until shutdown.
#[derive(Clone)]
pub(crate) struct HttpServer {
    /// Serves channels, pages and metrics.
    channels: Http,
    /// The shutdown signal.
    closing: watch::Receiver<bool>,
    /// Time limit for connections with WebSockets on shutdown; the last one is closed at the end of the
    /// drain.
    drain_timeout: Duration,
}

impl HttpServer {
    /// Creates the server, and the sender of its shutdown signal.
    pub(crate) fn new(channels: Http, drain: Duration) -> (Self, watch::Sender<bool>) {
        let (close, closing) = watch::channel(false);
        (
            Self {
                channels: channels.closing(closing.clone()),
                closing,
                drain_timeout: drain + REQUEST_DEADLINE,
            },
            close,
        )
    }

    /// Serves a connection from which `read` has been read already.
    pub(crate) async fn serve(self, stream: HttpStream, read: Bytes) {
        // The client has disconnected already.
        let Ok(peer) = stream.peer_addr() else { return };
        set_tcp_user_timeout(stream.tcp());
        let (is_tls, secured) = (stream.is_tls(), stream.secured());
        let (from, to) = tokio::io::split(stream);
        let io = tokio::io::join(Cursor::new(read).chain(from), WriteTimeout::new(to, WRITE_TIMEOUT));
        let active = ActiveRequests::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            // The engine does the same for its own connections.
            if let Some(secured) = &secured {
                request.extensions_mut().insert(secured.clone());
            }
            self.clone().handle(request, peer, active.start())
        });
        if is_tls {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_DEADLINE)
                .max_buf_size(HTTP1_BUFFER);
            builder
                .http2()
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .max_concurrent_streams(MAX_STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(MAX_HEADER_LIST)
                .keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_TIMEOUT);
            let connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
            self.serve_until_idle(connection, |connection| connection.graceful_shutdown(), &active).await;
            return;
        }
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_DEADLINE).max_buf_size(HTTP1_BUFFER);
        let mut connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
        // Completing the connection flushes it and shuts down our direction.
        if self
            .serve_until_idle(Pin::new(&mut connection), |connection| connection.graceful_shutdown(), &active)
            .await
            && let Some(parts) = connection.into_parts()
        {
            // RFC 9112 9.6: closing while a request body arrives would reset the connection, and the reset
            // may overtake the response. Read and discard the body instead.
            let mut io = parts.io.into_inner();
            let _ = timeout(LINGER, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
        }
    }

    /// Serves until the connection is idle or the server shuts down, then finishes active requests. Returns
    /// whether it ended cleanly.
    async fn serve_until_idle<C, E>(
        &self,
        mut connection: Pin<&mut C>,
        end: impl FnOnce(Pin<&mut C>),
        active: &ActiveRequests,
    ) -> bool
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut closing = self.closing.clone();
        let mut time_limit = REQUEST_DEADLINE;
        tokio::select! {
            // The reason for the end does not matter here.
            ended = connection.as_mut() => return ended.is_ok(),
            () = active.wait_until_idle() => {}
            _ = closing.wait_for(|closing| *closing) => time_limit = self.drain_timeout,
        }
        end(connection.as_mut());
        matches!(timeout(time_limit, connection).await, Ok(Ok(())))
    }

    async fn handle(
        self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        request_guard: ActiveRequest,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let request_guard = Arc::new(request_guard);
        // For a WebSocket stream, the guard lives as long as the stream.
        request.extensions_mut().insert(Arc::clone(&request_guard));
        let response = if Http::handles(&request) {
            self.channels.handle(request, peer).await
        } else {
            match self.channels.check_host(&request) {
                // Load balancers probe health without a Host header.
                Err(refusal) if !health::is_probe(request.uri().path()) => {
                    health::refused(refusal).map(BodyExt::boxed_unsync)
                }
                _ => health::answer(&request, *self.closing.borrow()).map(BodyExt::boxed_unsync),
            }
        };
        Ok(response.map(|body| TrackedBody { body, _busy: request_guard }))
    }
}

/// A response body that keeps its request active until it is dropped.
struct TrackedBody {
    body: Body,
    _busy: Arc<ActiveRequest>,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sets the TCP user timeout to the write timeout, so that the system drops a client that acknowledges
/// nothing. HTTP/1.1 has no pings; without this, a dead stream would be noticed after 15 minutes.
fn set_tcp_user_timeout(socket: &TcpStream) {
    // Other systems lack this option. If it fails, the connection works as before.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, WRITE_TIMEOUT.as_secs() as u32 * 1000);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// The active requests of a connection.
#[derive(Clone, Default)]
struct ActiveRequests(Arc<Count>);

#[derive(Default)]
struct Count {
    requests: AtomicUsize,
    changed: Notify,
}

impl ActiveRequests {
    /// Counts a request until the guard is dropped.
    fn start(&self) -> ActiveRequest {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_one();
        ActiveRequest(self.clone())
    }

    /// Waits until there has been no request for the idle time.
    async fn wait_until_idle(&self) {
        loop {
            if self.0.requests.load(Ordering::Relaxed) > 0 {
                self.0.changed.notified().await;
            } else if timeout(IDLE, self.0.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// The guard of an active request.
struct ActiveRequest(ActiveRequests);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection is idle after a minute without requests, but never while a request is active.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_a_minute() {
        let active = ActiveRequests::default();
        let begun = tokio::time::Instant::now();
        active.wait_until_idle().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
        let request_guard = [active.start(), active.start()];
        assert!(timeout(Duration::from_secs(3600), active.wait_until_idle()).await.is_err());
        let [one, two] = request_guard;
        drop(one);
        assert!(timeout(Duration::from_secs(3600), active.wait_until_idle()).await.is_err());
        drop(two);
        assert!(timeout(Duration::from_secs(59), active.wait_until_idle()).await.is_err());
        drop(active.start());
        let begun = tokio::time::Instant::now();
        active.wait_until_idle().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_tcp_user_timeout_equals_the_write_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        set_tcp_user_timeout(&socket);
        let millis = rustix::net::sockopt::tcp_user_timeout(&socket).expect("an option");
        assert_eq!(Duration::from_millis(millis.into()), WRITE_TIMEOUT);
    }
}
