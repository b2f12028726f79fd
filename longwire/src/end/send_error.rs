//! Why a message was not sent.

use std::error;
use std::fmt;
use std::io;

use longwire_proto::CloseCode;

use crate::end::{Error, write_chain};

/// Why a message, a Ping or a Close frame was not sent.
///
/// Nothing was queued, unless the connection had [failed](Self::Failed). Only where [`is_closed`](Self::is_closed)
/// returns `true` is the connection of no more use for sending; otherwise it goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// A Close frame was sent or received: nothing may follow it (RFC 6455 5.5.1). Receiving tells how the connection
    /// was closed.
    Closed,
    /// The connection has failed. Messages that were queued and not written are lost.
    Failed(Error),
    /// The [`Receiver`](crate::Receiver) of the connection was dropped: nobody would write what is queued, nor
    /// answer the peer.
    ReceiverDropped,
    /// As many bytes wait to be written as [`Config::write_buffer`](crate::Config::write_buffer) allows: the peer
    /// reads more slowly than messages are sent.
    Full,
    /// A message in parts is under way and has to be finished first (RFC 6455 5.4).
    MessageUnderWay,
    /// A part has another kind than the message it belongs to (RFC 6455 5.4).
    KindChanged,
    /// The parts of a text message are not valid UTF-8 together (RFC 6455 8.1).
    InvalidUtf8,
    /// The payload of a Ping is longer than 125 bytes (RFC 6455 5.5).
    ControlTooLong,
    /// The reason of a Close frame is longer than 123 bytes (RFC 6455 5.5.1).
    ReasonTooLong,
    /// The code must not be in a Close frame (RFC 6455 7.4).
    InvalidCloseCode(CloseCode),
}

impl SendError {
    /// Returns whether nothing can be sent on this connection any more.
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed | Self::Failed(_) | Self::ReceiverDropped)
    }

    /// Returns whether it can be sent later, when the peer has read more.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }

    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Closed | Self::ReceiverDropped => io::ErrorKind::BrokenPipe,
            Self::Failed(error) => error.kind(),
            Self::Full => io::ErrorKind::WouldBlock,
            _ => io::ErrorKind::InvalidInput,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use longwire_proto::SendError as Invalid;
        match self {
            Self::Closed => f.write_str("not sent: the connection is closed or closing (RFC 6455 5.5.1)"),
            Self::Failed(_) => write_chain(f, "not sent: the connection has failed", self),
            Self::ReceiverDropped => f.write_str("not sent: the receiver of the connection was dropped"),
            Self::Full => f.write_str("not sent: the write buffer is full, the peer reads too slowly"),
            Self::MessageUnderWay => write!(f, "not sent: {}", Invalid::MessageUnderWay),
            Self::KindChanged => write!(f, "not sent: {}", Invalid::KindChanged),
            Self::InvalidUtf8 => write!(f, "not sent: {}", Invalid::InvalidUtf8),
            Self::ControlTooLong => write!(f, "not sent: {}", Invalid::ControlTooLong),
            Self::ReasonTooLong => write!(f, "not sent: {}", Invalid::ReasonTooLong),
            Self::InvalidCloseCode(code) => write!(f, "not sent: {}", Invalid::InvalidCloseCode(*code)),
        }
    }
}

impl error::Error for SendError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<longwire_proto::SendError> for SendError {
    fn from(error: longwire_proto::SendError) -> Self {
        use longwire_proto::SendError as Invalid;
        match error {
            Invalid::MessageUnderWay => Self::MessageUnderWay,
            Invalid::KindChanged => Self::KindChanged,
            Invalid::InvalidUtf8 => Self::InvalidUtf8,
            Invalid::ControlTooLong => Self::ControlTooLong,
            Invalid::ReasonTooLong => Self::ReasonTooLong,
            Invalid::InvalidCloseCode(code) => Self::InvalidCloseCode(code),
            _ => Self::Closed,
        }
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        match error {
            Error::Send(error) => *error,
            error => Self::Failed(error),
        }
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        Self::new(error.kind(), error)
    }
}
