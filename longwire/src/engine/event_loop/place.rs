//! A connection's place in the loop, from its first byte to its last.

use std::net::TcpStream;
use std::num::NonZeroU16;

use super::opening::PendingRequest;
use crate::engine::entry::Entry;
use crate::engine::wheel::Tick;

/// What the loop's slab holds of each connection.
pub(crate) struct Place<S> {
    pub(crate) stream: TcpStream,
    pub(crate) stage: Stage<S>,
    /// When the wheel looks at it next.
    pub(crate) armed: Option<Tick>,
    /// Which topic it is subscribed to of those that are being delivered.
    pub(crate) mark: Option<Mark>,
    pub(crate) ready: Ready,
}

impl<S> Place<S> {
    pub(crate) const fn new(stream: TcpStream, stage: Stage<S>) -> Self {
        let ready =
            Ready { queued: false, readable: false, writable: false, read_closed: false, unprocessed: false };
        Self { stream, stage, armed: None, mark: None, ready }
    }
}

pub(crate) enum Stage<S> {
    /// The request is not complete.
    Pending(PendingRequest),
    /// A WebSocket, with the application's state.
    Open(Entry, S),
}

/// What there is to do for a connection. The system reports a change once, so a flag stays until it was acted upon.
pub(crate) struct Ready {
    /// It is in the queue for a turn.
    pub(crate) queued: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended its direction of TCP, and the end was not read yet: no other event will report it.
    pub(crate) read_closed: bool,
    /// There is input that was read, and can be processed.
    pub(crate) unprocessed: bool,
}

/// A batch of those that are being delivered, by its number, or several at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(NonZeroU16);

impl Mark {
    pub(crate) const SEVERAL: Self = Self(NonZeroU16::MAX);

    /// The batch of this index. Those with large indices share the mark for several: their members are served one by
    /// one, which is slower and not wrong.
    pub(crate) fn of(index: usize) -> Self {
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
