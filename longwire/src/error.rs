//! How connections fail: while they are opened, and once they are open.

use std::fmt;
use std::io;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use longwire_proto::handshake::{HandshakeError, Refusal};
use longwire_proto::{ProtocolError, SendError, TimedOut};

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
            Self::PingTimeout => TimedOut::Ping.fmt(f),
            Self::CloseTimeout => TimedOut::Close.fmt(f),
            Self::WriteTimeout => TimedOut::Write.fmt(f),
            Self::MessageTimeout => f.write_str("message timeout: the message does not come to its end"),
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

impl From<TimedOut> for Error {
    fn from(timed_out: TimedOut) -> Self {
        match timed_out {
            TimedOut::Ping => Self::PingTimeout,
            TimedOut::Write => Self::WriteTimeout,
            _ => Self::CloseTimeout,
        }
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
    /// The URL, a subprotocol or a header is not what RFC 6455 section 3 and HTTP allow; the text says why.
    Invalid(String),
    /// The server answered with a final status other than 101.
    Refused(Box<Response>),
    /// The answer breaks a rule of the opening handshake (RFC 6455 4.1).
    Handshake(HandshakeError),
    /// Connecting and the opening handshake took longer than
    /// [`Client::handshake_timeout`](crate::Client::handshake_timeout).
    Timeout,
    /// HTTP/2 gave no stream for it.
    #[cfg(feature = "http2")]
    Http2(crate::Http2Error),
    /// The transport failed, or no address answered.
    Io(io::Error),
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
            Self::Handshake(error) => write!(f, "handshake failed: {error}"),
            Self::Timeout => f.write_str("timed out in the opening handshake"),
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

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
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
