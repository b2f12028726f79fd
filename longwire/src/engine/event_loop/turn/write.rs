//! Writing: what waits goes to the socket, and the application is told when all of it has gone.

use std::io;
use std::net::TcpStream;

use bytes::Buf;

use super::{Shared, Turn};
use crate::end::Error;
use crate::engine::entry::{Entry, Local};
use crate::engine::handler::Handler;
use crate::engine::socket::{self, Flushed};
use crate::engine::topics::backlog::Backlog;

/// Bytes that are moved from a backlog at once.
const GATHER: usize = 256 * 1024;

/// What became of the loop's outbox.
#[derive(PartialEq, Eq)]
enum Written {
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The socket takes nothing any more.
    Broken,
}

impl<H: Handler> Turn<'_, H> {
    /// Writes the outbox and the backlog, as far as the socket takes them, and tells the application if it waits for
    /// that.
    pub(super) fn write_waiting(&mut self) {
        let mut has_called = false;
        while self.write_out() == Written::All {
            let Some(buffers) = &mut self.entry.buffers else { return };
            if self.entry.core.is_done() {
                return;
            }
            if !buffers.backlog.is_empty() {
                self.conn().write_backlog(GATHER);
            } else if !buffers.was_blocked {
                return;
            } else if self.shared.is_delivering || has_called {
                // One call a turn, and none during a delivery: others have their turn first.
                self.ready.writable = true;
                return self.queue();
            } else {
                buffers.was_blocked = false;
                has_called = true;
                self.call(|conn, state, handler| handler.drained(conn, state));
            }
        }
    }

    /// Writes the loop's outbox.
    #[inline]
    fn write_out(&mut self) -> Written {
        let Shared { local, .. } = &mut *self.shared;
        match flush(self.stream, self.entry, local) {
            Ok(Flushed::All) => Written::All,
            Ok(Flushed::Blocked) => {
                self.entry.buffers_mut().was_blocked = true;
                Written::Blocked
            }
            Err(error) => {
                write_failed(self.entry, local, error);
                // The peer may have sent why before it stopped reading.
                self.ready.readable = true;
                self.queue();
                Written::Broken
            }
        }
    }
}

/// Writes the loop's outbox, as far as the socket takes it.
#[inline]
pub(super) fn flush(stream: &TcpStream, entry: &mut Entry, local: &mut Local) -> io::Result<Flushed> {
    let before = local.out.remaining();
    let layer = entry.buffers.as_mut().and_then(|buffers| buffers.layer.as_mut());
    let flushed = socket::flush(stream, layer, &mut local.out, local.now);
    let count = before - local.out.remaining();
    entry.core.wrote(count);
    local.counters.bytes_sent += count as u64;
    flushed
}

/// Drops what waits to be written: nothing of it will be.
#[cold]
pub(super) fn write_failed(entry: &mut Entry, local: &mut Local, error: io::Error) {
    local.out.detach();
    let counts = entry.core.write_failed(error.kind());
    let buffers = entry.buffers_mut();
    buffers.backlog = Backlog::default();
    if counts {
        buffers.transport = Some(Error::from(error));
    }
}
