//! What a loop keeps of an open connection, and what of the loop itself a callback may use.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::{Assembler, Cause, Connection, Outbox, SharedFrame};

use super::conn::Conn;
use super::mailbox::Mailbox;
use super::mailbox::handle::Handle;
use super::options::SlowPolicy;
use super::socket::Layer;
use super::topics::backlog::Backlog;
use super::topics::log::{Log, LogCursor, Logged};
use super::topics::{Subscriptions, Topics};
use crate::end::Error;
use crate::observe::counters::LoopCounters;

/// A WebSocket of a loop. An idle connection has nothing else.
pub(super) struct Entry {
    pub(super) core: Connection,
    pub(super) subscriptions: Subscriptions,
    pub(super) buffers: Option<Box<Buffers>>,
    /// How far in the log this connection is, if it no longer gets the log with its topic's batch.
    pub(super) log_cursor: Option<LogCursor>,
}

/// What a connection needs only while something is half received or waits to be written, and while it ends. A
/// connection with a [`Layer`] always has it.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) out: Outbox,
    /// Messages that wait behind `out`.
    pub(super) backlog: Backlog,
    pub(super) assembler: Assembler,
    /// Input that is not processed yet: the beginning of a header or control frame, or all that was read when the
    /// connection was paused or its turn was over.
    pub(super) input: Vec<u8>,
    /// Nothing is read or processed until the write buffer has room.
    pub(super) is_paused: bool,
    /// A write found no room, or the application was refused, since everything was written for the last time: it is
    /// told when everything is.
    pub(super) was_blocked: bool,
    /// A message was handed out, and the core does not know it yet.
    pub(super) delivered: bool,
    /// The error of the transport that counts so far.
    pub(super) transport: Option<Error>,
    /// What is between the socket and this connection.
    pub(super) layer: Option<Layer>,
}

impl Buffers {
    fn is_needed(&self) -> bool {
        self.was_blocked
            || self.is_paused
            || self.delivered
            || !self.out.is_empty()
            || !self.backlog.is_empty()
            || !self.input.is_empty()
            || !self.assembler.is_idle()
            || self.transport.is_some()
            || self.layer.is_some()
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.out.remaining() + self.backlog.bytes()
    }
}

impl Entry {
    pub(super) fn new(core: Connection, layer: Option<Layer>) -> Self {
        let buffers = layer.map(|layer| Box::new(Buffers { layer: Some(layer), ..Buffers::default() }));
        Self { core, subscriptions: Subscriptions::default(), buffers, log_cursor: None }
    }

    pub(super) fn buffers_mut(&mut self) -> &mut Buffers {
        self.buffers.get_or_insert_default()
    }

    /// Frees the buffers if they are empty and the connection is open.
    pub(super) fn release_buffers(&mut self) {
        if self.buffers.as_ref().is_some_and(|buffers| !buffers.is_needed()) {
            self.buffers = None;
        }
    }

    /// Discards what is of no use to a connection that has ended. What its outbox holds is still written.
    pub(super) fn discard_input(&mut self) {
        if let Some(buffers) = &mut self.buffers {
            buffers.backlog = Backlog::default();
            buffers.input = Vec::new();
            buffers.assembler.reset();
        }
    }

    /// So much waits to be written that nothing more is read.
    pub(super) fn is_behind(&self) -> bool {
        let limit = self.core.config().write_buffer.get();
        self.buffers.as_ref().is_some_and(|buffers| buffers.waiting() >= limit)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.is_paused)
    }

    pub(super) fn was_blocked(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.was_blocked)
    }

    /// Stops reading: a peer that does not read is not read from.
    pub(super) fn pause(&mut self, now: Instant) {
        self.buffers_mut().is_paused = true;
        self.core.pause_reading(now);
    }

    /// How the stream that a task carries to the socket has failed, if it has.
    pub(super) fn carrier_failure(&self) -> Option<Arc<io::Error>> {
        match self.buffers.as_ref()?.layer.as_ref()? {
            Layer::Carried(carried) => carried.failure.get().cloned(),
            #[cfg(any(feature = "tls", test))]
            _ => None,
        }
    }

    /// When to check the deadlines, unless something happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        static NOTHING: Outbox = Outbox::new();
        let Some(buffers) = &self.buffers else { return self.core.poll_timeout(&NOTHING) };
        self.core.poll_timeout(&buffers.out).into_iter().chain(buffers.backlog.due()).min()
    }

    /// Puts the connection's outbox in the place of the loop's, which is returned, if the connection has one. Its bytes
    /// must go out before those that are added now.
    pub(super) fn lend_outbox(&mut self, local: &mut Local) -> Option<Outbox> {
        match &mut self.buffers {
            Some(buffers) if !buffers.out.is_empty() || buffers.out.blocked().is_some() => {
                Some(std::mem::replace(&mut local.out, std::mem::take(&mut buffers.out)))
            }
            _ => None,
        }
    }

    /// Takes back what is left in the loop's outbox, which the next connection must find empty. `aside` is the loop's
    /// own outbox, if the connection's was in its place.
    pub(super) fn take_back_outbox(&mut self, aside: Option<Outbox>, local: &mut Local) {
        let own = match aside {
            Some(gather) => std::mem::replace(&mut local.out, gather),
            // Blocked, but empty: TLS has taken all bytes, and the socket has not.
            None if !local.out.is_empty() || local.out.blocked().is_some() => local.out.detach(),
            None => return,
        };
        if !own.is_empty() || own.blocked().is_some() {
            self.buffers_mut().out = own;
        }
    }
}

/// The part of a loop that callbacks may use.
pub(super) struct Local {
    /// The number of this loop.
    pub(super) at: u16,
    pub(super) engine: Handle,
    pub(super) now: Instant,
    /// What the connection whose turn it is has to write; empty between turns.
    pub(super) out: Outbox,
    pub(super) topics: Topics,
    pub(super) log: Log,
    /// Connections that have a [`LogCursor`].
    pub(super) individual: Vec<u32>,
    pub(super) counters: LoopCounters,
    pub(super) slow: Arc<SlowPolicy>,
}

impl Local {
    /// The mailbox of this loop.
    pub(super) fn mailbox(&self) -> &Mailbox {
        self.engine.mailbox(self.at)
    }

    /// Publishes to the subscribers of this loop, for nobody or for another loop.
    pub(super) fn publish(&mut self, topic: &str, key: Option<Arc<str>>, frame: SharedFrame) {
        if let Some(topic) = self.topics.find(topic) {
            self.log.push(Logged { topic, frame, key, except: None });
        }
    }
}

/// Calls the application. If it panics, only this connection fails.
#[inline]
pub(super) fn guard(conn: &mut Conn<'_>, call: impl FnOnce(&mut Conn<'_>)) {
    // After a panic nothing is used that the callback may have left half changed, except the application's own state,
    // which is only dropped.
    if catch_unwind(AssertUnwindSafe(|| call(conn))).is_err() {
        let Local { out, now, .. } = &mut *conn.local;
        conn.entry.core.fail(Cause::Panicked, out, *now);
    }
}
