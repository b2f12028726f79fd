//! A connection's place in the loop, from its first byte to its last.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::Instant;

use longwire_proto::handshake::ServerOpening;

use crate::engine::entry::Entry;
use crate::engine::wheel::Tick;

/// What the loop's slab holds of each connection.
pub(super) struct Place<S> {
    pub(super) stream: TcpStream,
    pub(super) stage: Stage<S>,
    /// When the wheel looks at it next.
    pub(super) armed: Option<Tick>,
    /// Which topic it is subscribed to of those that are being delivered.
    pub(super) mark: Option<Mark>,
    pub(super) ready: Ready,
}

impl<S> Place<S> {
    pub(super) const fn new(stream: TcpStream, stage: Stage<S>) -> Self {
        let ready =
            Ready { queued: false, readable: false, writable: false, read_closed: false, unprocessed: false };
        Self { stream, stage, armed: None, mark: None, ready }
    }
}

pub(super) enum Stage<S> {
    /// The request is not complete.
    Pending(PendingRequest),
    /// A WebSocket, with the application's state.
    Open(Entry, S),
}

/// A connection whose request is not complete.
pub(super) struct PendingRequest {
    pub(super) from: SocketAddr,
    pub(super) since: Instant,
    pub(super) partial: Option<Box<PartialRequest>>,
}

/// The beginning of a request.
pub(super) struct PartialRequest {
    pub(super) input: Vec<u8>,
    pub(super) opening: ServerOpening,
}

impl PendingRequest {
    pub(super) const fn new(from: SocketAddr, since: Instant) -> Self {
        Self { from, since, partial: None }
    }
}

/// What there is to do for a connection. The system reports a change once, so a flag stays until it was acted upon.
pub(super) struct Ready {
    /// It is in the queue for a turn.
    pub(super) queued: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has ended its direction of TCP, and the end was not read yet: no other event will report it.
    pub(super) read_closed: bool,
    /// There is input that was read, and can be processed.
    pub(super) unprocessed: bool,
}

/// A batch of those that are being delivered, by its number, or several at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(NonZeroU16);

impl Mark {
    pub(super) const SEVERAL: Self = Self(NonZeroU16::MAX);

    /// The batch of this index. Those with large indices share the mark for several: their members are served one by
    /// one, which is slower and not wrong.
    pub(super) fn of(index: usize) -> Self {
        let number = u16::try_from(index + 1).ok().and_then(NonZeroU16::new);
        number.map_or(Self::SEVERAL, Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Option<Place<()>>>() <= 160, "{}", size_of::<Option<Place<()>>>());
    }
}
