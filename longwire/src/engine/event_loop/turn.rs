//! A connection's turn: reads once, works off what came, writes what that caused, and ends it when it is over.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::{Cause, Lent, Outbox, ProtocolError};

use super::Loop;
use super::place::{Place, Stage};
use crate::end::outcome::outcome;
use crate::end::{Error, cause_of};
use crate::engine::conn::Conn;
use crate::engine::entry::{Entry, Local, guard, lend_outbox};
use crate::engine::handler::Handler;
use crate::engine::mailbox::id::Id;
use crate::engine::socket::plain::{ReadOutcome, flush, flush_last, read};
use crate::engine::topics::backlog::Backlog;
use crate::observe::trace;

/// Bytes that are gathered before they are written, in the middle of a read's messages if need be.
const GATHER: usize = 256 * 1024;

/// Bytes of messages that a turn brings. One read may inflate to a thousand times as much.
const TURN: usize = 1024 * 1024;

/// What each message counts besides its payload.
const MESSAGE: usize = 64;

/// What a step counts in which something was inflated, and so may be read in one.
const INFLATES: usize = 64 * 1024;
const COMPRESSED_STEP: usize = 16 * 1024;

impl<H: Handler> Loop<H> {
    /// One turn of an open connection.
    pub(crate) fn turn(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Open(entry, _) = &mut place.stage else { return };
        if entry.is_ending() {
            return self.finish(index);
        }
        let was_blocked = entry.held.as_ref().is_some_and(|held| held.was_blocked);
        if std::mem::take(&mut place.writable) && was_blocked {
            let aside = lend_outbox(entry, &mut self.local);
            self.settle(index, aside);
        }
        let Some(place) = self.slab.at(index) else { return };
        let Stage::Open(entry, _) = &mut place.stage else { return };
        if entry.is_ending() {
            return;
        }
        if entry.held.as_ref().is_some_and(|held| held.paused) {
            // What is readable stays so.
            return;
        }
        if std::mem::take(&mut place.again) {
            return self.go_on(index);
        }
        if place.readable {
            if entry.is_behind() {
                entry.held().paused = true;
                return;
            }
            place.readable = false;
            self.receive(index);
        }
    }

    fn receive(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let before = match &place.stage {
            Stage::Open(Entry { held: Some(held), .. }, _) => held.input.len(),
            _ => 0,
        };
        match read(place, &mut self.buffer) {
            // It was interrupted, or there is none.
            ReadOutcome::Nothing if place.readable => self.queue(index),
            ReadOutcome::Nothing => {}
            ReadOutcome::End(error) => {
                if let Some(key) = self.slab.key(index)
                    && let Some(Place { stage: Stage::Open(entry, _), stream, .. }) = self.slab.at(index)
                {
                    let aside = lend_outbox(entry, &mut self.local);
                    if matches!(error, Error::Eof) {
                        Conn { key, entry, stream, local: &mut self.local }.write_backlog(usize::MAX);
                    }
                    let Local { out, now, .. } = &mut self.local;
                    // Not clean, or reading would have ended before.
                    entry.core.read_eof(out, *now);
                    let broken = entry.held.as_mut().and_then(|held| held.broken.take());
                    let broken = broken.filter(says_more).or_else(|| entry.carrier_failed());
                    entry.end(Err(broken.unwrap_or(error)));
                    self.settle(index, aside);
                }
            }
            ReadOutcome::InBuffer { length, full } => {
                self.local.counters.bytes_received += (length - before) as u64;
                self.heard(index, length - before);
                self.read_on(index, full);
                self.work_off(index, 0, length);
            }
            ReadOutcome::Landed { count, full } => {
                self.local.counters.bytes_received += count as u64;
                self.heard(index, count);
                self.read_on(index, full);
                self.work_off_landed(index, count);
            }
        }
    }

    fn heard(&mut self, index: u32, count: usize) {
        let now = self.local.now;
        if let Some(Place { stage: Stage::Open(entry, _), .. }) = self.slab.at(index) {
            entry.core.heard(count, now);
        }
    }

    /// There may be more to read that nothing will tell of.
    pub(crate) fn read_on(&mut self, index: u32, full: bool) {
        if let Some(place) = self.slab.at(index)
            && (full || place.read_closed)
        {
            place.readable = true;
            self.queue(index);
        }
    }

