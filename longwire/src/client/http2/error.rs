//! How HTTP/2 fails a client that opens a WebSocket.

use std::fmt;
use std::io;

use h2::Reason;

use crate::end::ConnectError;

/// Why an HTTP/2 connection gave no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2Error {
    /// The server has not chosen `h2` by ALPN (RFC 9113 3.2).
    NotSpoken,
    /// The server has not sent SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 3).
    NotSupported,
    /// As many streams are open as the server or [`Http2::max_streams`](crate::Http2::max_streams) allows.
    Full {
        /// So many.
        streams: usize,
    },
    /// The server has ended the connection, or has said with GOAWAY that it takes no more streams (RFC 9113 6.8);
    /// those that are open go on.
    Ended,
    /// The server has reset the stream instead of answering; its reason, such as `REFUSED_STREAM`
    /// (RFC 9113 7).
    Reset(String),
    /// One of the two has broken a rule of HTTP/2, or the server speaks something else.
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

/// How a stream ends whose other end, or whose connection, has failed (RFC 8441 5, RFC 9113 7).
pub(super) fn stream_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    let kind = match error.reason() {
        // RFC 8441 5: what a reset is in TCP, is RST_STREAM in HTTP/2.
        _ if error.is_reset() && error.is_remote() => io::ErrorKind::ConnectionReset,
        _ if error.is_go_away() => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl fmt::Display for Http2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSpoken => f.write_str("the server does not speak HTTP/2: it has not chosen h2 by ALPN (RFC 9113 3.2)"),
            Self::NotSupported => f.write_str(
                "the server does not do WebSockets over HTTP/2 (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441 3): \
                 connect over HTTP/1.1",
            ),
            Self::Full { streams } => {
                write!(f, "{streams} streams are open, as many as may be (RFC 9113 5.1.2): open another connection")
            }
            Self::Ended => {
                f.write_str("the server takes no more streams (GOAWAY, RFC 9113 6.8): open another connection")
            }
            Self::Reset(reason) => write!(f, "the server has reset the stream: {reason} (RFC 9113 7)"),
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
