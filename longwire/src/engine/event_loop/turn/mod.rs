//! One connection's turn: reads once, processes what came, writes what that caused, and ends TCP when the connection
//! has ended.
//!
//! The core decides what follows from what happened; a turn owns the buffers, calls the socket and the application,
//! and reports to the core.

mod end;
mod receive;
mod write;

use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use longwire_proto::{Assembler, Outbox};

use super::place::{Place, Ready, Stage};
use crate::engine::conn::Conn;
use crate::engine::entry::{Entry, Local, guard};
use crate::engine::handler::Handler;
use crate::engine::options::Options;
use crate::engine::slab::Key;
use crate::engine::wheel::{Tick, Wheel};

/// What turns use of the loop.
pub(super) struct Shared<H: Handler> {
    pub(super) options: Arc<Options<H>>,
    pub(super) local: Local,
    /// Each read goes here. Nothing stays in it behind a turn.
    pub(super) buffer: Box<[u8]>,
    /// The assembler of all connections that have no message half received.
    pub(super) assembler: Assembler,
    pub(super) wheel: Wheel,
    /// The connections that get a turn in the next round.
    pub(super) queue: Vec<u32>,
    /// The log is being delivered: the application is not called.
    pub(super) is_delivering: bool,
}

/// An open connection, with what its turn uses of the loop.
pub(super) struct Turn<'a, H: Handler> {
    key: Key,
    entry: &'a mut Entry,
    state: &'a mut H::State,
    stream: &'a TcpStream,
    ready: &'a mut Ready,
    armed: &'a mut Option<Tick>,
    shared: &'a mut Shared<H>,
}

/// What becomes of a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum After {
    Stays,
    /// It is over: the loop drops it.
    Gone,
}

impl<'a, H: Handler> Turn<'a, H> {
    /// `None` if the connection in this place is not open yet.
    #[inline]
    pub(super) fn new(key: Key, place: &'a mut Place<H::State>, shared: &'a mut Shared<H>) -> Option<Self> {
        let Place { stage: Stage::Open(entry, state), stream, ready, armed, .. } = place else { return None };
        Some(Self { key, entry, state, stream, ready, armed, shared })
    }

    pub(super) fn is_done(&self) -> bool {
        self.entry.core.is_done()
    }

    fn conn(&mut self) -> Conn<'_> {
        Conn { key: self.key, entry: self.entry, stream: self.stream, local: &mut self.shared.local }
    }

    /// Does what there is to do.
    pub(super) fn run(&mut self) -> After {
        if self.is_done() {
            return self.end_tcp();
        }
        if std::mem::take(&mut self.ready.writable) && self.entry.was_blocked() {
            let aside = self.entry.lend_outbox(&mut self.shared.local);
            let after = self.settle(aside);
            if self.is_done() {
                return after;
            }
        }
        if self.entry.is_paused() {
            // What is readable stays so.
            return After::Stays;
        }
        if std::mem::take(&mut self.ready.unprocessed) {
            return self.process_input();
        }
        if self.ready.readable {
            if self.entry.is_behind() {
                self.entry.pause(self.shared.local.now);
                return After::Stays;
            }
            self.ready.readable = false;
            return self.receive();
        }
        After::Stays
    }

    /// Calls the application with the connection, outside of the processing of its input.
    pub(super) fn act(&mut self, act: impl FnOnce(&mut Conn<'_>, &mut H::State, &H)) -> After {
        if self.is_done() {
            return After::Stays;
        }
        let aside = self.entry.lend_outbox(&mut self.shared.local);
        self.call(act);
        self.settle(aside)
    }

    /// Calls the application. What it sends stays in the loop's outbox.
    #[inline]
    pub(super) fn call(&mut self, act: impl FnOnce(&mut Conn<'_>, &mut H::State, &H)) {
        let Self { key, entry, state, stream, shared, .. } = self;
        let Shared { options, local, .. } = &mut **shared;
        guard(&mut Conn { key: *key, entry, stream, local }, |conn| act(conn, state, &options.handler));
    }

    /// Delivers what the connection has not got yet of the log that is being delivered.
    pub(super) fn deliver_log(&mut self) -> After {
        if self.entry.log_cursor.is_none() {
            return After::Stays;
        }
        let aside = self.entry.lend_outbox(&mut self.shared.local);
        self.conn().deliver_log();
        self.entry.log_cursor = None;
        self.settle(aside)
    }

    /// Writes what is left of a batch. The connection has no buffers.
    pub(super) fn write_rest(&mut self, rest: Bytes) -> After {
        self.shared.local.out.append_rest(rest);
        self.settle(None)
    }

    /// Acts upon a deadline that may have passed.
    pub(super) fn check_deadlines(&mut self) -> After {
        let now = self.shared.local.now;
        if self.entry.due().is_some_and(|due| now >= due) {
            let aside = self.entry.lend_outbox(&mut self.shared.local);
            let is_alive = self.entry.core.handle_timeout(&mut self.shared.local.out, now).is_ok();
            if is_alive && let Some(buffers) = &mut self.entry.buffers {
                let evicted = buffers.backlog.expire(now);
                self.conn().evict(evicted);
            }
            if self.settle(aside) == After::Gone {
                return After::Gone;
            }
        }
        self.schedule();
        After::Stays
    }

    /// Puts the connection into the queue for a turn.
    fn queue(&mut self) {
        if !std::mem::replace(&mut self.ready.queued, true) {
            self.shared.queue.push(self.key.index);
        }
    }

    /// Puts the connection into the wheel for what is due first.
    pub(super) fn schedule(&mut self) {
        let Shared { wheel, local, .. } = &mut *self.shared;
        if let Some(due) = self.entry.due() {
            // A Pong may make the next Ping due before the deadline for the Pong would have passed.
            let silence = self.entry.core.config().ping_after;
            let ping = silence.and_then(|silence| local.now.checked_add(silence));
            wheel.arm(self.key.index, self.armed, ping.map_or(due, |ping| due.min(ping)));
        }
    }

    /// Ends a turn: writes what waits, keeps what could not be written, and decides how the connection goes on. `aside`
    /// is the loop's own outbox, if the connection's was lent.
    fn settle(&mut self, aside: Option<Outbox>) -> After {
        self.write_waiting();
        self.entry.take_back_outbox(aside, &mut self.shared.local);
        self.go_on()
    }

    /// How the connection goes on, now that nothing can be done any more.
    fn go_on(&mut self) -> After {
        if self.is_done() {
            self.shared.local.topics.unsubscribe_all(&mut self.entry.subscriptions);
            self.entry.discard_input();
            self.ready.unprocessed = false;
            return self.end_tcp();
        }
        // An idle connection is in the wheel for its keepalive already.
        let mut is_scheduled = self.entry.core.is_open();
        if let Some(buffers) = &mut self.entry.buffers {
            if buffers.is_paused && buffers.waiting() < self.entry.core.config().write_buffer.get() {
                buffers.is_paused = false;
                self.entry.core.resume_reading(self.shared.local.now);
                self.ready.unprocessed = true;
                self.queue();
                // A paused connection has no keepalive.
                is_scheduled = false;
            }
            self.entry.release_buffers();
        }
        if self.entry.buffers.is_some() || !is_scheduled {
            self.schedule();
        }
        After::Stays
    }
}
