//! Reading, and the processing of what was read.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::Lent;

use super::write::{flush, write_failed};
use super::{After, Shared, Turn};
use crate::end::Error;
use crate::engine::conn::Conn;
use crate::engine::entry::{Entry, Local, guard};
use crate::engine::handler::Handler;
#[cfg(any(feature = "tls", test))]
use crate::engine::socket::Layer;
use crate::engine::socket::{self, ReadOutcome};

/// Answers that are gathered before they are written, in the middle of a read's messages if need be, in bytes.
const GATHER: usize = 256 * 1024;

/// Bytes of messages that are processed in one turn. One read may inflate to a thousand times as much.
const TURN: usize = 1024 * 1024;

/// What each message counts besides its payload.
const MESSAGE_COST: usize = 64;

/// What each step counts in which something may have been inflated, and how much compressed input such a step takes.
const INFLATE_COST: usize = 64 * 1024;
const COMPRESSED_STEP: usize = 16 * 1024;

/// Why the processing of input has stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// What is left, if anything, is the beginning of a frame.
    NeedsMore,
    /// The write buffer has no room for answers.
    Paused,
    /// The turn is over: the rest is processed in the next one.
    TurnOver,
}

impl<H: Handler> Turn<'_, H> {
    /// Reads once, and processes what came.
    pub(super) fn receive(&mut self) -> After {
        let before = self.entry.buffers.as_ref().map_or(0, |buffers| buffers.input.len());
        match self.read() {
            ReadOutcome::Nothing => After::Stays,
            ReadOutcome::Again => {
                self.ready.readable = true;
                self.queue();
                After::Stays
            }
            ReadOutcome::End => self.read_ended(None),
            ReadOutcome::Failed(error) => self.read_ended(Some(error)),
            ReadOutcome::InBuffer { length, may_have_more } => {
                self.note_read(length - before, may_have_more);
                self.process(0, length)
            }
            ReadOutcome::Landed { count, may_have_more } => {
                self.note_read(count, may_have_more);
                self.process_landed(count)
            }
        }
    }

    /// Reads into the message's own buffer if much of it is to come, else into the loop's, behind what is left of the
    /// read before.
    fn read(&mut self) -> ReadOutcome {
        let Shared { buffer, .. } = &mut *self.shared;
        let Some(buffers) = &mut self.entry.buffers else { return socket::read(self.stream, buffer, 0) };
        let before = buffers.input.len();
        let outcome = 'read: {
            #[cfg(feature = "tls")]
            if let Some(Layer::Tls(session)) = &mut buffers.layer {
                buffer[..before].copy_from_slice(&buffers.input);
                let outcome = session.read(self.stream, buffer, before);
                buffers.was_blocked |= session.is_behind();
                break 'read outcome;
            }
            #[cfg(test)]
            if let Some(Layer::Scripted(scripted)) = &buffers.layer {
                buffer[..before].copy_from_slice(&buffers.input);
                break 'read scripted.read(buffer, before);
            }
            if before == 0
                && let Some(landing) = buffers.assembler.landing_buffer(&self.entry.core)
            {
                break 'read socket::read_landing(self.stream, landing);
            }
            buffer[..before].copy_from_slice(&buffers.input);
            socket::read(self.stream, buffer, before)
        };
        if let ReadOutcome::InBuffer { .. } = outcome {
            // Its bytes are in the loop's buffer now.
            buffers.input = Vec::new();
        }
        outcome
    }

    fn note_read(&mut self, count: usize, may_have_more: bool) {
        let local = &mut self.shared.local;
        local.counters.bytes_received += count as u64;
        self.entry.core.heard(count, local.now);
        if may_have_more || self.ready.read_closed {
            // No event will report it.
            self.ready.readable = true;
            self.queue();
        }
    }

    /// The peer has ended its direction of TCP, or reading has failed.
    #[cold]
    fn read_ended(&mut self, error: Option<io::Error>) -> After {
        let aside = self.entry.lend_outbox(&mut self.shared.local);
        // A carried stream ends the pair of sockets, and says itself how it has failed.
        let error = self.entry.carrier_failure().or_else(|| error.map(Into::into));
        match error {
            Some(error) => {
                let Local { out, now, .. } = &mut self.shared.local;
                if self.entry.core.read_failed(error.kind(), out, *now) {
                    self.entry.buffers_mut().transport = Some(Error::Io(error));
                }
            }
            None => {
                // A peer that has only ended its own direction still reads: it gets what waits.
                self.conn().write_backlog(usize::MAX);
                let Local { out, now, .. } = &mut self.shared.local;
                self.entry.core.read_eof(out, *now);
            }
        }
        self.settle(aside)
    }

    /// Processes what was read before and had to wait.
    pub(super) fn process_input(&mut self) -> After {
        let input = self.entry.buffers.as_mut().map(|buffers| std::mem::take(&mut buffers.input));
        let input = input.unwrap_or_default();
        self.shared.buffer[..input.len()].copy_from_slice(&input);
        let after = self.process(0, input.len());
        if self.ready.readable {
            self.queue();
        }
        after
    }

    /// Processes the input in the loop's buffer from `start` to `length`, and calls the application.
    pub(in crate::engine::event_loop) fn process(&mut self, start: usize, length: usize) -> After {
        let aside = self.entry.lend_outbox(&mut self.shared.local);
        let Self { key, entry, state, stream, shared, .. } = self;
        let Shared { buffer, local, assembler: idle, options, .. } = &mut **shared;
        // The assembler of a message that is half received is the connection's own.
        let mut assembler = std::mem::take(match &mut entry.buffers {
            Some(buffers) if !buffers.assembler.is_idle() => &mut buffers.assembler,
            _ => &mut *idle,
        });
        let gathered = GATHER.min(entry.core.config().write_buffer.get());
        let compressed = entry.core.deflate().is_some();
        let (mut at, mut work) = (start, 0);
        let (mut stopped, mut delivered) = (Stopped::NeedsMore, false);
        while at < length && work < TURN {
            // Most connections have no buffers, and few bytes wait.
            if (entry.buffers.is_some() || local.out.remaining() >= gathered)
                && !make_room(entry, stream, local, gathered)
            {
                stopped = Stopped::Paused;
                break;
            }
            let end = if compressed { length.min(at + COMPRESSED_STEP) } else { length };
            match assembler.lend(&mut entry.core, &mut buffer[at..end], &mut local.out) {
                Ok((0, None)) => break,
                Ok((consumed, None)) => {
                    at += consumed;
                    work += if compressed { INFLATE_COST } else { 0 };
                }
                Ok((consumed, Some(lent))) => {
                    at += consumed;
                    if let Lent::Message(message) = &lent {
                        work += MESSAGE_COST + message.len();
                        delivered = true;
                    }
                    let conn = &mut Conn { key: *key, entry, stream, local };
                    call(&options.handler, conn, state, lent);
                }
                // The core knows the error, and has queued the Close frame that names it.
                Err(_) => break,
            }
        }
        let rest = &buffer[at..length];
        if work >= TURN && !rest.is_empty() && stopped == Stopped::NeedsMore {
            stopped = Stopped::TurnOver;
        }
        keep(entry, rest, delivered, stopped, local.now);
        if entry.core.is_done() {
            // What is half received must not become part of another connection's message.
            assembler.reset();
        }
        if assembler.is_idle() {
            *idle = assembler;
        } else {
            entry.buffers_mut().assembler = assembler;
        }
        if stopped == Stopped::TurnOver {
            self.ready.unprocessed = true;
            self.queue();
        }
        self.settle(aside)
    }

    /// Like [`process`](Self::process), for `count` bytes that were read into the message's own buffer.
    fn process_landed(&mut self, count: usize) -> After {
        let aside = self.entry.lend_outbox(&mut self.shared.local);
        let Self { key, entry, state, stream, shared, .. } = self;
        let Shared { local, options, .. } = &mut **shared;
        let mut assembler = std::mem::take(&mut entry.buffers_mut().assembler);
        let mut rest = Vec::new();
        let mut delivered = false;
        // The core knows the error, if it is one.
        if let Ok(Some(lent)) = assembler.lend_landed(count, &mut entry.core, &mut rest, &mut local.out) {
            delivered = true;
            call(&options.handler, &mut Conn { key: *key, entry, stream, local }, state, lent);
        }
        let stopped = if rest.is_empty() { Stopped::NeedsMore } else { Stopped::TurnOver };
        keep(entry, &rest, delivered, stopped, local.now);
        if !entry.core.is_done() {
            entry.buffers_mut().assembler = assembler;
            if stopped == Stopped::TurnOver {
                self.ready.unprocessed = true;
                self.queue();
            }
        }
        self.settle(aside)
    }
}

