//! Two ends on a simulated wire, with a clock that jumps from one happening to the next. No test sleeps.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use longwire_proto::{Assembler, Cause, Config, Connection, Outbox, ProtocolError, Role, TcpStep};

use crate::receiver::{Seen, connection};

/// One direction of TCP.
#[derive(Debug)]
pub(crate) struct Wire {
    /// How long a byte is under way.
    pub(crate) delay: Duration,
    /// What is written is cut into pieces of these sizes, in turn.
    pub(crate) pieces: Vec<usize>,
    /// Bytes that may be under way; further ones stay with the sender.
    pub(crate) room: usize,
    /// The receiver reads nothing.
    pub(crate) stalled: bool,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    next_piece: usize,
    end: Option<Instant>,
}

/// One end, driven as a driver does it.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) out: Outbox,
    pub(crate) seen: Vec<Seen>,
    /// When each of `seen` was.
    pub(crate) seen_at: Vec<Instant>,
    pub(crate) error: Option<ProtocolError>,
    pub(crate) timed_out: Option<(Cause, Instant)>,
    /// When the peer's end of TCP came.
    pub(crate) eof: Option<Instant>,
    /// When this end ended its direction of TCP.
    pub(crate) ended: Option<Instant>,
    /// Everything that was written, ever.
    pub(crate) written: Vec<u8>,
    assembler: Assembler,
    input: BytesMut,
}

pub(crate) struct Pair {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) to_client: Wire,
    pub(crate) to_server: Wire,
}

impl Wire {
    fn new() -> Self {
        Self {
            delay: Duration::from_millis(1),
            pieces: vec![1460],
            room: 64 * 1024,
            stalled: false,
            under_way: VecDeque::new(),
            next_piece: 0,
            end: None,
        }
    }

    fn next_arrival(&self) -> Option<Instant> {
        if self.stalled { None } else { self.under_way.front().map(|piece| piece.0).or(self.end) }
    }

    fn free(&self) -> usize {
        self.room.saturating_sub(self.under_way.iter().map(|piece| piece.1.len()).sum())
    }
}

impl End {
    fn new(role: Role, config: &Config, now: Instant) -> Self {
        Self {
            connection: connection(role, config, now),
            out: Outbox::new(),
            seen: Vec::new(),
            seen_at: Vec::new(),
            error: None,
            timed_out: None,
            eof: None,
            ended: None,
            written: Vec::new(),
            assembler: Assembler::default(),
            input: BytesMut::new(),
        }
    }

    /// Writes as much as the wire takes; after the last byte, ends TCP if it is to be ended.
    fn write(&mut self, wire: &mut Wire, now: Instant) -> bool {
        let mut wrote = false;
        while self.ended.is_none() && self.out.has_remaining() {
            let size = wire.pieces[wire.next_piece % wire.pieces.len()];
            let size = size.min(wire.free()).min(self.out.chunk().len());
            if size == 0 {
                self.out.block(now);
                break;
            }
            wire.next_piece += 1;
            let piece = self.out.chunk()[..size].to_vec();
            self.out.advance(size);
            self.connection.wrote(size);
            self.written.extend_from_slice(&piece);
            wire.under_way.push_back((now + wire.delay, piece));
            wrote = true;
        }
        let step = self.connection.tcp_step(self.out.is_empty(), now);
        if self.ended.is_none() && matches!(step, TcpStep::ShutdownWrite | TcpStep::Done) {
            self.connection.write_ended();
            self.ended = Some(now);
            wire.end = Some(now + wire.delay);
            wrote = true;
        }
        wrote
    }

    fn read(&mut self, wire: &mut Wire, now: Instant) -> bool {
        if wire.next_arrival().is_none_or(|arrival| arrival > now) {
            return false;
        }
        let Some((_, piece)) = wire.under_way.pop_front() else {
            wire.end = None;
            self.connection.read_eof(&self.out, now);
            self.eof = Some(now);
            return true;
        };
        if self.error.is_some() {
            return true;
        }
        self.connection.heard(piece.len(), now);
        self.input.extend_from_slice(&piece);
        loop {
            match self.assembler.receive(&mut self.connection, &mut self.input, &mut self.out) {
                Ok(None) => return true,
                Ok(Some(incoming)) => {
                    self.seen.push(Seen::incoming(incoming));
                    self.seen_at.push(now);
                }
                Err(error) => {
                    self.error = Some(error);
                    return true;
                }
            }
        }
    }

    fn time(&mut self, now: Instant) -> bool {
        if self.timed_out.is_some() || self.deadline().is_none_or(|due| due > now) {
            return false;
        }
        if let Err(reason) = self.connection.handle_timeout(&mut self.out, now) {
            self.timed_out = Some((reason, now));
        }
        true
    }

    fn deadline(&self) -> Option<Instant> {
        let over = self.timed_out.is_some() || (self.ended.is_some() && self.eof.is_some());
        if over { None } else { self.connection.poll_timeout(&self.out) }
    }

    /// Both directions of TCP are over, or this end has dropped it.
    pub(crate) fn is_over(&self) -> bool {
        self.timed_out.is_some() || (self.ended.is_some() && self.eof.is_some())
    }
}

impl Pair {
    pub(crate) fn new(client: &Config, server: &Config) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            now,
            client: End::new(Role::Client, client, now),
            server: End::new(Role::Server, server, now),
            to_client: Wire::new(),
            to_server: Wire::new(),
        }
    }

    /// Time since the beginning.
    pub(crate) fn at(&self, instant: Instant) -> Duration {
        instant - self.start
    }

    /// Lets all happen that happens until `time` after the beginning.
    pub(crate) fn run_until(&mut self, time: Duration) {
        let until = self.start + time;
        loop {
            self.settle();
            let happenings = [
                self.to_client.next_arrival(),
                self.to_server.next_arrival(),
                self.client.deadline(),
                self.server.deadline(),
            ];
            match happenings.into_iter().flatten().min() {
                Some(next) if next <= until => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    /// Lets all happen that happens within `time` from now.
    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now - self.start + time);
    }

    /// The clock jumps while both processes are suspended: nothing is read, written or timed.
    pub(crate) fn suspend(&mut self, time: Duration) {
        self.now += time;
    }

    /// All that happens at this instant. What has come is read before deadlines are asked about.
    fn settle(&mut self) {
        let now = self.now;
        loop {
            let mut moved = self.client.write(&mut self.to_server, now);
            moved |= self.server.write(&mut self.to_client, now);
            moved |= self.client.read(&mut self.to_client, now);
            moved |= self.server.read(&mut self.to_server, now);
            if !moved {
                moved = self.client.time(now) | self.server.time(now);
            }
            if !moved {
                return;
            }
        }
    }
}
