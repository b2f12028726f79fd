//! From a URL to an open connection, as far as a page decides on it.

use std::future::poll_fn;
use std::time::Duration;

use super::inbox::Limits;
use super::socket::Socket;
use super::timer::timeout;
use super::websocket::WebSocket;
use crate::end::{ConnectError, Phase};

/// Opens a connection with the defaults of [`Client`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ws = longwire::connect("wss://example.com/room").await?;
/// ws.send("hi 👋").await?;
/// let answer = ws.recv().await?;
/// ws.close(1000, "").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`Client::connect`].
///
/// # Cancel safety
///
/// A future that is dropped makes the browser give up.
pub async fn connect(url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
    Client::new().connect(url).await
}

/// How a page opens connections. It can be used again.
///
/// The browser decides the rest: proxies, TLS, compression, Origin, cookies and credentials. A page can set no header,
/// so send a token as a subprotocol, in the query, or in the first message.
#[derive(Clone, Debug)]
pub struct Client {
    subprotocols: Vec<String>,
    connect_timeout: Duration,
    close_timeout: Duration,
    limits: Limits,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// Makes a client with the defaults: no subprotocol, 20 s to connect, 5 s to close, messages of up to 64 MiB, 64
    /// MiB that wait to be received, and 1 MiB that waits to be written.
    pub const fn new() -> Self {
        Self {
            subprotocols: Vec::new(),
            connect_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            limits: Limits {
                max_message: 64 * 1024 * 1024,
                receive_buffer: 64 * 1024 * 1024,
                write_buffer: 1024 * 1024,
            },
        }
    }

    /// Sets the subprotocols to offer, the preferred one first (RFC 6455 1.9).
    #[must_use]
    pub fn subprotocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the time until a connection is open: name, TCP, TLS and the opening handshake together. Default 20 s.
    #[must_use]
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Sets how long the closing handshake may take. Default 5 s.
    #[must_use]
    pub const fn close_timeout(mut self, time: Duration) -> Self {
        self.close_timeout = time;
        self
    }

    /// Sets the size of the largest message, in bytes. Default 64 MiB.
    ///
    /// A larger message closes the connection with 4009, and [`WebSocket::recv`] returns
    /// [`Error::Protocol`](crate::Error::Protocol). A page cannot send 1009. The browser has the whole message in
    /// memory by then: this limits the memory of your module, not that of the browser.
    #[must_use]
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.limits.max_message = bytes;
        self
    }

    /// Sets how much may wait to be received, in bytes: payloads, and 64 bytes for each message. Default 64 MiB.
    ///
    /// A browser delivers messages without backpressure. If more arrives while the page is busy, the connection is
    /// closed with 4009. [`WebSocket::recv`] returns the messages that wait, then [`Error::Io`](crate::Error::Io) of
    /// the kind `QuotaExceeded`. One message always has room.
    #[must_use]
    pub const fn receive_buffer(mut self, bytes: usize) -> Self {
        self.limits.receive_buffer = bytes;
        self
    }

    /// Sets how many bytes may wait to be written before sending waits. Default 1 MiB, at least 1. One message may
    /// exceed it: it is sent while less than this waits.
    #[must_use]
    pub const fn write_buffer(mut self, bytes: usize) -> Self {
        self.limits.write_buffer = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// Opens a connection to the server that `url` names.
    ///
    /// # Errors
    ///
    /// - [`ConnectError::Invalid`]: the browser does not accept the URL or a subprotocol, or the page may not
    ///   connect there.
    /// - [`ConnectError::Timeout`]: it was not open within [`connect_timeout`](Self::connect_timeout).
    /// - [`ConnectError::Io`]: everything else. A browser does not tell a page why: the server may not exist, refuse
    ///   with any status, have a certificate that is not trusted, or answer with a subprotocol that was not offered.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped makes the browser give up.
    pub async fn connect(&self, url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
        let socket = Socket::connect(url.as_ref(), &self.subprotocols, self.limits)?;
        timeout(self.connect_timeout, poll_fn(|cx| socket.poll_open(cx)))
            .await
            .ok_or(ConnectError::Timeout(Phase::Handshake))??;
        Ok(WebSocket::new(socket, self.close_timeout))
    }
}
