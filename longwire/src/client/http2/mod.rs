//! A client's WebSockets as streams of one HTTP/2 connection (RFC 8441).
//!
//! Streams, settings and flow control are the `h2` crate's; what is asked and how the answer is judged,
//! `longwire-proto`'s. Here is what joins the two, and the bounds.

mod error;
mod opening;
mod stream;

pub use error::Http2Error;
pub use stream::H2Stream;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use http::{HeaderMap, Response};
use longwire_proto::handshake::{HandshakeError, HeadLimits, client, http2};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::client::Client;
use crate::client::target::Target;
use crate::connection::WebSocket;
use crate::end::{ConnectError, Phase, Response as Refused};

/// Bytes of a stream that wait to be written to the connection, beside those of the WebSocket itself.
const SEND_BUFFER: usize = 64 * 1024;

/// How long the end of a connection that nobody uses any more may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How HTTP/2 connections for WebSockets are opened. Make one, keep it, connect as often as you like.
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
/// A stream that its owner does not read stalls itself and no other: the connection's window is that of all
/// streams together. So a connection holds at most [`max_streams`](Self::max_streams) times
/// [`stream_window`](Self::stream_window) of what the server has sent and nobody has read, and 64 KiB for each
/// stream of what the server does not take. A stream that is idle holds no buffer.
#[derive(Clone, Debug)]
pub struct Http2 {
    stream_window: u32,
    max_streams: u32,
    handshake_timeout: Duration,
    via: Option<Client>,
}

impl Default for Http2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Http2 {
    /// With the defaults: 100 streams, 256 KiB for each, 10 s for opening the connection.
    pub const fn new() -> Self {
        Self {
            stream_window: 256 * 1024,
            max_streams: 100,
            handshake_timeout: Duration::from_secs(10),
            via: None,
        }
    }

    /// How many bytes the server may send on a stream before they are read; default 256 KiB, at least 1 KiB and
    /// at most 16 MiB. Throughput is at most this in each round trip.
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

    /// How many WebSockets a connection carries at once; default 100, at least 1 and at most 127. The server may
    /// allow fewer.
    #[must_use]
    pub const fn max_streams(mut self, streams: u32) -> Self {
        // With the largest of windows for each, the connection's is what RFC 9113 6.9.1 allows.
        self.max_streams = if streams < 1 {
            1
        } else if streams > 127 {
            127
        } else {
            streams
        };
        self
    }

    /// Time for the settings of the server to come; default 10 s. How long it may take to reach the server is that of
    /// the client which [`via`](Self::via) names. How long a WebSocket may take to open
    /// is its [`Client`]'s.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Reaches servers as this client does: its TLS, its proxy, its time for connecting. What it asks for when a
    /// WebSocket is opened is said there.
    #[must_use]
    pub fn via(mut self, client: Client) -> Self {
        self.via = Some(client);
        self
    }

    /// Reaches the server of a URL and opens HTTP/2: for `wss://` by ALPN (RFC 9113 3.2), for `ws://` by prior
    /// knowledge (3.3). Only the server of the URL counts.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped closes the TCP connection.
    pub async fn connect(&self, url: impl AsRef<str>) -> Result<Http2Connection, ConnectError> {
        let target = Target::parse(url.as_ref())?;
        let stream = match &self.via {
            Some(client) => Box::pin(client.reach_http2(&target)).await?,
            None => Box::pin(Client::new().reach_http2(&target)).await?,
        };
        Box::pin(self.timed(self.open(target, stream))).await
    }

    /// Opens HTTP/2 on a stream that is connected already, such as TLS on which ALPN has chosen `h2`, to the
    /// server of `url`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
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
        let limits = HeadLimits::default();
        let (requests, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.stream_window * self.max_streams)
            .max_header_list_size(u32::try_from(limits.bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(Http2Error::from_h2)?;
        // RFC 9113 3.4: the server's SETTINGS are its first frame, so when a PING is answered they are known.
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
            // How it ends, its streams say.
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

/// An HTTP/2 connection that carries WebSockets. Clones are the same connection, which ends when the last of
/// them and of its WebSockets is dropped.
///
/// It sends no Pings of its own: each WebSocket does. One without WebSockets may have died unnoticed; then
/// [`open`](Self::open) fails or times out.
#[derive(Clone)]
pub struct Http2Connection {
    target: Arc<Target>,
    requests: SendRequest<Bytes>,
    permits: Arc<Semaphore>,
    max_streams: usize,
    in_use: Arc<oneshot::Sender<()>>,
}

/// That a stream is one of so many, and its connection in use.
struct Place {
    /// Where what is left to do for a stream that was dropped is done.
    runtime: Handle,
    /// For dropping only.
    #[expect(dead_code, reason = "given back when it is dropped")]
    held: (OwnedSemaphorePermit, Arc<oneshot::Sender<()>>),
}

impl Http2Connection {
    /// How many WebSockets are open or being opened. One that was dropped counts until the server has ended it
    /// too, for at most 2 s.
    pub fn streams(&self) -> usize {
        self.max_streams.saturating_sub(self.permits.available_permits())
    }

    /// Opens a WebSocket at `path`, which has a query if there is to be one.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Refused`] and [`ConnectError::Handshake`] as with any [`Client`];
    /// [`ConnectError::Http2`] when the server does not do WebSockets over HTTP/2, has as many streams as it
    /// allows, or has ended the connection or said that it will: open another one then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped resets the stream.
    pub async fn open(
        &self,
        client: &Client,
        path: impl AsRef<str>,
    ) -> Result<WebSocket<H2Stream>, ConnectError> {
        client.noted(self.opened(client, path.as_ref()).await)
    }

    async fn opened(&self, client: &Client, path: &str) -> Result<WebSocket<H2Stream>, ConnectError> {
        let path = self.target.path_of(path)?;
        let request = client.connect_request(&self.target.authority, &path, self.target.secure)?;
        let place = self.place()?;
        Box::pin(timeout(client.time_to_open(), self.ask(client, &path, request, place)))
            .await
            .map_err(|_| ConnectError::Timeout(Phase::Handshake))?
    }

    /// A place for one more stream.
    fn place(&self) -> Result<Place, Http2Error> {
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
        Ok(Place { runtime: Handle::current(), held: (permit, Arc::clone(&self.in_use)) })
    }

    async fn ask(
        &self,
        client: &Client,
        path: &str,
        request: http2::Request,
        place: Place,
    ) -> Result<WebSocket<H2Stream>, ConnectError> {
        let mut head = request.head();
        head.extensions_mut().insert(Protocol::from_static(http2::PROTOCOL));
        let mut requests = self.requests.clone().ready().await.map_err(Http2Error::from_h2)?;
        let (answer, send) = requests.send_request(head, false).map_err(Http2Error::from_h2)?;
        let (head, recv) = final_response(answer).await?.into_parts();
        let mut stream = H2Stream::new(send, recv, place);
        let response = Response::from_parts(head, ());
        match request.check(&response) {
            Ok(agreed) => Ok(client.opened(path, stream, None, &agreed, BytesMut::new())?),
            Err(HandshakeError::Refused(status)) => {
                let headers: HeaderMap = response.into_parts().0.headers;
                let body = client.read_refusal(status, &headers, &mut stream).await;
                Err(ConnectError::Refused(Box::new(Refused { status, headers, body })))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The answer behind the interim ones (RFC 9110 15.2), of which there are not many.
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
