//! A connection's place in the loop, from its first byte to its last.

use std::net::TcpStream;

use super::opening::PendingRequest;
use crate::engine::entry::Entry;
use crate::engine::wheel::Tick;

/// What a loop has in its slab: a connection, from its beginning.
pub(crate) struct Place<S> {
    pub(crate) stream: TcpStream,
    pub(crate) stage: Stage<S>,
    /// When the wheel looks at it next.
    pub(crate) armed: Tick,
    /// Which topic of those that are delivered it belongs to, while they are.
    pub(crate) mark: u16,
    /// It waits for its turn.
    pub(crate) queued: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended its direction of TCP: the end is still to be read.
    pub(crate) read_closed: bool,
    /// Something that was read is to be worked off.
    pub(crate) again: bool,
}

pub(crate) enum Stage<S> {
    Pending(PendingRequest),
    Open(Entry, S),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Option<Place<()>>>() <= 160, "{}", size_of::<Option<Place<()>>>());
    }
}