    /// Works off what was read before and had to wait.
    fn go_on(&mut self, index: u32) {
        let Some(Place { stage: Stage::Open(entry, _), readable, .. }) = self.slab.at(index) else { return };
        let input = entry.held.as_mut().map(|held| std::mem::take(&mut held.input)).unwrap_or_default();
        let readable = *readable;
        self.buffer[..input.len()].copy_from_slice(&input);
        self.work_off(index, 0, input.len());
        if readable {
            self.queue(index);
        }
    }

    /// Works off what is in the buffer, and calls the application.
    pub(crate) fn work_off(&mut self, index: u32, start: usize, length: usize) {
        let Some(key) = self.slab.key(index) else { return };
        let Self { slab, buffer, local, assembler: spare, options, .. } = self;
        let Some(Place { stage: Stage::Open(entry, state), stream, again, .. }) = slab.at(index) else {
            return;
        };
        let aside = lend_outbox(entry, local);
        let mut assembler = std::mem::take(match &mut entry.held {
            Some(held) if !held.assembler.is_idle() => &mut held.assembler,
            _ => spare,
        });
        let gathered = GATHER.min(entry.core.config().write_buffer.get());
        let compressed = entry.core.deflate().is_some();
        let (mut at, mut work) = (start, 0);
        let (mut paused, mut whole) = (false, false);
        while at < length && work < TURN {
            // Most hold nothing, and little waits.
            if entry.held.is_some() || local.out.remaining() >= gathered {
                if entry.is_ending() {
                    break;
                }
                paused = !make_room(entry, stream, local, gathered);
                if paused {
                    break;
                }
            }
            let end = if compressed { length.min(at + COMPRESSED_STEP) } else { length };
            let step = assembler.lend(&mut entry.core, &mut buffer[at..end], &mut local.out);
            match step {
                Ok((0, None)) => break,
                Ok((consumed, None)) => {
                    at += consumed;
                    work += if compressed { INFLATES } else { 0 };
                }
                Ok((consumed, Some(lent))) => {
                    at += consumed;
                    if let Lent::Message(message) = &lent {
                        work += MESSAGE + message.len();
                        whole = true;
                    }
                    call(&options.handler, &mut Conn { key, entry, stream, local }, state, lent);
                }
                Err(error) => fail(entry, error),
            }
        }
        let rest = &buffer[at..length];
        keep(entry, rest, whole, paused, local.now);
        if entry.is_ending() {
            // What is half received is nobody else's.
            assembler.reset();
        }
        if assembler.is_idle() {
            *spare = assembler;
        } else {
            entry.held().assembler = assembler;
        }
        if work >= TURN && !rest.is_empty() && !paused {
            *again = true;
            self.queue(index);
        }
        self.settle(index, aside);
    }

    /// As [`work_off`](Self::work_off), for what was read into the message's own buffer.
    fn work_off_landed(&mut self, index: u32, count: usize) {
        let Some(key) = self.slab.key(index) else { return };
        let Self { slab, local, options, .. } = self;
        let Some(Place { stage: Stage::Open(entry, state), stream, again, .. }) = slab.at(index) else {
            return;
        };
        let aside = lend_outbox(entry, local);
        let mut assembler = std::mem::take(&mut entry.held().assembler);
        let mut rest = Vec::new();
        let landed = assembler.lend_landed(count, &mut entry.core, &mut rest, &mut local.out);
        let mut whole = false;
        match landed {
            Ok(None) => {}
            Ok(Some(lent)) => {
                whole = true;
                call(&options.handler, &mut Conn { key, entry, stream, local }, state, lent);
            }
            Err(error) => fail(entry, error),
        }
        keep(entry, &rest, whole, false, local.now);
        if !entry.is_ending() {
            entry.held().assembler = assembler;
            if !rest.is_empty() {
                *again = true;
                self.queue(index);
            }
        }
        self.settle(index, aside);
    }

