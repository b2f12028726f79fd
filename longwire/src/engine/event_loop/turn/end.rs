//! The end of TCP behind a connection that has ended.

use std::io;

use bytes::Buf;
use longwire_proto::{Outbox, TcpStep};

use super::{After, Shared, Turn};
use crate::end::Error;
use crate::engine::entry::Buffers;
use crate::engine::handler::Handler;
use crate::engine::socket::{self, Flushed, ReadOutcome};

impl<H: Handler> Turn<'_, H> {
    /// Ends TCP as the core says: writes what is left, ends our direction, and reads and discards what the peer still
    /// sends. The application has been called for the last time but one.
    pub(super) fn end_tcp(&mut self) -> After {
        loop {
            let is_written = self.write_last();
            match self.entry.core.tcp_step(is_written, self.shared.local.now) {
                TcpStep::Done => return After::Gone,
                TcpStep::ShutdownWrite if self.shut_down_writing() => {
                    self.entry.core.write_ended();
                    continue;
                }
                TcpStep::ShutdownWrite | TcpStep::Write | TcpStep::Drain => {}
            }
            if !self.entry.core.drains() || !std::mem::take(&mut self.ready.readable) {
                break;
            }
            let layer = self.entry.buffers.as_ref().and_then(|buffers| buffers.layer.as_ref());
            match socket::discard(self.stream, layer, &mut self.shared.buffer) {
                // A flood must not keep others from their turns: the next read is in the next round.
                ReadOutcome::InBuffer { .. } | ReadOutcome::Landed { .. } | ReadOutcome::Again => {
                    self.ready.readable = true;
                    self.queue();
                    break;
                }
                ReadOutcome::Nothing => break,
                // How it ends says nothing any more.
                ReadOutcome::End | ReadOutcome::Failed(_) => {
                    self.entry.core.read_eof(&Outbox::new(), self.shared.local.now);
                }
            }
        }
        self.schedule();
        After::Stays
    }

    /// Writes what is left. Whether the socket has all of it, or will never have.
    fn write_last(&mut self) -> bool {
        let Shared { local, .. } = &mut *self.shared;
        let Some(buffers) = &mut self.entry.buffers else { return true };
        let Buffers { out, layer, .. } = &mut **buffers;
        let before = out.remaining();
        let flushed = socket::flush(self.stream, layer.as_mut(), out, local.now);
        let count = before - out.remaining();
        local.counters.bytes_sent += count as u64;
        match flushed {
            Ok(Flushed::All) => true,
            Ok(Flushed::Blocked) => false,
            Err(error) => self.end_writing(error),
        }
    }

    /// Ends our direction of TCP, behind everything that was written. Whether that is done.
    fn shut_down_writing(&mut self) -> bool {
        let Buffers { out, layer, .. } = self.entry.buffers_mut();
        match socket::shut_down_writing(self.stream, layer.as_mut(), out, self.shared.local.now) {
            Ok(Flushed::All) => true,
            Ok(Flushed::Blocked) => false,
            Err(error) => self.end_writing(error),
        }
    }

    /// The socket takes nothing any more, which is as good as written.
    fn end_writing(&mut self, error: io::Error) -> bool {
        let counts = self.entry.core.write_failed(error.kind());
        let buffers = self.entry.buffers_mut();
        buffers.out = Outbox::new();
        if counts {
            buffers.transport = Some(Error::from(error));
        }
        true
    }
}
