//! What a loop keeps of an open connection, and what of the loop itself a callback may use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::{Assembler, Cause, CloseCode, CloseFrame, Connection, Outbox, SharedFrame};

use super::conn::Conn;
use super::mailbox::handle::Handle;
use super::options::SlowPolicy;
use super::socket::layer::Layer;
use super::topics::backlog::Backlog;
use super::topics::{Log, Logged, NOBODY, Subscriptions, Topics};
use crate::end::{Closed, Error, Side};
use crate::observe::counters::Tally;

/// A WebSocket of a loop. One that is idle holds this and nothing else.
pub(crate) struct Entry {
    pub(crate) core: Connection,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) held: Option<Box<Held>>,
    /// How far it has log_cursor what was published in this turn, where that is not all or nothing.
    pub(crate) log_cursor: u32,
}

/// What a connection holds while something is half received, waits to be written, or comes to its end.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) out: Outbox,
    /// What was published and sent behind that.
    pub(crate) backlog: Backlog,
    pub(crate) assembler: Assembler,
    /// What was read and not worked off: the beginning of a header or control frame, or all that came
    /// while there is no room for answers.
    pub(crate) input: Vec<u8>,
    /// `input` waits for room.
    pub(crate) paused: bool,
    /// A write has found no room, or who sends has been told so, since all was written.
    pub(crate) was_blocked: bool,
    /// Since when a message or a header is half received.
    pub(crate) begun: Option<Instant>,
    /// The Close frame that we sent first.
    pub(crate) sent: Option<CloseFrame>,
    pub(crate) ending: Option<Ending>,
    /// The stream takes no more bytes. What the peer said before may still be read.
    pub(crate) broken: Option<Error>,
    /// What lies between the socket and this connection, from its beginning to its end.
    pub(crate) layer: Option<Layer>,
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) result: Result<Closed, Error>,
    /// Not worth waiting for the peer.
    pub(crate) hopeless: bool,
    /// Our direction of TCP is ended.
    pub(crate) shut: bool,
}

impl Held {
    pub(crate) fn is_needed(&self) -> bool {
        self.was_blocked
            || self.paused
            || !self.out.is_empty()
            || !self.backlog.is_empty()
            || !self.input.is_empty()
            || !self.assembler.is_idle()
            || self.begun.is_some()
            || self.sent.is_some()
            || self.ending.is_some()
            || self.broken.is_some()
            || self.layer.is_some()
    }
}

impl Entry {
    pub(crate) fn new(core: Connection) -> Self {
        Self { core, subscriptions: Subscriptions::default(), held: None, log_cursor: 0 }
    }

    pub(crate) fn held(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }

    /// So much waits to be written that nothing more is read.
    pub(crate) fn is_behind(&self) -> bool {
        let limit = self.core.config().write_buffer.get();
        self.held.as_ref().is_some_and(|held| held.out.remaining() + held.backlog.bytes() >= limit)
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.ending.is_some())
    }

    /// How the stream that is carried to the socket has failed, if it has.
    pub(crate) fn carrier_failed(&self) -> Option<Error> {
        match self.held.as_ref()?.layer.as_ref()? {
            Layer::Carried(carried) => carried.failed.get().cloned(),
            #[cfg(feature = "tls")]
            Layer::Tls(_) => None,
        }
    }

    /// Notes how it ends; the first to say so counts.
    pub(crate) fn end(&mut self, result: Result<Closed, Error>) {
        let hopeless = !matches!(
            result,
            Ok(_)
                | Err(Error::Protocol(_)
                    | Error::MessageTimeout
                    | Error::SlowConsumer
                    | Error::Panicked
                    | Error::Eof)
        );
        let held = self.held();
        if held.ending.is_none() {
            held.ending = Some(Ending { result, hopeless, shut: false });
            held.backlog = Backlog::default();
            held.input = Vec::new();
            held.assembler.reset();
            held.begun = None;
        }
    }

    /// Both Close frames have passed: the first of them says by whom and why.
    pub(crate) fn closed_by(&mut self, frame: Option<CloseFrame>) {
        let sent = self.held.as_mut().and_then(|held| held.sent.take());
        let closed = match sent {
            Some(sent) => Closed { by: Side::Us, frame: (sent.code != CloseCode::NO_STATUS).then_some(sent) },
            None => Closed { by: Side::Peer, frame },
        };
        self.end(Ok(closed));
    }

    /// When something is to be done if nothing comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        static NOTHING: Outbox = Outbox::new();
        let Some(held) = &self.held else { return self.core.poll_timeout(&NOTHING) };
        let own = self.core.poll_timeout(&held.out);
        own.into_iter().chain(self.message_due()).chain(held.backlog.due()).min()
    }

    /// When the message that is half received is given up.
    pub(crate) fn message_due(&self) -> Option<Instant> {
        self.held.as_ref()?.begun?.checked_add(self.core.config().message_timeout?)
    }
}

/// What belongs to a loop and a callback may use.
pub(crate) struct Local {
    pub(crate) at: u16,
    pub(crate) engine: Handle,
    pub(crate) now: Instant,
    /// What the connection that is worked on has to write.
    pub(crate) out: Outbox,
    pub(crate) topics: Topics,
    pub(crate) log: Log,
    /// Connections that have log_cursor a part of the log, or are not to catch_up all of it.
    pub(crate) apart: Vec<u32>,
    pub(crate) counters: Tally,
    pub(crate) slow: Arc<SlowPolicy>,
}

/// Calls the application. Should it panic, only this connection fails.
#[inline]
pub(crate) fn guard(conn: &mut Conn<'_>, call: impl FnOnce(&mut Conn<'_>)) {
    if catch_unwind(AssertUnwindSafe(|| call(conn))).is_err() {
        let Local { out, now, .. } = &mut *conn.local;
        conn.entry.core.fail(Cause::Panicked, out, *now);
        conn.entry.end(Err(Error::Panicked));
    }
}

/// Puts what the connection has to write in the place of what the loop gathers, which is given back.
pub(crate) fn lend_outbox(entry: &mut Entry, local: &mut Local) -> Option<Outbox> {
    match &mut entry.held {
        Some(held) if !held.out.is_empty() || held.out.blocked().is_some() => {
            Some(std::mem::replace(&mut local.out, std::mem::take(&mut held.out)))
        }
        _ => None,
    }
}

/// What was published from outside of a connection.
pub(crate) fn publish_here(local: &mut Local, topic: &str, key: Option<Arc<str>>, frame: SharedFrame) {
    if let Some(topic) = local.topics.find(topic) {
        local.log.push(Logged { topic, frame, key, except: NOBODY });
    }
}