    /// Writes what the connection has to write, and keeps of it what it must.
    pub(crate) fn settle(&mut self, index: u32, aside: Option<Outbox>) {
        let Some(key) = self.slab.key(index) else { return };
        let Some(Place { stage: Stage::Open(entry, state), stream, readable, writable, again, .. }) =
            self.slab.at(index)
        else {
            return;
        };
        let local = &mut self.local;
        let (mut wanted, mut called) = (false, false);
        loop {
            match flush(stream, &mut entry.held, &mut local.out, &mut local.counters.bytes_sent, local.now) {
                Ok(true) => {}
                Ok(false) => {
                    entry.held().was_blocked = true;
                    break;
                }
                Err(error) => {
                    // The peer may have said why before it stopped reading: read on.
                    local.out.detach();
                    let held = entry.held();
                    held.backlog = Backlog::default();
                    held.broken.get_or_insert(error.into());
                    *readable = true;
                    wanted = true;
                    break;
                }
            }
            let Some(held) = &mut entry.held else { break };
            if held.ending.is_none() && !held.backlog.is_empty() {
                Conn { key, entry, stream, local }.write_backlog(GATHER);
            } else if held.was_blocked && (self.delivering || called) {
                // Its turn is when nothing is being delivered, and others have had theirs.
                *writable = true;
                wanted = true;
                break;
            } else if std::mem::take(&mut held.was_blocked) && held.ending.is_none() {
                called = true;
                let handler = &self.options.handler;
                guard(&mut Conn { key, entry, stream, local }, |conn| handler.drained(conn, state));
            }
            if local.out.is_empty() && entry.held.as_ref().is_none_or(|held| held.backlog.is_empty()) {
                break;
            }
        }
        let own = match aside {
            Some(gather) => Some(std::mem::replace(&mut local.out, gather)),
            // What is written says nothing of the next connection.
            None if !local.out.is_empty() => Some(local.out.detach()),
            // TLS has taken all of it, and the socket not.
            None if local.out.blocked().is_some() => Some(local.out.detach()),
            None => None,
        };
        if let Some(own) = own
            && (!own.is_empty() || own.blocked().is_some())
        {
            entry.held().out = own;
        }
        if let Some(held) = &mut entry.held {
            if held.ending.is_some() {
                local.topics.unsubscribe_all(&mut entry.subscriptions);
                *again = false;
                return self.finish(index);
            }
            let waits = held.out.remaining() + held.backlog.bytes();
            if held.paused && waits < entry.core.config().write_buffer.get() {
                held.paused = false;
                *again = true;
                wanted = true;
            }
            if !held.is_needed() {
                entry.held = None;
            }
        }
        let is_idle = entry.held.is_none() && entry.core.is_open();
        if wanted {
            self.queue(index);
        }
        if !is_idle {
            self.arm(index);
        }
    }

    /// A deadline may have passed.
    pub(crate) fn due(&mut self, index: u32) {
        let now = self.local.now;
        let Some(key) = self.slab.key(index) else { return };
        let Some(Place { stage: Stage::Open(entry, _), stream, .. }) = self.slab.at(index) else { return };
        if entry.due().is_none_or(|due| now < due) {
            return;
        }
        if let Some(held) = &mut entry.held
            && let Some(ending) = &mut held.ending
        {
            if ending.result.is_ok() {
                // What waited was not taken in time: that is no clean end.
                ending.result = Err(Error::CloseTimeout);
            }
            return self.drop_connection(index);
        }
        let aside = lend_outbox(entry, &mut self.local);
        if entry.message_due().is_some_and(|due| now >= due) {
            entry.core.fail(Cause::MessageTimeout, &mut self.local.out, now);
            entry.end(Err(Error::MessageTimeout));
        } else if entry.core.handle_timeout(&mut self.local.out, now).is_err() {
            if let Some(result) = outcome(&entry.core, None) {
                entry.end(result);
            }
        } else if let Some(held) = &mut entry.held {
            let evicted = held.backlog.expire(now);
            Conn { key, entry, stream, local: &mut self.local }.relieved(evicted);
        }
        self.settle(index, aside);
    }

