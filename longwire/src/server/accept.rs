//! Accepts WebSockets on streams: reads the request, answers it, and opens the connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, header};
use longwire_proto::handshake::{HeadLimits, OpeningRequest, Origins, Refusal, ServerOpening, server};
use longwire_proto::{Config, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connection::WebSocket;
use crate::connection::timer::now;
use crate::end::AcceptError;
use crate::net::http_head::{linger, read_some, write_all};
use crate::net::set_nodelay;
use crate::observe::counters::Counters;
use crate::observe::recorder::{self, Watch};
use crate::observe::trace::Span;
use crate::server::forwarded::TrustedProxies;

/// How long the server reads from a refused client before it closes the connection, so that no reset overtakes the
/// response.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// The most it reads from a refused client, in bytes.
const LINGER_BYTES: usize = 1024 * 1024;

/// Accepts a WebSocket on a stream, with the defaults of [`Acceptor`].
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// loop {
///     let (stream, _) = listener.accept().await?;
///     tokio::spawn(async move {
///         let mut ws = longwire::accept(stream).await?;
///         while let Some(message) = ws.recv().await? {
///             ws.send(message).await?;
///         }
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///     });
/// }
/// # }
/// ```
///
/// # Errors
///
/// [`AcceptError`]; the client has received its response.
///
/// # Cancel safety
///
/// Dropping the future drops the stream.
pub async fn accept<S>(stream: S) -> Result<WebSocket<S>, AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // Boxed, here and below: the state of the handshake would otherwise stay in the future of the caller, which
    // often is the task of the connection, for as long as that lives.
    Box::pin(async { Acceptor::new().accept(stream).await }).await
}

type OnRequest = dyn Fn(&Request<()>, &mut HeaderMap) -> Result<(), Refusal> + Send + Sync;

/// Accepts WebSockets: which requests, and with which settings. Create one for all connections of a listener.
///
/// It sets `TCP_NODELAY` on a [`TcpStream`](tokio::net::TcpStream), because a small message would otherwise wait for
/// the acknowledgement of the one before, often 40 ms. For other streams, set it on the socket before.
///
/// ```
/// use longwire::{Acceptor, Config, Origins, Refusal, http::StatusCode};
///
/// let acceptor = Acceptor::new()
///     .subprotocols(["chat.v2", "chat.v1"])
///     .origins(Origins::list(["https://example.com"])?)
///     .config(Config::server().max_message(64 * 1024))
///     .on_request(|request, headers| {
///         if request.uri().path() != "/chat" {
///             return Err(Refusal::new(StatusCode::NOT_FOUND, "try /chat"));
///         }
///         headers.insert("x-served-by", "longwire".parse().unwrap());
///         Ok(())
///     });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Acceptor(Arc<Settings>);

#[derive(Clone)]
pub(crate) struct Settings {
    policy: server::Policy,
    pub(crate) config: Arc<Config>,
    pub(crate) handshake_timeout: Duration,
    on_request: Option<Arc<OnRequest>>,
    pub(crate) counters: Option<Counters>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: server::Policy::new(),
            config: Arc::new(Config::server()),
            handshake_timeout: Duration::from_secs(10),
            on_request: None,
            counters: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("policy", &self.policy)
            .field("config", &self.config)
            .field("handshake_timeout", &self.handshake_timeout)
            .finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Creates an acceptor with the defaults: no subprotocol, only pages of the same origin, [`Config::server`], 10 s
    /// for the handshake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the subprotocols to select from, the preferred one first (RFC 6455 1.9). If the client offers none of
    /// them, the connection has none.
    #[must_use]
    pub fn subprotocols<I>(self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.change(|settings| settings.policy = std::mem::take(&mut settings.policy).subprotocols(names))
    }

    /// Sets the origins of the pages that may connect (RFC 6455 10.2); other pages get 403. Requests without an
    /// Origin header do not come from browsers and are accepted.
    #[must_use]
    pub fn origins(self, origins: Origins) -> Self {
        self.change(|settings| settings.policy = std::mem::take(&mut settings.policy).origins(origins))
    }

