//! The rules that a peer may break, and the reasons why something may not be sent.

use std::fmt;

use crate::close_code::{CloseCode, MAX_REASON};
use crate::frame::{HeaderError, MAX_CONTROL_PAYLOAD};

/// The rule or limit that the peer broke, so that the connection has failed (RFC 6455 7.1.7). Each has a
/// [`name`](Self::name) and the [`close_code`](Self::close_code) that was sent to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set where no negotiated extension defines it (RFC 6455 5.2): with
    /// permessage-deflate, RSV1 anywhere but on the first frame of a message (RFC 7692 6.1).
    ReservedBits,
    /// A reserved opcode (RFC 6455 5.2).
    ReservedOpcode(u8),
    /// A length written in more bytes than it needs (RFC 6455 5.2).
    LengthNotMinimal,
    /// A 64-bit length with its most significant bit set (RFC 6455 5.2).
    LengthTooLarge,
    /// A client sent a frame that is not masked (RFC 6455 5.1).
    NotMasked,
    /// A server sent a masked frame (RFC 6455 5.1).
    Masked,
    /// A control frame came in fragments (RFC 6455 5.5).
    ControlFragmented,
    /// A control frame with a payload over 125 bytes (RFC 6455 5.5).
    ControlTooLong,
    /// A continuation frame while no message was under way (RFC 6455 5.4).
    UnexpectedContinuation,
    /// A new message began before the one under way had ended (RFC 6455 5.4).
    ExpectedContinuation,
    /// Text, or the reason of a Close frame, is not valid UTF-8 (RFC 6455 8.1).
    InvalidUtf8,
    /// A compressed message is no DEFLATE stream, ends within it, or reaches back further than was
    /// agreed on (RFC 7692 7.2.2).
    InvalidDeflate,
    /// A Close frame with a payload of one byte (RFC 6455 5.5.1).
    CloseTooShort,
    /// A Close frame with a code that must not be sent (RFC 6455 7.4).
    InvalidCloseCode(CloseCode),
    /// A message over the limit, in bytes (ours to choose, RFC 6455 10.4).
    MessageTooBig {
        /// The limit, [`Config::max_message`](crate::Config::max_message).
        limit: usize,
    },
    /// A message in more small fragments than the limit (RFC 6455 10.4).
    TooManyFragments {
        /// The limit, [`Config::max_small_fragments`](crate::Config::max_small_fragments).
        limit: u32,
    },
    /// More control frames in a row than the limit (RFC 6455 10.4).
    TooManyControlFrames {
        /// The limit, [`Config::max_control_run`](crate::Config::max_control_run).
        limit: u16,
    },
}

impl From<HeaderError> for ProtocolError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::ReservedOpcode(opcode) => Self::ReservedOpcode(opcode),
            HeaderError::LengthNotMinimal => Self::LengthNotMinimal,
            HeaderError::LengthTooLarge => Self::LengthTooLarge,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => {
                f.write_str("reserved bit set where no extension defines it (RFC 6455 5.2)")
            }
            Self::ReservedOpcode(opcode) => HeaderError::ReservedOpcode(*opcode).fmt(f),
            Self::LengthNotMinimal => HeaderError::LengthNotMinimal.fmt(f),
            Self::LengthTooLarge => HeaderError::LengthTooLarge.fmt(f),
            Self::NotMasked => f.write_str("frame from a client is not masked (RFC 6455 5.1)"),
            Self::Masked => f.write_str("frame from a server is masked (RFC 6455 5.1)"),
            Self::ControlFragmented => f.write_str("control frame in fragments (RFC 6455 5.5)"),
            Self::ControlTooLong => f.write_str("control frame over 125 bytes (RFC 6455 5.5)"),
            Self::UnexpectedContinuation => {
                f.write_str("continuation frame without a message (RFC 6455 5.4)")
            }
            Self::ExpectedContinuation => {
                f.write_str("new message inside a fragmented message (RFC 6455 5.4)")
            }
            Self::InvalidUtf8 => f.write_str("text is not valid UTF-8 (RFC 6455 8.1)"),
            Self::InvalidDeflate => f.write_str("message is not validly compressed (RFC 7692 7.2.2)"),
            Self::CloseTooShort => f.write_str("Close frame with half a code (RFC 6455 5.5.1)"),
            Self::InvalidCloseCode(code) => write!(f, "close code {code} must not be sent (RFC 6455 7.4)"),
            Self::MessageTooBig { limit } => {
                write!(f, "message over the limit of {limit} bytes (RFC 6455 10.4)")
            }
            Self::TooManyFragments { limit } => {
                write!(f, "message in more than {limit} small fragments (RFC 6455 10.4)")
            }
            Self::TooManyControlFrames { limit } => {
                write!(f, "more than {limit} control frames in a row (RFC 6455 10.4)")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Why something may not be sent. Nothing was queued. The connection goes on, unless this is
/// [`Closing`](Self::Closing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// A Close frame was sent or the connection has failed: nothing may follow (RFC 6455 5.5.1).
    Closing,
    /// A message in parts is under way: finish it first (RFC 6455 5.4).
    MessageUnderWay,
    /// A part of another kind than the message under way (RFC 6455 5.4).
    KindChanged,
    /// The parts of a text message are not valid UTF-8 together (RFC 6455 8.1).
    InvalidUtf8,
    /// The payload of a Ping is over 125 bytes (RFC 6455 5.5).
    ControlTooLong,
    /// The reason of a Close frame is over 123 bytes (RFC 6455 5.5.1).
    ReasonTooLong,
    /// A close code that must not be sent (RFC 6455 7.4).
    InvalidCloseCode(CloseCode),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closing => f.write_str("the connection is closing (RFC 6455 5.5.1)"),
            Self::MessageUnderWay => f.write_str("a message in parts is under way (RFC 6455 5.4)"),
            Self::KindChanged => f.write_str("a part of another kind than its message (RFC 6455 5.4)"),
            Self::InvalidUtf8 => f.write_str("text is not valid UTF-8 (RFC 6455 8.1)"),
            Self::ControlTooLong => {
                write!(f, "ping payload over {MAX_CONTROL_PAYLOAD} bytes (RFC 6455 5.5)")
            }
            Self::ReasonTooLong => write!(f, "close reason over {MAX_REASON} bytes (RFC 6455 5.5.1)"),
            Self::InvalidCloseCode(code) => write!(f, "close code {code} must not be sent (RFC 6455 7.4)"),
        }
    }
}

impl std::error::Error for SendError {}
