//! The client: from a URL to an open connection.

mod target;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use longwire_proto::handshake::{HandshakeError, HeadError, HeadLimits, HeadReader, client};
use longwire_proto::{Config, Connection, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Host;

use crate::counters::Counters;
use crate::error::{ConnectError, Response};
use crate::head::{read_head, read_some, write_all};
use crate::timer::now;
use crate::trace::{self, Span};
use crate::transport::Transport;
use crate::watch::{self, Watch};
use crate::websocket::WebSocket;

use self::target::Target;

/// Bytes of a refusal's body that are kept.
const BODY_MAX: usize = 4 * 1024;

/// How long the body of a refusal is waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

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
#[derive(Clone, Debug)]
pub struct Client {
    subprotocols: Vec<String>,
    headers: HeaderMap,
    /// The first header that was not one, reported when connecting.
    bad_header: Option<String>,
    config: Arc<Config>,
    handshake_timeout: Duration,
    counters: Option<Counters>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client with the defaults: no subprotocol, [`Config::client`], 10 s for the handshake.
    pub fn new() -> Self {
        Self {
            subprotocols: Vec::new(),
            headers: HeaderMap::new(),
            bad_header: None,
            config: Arc::new(Config::client()),
            handshake_timeout: Duration::from_secs(10),
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

    /// Adds a header to the request. One that is invalid or belongs to the handshake makes connecting
    /// fail with [`ConnectError::Invalid`].
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        match (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(value)) => {
                if self.headers.try_append(name, value).is_err() {
                    self.bad_header.get_or_insert_with(|| "too many headers".into());
                }
            }
            (Err(_), _) => {
                self.bad_header.get_or_insert_with(|| format!("invalid header name {name:?} (RFC 9110 5.1)"));
            }
            (_, Err(_)) => {
                self.bad_header.get_or_insert_with(|| {
                    format!("the value of header {name} has a control character (RFC 9110 5.5)")
                });
            }
        }
        self
    }

    /// Limits, deadlines and compression of the connections.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = Arc::new(config);
        self
    }

    /// Time for connecting and the opening handshake together; default 10 s.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Counts what becomes of the connections; as many clients and acceptors as you like may share the
    /// counters.
    #[must_use]
    pub fn counters(mut self, counters: &Counters) -> Self {
        self.counters = Some(counters.clone());
        self
    }

    /// Opens a TCP connection to where `url` says, and WebSocket on it.
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
        self.noted(Box::pin(self.dial(url.as_ref())).await)
    }

    async fn dial(&self, url: &str) -> Result<WebSocket, ConnectError> {
        let target = Target::parse(url)?;
        if target.secure {
            return Err(ConnectError::Invalid(
                "wss:// needs TLS, which is not built in yet: open a TLS stream and pass it to Client::handshake"
                    .into(),
            ));
        }
        trace::connecting(&target.host, target.port);
        let open = async {
            let stream = match &target.host {
                Host::Domain(name) => TcpStream::connect((name.as_str(), target.port)).await?,
                Host::Ipv4(address) => TcpStream::connect((*address, target.port)).await?,
                Host::Ipv6(address) => TcpStream::connect((*address, target.port)).await?,
            };
            // Frames are written whole: waiting to gather them would only delay them.
            stream.set_nodelay(true)?;
            let stream = Transport::from(stream);
            let peer = stream.peer_addr();
            self.open(&target, stream, peer).await
        };
        timeout(self.handshake_timeout, open).await.map_err(|_| ConnectError::Timeout)?
    }

    /// Counts and traces a failure.
    fn noted<T>(&self, opened: Result<T, ConnectError>) -> Result<T, ConnectError> {
        opened.inspect_err(|error| watch::not_connected(self.counters.as_ref(), error))
    }

    /// Opens WebSocket on a stream that is connected already: TLS, a Unix socket, a proxy's tunnel.
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
        let open = async {
            let target = Target::parse(url.as_ref())?;
            self.open(&target, stream, None).await
        };
        let opened = timeout(self.handshake_timeout, open).await;
        self.noted(opened.unwrap_or(Err(ConnectError::Timeout)))
    }

    async fn open<S>(
        &self,
        target: &Target,
        mut stream: S,
        peer: Option<SocketAddr>,
    ) -> Result<WebSocket<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(reason) = &self.bad_header {
            return Err(ConnectError::Invalid(reason.clone()));
        }
        let invalid = |error: client::InvalidRequest| ConnectError::Invalid(error.to_string());
        let request = client::Request::new(&target.authority, &target.path, random()?)
            .and_then(|request| request.subprotocols(&self.subprotocols))
            .and_then(|request| request.headers(&self.headers))
            .map_err(invalid)?
            .deflate(self.config.deflate_config().cloned());
        let mut encoded = Vec::new();
        request.encode(&mut encoded);
        write_all(&mut stream, &encoded).await?;

        let limits = HeadLimits::default();
        let mut input = BytesMut::new();
        for _ in 0..=client::MAX_INTERIM {
            let reader = HeadReader::for_response(limits);
            let head = read_head(&mut stream, &mut input, reader).await?.map_err(HandshakeError::from)?;
            let Some(length) = head else { return Err(HandshakeError::from(HeadError::Incomplete).into()) };
            let response = client::parse_response(&input.split_to(length), limits)?;
            if client::is_interim(&response) {
                continue;
            }
            return match request.check(&response) {
                Ok(agreed) => {
                    let mut core = Connection::client(Arc::clone(&self.config), random()?, now());
                    if let Some(parameters) = agreed.deflate {
                        core = core.with_deflate(parameters);
                    }
                    let subprotocol = agreed.subprotocol.as_deref();
                    let span = Span::of(Role::Client, &target.path, subprotocol, agreed.deflate);
                    span.set_peer(peer);
                    let watch = Watch::opened(self.counters.as_ref(), span);
                    Ok(WebSocket::new(stream, core, input, subprotocol).watched(watch))
                }
                Err(HandshakeError::Refused(status)) => {
                    let (parts, ()) = response.into_parts();
                    let body = read_body(&mut stream, &parts, input).await;
                    Err(ConnectError::Refused(Box::new(Response { status, headers: parts.headers, body })))
                }
                Err(error) => Err(error.into()),
            };
        }
        Err(HandshakeError::TooManyInterim.into())
    }
}

/// The beginning of a refusal's body, as far as it comes soon.
async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, head: &Parts, mut body: BytesMut) -> String {
    // RFC 9112 6.3: these have no body. Chunks have one, but their sizes are no text for people.
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || head.headers.contains_key(header::TRANSFER_ENCODING)
    {
        return String::new();
    }
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let wanted = length.unwrap_or(BODY_MAX).min(BODY_MAX);
    let _ = timeout(BODY_TIMEOUT, async {
        while body.len() < wanted && read_some(stream, &mut body).await? > 0 {}
        Ok::<(), io::Error>(())
    })
    .await;
    body.truncate(wanted);
    String::from_utf8_lossy(&body).into_owned()
}

/// Random bytes of the operating system.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
