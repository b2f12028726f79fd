//! The names of causes: why connections end and why they are not opened, in words that stay the same from
//! version to version, for logs and metrics.

use std::io;

use http::StatusCode;
use longwire_proto::ProtocolError;

use crate::end::{AcceptError, ConnectError, Error, SendError};
use crate::end::{Closed, Side};

/// Codes of closing handshakes that are told apart. Who counts must not keep a number for each code that a
/// peer may invent.
const CODES: [&str; 15] = [
    "1000", "1001", "1002", "1003", "1005", "1007", "1008", "1009", "1010", "1011", "1012", "1013", "1014",
    "3xxx", "4xxx",
];

/// The other causes, each with the code of our Close frame, or 1006 where there was none.
const FAILURES: [(&str, &str); 31] = [
    ("reserved_bits", "1002"),
    ("reserved_opcode", "1002"),
    ("length_not_minimal", "1002"),
    ("length_too_large", "1002"),
    ("not_masked", "1002"),
    ("masked", "1002"),
    ("control_fragmented", "1002"),
    ("control_too_long", "1002"),
    ("unexpected_continuation", "1002"),
    ("expected_continuation", "1002"),
    ("close_too_short", "1002"),
    ("invalid_close_code", "1002"),
    ("invalid_utf8", "1007"),
    ("invalid_deflate", "1007"),
    ("message_too_big", "1009"),
    ("too_many_fragments", "1008"),
    ("too_many_control_frames", "1008"),
    ("protocol_error", "1002"),
    ("message_timeout", "1008"),
    ("slow_consumer", "1013"),
    ("panicked", "1011"),
    ("ping_timeout", "1011"),
    ("close_timeout", "1006"),
    ("write_timeout", "1008"),
    ("read_timeout", "1008"),
    ("eof", "1006"),
    ("reset", "1006"),
    ("aborted", "1006"),
    ("dropped", "1006"),
    ("io", "1006"),
    (OTHER, "1006"),
];

const OTHER: &str = "other";

/// A connection that nobody kept until it had ended.
pub(crate) const DROPPED: &str = "dropped";

/// How many ends are told apart.
pub(crate) const ENDS: usize = 2 * CODES.len() + FAILURES.len();

/// Cause and code of one of the [`ENDS`].
pub(crate) const fn end(index: usize) -> (&'static str, &'static str) {
    let (ours, theirs) = (CODES.len(), 2 * CODES.len());
    if index < ours {
        (Side::Us.cause(), CODES[index])
    } else if index < theirs {
        (Side::Peer.cause(), CODES[index - ours])
    } else {
        FAILURES[index - theirs]
    }
}

/// Which of the [`ENDS`] this is.
pub(crate) fn end_of(result: &Result<Closed, Error>) -> usize {
    match result {
        Ok(closed) => {
            let code = match closed.code() {
                3000..=3999 => "3xxx".into(),
                4000..=4999 => "4xxx".into(),
                code => code.to_string(),
            };
            // Of those that may be on the wire none is missing (RFC 6455 7.4).
            let at = CODES.iter().position(|of| *of == code).unwrap_or(0);
            if closed.by == Side::Us { at } else { CODES.len() + at }
        }
        Err(error) => end_called(error.cause()),
    }
}

/// Which of the [`ENDS`] a failure of this name is.
pub(crate) fn end_called(cause: &str) -> usize {
    let at = FAILURES.iter().position(|(name, _)| *name == cause).unwrap_or(FAILURES.len() - 1);
    2 * CODES.len() + at
}

/// Why connections are not opened, as far as it is told apart: statuses first.
pub(crate) const REASONS: [&str; 31] = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "408",
    "413",
    "414",
    "421",
    "426",
    "429",
    "431",
    "500",
    "501",
    "502",
    "503",
    "504",
    "3xx",
    "4xx",
    "5xx",
    "xxx",
    "timeout",
    "eof",
    "io",
    "handshake",
    "invalid",
    "redirect",
    "tls",
    "proxy",
    "http2",
    OTHER,
];

/// Those of the [`REASONS`] that are no statuses begin here.
pub(crate) const NOT_STATUS: usize = 21;

