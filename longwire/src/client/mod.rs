//! The client: from a URL to an open connection.

mod body;
mod connector;
mod credentials;
mod dial;
mod handshake;
mod http1;
#[cfg(feature = "http2")]
pub(crate) mod http2;
mod progress;
#[cfg(feature = "proxy")]
mod proxy;
mod resolve;
#[cfg(feature = "proxy")]
mod route;
pub(crate) mod target;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use longwire_proto::Config;
use longwire_proto::handshake::HeadLimits;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::WebSocket;
use crate::end::{ConnectError, RedirectError};
use crate::observe::counters::Counters;
use crate::observe::recorder;
use crate::observe::trace;
#[cfg(feature = "tls")]
use crate::tls::{Secure, Tls};

use self::connector::Http;
use self::credentials::{SECRET, basic, bearer, cookie};
use self::handshake::Outcome;
use self::http1::Http1;
use self::progress::Observer;
#[cfg(feature = "proxy")]
use self::route::Route;
use self::target::Target;

pub use self::progress::Step;
#[cfg(feature = "proxy")]
pub use self::proxy::Proxy;

/// Opens a connection with the defaults of [`Client`].
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ws = longwire::connect("ws://127.0.0.1:8080/room").await?;
/// ws.send("hi 👋").await?;
/// let answer = ws.recv().await?;
/// ws.close(1000, "").await?;
/// # Ok(())
/// # }
/// ```
///
/// For `wss://` this reads the platform's root certificates each time; a [`Client`] that is kept reads them once.
///
/// # Errors
///
/// [`ConnectError`]. It has the response if the server rejected the request.
///
/// # Cancel safety
///
/// Dropping the future closes the TCP connection.
pub async fn connect(url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
    Client::new().connect(url).await
}

/// Opens connections with custom settings. Build a client once and reuse it.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use longwire::{Client, Config};
///
/// let client = Client::new()
///     .subprotocols(["chat.v2", "chat.v1"])
///     .header("Authorization", "Bearer 令牌")
///     .config(Config::client().max_message(16 * 1024));
/// let ws = client.connect("ws://127.0.0.1:8080/room").await?;
/// println!("subprotocol: {:?}", ws.subprotocol());
/// # Ok(())
/// # }
/// ```
///
/// A client connects by TCP for `ws://` and by TLS for `wss://`. It looks up IPv4 and IPv6 addresses separately and
/// tries them by Happy Eyeballs (RFC 8305). It follows [redirects](Self::redirects). It sends
/// `User-Agent: longwire/` and the version, unless a [header](Self::header) replaces that. It uses no proxy unless it
/// has [one](Self::proxy) or takes it from the [environment](Self::proxy_from_env).
#[derive(Clone)]
pub struct Client {
    subprotocols: Vec<String>,
    headers: HeaderMap,
    /// The first invalid setting, reported when connecting.
    invalid: Option<String>,
    pub(crate) config: Arc<Config>,
    redirects: usize,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    response_limits: HeadLimits,
    #[cfg(feature = "tls")]
    tls: Arc<Secure>,
    #[cfg(feature = "proxy")]
    route: Route,
    observer: Observer,
    counters: Option<Counters>,
}