    /// Ends TCP: writes the Close frame, shuts our direction, and reads and drops what a peer that was failed
    /// still sends. A socket closed with unread input would be reset, and the reset may overtake the Close
    /// frame that tells the peer why (RFC 6455 7.1.1).
    fn finish(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let Place { stage: Stage::Open(Entry { held: Some(held), .. }, _), stream, readable, .. } = place
        else {
            return;
        };
        let shut = match &held.ending {
            None => return,
            Some(ending) if ending.shut => true,
            Some(_) => {
                let sent = &mut self.local.counters.bytes_sent;
                match flush_last(stream, held, sent, self.local.now) {
                    Ok(false) => false,
                    Ok(true) => {
                        // RFC 6455 7.1.1: the server ends TCP first. An error says that it has ended.
                        let _ = stream.shutdown(Shutdown::Write);
                        true
                    }
                    Err(_) => {
                        held.out = Outbox::new();
                        true
                    }
                }
            }
        };
        let Some(ending) = &mut held.ending else { return };
        ending.shut = shut;
        // Who has ended its own direction may still read: it gets what waits.
        let over = ending.shut && matches!(ending.result, Ok(_) | Err(Error::Eof));
        if ending.hopeless || over {
            return self.drop_connection(index);
        }
        if std::mem::take(readable) {
            let mut stream = &*stream;
            match stream.read(&mut self.buffer) {
                Ok(0) if !ending.shut => {}
                Ok(0) => return self.drop_connection(index),
                Ok(_) => {
                    *readable = true;
                    self.queue(index);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.drop_connection(index),
            }
        }
        self.arm(index);
    }

    /// It is gone from here on, and the application told why.
    pub(crate) fn drop_connection(&mut self, index: u32) {
        let Some(key) = self.slab.key(index) else { return };
        let Some(place) = self.slab.remove(index) else { return };
        self.uncount();
        let Stage::Open(mut entry, state) = place.stage else { return };
        if self.options.max_connections.is_some() {
            self.options.connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.local.topics.unsubscribe_all(&mut entry.subscriptions);
        let ending = entry.held.take().and_then(|held| held.ending);
        // Who has none by now was not asked: the engine was stopped.
        let stopped = || Err(Error::from(io::Error::from(io::ErrorKind::ConnectionAborted)));
        let result = ending.map_or_else(stopped, |ending| ending.result);
        self.told.ended(cause_of(Some(&result)));
        let id = Id { at: self.local.at, key };
        trace::engine_ended(id, || place.stream.peer_addr().ok(), &result);
        // Before the application is told: it may look whether the descriptor is there.
        drop(place.stream);
        let (handler, engine) = (&self.options.handler, &self.local.engine);
        // The connection is gone in any case; the panic hook has said what there is to say.
        let _ = catch_unwind(AssertUnwindSafe(|| handler.closed(engine, id, state, result)));
    }
}

/// Gives the application what was received.
#[inline]
fn call<H: Handler>(handler: &H, conn: &mut Conn<'_>, state: &mut H::State, lent: Lent<'_>) {
    match lent {
        Lent::Message(message) => {
            conn.local.counters.received.add(message.kind(), message.len(), true);
            // What comes behind a Close frame of ours is dropped.
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
        Lent::Close(frame) => conn.entry.closed_by(frame),
        _ => {}
    }
}

/// Whether the error of writing says more than that of reading: a broken pipe only says that reading has met
/// the end before.
fn says_more(error: &Error) -> bool {
    !matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

#[cold]
fn fail(entry: &mut Entry, error: ProtocolError) {
    entry.end(Err(error.into()));
}

/// Writes what is gathered if it is much; whether there is room for an answer then.
#[inline(never)]
fn make_room(entry: &mut Entry, stream: &TcpStream, local: &mut Local, gathered: usize) -> bool {
    if local.out.remaining() >= gathered
        && let Err(error) =
            flush(stream, &mut entry.held, &mut local.out, &mut local.counters.bytes_sent, local.now)
    {
        // Writing meets another one, but the first says why.
        entry.held().broken.get_or_insert(error.into());
        local.out.detach();
    }
    let behind = entry.held.as_ref().map_or(0, |held| held.backlog.bytes());
    local.out.remaining() + behind < entry.core.config().write_buffer.get()
}

/// Keeps what was not worked off, and since when something is half received.
fn keep(entry: &mut Entry, rest: &[u8], whole: bool, paused: bool, now: Instant) {
    if entry.is_ending() {
        return;
    }
    let half = entry.core.is_within_message() || (!rest.is_empty() && !paused);
    if entry.held.is_none() && !half && rest.is_empty() {
        return;
    }
    let held = entry.held();
    held.input = rest.to_vec();
    held.paused = paused;
    held.begun = if !half {
        None
    } else if whole {
        Some(now)
    } else {
        held.begun.or(Some(now))
    };
}