/// Gives the application what was received.
#[inline]
fn call<H: Handler>(handler: &H, conn: &mut Conn<'_>, state: &mut H::State, lent: Lent<'_>) {
    match lent {
        Lent::Message(message) => {
            conn.local.counters.received.add(message.kind(), message.len(), true);
            // Behind our Close frame messages are discarded.
            if conn.entry.core.is_open() {
                guard(conn, |conn| handler.message(conn, state, message));
            }
        }
        Lent::Ping(payload) => {
            conn.local.counters.received.pings += 1;
            guard(conn, |conn| handler.ping(conn, state, payload));
        }
        Lent::Pong(payload) => {
            conn.local.counters.received.pongs += 1;
            guard(conn, |conn| handler.pong(conn, state, payload));
        }
        // The core has noted a Close frame.
        _ => {}
    }
}

/// Writes the answers that are gathered, if they are many. Whether there is room for one more.
#[inline(never)]
fn make_room(entry: &mut Entry, stream: &TcpStream, local: &mut Local, gathered: usize) -> bool {
    if local.out.remaining() >= gathered
        && let Err(error) = flush(stream, entry, local)
    {
        write_failed(entry, local, error);
    }
    let behind = entry.buffers.as_ref().map_or(0, |buffers| buffers.backlog.bytes());
    local.out.remaining() + behind < entry.core.config().write_buffer.get()
}

/// Keeps the input that was not processed, and tells the core.
#[inline]
fn keep(entry: &mut Entry, rest: &[u8], delivered: bool, stopped: Stopped, now: Instant) {
    let is_within_message = entry.core.is_within_message();
    if entry.buffers.is_none() && rest.is_empty() && !is_within_message {
        return entry.core.note_input(delivered, false, now);
    }
    keep_rest(entry, rest, delivered, stopped, now);
}

#[inline(never)]
fn keep_rest(entry: &mut Entry, rest: &[u8], delivered: bool, stopped: Stopped, now: Instant) {
    if entry.core.is_done() {
        return;
    }
    let is_within_message = entry.core.is_within_message();
    let buffers = entry.buffers_mut();
    buffers.input = rest.to_vec();
    let delivered = std::mem::take(&mut buffers.delivered) | delivered;
    match stopped {
        // The peer has time to send the rest of what it began.
        Stopped::NeedsMore => entry.core.note_input(delivered, is_within_message || !rest.is_empty(), now),
        Stopped::Paused => {
            entry.core.note_input(delivered, is_within_message, now);
            entry.pause(now);
        }
        // It is this end that is late, and the core is told when all is processed.
        Stopped::TurnOver => buffers.delivered = delivered,
    }
}
