//! The client: from a URL to an open connection.

mod connector;
mod credentials;
mod dial;
mod http1;
#[cfg(feature = "http2")]
pub(crate) mod http2;
mod progress;
#[cfg(feature = "proxy")]
mod proxy;
pub(crate) mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use longwire_proto::Config;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connection::WebSocket;
use crate::end::{ConnectError, Phase};
use crate::observe::counters::Counters;
use crate::observe::recorder;
use crate::observe::trace;
#[cfg(feature = "tls")]
use crate::tls::{Secure, Tls};

use self::credentials::{SECRET, basic, bearer, cookie};
use self::http1::Answer;
use self::progress::Watch;
#[cfg(feature = "proxy")]
use self::proxy::Route;
use self::target::Target;

pub use self::progress::Step;
#[cfg(feature = "proxy")]
pub use self::proxy::{Proxy, ProxyError};
pub use self::target::RedirectError;

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
/// For `wss://` it reads the platform's roots; a [`Client`] that is kept does so once.
///
/// # Errors
///
/// [`ConnectError`], which says what the server answered if it refused.
///
/// # Cancel safety
///
/// A future that is dropped closes the TCP connection.
pub async fn connect(url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
    Client::new().connect(url).await
}

/// How connections are opened. Make one, keep it, connect as often as you like.
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
/// println!("they speak {:?}", ws.subprotocol());
/// # Ok(())
/// # }
/// ```
///
/// It reaches `ws://` by TCP and `wss://` by TLS, tries the addresses of both families (RFC 8305), uses the
/// [proxy](Self::no_proxy) that the environment names, and follows [redirects](Self::redirects).
#[derive(Clone)]
pub struct Client {
    subprotocols: Vec<String>,
    headers: HeaderMap,
    /// The first setting that cannot be, reported when connecting.
    invalid: Option<String>,
    pub(crate) config: Arc<Config>,
    redirects: usize,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Arc<Secure>,
    #[cfg(feature = "proxy")]
    route: Route,
    watch: Watch,
    counters: Option<Counters>,
}

