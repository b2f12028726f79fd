//! The end of a connection as applications see it: the core's cause, with the error of the transport.

use std::io;

use longwire_proto::{Cause, Connection, Initiator};

use crate::end::{Closed, Error, Side};

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
