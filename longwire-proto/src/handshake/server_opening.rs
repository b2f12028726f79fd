//! A server's opening handshake from the first byte to the request, without I/O. All drivers use it.

use http::{Request, StatusCode};

use super::head::{HeadLimits, HeadReader};
use super::refusal::Refusal;
use super::server;

/// Bytes behind a request that a driver keeps while the response is not decided yet. When it has this many, it stops
/// reading, so that a client cannot make the server buffer more.
pub const MAX_READ_AHEAD: usize = 16 * 1024;

/// Reads the request of an opening handshake as its bytes arrive.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
/// use longwire_proto::Config;
/// use longwire_proto::handshake::{HeadLimits, ServerOpening, server};
///
/// let bytes = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nframes";
/// let mut opening = ServerOpening::new(HeadLimits::default());
/// assert!(opening.receive(&bytes[..40])?.is_none(), "needs more bytes");
/// let received = opening.receive(bytes)?.expect("a whole request");
/// assert!(received.is_websocket());
///
/// // A request that is not for WebSocket can be served as plain HTTP instead.
/// let acceptance = server::check(&received.request, &server::Policy::new())?;
/// let mut response = Vec::new();
/// acceptance.encode(&Default::default(), &mut response)?;
/// let connection = acceptance.connection(Arc::new(Config::server()), Instant::now());
/// assert_eq!(&bytes[received.head_length..], b"frames", "the first bytes for the connection");
/// # let _ = connection;
/// # Ok::<(), longwire_proto::handshake::Refusal>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServerOpening {
    reader: HeadReader,
    limits: HeadLimits,
    has_begun: bool,
}

/// A request that has arrived and has not been answered.
#[derive(Clone, Debug)]
pub struct OpeningRequest {
    /// The request. It is valid HTTP/1.1 (or 1.0), and nothing else has been checked.
    pub request: Request<()>,
    /// The length of its head, in bytes: what follows in the input belongs to the connection.
    pub head_length: usize,
}

impl OpeningRequest {
    /// Whether the request asks to switch to WebSocket; otherwise it is plain HTTP.
    pub fn is_websocket(&self) -> bool {
        server::is_websocket(&self.request)
    }
}

impl ServerOpening {
    /// Waits for the first byte of a request.
    pub fn new(limits: HeadLimits) -> Self {
        Self { reader: HeadReader::for_request(limits), limits, has_begun: false }
    }

    /// Looks for a whole request in `input`, which holds all bytes so far and grows from call to call. Returns `None`
    /// if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The response to send if the bytes are not an HTTP/1.1 request, or if its head exceeds the limits.
    pub fn receive(&mut self, input: &[u8]) -> Result<Option<OpeningRequest>, Refusal> {
        self.has_begun |= !input.is_empty();
        let Some(head_length) = self.reader.scan(input)? else { return Ok(None) };
        let request = server::parse_request(&input[..head_length], self.limits)?;
        Ok(Some(OpeningRequest { request, head_length }))
    }

    /// Returns the response to send if the request is not complete in time: 408 (RFC 9110 15.5.9). A connection on
    /// which nothing has arrived gets none.
    pub fn time_out(&self) -> Option<Refusal> {
        let text = "The request was not complete in time.";
        self.has_begun.then(|| Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
    }
}
