//! How connections fail: while they are opened, and once they are open.

use std::error;
use std::fmt;
use std::io;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use longwire_proto::handshake::{HandshakeError, Refusal};
use longwire_proto::{Cause, ProtocolError};

#[cfg(feature = "http2")]
use crate::end::Http2Error;
#[cfg(feature = "proxy")]
use crate::end::ProxyError;
#[cfg(feature = "tls")]
use crate::end::TlsError;
use crate::end::{RedirectError, SendError, write_chain};

/// Why a connection ended without a closing handshake.
///
/// Also the one error that all others of a program become by `?`: [`ConnectError`], [`AcceptError`] and
/// [`SendError`]. It becomes an [`io::Error`] in turn. Receiving never yields
/// [`Connect`](Self::Connect), [`Accept`](Self::Accept) or [`Send`](Self::Send).
///
/// ```
/// async fn run() -> Result<(), longwire::Error> {
///     let mut ws = longwire::connect("ws://127.0.0.1:8080/chat").await?;
///     ws.send("你好 👋").await?;
///     while let Some(message) = ws.recv().await? {
///         println!("{message}");
///     }
///     Ok(())
/// }
/// ```
///
/// The text of an error does not repeat that of its [source](std::error::Error::source). Format it with `{:#}` to
/// get both, or walk the chain, as `anyhow` does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke a rule or a limit. It was sent the [`close_code`](ProtocolError::close_code) of the error.
    Protocol(ProtocolError),
    /// The peer was silent for [`Config::pong_timeout`](crate::Config::pong_timeout) after a Ping.
    PingTimeout,
    /// The peer did not answer the closing handshake in [`Config::close_timeout`](crate::Config::close_timeout).
    CloseTimeout,
    /// The peer took no byte for [`Config::write_timeout`](crate::Config::write_timeout).
    WriteTimeout,
    /// A message took longer than [`Config::message_timeout`](crate::Config::message_timeout) to arrive.
    MessageTimeout,
    /// No message came for [`Config::read_timeout`](crate::Config::read_timeout), though the peer answers Pings.
    ReadTimeout,
    /// The peer fell too far behind on a topic whose policy is to disconnect slow consumers
    /// ([`SlowConsumer`](crate::engine::SlowConsumer)). Only connections of an engine end so.
    SlowConsumer,
    /// A callback of the application panicked. Only connections that call back end so.
    Panicked,
    /// TCP ended without a closing handshake: what a browser calls 1006.
    Eof,
    /// The transport failed. A reset connection is [`io::ErrorKind::ConnectionReset`].
    Io(Arc<io::Error>),
    /// Made by `?`: no connection was opened by a client.
    Connect(Arc<ConnectError>),
    /// Made by `?`: no connection was opened by a server.
    Accept(Arc<AcceptError>),
    /// Made by `?`, and by the `Sink` of a connection: something was not sent.
    Send(Box<SendError>),
}

impl Error {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Connect(error) => error.kind(),
            Self::Accept(error) => error.kind(),
            Self::Send(error) => error.kind(),
            Self::Protocol(_) => io::ErrorKind::InvalidData,
            Self::PingTimeout
            | Self::CloseTimeout
            | Self::WriteTimeout
            | Self::MessageTimeout
            | Self::ReadTimeout => io::ErrorKind::TimedOut,
            Self::SlowConsumer => io::ErrorKind::ConnectionAborted,
            Self::Eof => io::ErrorKind::UnexpectedEof,
            Self::Panicked => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(_) => write_chain(f, "the peer broke the protocol", self),
            Self::PingTimeout => Cause::PingTimeout.fmt(f),
            Self::CloseTimeout => Cause::CloseTimeout.fmt(f),
            Self::WriteTimeout => Cause::WriteTimeout.fmt(f),
            Self::MessageTimeout => f.write_str("message timeout: the peer did not finish a message in time"),
            Self::ReadTimeout => f.write_str("read timeout: the peer answers pings but sent no message"),
            Self::SlowConsumer => f.write_str("slow consumer: the peer fell too far behind on a topic"),
            Self::Panicked => f.write_str("a callback panicked"),
            Self::Eof => f.write_str("the connection ended without a closing handshake (1006)"),
            Self::Io(_) => write_chain(f, "the connection failed", self),
            Self::Connect(error) => error.fmt(f),
            Self::Accept(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Protocol(error) => Some(error),
            Self::Io(error) => Some(&**error),
            // Their text is that of the error within, so their source is its source.
            Self::Connect(error) => error.source(),
            Self::Accept(error) => error.source(),
            Self::Send(error) => error.source(),
            _ => None,
        }
    }
}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

impl From<AcceptError> for Error {
    fn from(error: AcceptError) -> Self {
        Self::Accept(Arc::new(error))
    }
}

/// The failure of the connection is that failure again, not one to send.
impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failed(error) => error,
            error => Self::Send(Box::new(error)),
        }
    }
}

impl From<longwire_proto::SendError> for Error {
    fn from(error: longwire_proto::SendError) -> Self {
        SendError::from(error).into()
    }
}

