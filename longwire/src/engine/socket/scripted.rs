//! A transport for tests: a script says what reads bring and what writes take. The socket only reports events.

use std::cell::{RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::Outbox;

use super::{Flushed, ReadOutcome};

#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Scripted(Rc<RefCell<Script>>);

#[derive(Debug, Default)]
pub(in crate::engine) struct Script {
    /// What the next read brings.
    pub(in crate::engine) input: Vec<u8>,
    /// How reading fails behind that, once.
    pub(in crate::engine) read_error: Option<io::ErrorKind>,
    /// The peer has ended its direction behind that.
    pub(in crate::engine) eof: bool,
    pub(in crate::engine) write_error: Option<io::ErrorKind>,
    /// How many bytes are taken; `None`: any number.
    pub(in crate::engine) room: Option<usize>,
    pub(in crate::engine) written: Vec<u8>,
}

impl Scripted {
    pub(in crate::engine) fn script(&self) -> RefMut<'_, Script> {
        self.0.borrow_mut()
    }

    pub(super) fn flush(&self, out: &mut Outbox, now: Instant) -> io::Result<Flushed> {
        let mut script = self.script();
        while out.has_remaining() {
            if let Some(error) = script.write_error {
                return Err(error.into());
            }
            let count = out.chunk().len().min(script.room.unwrap_or(usize::MAX));
            if count == 0 {
                out.block(now);
                return Ok(Flushed::Blocked);
            }
            script.written.extend_from_slice(&out.chunk()[..count]);
            script.room = script.room.map(|room| room - count);
            out.advance(count);
        }
        Ok(Flushed::All)
    }

    pub(in crate::engine) fn read(&self, buffer: &mut [u8], before: usize) -> ReadOutcome {
        let mut script = self.script();
        if !script.input.is_empty() {
            let length = before + script.input.len();
            buffer[before..length].copy_from_slice(&script.input);
            script.input.clear();
            return ReadOutcome::InBuffer { length, may_have_more: true };
        }
        match script.read_error.take() {
            Some(error) => ReadOutcome::Failed(error.into()),
            None if script.eof => ReadOutcome::End,
            None => ReadOutcome::Nothing,
        }
    }
}
