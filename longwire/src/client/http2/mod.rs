//! A client's WebSockets as streams of one HTTP/2 connection (RFC 8441).
//!
//! The `h2` crate implements streams, settings and flow control; `longwire-proto` makes the request and checks the
//! response. This module connects the two and sets the limits.

mod stream;

pub use stream::H2Stream;

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use http::Response;
use longwire_proto::handshake::{HandshakeError, HeadLimits, Offer, client, http2};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::client::handshake::{Answer, Carrier};
use crate::client::target::Target;
use crate::client::{Client, Http};
use crate::connection::WebSocket;
use crate::end::{ConnectError, Http2Error, Phase};
use crate::net::transport::Transport;

/// Maximum number of bytes of a stream that wait to be written to the connection, besides the buffer of the
/// WebSocket itself.
const SEND_BUFFER: usize = 64 * 1024;

/// Maximum time to end a connection that is no longer in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens HTTP/2 connections for WebSockets. Build it once and reuse it.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use longwire::{Client, Http2};
///
/// let connection = Http2::new().connect("ws://127.0.0.1:8080").await?;
/// let client = Client::new();
/// let mut tea = connection.open(&client, "/茶馆").await?;
/// let mut news = connection.open(&client, "/news").await?;
/// tea.send("你好 👋").await?;
/// let first = news.recv().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Memory
///
/// A stream that is not read stalls itself and no other, because the window of the connection is as large as those of
/// all streams together. A connection holds at most [`max_streams`](Self::max_streams) times
/// [`stream_window`](Self::stream_window) bytes that the server sent and the application has not read, and 64 KiB for
/// each stream that the server does not read. An idle stream holds no buffer.
#[derive(Clone, Debug)]
pub struct Http2 {
    stream_window: u32,
    max_streams: u32,
    handshake_timeout: Duration,
    client: Client,
}

impl Default for Http2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Http2 {
    /// Creates the defaults: 100 streams, 256 KiB for each, 10 s to open the connection.
    pub fn new() -> Self {
        Self {
            stream_window: 256 * 1024,
            max_streams: 100,
            handshake_timeout: Duration::from_secs(10),
            client: Client::new(),
        }
    }

