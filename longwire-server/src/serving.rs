//! How connections of plain HTTP are served: HTTP/1.1 with keep-alive, and HTTP/2 in TLS. Each wait and each number of a
//! connection has its bound here; what is answered is in `http`, and of channels in the library.

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

use crate::http;
use crate::patient::Patient;

/// For a head, and for what is under way when a connection is to end, so that a client that writes a byte at a time holds
/// nothing for long.
const DEADLINE: Duration = Duration::from_secs(15);

/// How long a client that still sends is listened to after its answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection stays on which no request is under way.
const IDLE: Duration = Duration::from_secs(60);

/// How long a connection of HTTP/2 may be silent, and how long it may take to say that it lives (RFC 9113 6.7).
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Of HTTP/2: streams that are open at once, and the octets of a head (RFC 9113 6.5.2). How many streams may be reset
/// before they were answered is bounded by hyper (CVE-2023-44487).
const STREAMS: u32 = 128;
const HEAD: u32 = 16 * 1024;

/// Of HTTP/2: the bytes that a client may send on a stream before they are read (RFC 9113 6.9.2). The connection's window
/// is that of all streams together, so that a stream which is not read stalls no other. It also bounds the memory that a
/// connection's unread bytes take, 8 MiB.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// Of HTTP/1.1, the bytes of a head and what is behind it.
const BUFFER: usize = 32 * 1024;

/// How long a client may take no byte of what there is for it.
const STUCK: Duration = Duration::from_secs(30);

/// Serves connections, until it is told to end.
#[derive(Clone)]
pub(crate) struct Site {
    /// What is served besides the page and the health check.
    channels: Http,
    /// Connections are to end.
    closing: watch::Receiver<bool>,
    /// How long those may take that carry WebSockets, of which the last is told at the end of the drain.
    farewell: Duration,
}

impl Site {
    /// And by what it is told so.
    pub(crate) fn new(channels: Http, drain: Duration) -> (Self, watch::Sender<bool>) {
        let (close, closing) = watch::channel(false);
        (Self { channels: channels.closing(closing.clone()), closing, farewell: drain + DEADLINE }, close)
    }

    /// Serves a connection from which `read` has been read already.
    pub(crate) async fn serve(self, stream: HttpStream, read: Bytes) {
        // It has gone already.
        let Ok(peer) = stream.peer_addr() else { return };
        notice_its_end(stream.tcp());
        let (is_tls, secured) = (stream.is_tls(), stream.secured());
        let (from, to) = tokio::io::split(stream);
        let io = tokio::io::join(Cursor::new(read).chain(from), Patient::new(to, STUCK));
        let under_way = UnderWay::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            // As the engine has it for those that it takes itself.
            if let Some(secured) = &secured {
                request.extensions_mut().insert(secured.clone());
            }
            self.clone().answer(request, peer, under_way.begin())
        });
        if is_tls {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(DEADLINE).max_buf_size(BUFFER);
            builder
                .http2()
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEAD)
                .keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_TIMEOUT);
            let connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
            self.see_through(connection, |connection| connection.graceful_shutdown(), &under_way).await;
            return;
        }
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(DEADLINE).max_buf_size(BUFFER);
        let mut connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
        // Its end flushes, and ends our direction.
        if self
            .see_through(Pin::new(&mut connection), |connection| connection.graceful_shutdown(), &under_way)
            .await
            && let Some(parts) = connection.into_parts()
        {
            // RFC 9112 9.6: closing while a body that nobody wants is still coming would reset the connection,
            // and the reset may overtake the answer. So the rest is dropped.
            let mut io = parts.io.into_inner();
            let _ = timeout(LINGER, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
        }
    }

    /// Serves until the connection is idle or is to end, and then what is under way: whether it has ended in peace.
    async fn see_through<C, E>(
        &self,
        mut connection: Pin<&mut C>,
        end: impl FnOnce(Pin<&mut C>),
        under_way: &UnderWay,
    ) -> bool
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut closing = self.closing.clone();
        let mut patience = DEADLINE;
        tokio::select! {
            // How it ended is its client's affair.
            ended = connection.as_mut() => return ended.is_ok(),
            () = under_way.idle() => {}
            _ = closing.wait_for(|closing| *closing) => patience = self.farewell,
        }
        end(connection.as_mut());
        matches!(timeout(patience, connection).await, Ok(Ok(())))
    }

    async fn answer(
        self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        busy: Busy,
    ) -> Result<Response<Said>, Infallible> {
        let busy = Arc::new(busy);
        // A stream that becomes a WebSocket lives on behind its answer, and this with it.
        request.extensions_mut().insert(Arc::clone(&busy));
        let response = if Http::is_for(&request) {
            self.channels.answer(request, peer).await
        } else {
            match self.channels.check_host(&request) {
                // Whoever looks whether the server lives may say no host, as balancers do.
                Err(refusal) if !http::is_probe(request.uri().path()) => {
                    http::refused(refusal).map(BodyExt::boxed_unsync)
                }
                _ => http::answer(&request, *self.closing.borrow()).map(BodyExt::boxed_unsync),
            }
        };
        Ok(response.map(|body| Said { body, _busy: busy }))
    }
}

/// The body of an answer: its request is under way as long as there is anything to say.
struct Said {
    body: Body,
    _busy: Arc<Busy>,
}

impl hyper::body::Body for Said {
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

/// Has the system give up a client that acknowledges nothing for as long as one may take nothing. Where nobody asks whether
/// it lives, as in HTTP/1.1, the comments of a stream are all that can tell; without this it takes a quarter of an hour.
fn notice_its_end(socket: &TcpStream) {
    // On other systems there is no such thing, and where it fails all goes on as before.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(socket, STUCK.as_secs() as u32 * 1000);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Requests of a connection that are under way.
#[derive(Clone, Default)]
struct UnderWay(Arc<Count>);

#[derive(Default)]
struct Count {
    requests: AtomicUsize,
    changed: Notify,
}

impl UnderWay {
    /// One more, until what is returned is dropped.
    fn begin(&self) -> Busy {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_one();
        Busy(self.clone())
    }

    /// Waits until there was none for a while.
    async fn idle(&self) {
        loop {
            if self.0.requests.load(Ordering::Relaxed) > 0 {
                self.0.changed.notified().await;
            } else if timeout(IDLE, self.0.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// A request that is under way.
struct Busy(UnderWay);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has asked for nothing in a minute is idle, and nobody of whom a request is under way, however long.
    #[tokio::test(start_paused = true)]
    async fn a_minute_without_a_request() {
        let under_way = UnderWay::default();
        let begun = tokio::time::Instant::now();
        under_way.idle().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
        let busy = [under_way.begin(), under_way.begin()];
        assert!(timeout(Duration::from_secs(3600), under_way.idle()).await.is_err());
        let [one, two] = busy;
        drop(one);
        assert!(timeout(Duration::from_secs(3600), under_way.idle()).await.is_err());
        drop(two);
        assert!(timeout(Duration::from_secs(59), under_way.idle()).await.is_err());
        drop(under_way.begin());
        let begun = tokio::time::Instant::now();
        under_way.idle().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_system_is_as_patient_as_we_are() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        notice_its_end(&socket);
        let millis = rustix::net::sockopt::tcp_user_timeout(&socket).expect("an option");
        assert_eq!(Duration::from_millis(millis.into()), STUCK);
    }
}
