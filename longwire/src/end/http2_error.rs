//! Errors of HTTP/2 while a client opens a WebSocket.

use std::fmt;
use std::io;

use h2::Reason;

use crate::end::ConnectError;

/// Why no WebSocket was opened on an HTTP/2 connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2Error {
    /// The server did not select `h2` by ALPN (RFC 9113 3.2).
    NotSpoken,
    /// The server did not send SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 3).
    NotSupported,
    /// The maximum number of streams is open, of the server or of [`Http2::max_streams`](crate::Http2::max_streams).
    Full {
        /// The maximum number of streams.
        streams: usize,
    },
    /// The server ended the connection, or rejects new streams with GOAWAY (RFC 9113 6.8). Open streams are not affected
    /// by GOAWAY.
    Ended,
    /// The server reset the stream instead of answering, for this reason, such as `REFUSED_STREAM` (RFC 9113 7).
    Reset(String),
    /// Client or server broke a rule of HTTP/2, or the server speaks another protocol.
    Protocol(String),
}

impl Http2Error {
    pub(crate) fn from_h2(error: h2::Error) -> ConnectError {
        ConnectError::Http2(if error.is_io() {
            match error.into_io() {
                Some(error) => return ConnectError::Io(error),
                None => Self::Ended,
            }
        } else if error.is_go_away() && error.is_remote() {
            Self::Ended
        } else if error.is_reset() && error.is_remote() {
            Self::Reset(name(error.reason()))
        } else {
            Self::Protocol(error.to_string())
        })
    }
}

/// The name of an error code in RFC 9113 7.
fn name(reason: Option<Reason>) -> String {
    reason.map_or_else(String::new, |reason| format!("{reason:?}"))
}

/// The error of a stream whose peer or connection failed (RFC 8441 5, RFC 9113 7).
pub(crate) fn stream_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    let kind = match error.reason() {
        // RFC 8441 5: RST_STREAM corresponds to a TCP reset.
        _ if error.is_reset() && error.is_remote() => io::ErrorKind::ConnectionReset,
        _ if error.is_go_away() => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl fmt::Display for Http2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSpoken => f.write_str("the server does not speak HTTP/2: it did not select h2 by ALPN (RFC 9113 3.2)"),
            Self::NotSupported => f.write_str(
                "the server does not support WebSockets over HTTP/2 (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441 3): \
                 use HTTP/1.1",
            ),
            Self::Full { streams } => {
                write!(f, "the maximum of {streams} streams is open (RFC 9113 5.1.2): open another connection")
            }
            Self::Ended => {
                f.write_str("the server rejects new streams (GOAWAY, RFC 9113 6.8): open another connection")
            }
            Self::Reset(reason) => write!(f, "the server reset the stream: {reason} (RFC 9113 7)"),
            Self::Protocol(reason) => write!(f, "HTTP/2 failed: {reason}"),
        }
    }
}

impl std::error::Error for Http2Error {}

impl From<Http2Error> for ConnectError {
    fn from(error: Http2Error) -> Self {
        Self::Http2(error)
    }
}