    /// Sets how many bytes the server may send on a stream before they are read; default 256 KiB, at least 1 KiB and
    /// at most 16 MiB. A stream receives at most this much per round trip.
    #[must_use]
    pub const fn stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = if bytes < 1024 {
            1024
        } else if bytes > 16 * 1024 * 1024 {
            16 * 1024 * 1024
        } else {
            bytes
        };
        self
    }

    /// Sets the maximum number of WebSockets of a connection; default 100, at least 1 and at most 127. The server may
    /// allow fewer.
    #[must_use]
    pub const fn max_streams(mut self, streams: u32) -> Self {
        // With the largest window for each stream, that of the connection is the largest that RFC 9113 6.9.1 allows.
        self.max_streams = if streams < 1 {
            1
        } else if streams > 127 {
            127
        } else {
            streams
        };
        self
    }

    /// Sets the maximum time until the settings of the server arrive; default 10 s. The client of [`via`](Self::via)
    /// limits the time to reach the server, and the client of [`Http2Connection::open`] the time to open a WebSocket.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Connects with the TLS settings, the proxy, the connect timeout and the response limits of this client. Its
    /// headers and subprotocols are not used; those of the client passed to [`Http2Connection::open`] are.
    #[must_use]
    pub fn via(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Connects to the server of a URL and opens HTTP/2: by ALPN for `wss://` (RFC 9113 3.2), by prior knowledge for
    /// `ws://` (RFC 9113 3.3). The path of the URL is ignored. Its credentials are sent with each WebSocket, unless the
    /// client has its own.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the TCP connection.
    pub async fn connect(&self, url: impl AsRef<str>) -> Result<Http2Connection, ConnectError> {
        let target = Target::parse(url.as_ref())?;
        let stream = Box::pin(self.client.reach_http2(&target)).await?;
        Box::pin(self.timed(self.open(target, stream))).await
    }

    /// Opens HTTP/2 on a stream that is connected to the server of `url`, such as a TLS stream on which ALPN selected
    /// `h2`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn handshake<S>(&self, url: impl AsRef<str>, stream: S) -> Result<Http2Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let target = Target::parse(url.as_ref())?;
        Box::pin(self.timed(self.open(target, stream))).await
    }

    async fn timed<T>(&self, open: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
        timeout(self.handshake_timeout, open).await.map_err(|_| ConnectError::Timeout(Phase::Handshake))?
    }

    async fn open<S>(&self, target: Target, stream: S) -> Result<Http2Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.client.response_limits;
        let (requests, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.stream_window * self.max_streams)
            .max_header_list_size(u32::try_from(limits.bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(Http2Error::from_h2)?;
        // RFC 9113 3.4: SETTINGS is the first frame of the server, so its settings are known once it answers a PING.
        if let Some(mut pings) = connection.ping_pong() {
            let mut answered = pin!(pings.ping(h2::Ping::opaque()));
            poll_fn(|cx| match pin!(&mut connection).poll(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(Http2Error::from_h2(error))),
                Poll::Ready(Ok(())) => Poll::Ready(Err(Http2Error::Ended.into())),
                Poll::Pending => {
                    answered.as_mut().poll(cx).map(|pong| pong.map(drop).map_err(Http2Error::from_h2))
                }
            })
            .await?;
        }
        let (in_use, unused) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut connection, mut unused) = (pin!(connection), pin!(unused));
            // The streams report how the connection ended.
            let ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending => unused.as_mut().poll(cx).map(|_| false),
            });
            if !ended.await {
                let _ = timeout(CLOSE_TIMEOUT, connection).await;
            }
        });
        Ok(Http2Connection {
            target: Arc::new(target),
            requests,
            permits: Arc::new(Semaphore::new(self.max_streams as usize)),
            max_streams: self.max_streams as usize,
            in_use: Arc::new(in_use),
        })
    }
}

/// An HTTP/2 connection that carries WebSockets. Clones share the connection, which ends when the last clone and the
/// last WebSocket are dropped.
///
/// The connection itself sends no Pings; each WebSocket does. A connection without WebSockets may have failed
/// unnoticed; in this case [`open`](Self::open) fails or times out.
#[derive(Clone)]
pub struct Http2Connection {
    target: Arc<Target>,
    requests: SendRequest<Bytes>,
    permits: Arc<Semaphore>,
    max_streams: usize,
    in_use: Arc<oneshot::Sender<()>>,
}

/// Counts one stream and keeps its connection open.
struct StreamPermit {
    /// Runs what remains to be done for a stream that was dropped.
    runtime: Handle,
    #[expect(dead_code, reason = "released on drop")]
    held: (OwnedSemaphorePermit, Arc<oneshot::Sender<()>>),
}

impl Http2Connection {
    /// The number of WebSockets that are open or being opened. A WebSocket that was dropped counts until the server has
    /// ended its stream, for at most 2 s.
    pub fn streams(&self) -> usize {
        self.max_streams.saturating_sub(self.permits.available_permits())
    }

    /// Opens a WebSocket at `path`, which may have a query. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Refused`] and [`ConnectError::Handshake`] as for every [`Client`]. [`ConnectError::Http2`] if the
    /// server does not support WebSockets over HTTP/2, if the maximum number of streams is open, or if the server has
    /// ended the connection; another connection may succeed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the stream.
    pub async fn open(
        &self,
        client: &Client,
        path: impl AsRef<str>,
    ) -> Result<WebSocket<H2Stream>, ConnectError> {
        self.open_with_response(client, path).await.map(|(socket, _)| socket)
    }