/// Shows no header value: each may be a secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Client");
        shown
            .field("subprotocols", &self.subprotocols)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("invalid", &self.invalid)
            .field("config", &self.config)
            .field("redirects", &self.redirects)
            .field("connect_timeout", &self.connect_timeout)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("response_limits", &self.response_limits);
        #[cfg(feature = "tls")]
        shown.field("tls", self.tls.settings());
        #[cfg(feature = "proxy")]
        shown.field("route", &self.route);
        shown.field("on_step", &self.observer).finish()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// Creates a client with the defaults: no subprotocol, [`Config::client`], no proxy, 5 redirects, 10 s to connect
    /// and 10 s for the opening handshake.
    pub fn new() -> Self {
        Self {
            subprotocols: Vec::new(),
            headers: HeaderMap::new(),
            invalid: None,
            config: Arc::new(Config::client()),
            redirects: 5,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            response_limits: HeadLimits::RESPONSE,
            #[cfg(feature = "tls")]
            tls: Arc::default(),
            #[cfg(feature = "proxy")]
            route: Route::Direct,
            observer: Observer::default(),
            counters: None,
        }
    }

    /// Offers subprotocols, the preferred one first (RFC 6455 1.9).
    #[must_use]
    pub fn subprotocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a header to the request, such as Origin. The value is text, bytes or a [`HeaderValue`].
    ///
    /// If the header is invalid or belongs to the handshake, connecting fails with [`ConnectError::Invalid`].
    #[must_use]
    pub fn header<V>(mut self, name: impl AsRef<str>, value: V) -> Self
    where
        HeaderValue: TryFrom<V>,
    {
        let name = name.as_ref();
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                if SECRET.contains(&name) {
                    value.set_sensitive(true);
                }
                if self.headers.try_append(name, value).is_err() {
                    self.set_invalid("too many headers".into());
                }
            }
            (Err(_), _) => self.set_invalid(format!("invalid header name {name:?} (RFC 9110 5.1)")),
            (_, Err(_)) => {
                self.set_invalid(format!(
                    "the value of header {name} has a control character (RFC 9110 5.5)"
                ));
            }
        }
        self
    }

    /// Adds headers to the request. They replace those of the same name that were set before.
    ///
    /// If a header belongs to the handshake, connecting fails with [`ConnectError::Invalid`].
    ///
    /// ```
    /// use longwire::Client;
    /// use longwire::http::{HeaderMap, HeaderValue, header};
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert(header::ORIGIN, HeaderValue::from_static("https://example.com"));
    /// let client = Client::new().headers(headers);
    /// ```
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        for name in headers.keys() {
            self.headers.remove(name);
        }
        for (name, value) in &headers {
            let mut value = value.clone();
            if SECRET.contains(name) {
                value.set_sensitive(true);
            }
            if self.headers.try_append(name, value).is_err() {
                self.set_invalid("too many headers".into());
            }
        }
        self
    }

    /// Removes a header, so that another value can replace it.
    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Sends a user name and a password with `Authorization: Basic` (RFC 7617). Replaces earlier credentials, and takes
    /// precedence over those in a URL.
    #[must_use]
    pub fn basic_auth(self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        let value = basic(user.as_ref(), password.as_ref());
        self.replace(header::AUTHORIZATION, value)
    }

    /// Sends a token with `Authorization: Bearer` (RFC 6750). Replaces earlier credentials.
    #[must_use]
    pub fn bearer_auth(self, token: impl AsRef<str>) -> Self {
        let value = bearer(token.as_ref());
        self.replace(header::AUTHORIZATION, value)
    }

    /// Adds a cookie (RFC 6265). The value is sent as it is, neither quoted nor encoded.
    #[must_use]
    pub fn cookie(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let mut before = self.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        // RFC 6265 5.4: one line.
        let before = before
            .next()
            .map(|first| before.fold(first.to_vec(), |line, next| [&line, &b"; "[..], next].concat()));
        let before = before.and_then(|before| HeaderValue::from_bytes(&before).ok());
        let value = cookie(before.as_ref(), name.as_ref(), value.as_ref());
        self.replace(header::COOKIE, value)
    }

    fn replace(mut self, name: HeaderName, value: Result<HeaderValue, String>) -> Self {
        let replaced = value.and_then(|value| {
            self.headers.try_insert(name, value).map_err(|_| "too many headers".to_owned())
        });
        if let Err(reason) = replaced {
            self.set_invalid(reason);
        }
        self
    }

    /// Keeps the first reason.
    fn set_invalid(&mut self, reason: String) {
        self.invalid.get_or_insert(reason);
    }

    /// Sets limits, timeouts and compression of the connections.
    ///
    /// # Panics
    ///
    /// Panics if it was made by [`Config::server`], whose defaults are those of a server.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        assert!(
            config.role() == crate::Role::Client,
            "a Client takes Config::client(), not Config::server()"
        );
        self.config = Arc::new(config);
        self
    }

    /// Sets the maximum time to reach a server: DNS, TCP, the tunnel of a proxy and TLS together; default 10 s. Each
    /// redirect starts the time again.
    #[must_use]
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Sets the maximum time for the opening handshake, once the server is reached; default 10 s. Each redirect starts
    /// the time again.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Sets the limits on the head of a response, of the server or of a proxy; default [`HeadLimits::RESPONSE`]: 64 KiB
    /// and 256 header lines. The error for a larger head names the limit.
    #[must_use]
    pub const fn response_limits(mut self, limits: HeadLimits) -> Self {
        self.response_limits = limits;
        self
    }

    /// Sets the maximum number of redirects in a row (RFC 9110 15.4: 301, 302, 303, 307, 308); default 5. With 0 a
    /// redirect is [`ConnectError::Refused`].
    ///
    /// A redirect from `wss` to `ws` is never followed. Authorization, Cookie, Proxy-Authorization and the credentials
    /// of the URL are sent only to the scheme, host and port that they were meant for, and are dropped for the rest of
    /// the chain once it leaves them. Other headers are sent to every server. A server may redirect to any address that
    /// this machine can reach: use 0 for URLs from untrusted sources.
    #[must_use]
    pub const fn redirects(mut self, limit: usize) -> Self {
        self.redirects = limit;
        self
    }

    /// Sets the TLS settings for `wss://`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Arc::new(Secure::new(tls));
        self
    }

    /// Connects to all servers through this proxy, including those on this machine.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.route = Route::By(Arc::new(proxy));
        self
    }

    /// Takes the proxy from the environment, which is read for each connection.
    ///
    /// For `ws://` the proxy is that of `http_proxy`, otherwise `HTTP_PROXY`, `all_proxy` or `ALL_PROXY`; for `wss://`
    /// that of `https_proxy`, otherwise `HTTPS_PROXY`, `all_proxy` or `ALL_PROXY`. An empty variable counts as absent.
    /// If the proxy URL is invalid, connecting fails with [`ConnectError::Invalid`], which names the variable.
    ///
    /// `no_proxy`, otherwise `NO_PROXY`, lists hosts that are reached directly, separated by commas or spaces: a domain
    /// stands for itself and its subdomains, with or without a dot before it, in any case; an IP address or a network
    /// such as `192.0.2.0/24` for its addresses. A single `*` stands for all hosts.
    ///
    /// These are curl's rules, with two differences. `HTTP_PROXY` counts, but not in a CGI program (one with
    /// `REQUEST_METHOD` set), where a client could set it by a header. This machine (`localhost`, `127.0.0.0/8`, `::1`) is always reached directly.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn proxy_from_env(mut self) -> Self {
        self.route = Route::Environment;
        self
    }

    /// Connects to all servers directly, which is the default.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.route = Route::Direct;
        self
    }

    /// Calls `callback` at each step on the way to a connection, such as the addresses that are tried. It must not
    /// block.
    #[must_use]
    pub fn on_step(mut self, callback: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(callback);
        self
    }

    /// Counts the connections. Several clients and acceptors may share the counters.
    #[must_use]
    pub fn counters(mut self, counters: &Counters) -> Self {
        self.counters = Some(counters.clone());
        self
    }

    /// Connects to the server of `url` and opens a WebSocket.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the TCP connection.
    pub async fn connect(&self, url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
        self.connect_with_response(url).await.map(|(socket, _)| socket)
    }

    /// Like [`connect`](Self::connect), and also returns the response that opened the connection, with its status and
    /// headers. The selected subprotocol is [`WebSocket::subprotocol`].
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use longwire::{Client, http::header};
    ///
    /// let (ws, response) = Client::new().connect_with_response("ws://127.0.0.1:8080/room").await?;
    /// for cookie in response.headers().get_all(header::SET_COOKIE) {
    ///     println!("{cookie:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the TCP connection.
    pub async fn connect_with_response(
        &self,
        url: impl AsRef<str>,
    ) -> Result<(WebSocket, Response<()>), ConnectError> {
        // Boxed, so that the caller's future does not hold the space for it as long as that lives.
        self.record_failure(Box::pin(self.follow(url.as_ref())).await)
    }

    /// Counts and traces a failure.
    fn record_failure<T>(&self, opened: Result<T, ConnectError>) -> Result<T, ConnectError> {
        opened.inspect_err(|error| recorder::not_connected(self.counters.as_ref(), error))
    }

    async fn follow(&self, url: &str) -> Result<(WebSocket, Response<()>), ConnectError> {
        let mut target = Target::parse(url)?;
        let mut is_first_origin = true;
        for followed in 0..=self.redirects {
            let headers = self.request_headers(&target, is_first_origin)?;
            trace::connecting(&target.host, target.port);
            let stream = self.reach(&target, Http::One).await?;
            let carrier = Http1 { peer: stream.peer_addr().ok(), stream };
            let rejected = match self.open(&target, &target.path, headers, carrier).await? {
                Outcome::Open(socket, response) => return Ok((socket, response)),
                Outcome::Rejected(rejected) => rejected,
            };
            let next = if is_redirect(rejected.response.status()) && self.redirects > 0 {
                target.redirected(rejected.response.headers())?
            } else {
                None
            };
            let Some(mut next) = next else { return Err(rejected.into_error().await) };
            if followed == self.redirects {
                break;
            }
            self.observer.notify(Step::Redirected(next.as_str()));
            is_first_origin &= next.is_same_origin(&target);
            // A redirect has no credentials of its own, but keeps those of the first URL at its origin.
            next.authorization = target.authorization;
            target = next;
        }
        Err(RedirectError::TooMany(self.redirects).into())
    }

    /// Opens a WebSocket on a stream that is connected to the server of `url`: another TLS library, a Unix socket, a
    /// tunnel. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn handshake<S>(&self, url: impl AsRef<str>, stream: S) -> Result<WebSocket<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake_with_response(url, stream).await.map(|(socket, _)| socket)
    }

    /// Like [`handshake`](Self::handshake), and also returns the response that opened the connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn handshake_with_response<S>(
        &self,
        url: impl AsRef<str>,
        stream: S,
    ) -> Result<(WebSocket<S>, Response<()>), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opened = async {
            let target = Target::parse(url.as_ref())?;
            let headers = self.request_headers(&target, true)?;
            self.open(&target, &target.path, headers, Http1 { stream, peer: None }).await?.opened().await
        };
        self.record_failure(opened.await)
    }

    /// The headers of a request to `target`, without those of the handshake. Credentials are for the origin of the first
    /// URL only.
    fn request_headers(&self, target: &Target, with_credentials: bool) -> Result<HeaderMap, ConnectError> {
        if let Some(reason) = &self.invalid {
            return Err(ConnectError::Invalid(reason.clone()));
        }
        let mut headers = self.headers.clone();
        let credentials = target.authorization.clone().map(|value| (header::AUTHORIZATION, value));
        for (name, value) in [(header::USER_AGENT, USER_AGENT)].into_iter().chain(credentials) {
            if !headers.contains_key(&name) && headers.try_insert(name, value).is_err() {
                return Err(ConnectError::Invalid("too many headers".into()));
            }
        }
        if !with_credentials {
            SECRET.iter().for_each(|name| drop(headers.remove(name)));
        }
        Ok(headers)
    }

    /// The User-Agent of requests to a proxy (RFC 9110 10.1.5).
    #[cfg(feature = "proxy")]
    fn user_agent(&self) -> HeaderValue {
        self.headers.get(header::USER_AGENT).cloned().unwrap_or(USER_AGENT)
    }
}

/// The User-Agent of a client that sets none (RFC 9110 10.1.5).
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("longwire/", env!("CARGO_PKG_VERSION")));

/// RFC 9110 15.4: the statuses whose Location the client requests next, all with GET.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Random bytes of the operating system.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
