//! How connections fail: while they are opened, and once they are open.

use std::fmt;
use std::io;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use longwire_proto::handshake::{HandshakeError, Refusal};
use longwire_proto::{Cause, ProtocolError, SendError};

#[cfg(feature = "proxy")]
use crate::client::ProxyError;
use crate::client::RedirectError;
#[cfg(feature = "tls")]
use crate::tls::TlsError;

/// Why an open connection ended without a closing handshake, or why something was not sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke a rule or a limit and was told so with
    /// [`close_code`](ProtocolError::close_code).
    Protocol(ProtocolError),
    /// What was to be sent may not be. Unless it is [`SendError::Closing`], the connection goes on.
    Send(SendError),
    /// More than [`Config::write_buffer`](crate::Config::write_buffer) bytes wait to be written. Nothing
    /// was queued; the connection goes on.
    Full,
    /// The peer was silent for [`Config::pong_timeout`](crate::Config::pong_timeout) after a Ping.
    PingTimeout,
    /// The peer did not answer the closing handshake in [`Config::close_timeout`](crate::Config::close_timeout).
    CloseTimeout,
    /// The peer took no byte for [`Config::write_timeout`](crate::Config::write_timeout).
    WriteTimeout,
    /// A message took longer than [`Config::message_timeout`](crate::Config::message_timeout) to arrive.
    MessageTimeout,
    /// No message came for [`Config::read_timeout`](crate::Config::read_timeout), though the peer lives.
    ReadTimeout,
    /// The peer read more slowly than others published, and its topic closes such
    /// ([`SlowConsumer`](crate::engine::SlowConsumer)).
    SlowConsumer,
    /// A callback of the application's panicked.
    Panicked,
    /// TCP ended without a closing handshake: what a browser calls 1006.
    Eof,
    /// The transport failed; a reset connection is here, as [`io::ErrorKind::ConnectionReset`].
    Io(Arc<io::Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Send(error) => error.fmt(f),
            Self::Full => f.write_str("the write buffer is full: the peer reads too slowly"),
            Self::PingTimeout => Cause::PingTimeout.fmt(f),
            Self::CloseTimeout => Cause::CloseTimeout.fmt(f),
            Self::WriteTimeout => Cause::WriteTimeout.fmt(f),
            Self::MessageTimeout => f.write_str("message timeout: the message does not come to its end"),
            Self::ReadTimeout => f.write_str("read timeout: the peer lives, but sends no message"),
            Self::SlowConsumer => {
                f.write_str("slow consumer: the peer reads more slowly than others publish")
            }
            Self::Panicked => f.write_str("a callback panicked"),
            Self::Eof => f.write_str("connection ended without a closing handshake (1006)"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for Error {}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
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
    Http2(crate::Http2Error),
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
            Self::Handshake(error) => write!(f, "handshake failed: {error}"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
            #[cfg(feature = "proxy")]
            Self::Proxy(error) => write!(f, "the proxy gave no tunnel: {error}"),
            Self::Timeout(phase) => write!(f, "timed out in {phase}"),
            #[cfg(feature = "http2")]
            Self::Http2(error) => error.fmt(f),
            Self::Io(error) => write!(f, "cannot connect: {error}"),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for ConnectError {}

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

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                write!(f, "refused with status {}: {}", refusal.status(), refusal.text())
            }
            Self::Timeout => f.write_str("timed out in the opening handshake"),
            Self::Eof => f.write_str("connection ended before the request was complete"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for AcceptError {}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