    /// Like [`open`](Self::open), and also returns the response that opened the WebSocket.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the stream.
    pub async fn open_with_response(
        &self,
        client: &Client,
        path: impl AsRef<str>,
    ) -> Result<(WebSocket<H2Stream>, Response<()>), ConnectError> {
        let opened = async {
            let path = self.target.path_of(path.as_ref())?;
            let headers = client.request_headers(&self.target, true)?;
            let carrier = NewStream { connection: self, permit: self.permit()? };
            client.open(&self.target, &path, headers, carrier).await?.opened().await
        };
        client.record_failure(Box::pin(opened).await)
    }

    /// Reserves one more stream.
    fn permit(&self) -> Result<StreamPermit, Http2Error> {
        // RFC 8441 3.
        if !self.requests.is_extended_connect_protocol_enabled() {
            return Err(Http2Error::NotSupported);
        }
        let most = self.max_streams.min(self.requests.current_max_send_streams());
        if self.streams() >= most {
            return Err(Http2Error::Full { streams: most });
        }
        let permit =
            Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Http2Error::Full { streams: most })?;
        Ok(StreamPermit { runtime: Handle::current(), held: (permit, Arc::clone(&self.in_use)) })
    }
}

/// A stream that the opening handshake creates (RFC 8441 5).
struct NewStream<'a> {
    connection: &'a Http2Connection,
    permit: StreamPermit,
}

impl Carrier for NewStream<'_> {
    type Stream = H2Stream;

    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    // The limits on the response are a setting of the whole connection.
    async fn ask(self, offer: Offer, _: HeadLimits) -> Result<Answer<H2Stream>, ConnectError> {
        let Self { connection, permit } = self;
        let request = http2::Request::new(offer, connection.target.secure)
            .map_err(|error| ConnectError::Invalid(error.to_string()))?;
        let mut head = request.head();
        head.extensions_mut().insert(Protocol::from_static(http2::PROTOCOL));
        let mut requests = connection.requests.clone().ready().await.map_err(Http2Error::from_h2)?;
        let (answer, send) = requests.send_request(head, false).map_err(Http2Error::from_h2)?;
        let (head, recv) = final_response(answer).await?.into_parts();
        let response = Response::from_parts(head, ());
        let agreed = request.check(&response);
        Ok(Answer { response, agreed, stream: H2Stream::new(send, recv, permit), input: BytesMut::new() })
    }
}

impl Client {
    /// Connects to a server that speaks HTTP/2: by ALPN in TLS (RFC 9113 3.2), otherwise by prior knowledge (3.3).
    async fn reach_http2(&self, target: &Target) -> Result<Transport, ConnectError> {
        let stream = self.reach(target, Http::Two).await?;
        match stream.tls() {
            Some(tls) if tls.alpn.as_deref() != Some(b"h2") => Err(Http2Error::NotSpoken.into()),
            _ => Ok(stream),
        }
    }
}

/// Waits for the final response and skips the interim ones (RFC 9110 15.2), up to their limit.
async fn final_response(mut answer: ResponseFuture) -> Result<Response<h2::RecvStream>, ConnectError> {
    let mut interim = 0;
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(_))) = answer.poll_informational(cx) {
            interim += 1;
            if interim > client::MAX_INTERIM {
                return Poll::Ready(Err(HandshakeError::TooManyInterim.into()));
            }
        }
        pin!(&mut answer).poll(cx).map_err(Http2Error::from_h2)
    })
    .await
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection")
            .field("authority", &self.target.authority)
            .field("streams", &self.streams())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(all(feature = "ring", feature = "tls"))]
mod tests {
    use super::*;

    /// The connector, which has read the platform's roots, belongs to the client and not to one connection.
    #[tokio::test]
    async fn the_roots_are_read_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://{}", listener.local_addr().unwrap());
        let http2 = Http2::new();
        let close = async { drop(listener.accept().await.unwrap()) };
        let (connected, ()) = tokio::join!(http2.connect(&url), close);
        assert!(matches!(connected, Err(ConnectError::Tls(_))), "{connected:?}");
        assert!(http2.client.tls.is_ready());
    }
}
