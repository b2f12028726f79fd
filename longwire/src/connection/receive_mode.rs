//! What an application receives of a connection: messages, put together, or parts as they come.

use std::time::Instant;

use bytes::buf::Limit;
use longwire_proto::{Connection, Incoming, Message, Part, ProtocolError};

use crate::connection::scratch::Lent;
use crate::observe::recorder::Watch;

/// One or the other.
pub(crate) trait Wanted: Sized {
    /// A message has a time in which it is to be whole.
    const IS_WHOLE: bool;

    /// There may be something to take.
    fn waits(lent: &Lent) -> bool;

    /// Takes the next off the front of what was read.
    fn take(
        lent: &mut Lent,
        core: &mut Connection,
        now: Instant,
    ) -> Result<Option<Incoming<Self>>, ProtocolError>;

    /// Room to read the rest of a large frame into, and what comes of the bytes that were read there.
    fn landing<'a>(lent: &'a mut Lent, core: &Connection) -> Option<Limit<&'a mut Vec<u8>>>;

    fn landed(
        count: usize,
        lent: &mut Lent,
        core: &mut Connection,
        now: Instant,
    ) -> Result<Option<Self>, ProtocolError>;

    /// Notes that it was received.
    fn note(&self, watch: &mut Watch);
}

impl Wanted for Message {
    const IS_WHOLE: bool = true;

    #[inline]
    fn waits(lent: &Lent) -> bool {
        lent.is_fresh && !lent.input.is_empty()
    }

    #[inline]
    fn take(
        lent: &mut Lent,
        core: &mut Connection,
        now: Instant,
    ) -> Result<Option<Incoming<Self>>, ProtocolError> {
        lent.assembler.receive(core, &mut lent.input, &mut lent.out, now)
    }

    fn landing<'a>(lent: &'a mut Lent, core: &Connection) -> Option<Limit<&'a mut Vec<u8>>> {
        if lent.input.is_empty() { lent.assembler.landing(core) } else { None }
    }

    fn landed(
        count: usize,
        lent: &mut Lent,
        core: &mut Connection,
        now: Instant,
    ) -> Result<Option<Self>, ProtocolError> {
        lent.assembler.landed(count, core, &mut lent.out, now)
    }

    fn note(&self, watch: &mut Watch) {
        watch.received(self.kind(), self.len(), true);
    }
}

impl Wanted for Part {
    const IS_WHOLE: bool = false;

    fn waits(lent: &Lent) -> bool {
        (lent.is_fresh && !lent.input.is_empty()) || lent.assembler.is_joining()
    }

    fn take(
        lent: &mut Lent,
        core: &mut Connection,
        now: Instant,
    ) -> Result<Option<Incoming<Self>>, ProtocolError> {
        lent.assembler.receive_part(core, &mut lent.input, &mut lent.out, now)
    }

    fn landing<'a>(_: &'a mut Lent, _: &Connection) -> Option<Limit<&'a mut Vec<u8>>> {
        None
    }

    fn landed(_: usize, _: &mut Lent, _: &mut Connection, _: Instant) -> Result<Option<Self>, ProtocolError> {
        Ok(None)
    }

    fn note(&self, watch: &mut Watch) {
        watch.received(self.kind, self.payload.len(), self.last);
    }
}
