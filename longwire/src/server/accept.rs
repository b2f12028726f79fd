//! The server: from an accepted stream to an open connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
#[cfg(feature = "hyper")]
use longwire_proto::handshake::http2;
use longwire_proto::handshake::{HeadLimits, HeadReader, Origins, Refusal, server};
use longwire_proto::{Config, Connection, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connection::WebSocket;
use crate::connection::timer::now;
use crate::end::AcceptError;
use crate::net::http_head::{linger, read_head, write_all};
use crate::observe::counters::Counters;
use crate::observe::recorder::{self, Watch};
use crate::observe::trace::Span;
use crate::server::forwarded::TrustedProxies;

/// How long a refused client is listened to, so that it can read the refusal.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// And how much of what it sends is read.
const LINGER_BYTES: usize = 1024 * 1024;

/// Answers an opening handshake with the defaults of [`Acceptor`].
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
/// [`AcceptError`]; the client has got its answer.
///
/// # Cancel safety
///
/// A future that is dropped drops the stream.
pub async fn accept<S>(stream: S) -> Result<WebSocket<S>, AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Boxed, here and below: what the handshake needs would else stay in the future of its caller,
    // which often is the task of the connection, for as long as that lives.
    Box::pin(async { Acceptor::new().accept(stream).await }).await
}

type OnRequest = dyn Fn(&Request<()>, &mut HeaderMap) -> Result<(), Refusal> + Send + Sync;

/// How opening handshakes are answered. Make one for all connections of a listener.
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
    /// An acceptor with the defaults: no subprotocol, pages of the same origin only,
    /// [`Config::server`], 10 s for the handshake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Subprotocols to select from, the preferred one first (RFC 6455 1.9). If the client offers none of
    /// them, the connection has none.
    #[must_use]
    pub fn subprotocols<I>(self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.change(|settings| settings.policy = std::mem::take(&mut settings.policy).subprotocols(names))
    }

    /// The pages that may connect, by their Origin (RFC 6455 10.2); others get 403. Clients that are no
    /// browsers send none and pass.
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

    /// Time for the request to come, and for the answer to be taken; default 10 s each.
    #[must_use]
    pub fn handshake_timeout(self, time: Duration) -> Self {
        self.change(|settings| settings.handshake_timeout = time)
    }

    /// Sees each request that is otherwise good; may refuse it, or add headers to the answer. For
    /// decisions that have to wait for something see [`receive`](Self::receive).
    #[must_use]
    pub fn on_request<F>(self, on_request: F) -> Self
    where
        F: Fn(&Request<()>, &mut HeaderMap) -> Result<(), Refusal> + Send + Sync + 'static,
    {
        self.change(|settings| settings.on_request = Some(Arc::new(on_request)))
    }

    /// Counts what becomes of the handshakes and connections; as many acceptors and clients as you like may
    /// share the counters.
    #[must_use]
    pub fn counters(self, counters: &Counters) -> Self {
        self.change(|settings| settings.counters = Some(counters.clone()))
    }

    #[cfg(any(unix, feature = "hyper"))]
    pub(crate) const fn settings(&self) -> &Arc<Settings> {
        &self.0
    }

    fn change(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Reads the request and answers it.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; the client has got its answer.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn accept<S>(&self, stream: S) -> Result<WebSocket<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        Box::pin(async { self.receive(stream).await?.accept().await }).await
    }

    /// Reads the request and decides nothing yet: for servers that look at it first, wait for a
    /// database, or serve plain HTTP on the same port.
    ///
    /// # Errors
    ///
    /// [`AcceptError`] when no valid HTTP/1.1 request came in time; the client has got its answer.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn receive<S>(&self, stream: S) -> Result<Handshake<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let received = Box::pin(self.read_request(stream)).await;
        received.inspect_err(|error| recorder::not_accepted(self.0.counters.as_ref(), error))
    }

    pub(crate) async fn read_request<S>(&self, mut stream: S) -> Result<Handshake<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = HeadLimits::default();
        let mut input = BytesMut::new();
        let reader = HeadReader::for_request(limits);
        let read =
            Box::pin(timeout(self.0.handshake_timeout, read_head(&mut stream, &mut input, reader))).await;
        let parsed = match read {
            Ok(Ok(Ok(Some(length)))) => {
                server::parse_request(&input[..length], limits).map(|request| (request, length))
            }
            Ok(Ok(Ok(None))) => return Err(AcceptError::Eof),
            Ok(Ok(Err(error))) => Err(Refusal::from(error)),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if input.is_empty() => return Err(AcceptError::Timeout),
            Err(_) => {
                let text = "The request was not complete in time.";
                let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, text);
                drop(input);
                Box::pin(self.0.write_refusal(&mut stream, refusal)).await?;
                return Err(AcceptError::Timeout);
            }
        };
        match parsed {
            Ok((request, head)) => Ok(Handshake {
                settings: Arc::clone(&self.0),
                stream,
                input,
                head,
                request: Box::new(request),
            }),
            Err(refusal) => {
                // What came behind the request is not kept while the client reads why it was refused.
                drop(input);
                Err(self.0.refuse(&mut stream, refusal).await)
            }
        }
    }
}

