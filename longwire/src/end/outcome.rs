//! The end of a connection as applications see it, and the cause that it stands for.

use std::io;

use longwire_proto::{Cause, CloseCode, Connection, Initiator};

use crate::end::{Closed, Error, Side};

impl Closed {
    /// Why the connection ended: [`Cause::Closed`]. Its name for logs and metrics is `closed_by_us` or
    /// `closed_by_peer`.
    pub fn cause(&self) -> Cause {
        let by = if self.by == Side::Us { Initiator::Local } else { Initiator::Remote };
        Cause::Closed { by, code: CloseCode::from(self.code()) }
    }

    /// The code, 1005 if the Close frame had none: what a browser shows.
    pub fn code(&self) -> u16 {
        self.frame.as_ref().map_or(CloseCode::NO_STATUS, |frame| frame.code).into()
    }
}

impl Error {
    /// Why the connection ended, or `None` if this error ends no connection: a message was not sent, or the
    /// connection was never open.
    ///
    /// [`Cause::name`] is the name for logs and metrics, which does not change between versions:
    ///
    /// | name | code | |
    /// |---|---|---|
    /// | `closed_by_us`, `closed_by_peer` | that of the Close frame | a closing handshake: [`Closed::cause`] |
    /// | `reserved_bits`, `reserved_opcode`, `length_not_minimal`, `length_too_large`, `not_masked`, `masked`, `control_fragmented`, `control_too_long`, `unexpected_continuation`, `expected_continuation`, `close_too_short`, `invalid_close_code` | 1002 | the peer broke this rule: [`ProtocolError`](crate::ProtocolError) |
    /// | `invalid_utf8`, `invalid_deflate` | 1007 | the payload is invalid |
    /// | `message_too_big` | 1009 | the message exceeds [`Config::max_message`](crate::Config::max_message) |
    /// | `too_many_fragments`, `too_many_control_frames` | 1008 | the peer exceeded a limit of [`Config`](crate::Config) |
    /// | `message_timeout`, `read_timeout` | 1008 | a message took too long, or none arrived |
    /// | `slow_consumer` | 1013 | the peer fell too far behind on a topic |
    /// | `panicked` | 1011 | a callback of the application panicked |
    /// | `ping_timeout` | 1011 | the peer is silent and probably does not receive the Close frame either |
    /// | `write_timeout` | 1008 | the peer does not read |
    /// | `close_timeout` | 1006 | the peer did not finish the closing handshake |
    /// | `eof` | 1006 | TCP ended without a closing handshake |
    /// | `reset` | 1006 | the peer's system, or a device on the way, reset the connection |
    /// | `aborted` | 1006 | this end aborted it, for example because its engine was [stopped](crate::engine::Handle::stop) |
    /// | `dropped` | 1006 | the [`WebSocket`](crate::WebSocket) was dropped before it had ended; in counters only |
    /// | `io` | 1006 | the transport failed otherwise |
    pub fn cause(&self) -> Option<Cause> {
        Some(match self {
            Self::Protocol(error) => Cause::Protocol(*error),
            Self::PingTimeout => Cause::PingTimeout,
            Self::CloseTimeout => Cause::CloseTimeout,
            Self::WriteTimeout => Cause::WriteTimeout,
            Self::MessageTimeout => Cause::MessageTimeout,
            Self::ReadTimeout => Cause::ReadTimeout,
            Self::SlowConsumer => Cause::SlowConsumer,
            Self::Panicked => Cause::Panicked,
            Self::Eof => Cause::Eof,
            Self::Io(error) => Cause::of_io(error.kind()),
            Self::Connect(_) | Self::Accept(_) | Self::Send(_) => return None,
        })
    }
}

/// The cause of the end of a connection; one without a result was dropped before it had ended.
pub(crate) fn cause_of(end: Option<&Result<Closed, Error>>) -> Cause {
    match end {
        None => Cause::Dropped,
        Some(Ok(closed)) => closed.cause(),
        // Only errors that end a connection are kept as its end.
        Some(Err(error)) => error.cause().unwrap_or(Cause::Io),
    }
}

/// Why `connection` ended, once that is known. `transport` is the error of the transport that counts, if
/// there is one.
pub(crate) fn outcome(connection: &Connection, transport: Option<&Error>) -> Option<Result<Closed, Error>> {
    let cause = connection.cause()?;
    let io = |kind: io::ErrorKind| transport.cloned().unwrap_or_else(|| Error::from(io::Error::from(kind)));
    Some(Err(match cause {
        Cause::Closed { by, .. } => {
            let by = if by == Initiator::Local { Side::Us } else { Side::Peer };
            return Some(Ok(Closed { by, frame: connection.close_frame().cloned() }));
        }
        Cause::Protocol(error) => Error::Protocol(error),
        Cause::MessageTimeout => Error::MessageTimeout,
        Cause::ReadTimeout => Error::ReadTimeout,
        Cause::PingTimeout => Error::PingTimeout,
        Cause::WriteTimeout => Error::WriteTimeout,
        Cause::CloseTimeout => Error::CloseTimeout,
        Cause::SlowConsumer => Error::SlowConsumer,
        Cause::Panicked => Error::Panicked,
        Cause::Eof => Error::Eof,
        Cause::Reset => io(io::ErrorKind::ConnectionReset),
        Cause::Aborted | Cause::Dropped => io(io::ErrorKind::ConnectionAborted),
        _ => io(io::ErrorKind::Other),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longwire_proto::{CloseFrame, ProtocolError};

    #[test]
    fn each_end_has_its_cause() {
        for (by, name) in [(Side::Us, "closed_by_us"), (Side::Peer, "closed_by_peer")] {
            for code in (1000..5000).filter(|code| CloseCode::from(*code).is_sendable()) {
                let cause = Closed { by, frame: Some(CloseFrame::new(code, "再见 👋")) }.cause();
                assert_eq!((cause.name(), u16::from(cause.close_code())), (name, code));
            }
            let bare = Closed { by, frame: None };
            assert_eq!((bare.code(), bare.cause().name()), (1005, name));
        }
        let reset = Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(cause_of(Some(&Err(reset))), Cause::Reset);
        let broken = ProtocolError::MessageTooBig { limit: 1 };
        assert_eq!(cause_of(Some(&Err(broken.into()))), Cause::Protocol(broken));
        assert_eq!(cause_of(None), Cause::Dropped);
    }
}
