//! A connection over a stream whose opening handshake was done elsewhere, and the stream that a connection gives back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use longwire_proto::{Config, Connection, DeflateParameters, Role};

use crate::connection::WebSocket;
use crate::connection::timer::now;
use crate::observe::Counters;
use crate::observe::recorder::Watch;
use crate::observe::trace::Span;

/// A stream whose opening handshake was done elsewhere, and what was negotiated in it.
///
/// Use it with a server or client that speaks HTTP itself and hands out the stream afterwards, such as hyper's
/// client, actix-web or warp, and in tests. [`WebSocket::from_raw`] is enough if nothing was negotiated and
/// nothing was read behind the handshake.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use longwire::{Config, Message, RawParts, Role};
///
/// let (near, _far) = tokio::io::duplex(64 * 1024);
/// let mut ws = RawParts::new(near, Role::Client, Config::client())
///     .subprotocol("chat")
///     // Read by the HTTP client together with the response.
///     .buffered(&b"\x81\x06\xe4\xbd\xa0\xe5\xa5\xbd"[..])
///     .open();
/// assert_eq!(ws.recv().await.unwrap(), Some(Message::from("你好")));
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it becomes a connection by `open`"]
pub struct RawParts<S> {
    stream: S,
    role: Role,
    config: Arc<Config>,
    buffered: BytesMut,
    subprotocol: Option<Box<str>>,
    deflate: Option<DeflateParameters>,
    counters: Option<Counters>,
}

impl<S> RawParts<S> {
    /// Begins with a stream on which this end has the given role.
    ///
    /// # Panics
    ///
    /// Panics if `config` was made for the other role.
    pub fn new(stream: S, role: Role, config: impl Into<Arc<Config>>) -> Self {
        let config = config.into();
        assert!(config.role() == role, "the configuration is that of the other role");
        Self {
            stream,
            role,
            config,
            buffered: BytesMut::new(),
            subprotocol: None,
            deflate: None,
            counters: None,
        }
    }

    /// Sets the bytes that were read from the stream behind the opening handshake. They are processed first.
    pub fn buffered(mut self, bytes: impl Into<Bytes>) -> Self {
        self.buffered = BytesMut::from(bytes.into());
        self
    }

    /// Sets the subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Sets the parameters of permessage-deflate that were negotiated (RFC 7692 7.1); see
    /// [`DeflateParameters::from_headers`]. Without them a compressed message from the peer is an error. Messages are
    /// compressed as [`Config::deflate`] says, and not at all if the configuration has none.
    pub const fn deflate(mut self, parameters: DeflateParameters) -> Self {
        self.deflate = Some(parameters);
        self
    }

    /// Counts the connection.
    pub fn counters(mut self, counters: &Counters) -> Self {
        self.counters = Some(counters.clone());
        self
    }

    /// Opens the connection. Reads and writes nothing.
    ///
    /// # Panics
    ///
    /// Panics if the role is [`Role::Client`] and the operating system has no random bytes for the masking keys.
    pub fn open(self) -> WebSocket<S> {
        let mut core = match self.role {
            Role::Server => Connection::server(self.config, now()),
            Role::Client => Connection::client(self.config, seed(), now()),
        };
        if let Some(parameters) = self.deflate {
            core = core.with_deflate(parameters);
        }
        let subprotocol = self.subprotocol.as_deref();
        let span = Span::of(self.role, "", subprotocol, self.deflate);
        let watch = Watch::opened(self.counters.as_ref(), span);
        WebSocket::new(self.stream, core, self.buffered, subprotocol).watched(watch)
    }
}

/// Where masking keys come from (RFC 6455 5.3).
#[expect(clippy::expect_used, reason = "an operating system without random bytes cannot run a client at all")]
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the operating system has random bytes");
    seed
}

impl<S> WebSocket<S> {
    /// Opens a connection over a stream whose opening handshake was done elsewhere. Reads and writes nothing.
    ///
    /// [`RawParts`] also takes bytes that were already read, the subprotocol and the compression parameters.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use longwire::{Config, Role, WebSocket};
    ///
    /// let (near, far) = tokio::io::duplex(64 * 1024);
    /// let mut client = WebSocket::from_raw(near, Role::Client, Config::client());
    /// let mut server = WebSocket::from_raw(far, Role::Server, Config::server());
    /// client.send("你好 👋").await?;
    /// assert_eq!(server.recv().await?.unwrap().as_text(), Some("你好 👋"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`RawParts::new`] and [`RawParts::open`].
    pub fn from_raw(stream: S, role: Role, config: impl Into<Arc<Config>>) -> Self {
        RawParts::new(stream, role, config).open()
    }

    /// Returns a reference to the stream. Reading from it or writing to it breaks the connection.
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns a mutable reference to the stream, for its options. Reading from it or writing to it breaks the
    /// connection.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Ends the use of the stream as a WebSocket and returns it, without a Close frame. Bytes that were read and
    /// not yet received, and messages that wait to be written, are lost.
    pub fn into_inner(self) -> S {
        self.stream
    }
}