fn reason_of_status(status: StatusCode) -> usize {
    let called = |name: &str| REASONS.iter().position(|reason| *reason == name);
    called(status.as_str()).unwrap_or_else(|| {
        let class = match status.as_u16() {
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "xxx",
        };
        called(class).unwrap_or(REASONS.len() - 1)
    })
}

/// Which of the [`REASONS`] a failed opening handshake has: by its status, if it was answered, or its cause.
pub(crate) fn reason(status: Option<StatusCode>, cause: &str) -> usize {
    match status {
        Some(status) => reason_of_status(status),
        None => REASONS.iter().position(|reason| *reason == cause).unwrap_or(REASONS.len() - 1),
    }
}

impl Side {
    pub(crate) const fn cause(self) -> &'static str {
        match self {
            Self::Us => "closed_by_us",
            Self::Peer => "closed_by_peer",
        }
    }
}

impl Closed {
    /// The name of this end for logs and metrics, which stays the same: `closed_by_us` or `closed_by_peer`.
    /// Other ends have those of [`Error::cause`].
    pub const fn cause(&self) -> &'static str {
        self.by.cause()
    }

    /// The code, 1005 where the Close frame had none.
    pub(crate) fn code(&self) -> u16 {
        self.frame.as_ref().map_or(1005, |frame| frame.code.into())
    }
}

impl Error {
    /// The name of this error for logs and metrics, which stays the same.
    ///
    /// | name | code | |
    /// |---|---|---|
    /// | `closed_by_us`, `closed_by_peer` | that of the Close frame | a closing handshake: [`Closed::cause`] |
    /// | `reserved_bits`, `reserved_opcode`, `length_not_minimal`, `length_too_large`, `not_masked`, `masked`, `control_fragmented`, `control_too_long`, `unexpected_continuation`, `expected_continuation`, `close_too_short`, `invalid_close_code` | 1002 | the peer broke this rule: [`ProtocolError`](crate::ProtocolError) |
    /// | `invalid_utf8`, `invalid_deflate` | 1007 | |
    /// | `message_too_big` | 1009 | a limit of [`Config`](crate::Config) |
    /// | `too_many_fragments`, `too_many_control_frames`, `message_timeout`, `read_timeout` | 1008 | |
    /// | `slow_consumer` | 1013 | |
    /// | `panicked` | 1011 | a callback of ours |
    /// | `ping_timeout` | 1011 | the peer is silent; like all who are given up, it may no longer hear of it |
    /// | `write_timeout` | 1008 | it does not read |
    /// | `close_timeout` | 1006 | it did not finish the closing handshake |
    /// | `eof` | 1006 | TCP ended without a closing handshake |
    /// | `reset` | 1006 | the peer's system, or something on the way, broke the connection off |
    /// | `aborted` | 1006 | this end did, such as an engine that was [stopped](crate::engine::Handle::stop) |
    /// | `dropped` | 1006 | the [`WebSocket`](crate::WebSocket) was dropped before it had ended; not an error's |
    /// | `io` | 1006 | the transport failed otherwise |
    /// | those of [`ConnectError::cause`], [`AcceptError::cause`], [`SendError::cause`] | | made by `?`: no end of a connection |
    pub fn cause(&self) -> &'static str {
        use ProtocolError as P;
        match self {
            Self::Protocol(error) => match error {
                P::ReservedBits => "reserved_bits",
                P::ReservedOpcode(_) => "reserved_opcode",
                P::LengthNotMinimal => "length_not_minimal",
                P::LengthTooLarge => "length_too_large",
                P::NotMasked => "not_masked",
                P::Masked => "masked",
                P::ControlFragmented => "control_fragmented",
                P::ControlTooLong => "control_too_long",
                P::UnexpectedContinuation => "unexpected_continuation",
                P::ExpectedContinuation => "expected_continuation",
                P::InvalidUtf8 => "invalid_utf8",
                P::InvalidDeflate => "invalid_deflate",
                P::CloseTooShort => "close_too_short",
                P::InvalidCloseCode(_) => "invalid_close_code",
                P::MessageTooBig { .. } => "message_too_big",
                P::TooManyFragments { .. } => "too_many_fragments",
                P::TooManyControlFrames { .. } => "too_many_control_frames",
                _ => "protocol_error",
            },
            Self::Connect(error) => error.cause(),
            Self::Accept(error) => error.cause(),
            Self::Send(error) => error.cause(),
            Self::PingTimeout => "ping_timeout",
            Self::CloseTimeout => "close_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::MessageTimeout => "message_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::Panicked => "panicked",
            Self::Eof => "eof",
            Self::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
                io::ErrorKind::ConnectionAborted => "aborted",
                _ => "io",
            },
        }
    }
}