impl Settings {
    /// Whether the request is good; what is added to the answer goes to `headers`.
    pub(crate) fn judge(
        &self,
        request: &Request<()>,
        headers: &mut HeaderMap,
    ) -> Result<server::Acceptance, Refusal> {
        let acceptance = server::check(request, &self.policy)?;
        self.ask(request, headers)?;
        Ok(acceptance)
    }

    /// The same for a request of HTTP/2, whose `:protocol` is `protocol`.
    #[cfg(feature = "hyper")]
    pub(crate) fn judge_connect(
        &self,
        request: &Request<()>,
        protocol: Option<&str>,
        headers: &mut HeaderMap,
    ) -> Result<server::Acceptance, Refusal> {
        let acceptance = http2::check(request, protocol, &self.policy)?;
        self.ask(request, headers)?;
        Ok(acceptance)
    }

    /// What the application says of a request that is good.
    fn ask(&self, request: &Request<()>, headers: &mut HeaderMap) -> Result<(), Refusal> {
        if let Some(on_request) = &self.on_request {
            on_request(request, headers)?;
        }
        Ok(())
    }

    /// The answer to a request that is good.
    pub(crate) fn response(
        acceptance: &server::Acceptance,
        headers: &HeaderMap,
    ) -> Result<Response<()>, Refusal> {
        acceptance.response(headers).map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("Bad response header: {error}"))
        })
    }

    /// The connection that the answer has opened, for a request of this path; `input` came behind the request.
    pub(crate) fn open<S>(
        &self,
        path: &str,
        acceptance: &server::Acceptance,
        stream: S,
        input: BytesMut,
    ) -> WebSocket<S> {
        let mut core = Connection::server(Arc::clone(&self.config), now());
        if let Some(parameters) = acceptance.deflate() {
            core = core.with_deflate(parameters);
        }
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
        // The answer is out: what the client does with it is no failure of ours.
        let _ = timeout(LINGER_TIME, linger(stream, LINGER_BYTES)).await;
        Ok(())
    }
}

/// An opening handshake whose request has been read and not answered.
///
/// Dropped, it ends the connection without an answer.
#[derive(Debug)]
pub struct Handshake<S> {
    pub(crate) settings: Arc<Settings>,
    pub(crate) stream: S,
    pub(crate) input: BytesMut,
    /// Length of the request's head at the front of `input`.
    pub(crate) head: usize,
    pub(crate) request: Box<Request<()>>,
}

impl<S> Handshake<S> {
    /// The request.
    pub fn request(&self) -> &Request<()> {
        &self.request
    }

    /// It asks for an upgrade to WebSocket. Anything else is plain HTTP.
    pub fn is_websocket(&self) -> bool {
        server::is_websocket(&self.request)
    }

    /// Lets the request say what the client has said, where trusted proxies stand between, and returns the client's
    /// address: see [`TrustedProxies::apply`]. To be called before the request is accepted, for it may change
    /// which pages are of the same origin.
    ///
    /// # Errors
    ///
    /// As [`TrustedProxies::apply`]: what to [refuse](Self::refuse) it with.
    pub fn behind(&mut self, proxies: &TrustedProxies, peer: SocketAddr) -> Result<SocketAddr, Refusal> {
        proxies.apply(peer, &mut self.request)
    }

    /// The stream.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream and all bytes that were read from it, the request's head included: for an HTTP server
    /// that takes over.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.input.freeze())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<S> {
    /// Checks the request and answers it: 101 if it is good, else what is wrong with it.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; the client has got its answer.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn accept(self) -> Result<WebSocket<S>, AcceptError> {
        self.accept_with(HeaderMap::new()).await
    }

    /// As [`accept`](Self::accept), with further headers in the answer.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; a header that belongs to the handshake is a refusal with 500.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn accept_with(self, headers: HeaderMap) -> Result<WebSocket<S>, AcceptError> {
        let settings = Arc::clone(&self.settings);
        let answered = Box::pin(self.answer(headers)).await;
        answered.inspect_err(|error| recorder::not_accepted(settings.counters.as_ref(), error))
    }

    async fn answer(mut self, mut headers: HeaderMap) -> Result<WebSocket<S>, AcceptError> {
        let settings = Arc::clone(&self.settings);
        let answer = settings.judge(&self.request, &mut headers).and_then(|acceptance| {
            let response = Settings::response(&acceptance, &headers)?;
            Ok((acceptance, response))
        });
        let (acceptance, response) = match answer {
            Ok(answer) => answer,
            Err(refusal) => return Err(self.write_refusal(refusal).await),
        };
        let mut encoded = Vec::new();
        server::encode_response(&response, &mut encoded);
        let written = timeout(settings.handshake_timeout, write_all(&mut self.stream, &encoded)).await;
        written.map_err(|_| AcceptError::Timeout)??;
        let input = self.input.split_off(self.head);
        Ok(settings.open(self.request.uri().path(), &acceptance, self.stream, input))
    }

    /// Answers with a refusal. What it returns is [`AcceptError::Refused`], if the client could be told.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn refuse(self, refusal: Refusal) -> AcceptError {
        let settings = Arc::clone(&self.settings);
        let refused = self.write_refusal(refusal).await;
        recorder::not_accepted(settings.counters.as_ref(), &refused);
        refused
    }

    pub(crate) async fn write_refusal(mut self, refusal: Refusal) -> AcceptError {
        // What came behind the request is not kept while the client reads why it was refused.
        self.input = BytesMut::new();
        self.settings.refuse(&mut self.stream, refusal).await
    }
}