/// Shows no value of a header: any may be a secret.
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
            .field("handshake_timeout", &self.handshake_timeout);
        #[cfg(feature = "tls")]
        shown.field("tls", self.tls.choices());
        #[cfg(feature = "proxy")]
        shown.field("route", &self.route);
        shown.field("watch", &self.watch).finish()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client with the defaults: no subprotocol, [`Config::client`], 10 s to connect and 10 s for the
    /// opening handshake, 5 redirects.
    pub fn new() -> Self {
        Self {
            subprotocols: Vec::new(),
            headers: HeaderMap::new(),
            invalid: None,
            config: Arc::new(Config::client()),
            redirects: 5,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            #[cfg(feature = "tls")]
            tls: Arc::default(),
            #[cfg(feature = "proxy")]
            route: Route::Environment,
            watch: Watch::default(),
            counters: None,
        }
    }

    /// Subprotocols to offer, the preferred one first (RFC 6455 1.9).
    #[must_use]
    pub fn subprotocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a header to the request, such as Origin. One that is invalid or belongs to the handshake makes
    /// connecting fail with [`ConnectError::Invalid`].
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        match (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(SECRET.contains(&name));
                if self.headers.try_append(name, value).is_err() {
                    self.cannot("too many headers".into());
                }
            }
            (Err(_), _) => self.cannot(format!("invalid header name {name:?} (RFC 9110 5.1)")),
            (_, Err(_)) => {
                self.cannot(format!("the value of header {name} has a control character (RFC 9110 5.5)"));
            }
        }
        self
    }

    /// Says who we are with `Authorization: Basic` (RFC 7617), instead of what was said before. So does user
    /// information in the URL, which this takes precedence over.
    #[must_use]
    pub fn basic_auth(self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        let value = basic(user.as_ref(), password.as_ref());
        self.replace(header::AUTHORIZATION, value)
    }

    /// Shows a token with `Authorization: Bearer` (RFC 6750), instead of what was said before.
    #[must_use]
    pub fn bearer_auth(self, token: impl AsRef<str>) -> Self {
        let value = bearer(token.as_ref());
        self.replace(header::AUTHORIZATION, value)
    }

    /// Sends one more cookie (RFC 6265), as it is: the value is neither quoted nor encoded.
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
            self.cannot(reason);
        }
        self
    }

    /// The first reason is the one that is told.
    fn cannot(&mut self, reason: String) {
        self.invalid.get_or_insert(reason);
    }

    /// Sets the limits, deadlines and compression of the connections.
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

    /// Time to reach a server: its name, TCP, the proxy's tunnel and TLS together; default 10 s. A redirect
    /// begins anew.
    #[must_use]
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Time for the opening handshake, once the server is reached; default 10 s. A redirect begins anew.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// How many redirects in a row (RFC 9110 15.4: 301, 302, 303, 307, 308) are followed; default 5: enough
    /// for a slash at the end, another host and a login on the way, and a loop ends soon. OkHttp follows 20,
    /// curl none until it is told to and then 30, browsers none. With 0 a redirect is
    /// [`ConnectError::Refused`].
    ///
    /// None is followed from `wss` to `ws`. Authorization, Cookie, Proxy-Authorization and user information
    /// go to the scheme, host and port that they were meant for, and once dropped are gone; other headers go
    /// along. A server may lead to any address that this machine reaches: where URLs come from strangers, say 0.
    #[must_use]
    pub const fn redirects(mut self, most: usize) -> Self {
        self.redirects = most;
        self
    }

    /// How `wss://` is secured.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Arc::new(Secure::new(tls));
        self
    }

    /// Reaches all servers by this proxy, whatever the environment says, those on this machine too.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.route = Route::By(Arc::new(proxy));
        self
    }

    /// Reaches servers directly. By default the environment is heeded, as curl does: `http_proxy` for `ws`
    /// and `https_proxy` for `wss`, else `all_proxy`, unless the host is in `no_proxy`; each in capitals too,
    /// `HTTP_PROXY` not within CGI. What is no URL of a proxy counts as none. Never for this machine:
    /// `localhost`, `127.0.0.0/8` and `::1`.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.route = Route::Direct;
        self
    }

    /// Tells `watch` of each step on the way to a connection, such as the addresses that are tried. It is
    /// called in between, and should not block.
    #[must_use]
    pub fn on_step(mut self, watch: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        self.watch = Watch::new(watch);
        self
    }

    /// Counts what becomes of the connections; as many clients and acceptors as you like may share the
    /// counters.
    #[must_use]
    pub fn counters(mut self, counters: &Counters) -> Self {
        self.counters = Some(counters.clone());
        self
    }

    /// Reaches the server that `url` names, and opens WebSocket.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped closes the TCP connection.
    pub async fn connect(&self, url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
        // Boxed, for it would else stay in the future of the caller as long as that lives.
        self.noted(Box::pin(self.follow(url.as_ref())).await)
    }

    /// Counts and traces a failure.
    pub(crate) fn noted<T>(&self, opened: Result<T, ConnectError>) -> Result<T, ConnectError> {
        opened.inspect_err(|error| recorder::not_connected(self.counters.as_ref(), error))
    }

    async fn follow(&self, url: &str) -> Result<WebSocket, ConnectError> {
        let mut target = Target::parse(url)?;
        let mut headers = self.request_headers(&target)?;
        for followed in 0..=self.redirects {
            trace::connecting(&target.host, target.port);
            let stream = self.reach(&target).await?;
            let peer = stream.peer_addr().ok();
            let refused = match self.timed(self.open(&target, &headers, stream, peer)).await? {
                Answer::Open(ws) => return Ok(ws),
                Answer::Refused(refused) => refused,
            };
            let next = if is_redirect(refused.head.status) && self.redirects > 0 {
                target.redirected(&refused.head.headers)?
            } else {
                None
            };
            let Some(next) = next else { return Err(refused.into_error().await) };
            if followed == self.redirects {
                break;
            }
            if !next.is_same_origin(&target) {
                SECRET.iter().for_each(|name| drop(headers.remove(name)));
            }
            self.watch.tell(Step::Redirected(next.as_str()));
            target = next;
        }
        Err(RedirectError::TooMany(self.redirects).into())
    }

    /// Opens WebSocket on a stream that is connected already: other TLS than ours, a Unix socket, a tunnel.
    /// Redirects are not followed.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn handshake<S>(&self, url: impl AsRef<str>, stream: S) -> Result<WebSocket<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opened = async {
            let target = Target::parse(url.as_ref())?;
            let headers = self.request_headers(&target)?;
            match self.timed(self.open(&target, &headers, stream, None)).await? {
                Answer::Open(ws) => Ok(ws),
                Answer::Refused(refused) => Err(refused.into_error().await),
            }
        };
        self.noted(opened.await)
    }

    /// The headers that the user wants.
    fn request_headers(&self, target: &Target) -> Result<HeaderMap, ConnectError> {
        if let Some(reason) = &self.invalid {
            return Err(ConnectError::Invalid(reason.clone()));
        }
        let mut headers = self.headers.clone();
        if let Some(value) = &target.authorization
            && !headers.contains_key(header::AUTHORIZATION)
            && headers.try_insert(header::AUTHORIZATION, value.clone()).is_err()
        {
            return Err(ConnectError::Invalid("too many headers".into()));
        }
        Ok(headers)
    }

    async fn timed<T>(
        &self,
        handshake: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        timeout(self.handshake_timeout, handshake)
            .await
            .map_err(|_| ConnectError::Timeout(Phase::Handshake))?
    }
}

/// RFC 9110 15.4: the statuses whose Location is to be asked instead. All are asked with GET, as we do.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