impl SendError {
    /// The name of this error for logs and metrics, which stays the same: `full`, `closing`, `not_sendable`, or that of
    /// the failure of the connection.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Closed | Self::ReceiverDropped => "closing",
            Self::Failed(error) => error.cause(),
            Self::Full => "full",
            _ => "not_sendable",
        }
    }
}

impl AcceptError {
    /// The name of this error for logs and metrics, which stays the same: `refused`, `timeout`, `eof` or `io`.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Timeout => "timeout",
            Self::Eof => "eof",
            Self::Io(_) => "io",
        }
    }

    /// The status of the answer, if it was a refusal.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.status()),
            _ => None,
        }
    }
}

impl ConnectError {
    /// The name of this error for logs and metrics, which stays the same: `invalid`, `refused`, `redirect`,
    /// `handshake`, `tls`, `proxy`, `http2`, `timeout` or `io`.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Refused(_) => "refused",
            Self::Redirect(_) => "redirect",
            Self::Handshake(_) => "handshake",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "tls",
            #[cfg(feature = "proxy")]
            Self::Proxy(_) => "proxy",
            #[cfg(feature = "http2")]
            Self::Http2(_) => "http2",
            Self::Timeout(_) => "timeout",
            Self::Io(_) => "io",
        }
    }

    /// The status of the answer, if it was a refusal.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(response) => Some(response.status),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longwire_proto::{CloseCode, CloseFrame};

    #[test]
    fn each_code_has_its_row() {
        for code in 0..u16::MAX {
            if !CloseCode::from(code).is_sendable() {
                continue;
            }
            for by in [Side::Us, Side::Peer] {
                let closed = Closed { by, frame: Some(CloseFrame::new(code, "")) };
                let expected = match code {
                    3000..=3999 => "3xxx".to_owned(),
                    4000.. => "4xxx".to_owned(),
                    _ => code.to_string(),
                };
                let row = end(end_of(&Ok(closed.clone())));
                assert_eq!(row, (closed.cause(), &*expected));
            }
        }
        let bare = Closed { by: Side::Peer, frame: None };
        assert_eq!(end(end_of(&Ok(bare))), ("closed_by_peer", "1005"));
    }

    #[test]
    fn names_are_unique_and_codes_are_those_that_are_sent() {
        let rows: std::collections::HashSet<_> = (0..ENDS).map(end).collect();
        assert_eq!(rows.len(), ENDS);
        for error in [
            ProtocolError::ReservedBits,
            ProtocolError::InvalidUtf8,
            ProtocolError::InvalidDeflate,
            ProtocolError::MessageTooBig { limit: 1 },
            ProtocolError::TooManyFragments { limit: 1 },
            ProtocolError::TooManyControlFrames { limit: 1 },
        ] {
            let (cause, code) = end(end_of(&Err(error.into())));
            assert_eq!((cause, code), (Error::from(error).cause(), &*error.close_code().to_string()));
        }
        assert_eq!(end(end_called("unheard_of")), (OTHER, "1006"));
    }

    #[test]
    fn statuses_have_rows() {
        for (status, expected) in [(403, "403"), (302, "3xx"), (451, "4xx"), (599, "5xx"), (200, "xxx")] {
            assert_eq!(REASONS[reason_of_status(StatusCode::from_u16(status).unwrap())], expected);
        }
        assert_eq!(REASONS[NOT_STATUS], "timeout");
        assert_eq!(REASONS[reason(None, "unheard of")], OTHER);
    }
}