    /// Sets the limits, deadlines and compression of the connections.
    ///
    /// # Panics
    ///
    /// Panics if it was made by [`Config::client`], whose defaults are those of a client.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        assert!(config.role() == Role::Server, "an Acceptor takes Config::server(), not Config::client()");
        self.change(|settings| {
            settings.policy = std::mem::take(&mut settings.policy).deflate(config.deflate.clone());
            settings.config = Arc::new(config);
        })
    }

    /// Sets the maximum time for the request to arrive, and for the response to be written. Default: 10 s each.
    #[must_use]
    pub fn handshake_timeout(self, time: Duration) -> Self {
        self.change(|settings| settings.handshake_timeout = time)
    }

    /// Accepts or rejects each request that is otherwise valid, and can add headers to the response. To wait for
    /// something before deciding, use [`receive`](Self::receive).
    #[must_use]
    pub fn on_request<F>(self, on_request: F) -> Self
    where
        F: Fn(&Request<()>, &mut HeaderMap) -> Result<(), Refusal> + Send + Sync + 'static,
    {
        self.change(|settings| settings.on_request = Some(Arc::new(on_request)))
    }

    /// Counts handshakes and connections. Any number of acceptors and clients can share the counters.
    #[must_use]
    pub fn counters(self, counters: &Counters) -> Self {
        self.change(|settings| settings.counters = Some(counters.clone()))
    }

    #[cfg(any(all(unix, feature = "engine"), feature = "hyper"))]
    pub(crate) const fn settings(&self) -> &Arc<Settings> {
        &self.0
    }

    fn change(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Reads the request, answers it and opens the connection.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; the client has received its response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept<S>(&self, stream: S) -> Result<WebSocket<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        Box::pin(async { self.receive(stream).await?.accept().await }).await
    }

    /// Reads the request and does not answer it yet: for servers that look at it first, wait for a database, or serve
    /// plain HTTP on the same port.
    ///
    /// # Errors
    ///
    /// [`AcceptError`] if no valid HTTP/1.1 request arrives in time; the client has received its response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn receive<S>(&self, stream: S) -> Result<Handshake<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        set_nodelay(&stream);
        let received = Box::pin(self.read_request(stream)).await;
        received.inspect_err(|error| recorder::not_accepted(self.0.counters.as_ref(), error))
    }

    pub(crate) async fn read_request<S>(&self, mut stream: S) -> Result<Handshake<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut input = BytesMut::new();
        let mut opening = ServerOpening::new(HeadLimits::default());
        let read =
            Box::pin(timeout(self.0.handshake_timeout, read_opening(&mut stream, &mut input, &mut opening)))
                .await;
        match read {
            Ok(Ok(Ok(Some(opening)))) => {
                Ok(Handshake { settings: Arc::clone(&self.0), stream, input, opening: Box::new(opening) })
            }
            Ok(Ok(Ok(None))) => Err(AcceptError::Eof),
            Ok(Ok(Err(refusal))) => {
                // Free the bytes behind the request: the client may take its time to read the refusal.
                drop(input);
                Err(self.0.refuse(&mut stream, refusal).await)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                drop(input);
                if let Some(refusal) = opening.time_out() {
                    Box::pin(self.0.write_refusal(&mut stream, refusal)).await?;
                }
                Err(AcceptError::Timeout)
            }
        }
    }
}

/// Reads until the request is complete or refused. Returns `None` if the stream ends before.
async fn read_opening<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    opening: &mut ServerOpening,
) -> io::Result<Result<Option<OpeningRequest>, Refusal>> {
    loop {
        match opening.receive(input) {
            Ok(None) => {}
            received => return Ok(received),
        }
        if read_some(stream, input).await? == 0 {
            return Ok(Ok(None));
        }
    }
}

impl Settings {
    /// Checks a request of HTTP/1.1. Headers for the response are added to `headers`.
    pub(crate) fn check(
        &self,
        request: &Request<()>,
        headers: &mut HeaderMap,
    ) -> Result<server::Acceptance, Refusal> {
        self.negotiate(server::validate(request)?, request, headers)
    }

    /// Applies the policy to a valid request, then asks the application.
    pub(crate) fn negotiate(
        &self,
        valid: server::ValidRequest,
        request: &Request<()>,
        headers: &mut HeaderMap,
    ) -> Result<server::Acceptance, Refusal> {
        let acceptance = valid.negotiate(request, &self.policy)?;
        if let Some(on_request) = &self.on_request {
            on_request(request, headers)?;
        }
        Ok(acceptance)
    }

    /// Returns the subprotocol that a request with these headers gets.
    #[cfg(feature = "axum")]
    pub(crate) fn select_subprotocol(&self, headers: &HeaderMap) -> Option<&str> {
        self.policy.select_subprotocol(headers).ok().flatten()
    }

    /// Opens the connection to a request for this path; `input` followed the request.
    pub(crate) fn open<S>(
        &self,
        path: &str,
        acceptance: &server::Acceptance,
        stream: S,
        input: BytesMut,
    ) -> WebSocket<S> {
        let core = acceptance.connection(Arc::clone(&self.config), now());
        let subprotocol = acceptance.subprotocol();
        let span = Span::of(Role::Server, path, subprotocol, acceptance.deflate());
        let watch = Watch::opened(self.counters.as_ref(), span);
        WebSocket::new(stream, core, input, subprotocol).watched(watch)
    }

