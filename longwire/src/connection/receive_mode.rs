//! The two ways to receive: whole messages, or parts as they arrive.

use bytes::buf::Limit;
use longwire_proto::{Connection, Incoming, Message, Part, ProtocolError};

use crate::connection::scratch::Scratch;
use crate::observe::recorder::Watch;

/// A [`Message`] or a [`Part`].
pub(crate) trait ReceiveMode: Sized {
    /// Messages are put together, so the beginning of one waits for its end.
    const IS_WHOLE: bool;

    /// Takes the next one off the front of what was read.
    fn take(lent: &mut Scratch, core: &mut Connection) -> Result<Option<Incoming<Self>>, ProtocolError>;

    /// Room to read the rest of a large frame into, right behind the beginning of its message.
    fn landing<'a>(lent: &'a mut Scratch, core: &Connection) -> Option<Limit<&'a mut Vec<u8>>>;

    /// Takes `count` bytes that were read there.
    fn landed(count: usize, lent: &mut Scratch, core: &mut Connection)
    -> Result<Option<Self>, ProtocolError>;

    /// Counts it.
    fn note(&self, watch: &mut Watch);
}

impl ReceiveMode for Message {
    const IS_WHOLE: bool = true;

    #[inline]
    fn take(lent: &mut Scratch, core: &mut Connection) -> Result<Option<Incoming<Self>>, ProtocolError> {
        lent.assembler.receive(core, &mut lent.input, &mut lent.out)
    }

    fn landing<'a>(lent: &'a mut Scratch, core: &Connection) -> Option<Limit<&'a mut Vec<u8>>> {
        if lent.input.is_empty() { lent.assembler.landing(core) } else { None }
    }

    fn landed(
        count: usize,
        lent: &mut Scratch,
        core: &mut Connection,
    ) -> Result<Option<Self>, ProtocolError> {
        lent.assembler.landed(count, core, &mut lent.out)
    }

    fn note(&self, watch: &mut Watch) {
        watch.received(self.kind(), self.len(), true);
    }
}

impl ReceiveMode for Part {
    const IS_WHOLE: bool = false;

    fn take(lent: &mut Scratch, core: &mut Connection) -> Result<Option<Incoming<Self>>, ProtocolError> {
        lent.assembler.receive_part(core, &mut lent.input, &mut lent.out)
    }

    fn landing<'a>(_: &'a mut Scratch, _: &Connection) -> Option<Limit<&'a mut Vec<u8>>> {
        None
    }

    fn landed(_: usize, _: &mut Scratch, _: &mut Connection) -> Result<Option<Self>, ProtocolError> {
        Ok(None)
    }

    fn note(&self, watch: &mut Watch) {
        watch.received(self.kind, self.payload.len(), self.last);
    }
}