/// Has the kind of the transport's error if that is what it is, else the kind that fits; the error is kept within.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<AcceptError> for io::Error {
    fn from(error: AcceptError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Why a client got no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL, a subprotocol, a header or a credential is not what RFC 6455 section 3 and HTTP allow; the
    /// text says why.
    Invalid(String),
    /// The server answered with a final status other than 101.
    Refused(Box<Response>),
    /// The server redirects to where this client does not go.
    Redirect(RedirectError),
    /// The answer breaks a rule of the opening handshake (RFC 6455 4.1).
    Handshake(HandshakeError),
    /// TLS was not agreed on with the server, or with a proxy that is reached by TLS.
    #[cfg(feature = "tls")]
    Tls(TlsError),
    /// The proxy gave no tunnel to the server.
    #[cfg(feature = "proxy")]
    Proxy(ProxyError),
    /// This was not done in [`Client::connect_timeout`](crate::Client::connect_timeout), or for
    /// [`Phase::Handshake`] in [`Client::handshake_timeout`](crate::Client::handshake_timeout).
    Timeout(Phase),
    /// HTTP/2 gave no stream for it.
    #[cfg(feature = "http2")]
    Http2(Http2Error),
    /// The transport failed, or no address answered: then the text has the failure of each.
    Io(io::Error),
}

/// What a client does until a connection is open, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The name of the server, or of its proxy, is resolved.
    Resolve,
    /// TCP is connected.
    Tcp,
    /// The proxy is asked for a tunnel.
    Proxy,
    /// TLS is agreed on.
    Tls,
    /// The opening handshake of WebSocket.
    Handshake,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Tcp => "connecting TCP",
            Self::Proxy => "asking the proxy for a tunnel",
            Self::Tls => "the TLS handshake",
            Self::Handshake => "the opening handshake",
        })
    }
}

/// What a server answered instead of opening the connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Response {
    /// The status, such as 403.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, at most 4 KiB, as text.
    pub body: String,
}

impl Response {
    /// Makes one, for tests of code that handles [`ConnectError::Refused`].
    pub fn new(status: StatusCode, headers: HeaderMap, body: impl Into<String>) -> Self {
        Self { status, headers, body: body.into() }
    }
}

impl ConnectError {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Invalid(_) => io::ErrorKind::InvalidInput,
            Self::Handshake(_) => io::ErrorKind::InvalidData,
            Self::Timeout(_) => io::ErrorKind::TimedOut,
            Self::Io(error) => error.kind(),
            _ => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) => f.write_str(reason),
            Self::Refused(response) => {
                write!(f, "refused with status {}", response.status)?;
                match response.body.lines().map(str::trim).find(|line| !line.is_empty()) {
                    Some(line) => write!(f, ": {line}"),
                    None => Ok(()),
                }
            }
            Self::Redirect(error) => error.fmt(f),
            Self::Handshake(_) => write_chain(f, "the opening handshake failed", self),
            #[cfg(feature = "tls")]
            Self::Tls(_) => write_chain(f, "TLS failed", self),
            #[cfg(feature = "proxy")]
            Self::Proxy(_) => write_chain(f, "the proxy opened no tunnel", self),
            Self::Timeout(phase) => write!(f, "timed out in {phase}"),
            #[cfg(feature = "http2")]
            Self::Http2(error) => error.fmt(f),
            Self::Io(_) => write_chain(f, "cannot connect", self),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Handshake(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::Tls(error) => Some(error),
            #[cfg(feature = "proxy")]
            Self::Proxy(error) => Some(error),
            Self::Io(error) => Some(error),
            // Their text is that of the error within, so their source is its source.
            Self::Redirect(error) => error.source(),
            #[cfg(feature = "http2")]
            Self::Http2(error) => error.source(),
            _ => None,
        }
    }
}

impl From<HandshakeError> for ConnectError {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<RedirectError> for ConnectError {
    fn from(error: RedirectError) -> Self {
        Self::Redirect(error)
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        // A server of TLS 1.3 says what it thinks of our certificate when we believe that all is well.
        #[cfg(feature = "tls")]
        if let Some(error) = TlsError::within(&error) {
            return Self::Tls(error);
        }
        Self::Io(error)
    }
}

/// Why a server opened no connection. Where an answer was due, the client has got it.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// The request was refused, and the client told so with this answer.
    Refused(Refusal),
    /// The request was not complete in [`Acceptor::handshake_timeout`](crate::Acceptor::handshake_timeout).
    Timeout,
    /// The client ended the connection before its request was complete.
    Eof,
    /// The transport failed.
    Io(io::Error),
}

impl AcceptError {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Refused(_) => io::ErrorKind::Other,
            Self::Timeout => io::ErrorKind::TimedOut,
            Self::Eof => io::ErrorKind::UnexpectedEof,
            Self::Io(error) => error.kind(),
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                write!(f, "refused with status {}: {}", refusal.status(), refusal.text())
            }
            Self::Timeout => f.write_str("timed out in the opening handshake"),
            Self::Eof => f.write_str("the connection ended before the request was complete"),
            Self::Io(_) => write_chain(f, "the connection failed in the opening handshake", self),
        }
    }
}

impl error::Error for AcceptError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