    pub(crate) async fn refuse<S>(&self, stream: &mut S, refusal: Refusal) -> AcceptError
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match Box::pin(self.write_refusal(stream, refusal.clone())).await {
            Ok(()) => AcceptError::Refused(refusal),
            Err(error) => error,
        }
    }

    async fn write_refusal<S>(&self, stream: &mut S, mut refusal: Refusal) -> Result<(), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // RFC 9110 6.6.1: a server with a clock sends the date.
        if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
            refusal.headers_mut().insert(header::DATE, date);
        }
        let mut encoded = Vec::new();
        refusal.encode(&mut encoded);
        let written = timeout(self.handshake_timeout, write_all(stream, &encoded)).await;
        written.map_err(|_| AcceptError::Timeout)??;
        // The response is written, so failures from here on are not errors of the handshake.
        let _ = timeout(LINGER_TIME, linger(stream, LINGER_BYTES)).await;
        Ok(())
    }
}

/// An opening handshake whose request has been read and not answered.
///
/// Dropping it ends the connection without a response.
#[derive(Debug)]
pub struct Handshake<S> {
    pub(crate) settings: Arc<Settings>,
    pub(crate) stream: S,
    pub(crate) input: BytesMut,
    /// The request at the front of `input`.
    pub(crate) opening: Box<OpeningRequest>,
}

impl<S> Handshake<S> {
    /// Returns the request.
    pub fn request(&self) -> &Request<()> {
        &self.opening.request
    }

    /// Whether the request asks for an upgrade to WebSocket. Anything else is plain HTTP.
    pub fn is_websocket(&self) -> bool {
        self.opening.is_websocket()
    }

    /// Replaces what the request says about the client by what trusted proxies say, and returns the client's address;
    /// see [`TrustedProxies::apply`]. Call it before the request is accepted, because it may change which pages are
    /// of the same origin.
    ///
    /// # Errors
    ///
    /// As [`TrustedProxies::apply`]: the response to [refuse](Self::refuse) the request with.
    pub fn apply_proxies(
        &mut self,
        proxies: &TrustedProxies,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Refusal> {
        proxies.apply(peer, &mut self.opening.request)
    }

    /// Returns the stream.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// Returns the stream and all bytes that were read from it, the head of the request included, for an HTTP server
    /// that takes over.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.input.freeze())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<S> {
    /// Checks the request and answers it: 101 if it is valid, otherwise the reason why it is not.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; the client has received its response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept(self) -> Result<WebSocket<S>, AcceptError> {
        self.accept_with(HeaderMap::new()).await
    }

    /// Like [`accept`](Self::accept), with further headers in the response.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; a header that belongs to the handshake is a refusal with 500.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept_with(self, headers: HeaderMap) -> Result<WebSocket<S>, AcceptError> {
        let settings = Arc::clone(&self.settings);
        let answered = Box::pin(self.answer(headers)).await;
        answered.inspect_err(|error| recorder::not_accepted(settings.counters.as_ref(), error))
    }

    async fn answer(mut self, mut headers: HeaderMap) -> Result<WebSocket<S>, AcceptError> {
        let settings = Arc::clone(&self.settings);
        let mut response = Vec::new();
        let checked = settings.check(&self.opening.request, &mut headers).and_then(|acceptance| {
            acceptance.encode(&headers, &mut response)?;
            Ok(acceptance)
        });
        let acceptance = match checked {
            Ok(acceptance) => acceptance,
            Err(refusal) => return Err(self.write_refusal(refusal).await),
        };
        let written = timeout(settings.handshake_timeout, write_all(&mut self.stream, &response)).await;
        written.map_err(|_| AcceptError::Timeout)??;
        let input = self.input.split_off(self.opening.head_length);
        Ok(settings.open(self.opening.request.uri().path(), &acceptance, self.stream, input))
    }

    /// Answers with a refusal. Returns [`AcceptError::Refused`] if it could be sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn refuse(self, refusal: Refusal) -> AcceptError {
        let settings = Arc::clone(&self.settings);
        let refused = self.write_refusal(refusal).await;
        recorder::not_accepted(settings.counters.as_ref(), &refused);
        refused
    }

    pub(crate) async fn write_refusal(mut self, refusal: Refusal) -> AcceptError {
        // Free the bytes behind the request: the client may take its time to read the refusal.
        self.input = BytesMut::new();
        self.settings.refuse(&mut self.stream, refusal).await
    }
}
