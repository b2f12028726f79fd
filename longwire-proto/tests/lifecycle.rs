//! The lifecycle of a connection over simulated time: the table that all drivers run, and what a table of
//! short times cannot show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/lifecycle_rows.rs"]
mod lifecycle_rows;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use lifecycle_rows::{Act, Row, message, ms, opcodes, rows};
use longwire_proto::{Assembler, Cause, CloseFrame, Config, Connection, Outbox, Role, TcpStep};
use proptest::prelude::*;

const BOTH: [Role; 2] = [Role::Server, Role::Client];

/// A driver in memory: it only polls, owns buffers and passes on.
struct Driver {
    connection: Connection,
    out: Outbox,
    assembler: Assembler,
    input: BytesMut,
    /// What the stream brings.
    incoming: VecDeque<Result<Vec<u8>, ErrorKind>>,
    room: usize,
    write_error: Option<ErrorKind>,
    written: Vec<u8>,
    messages: usize,
    start: Instant,
    now: Instant,
    /// When the socket was dropped.
    done: Option<Instant>,
}

impl Driver {
    fn new(role: Role, config: Config) -> Self {
        let now = Instant::now();
        let config = Arc::new(config);
        let connection = match role {
            Role::Server => Connection::server(config, now),
            Role::Client => Connection::client(config, [7; 32], now),
        };
        Self {
            connection,
            out: Outbox::new(),
            assembler: Assembler::default(),
            input: BytesMut::new(),
            incoming: VecDeque::new(),
            room: usize::MAX,
            write_error: None,
            written: Vec::new(),
            messages: 0,
            start: now,
            now,
            done: None,
        }
    }

    fn act(&mut self, act: &Act) {
        let role = self.connection.role();
        match act {
            Act::Sends(..) => self.incoming.extend(act.bytes(role).map(Ok)),
            Act::Ends => self.incoming.push_back(Ok(Vec::new())),
            Act::ReadFails(kind) => self.incoming.push_back(Err(*kind)),
            Act::WritesFail(kind) => self.write_error = Some(*kind),
            Act::Takes(count) => self.room = count.unwrap_or(usize::MAX),
            Act::Queues(count) => self.connection.send(vec![7; *count].into(), &mut self.out).unwrap(),
            Act::Closes => {
                self.connection.close(&CloseFrame::new(1000, ""), &mut self.out, self.now).unwrap();
            }
        }
    }

    fn write(&mut self) {
        while self.out.has_remaining() {
            if let Some(kind) = self.write_error {
                self.connection.write_failed(kind);
                self.out = Outbox::new();
                return;
            }
            let count = self.out.chunk().len().min(self.room);
            if count == 0 {
                return self.out.block(self.now);
            }
            self.written.extend_from_slice(&self.out.chunk()[..count]);
            self.out.advance(count);
            self.room -= count;
            self.connection.wrote(count);
        }
    }

    /// Whether something came.
    fn read(&mut self) -> bool {
        match self.incoming.pop_front() {
            None => return false,
            Some(Err(kind)) => {
                self.connection.read_failed(kind, &self.out, self.now);
            }
            Some(Ok(bytes)) if bytes.is_empty() => self.connection.read_eof(&self.out, self.now),
            Some(Ok(bytes)) => {
                self.connection.heard(bytes.len(), self.now);
                self.input.extend_from_slice(&bytes);
                let before = self.messages;
                while let Ok(Some(incoming)) =
                    self.assembler.receive(&mut self.connection, &mut self.input, &mut self.out)
                {
                    self.messages += usize::from(matches!(incoming, longwire_proto::Incoming::Data(_)));
                }
                let unfinished = !self.input.is_empty() || self.connection.is_within_message();
                self.connection.note_input(self.messages > before, unfinished, self.now);
            }
        }
        true
    }

    /// All that happens at this moment.
    fn settle(&mut self) {
        for step in 0.. {
            assert!(step < 1000, "it spins: {:?}", self.connection);
            if self.done.is_some() {
                return;
            }
            self.write();
            if self.connection.is_done() {
                match self.connection.tcp_step(self.out.is_empty(), self.now) {
                    TcpStep::Done => {
                        self.done = Some(self.now);
                        return;
                    }
                    TcpStep::ShutdownWrite => {
                        self.connection.write_ended();
                        continue;
                    }
                    TcpStep::Write | TcpStep::Drain => {}
                }
                if self.connection.drains() && self.read() {
                    continue;
                }
            } else if self.read() {
                continue;
            }
            if self.connection.poll_timeout(&self.out).is_none_or(|due| self.now < due) {
                return;
            }
            let _ = self.connection.handle_timeout(&mut self.out, self.now);
        }
    }

    /// Time passes, and deadlines with it.
    fn run_until(&mut self, until: Instant) {
        self.settle();
        while let Some(due) = self.connection.poll_timeout(&self.out).filter(|due| *due <= until)
            && self.done.is_none()
        {
            self.now = due;
            self.settle();
        }
        self.now = until;
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }
}

fn run(row: &Row, role: Role) {
    let mut driver = Driver::new(role, row.config(role));
    let mut script = row.script.iter().peekable();
    while let Some((at, act)) = script.next() {
        driver.run_until(driver.start + ms(*at) - Duration::from_nanos(1));
        driver.now = driver.start + ms(*at);
        if driver.done.is_none() {
            driver.act(act);
        }
        if script.peek().is_none_or(|(next, _)| next > at) {
            driver.settle();
        }
    }
    driver.run_for(ms(10_000));
    let (name, end) = (row.name, &row.end);
    let cause = driver.connection.cause().unwrap_or_else(|| panic!("{name}, {role:?}: it does not end"));
    assert_eq!((cause.name(), cause.close_code().get()), (end.cause, end.code), "{name}, {role:?}");
    let at = (driver.done.unwrap() - driver.start).as_millis();
    assert!((u128::from(end.at.0)..=u128::from(end.at.1)).contains(&at), "{name}, {role:?}: at {at} ms");
    assert_eq!(opcodes(&driver.written), end.sent, "{name}, {role:?}");
}

#[test]
fn every_row_in_every_role() {
    for row in rows() {
        for &role in row.roles {
            run(&row, role);
        }
    }
}

/// A peer that is dead is noticed in the end, however much was written before.
#[test]
fn what_is_under_way_puts_the_pong_off_by_two_minutes_at_most() {
    for role in BOTH {
        let mut driver = Driver::new(role, Config::server());
        driver.connection.send(vec![7; 10_000_000].into(), &mut driver.out).unwrap();
        driver.run_for(ms(149_000));
        assert!(driver.connection.is_open(), "20 s of silence, 10 s for the Pong, 120 s for the bytes");
        driver.run_for(ms(1_100));
        assert_eq!(driver.connection.cause(), Some(Cause::PingTimeout));
    }
}

/// What is written behind a Ping is no reason to wait longer for its Pong: a feed to a dead peer.
#[test]
fn what_is_written_behind_the_ping_does_not_put_the_pong_off() {
    for role in BOTH {
        let mut driver = Driver::new(role, Config::server());
        for _ in 0..400 {
            if driver.connection.is_open() {
                driver.connection.send(vec![7; 1000].into(), &mut driver.out).unwrap();
            }
            driver.run_for(ms(100));
        }
        let (cause, done) = (driver.connection.cause(), driver.done);
        assert_eq!(cause, None, "200,000 bytes before the Ping have 49 s at the lowest rate");
        assert_eq!(done, None);
        driver.run_for(ms(40_000));
        assert_eq!(driver.connection.cause(), Some(Cause::PingTimeout));
    }
}

/// While the driver does not read, the peer's silence is the driver's own.
#[test]
fn no_deadline_of_the_peers_runs_while_reading_is_paused() {
    let config = Config::server().write_timeout(ms(3_600_000)).read_timeout(Some(ms(40_000)));
    for role in BOTH {
        let mut driver = Driver::new(role, config.clone());
        driver.incoming.push_back(Ok(message().encode(role)[..4].to_vec()));
        driver.settle();
        driver.run_for(ms(10_000));
        driver.connection.pause_reading(driver.now);
        driver.run_for(ms(1_000_000));
        assert!(driver.connection.is_open() && driver.written.is_empty(), "no Ping either");
        driver.connection.resume_reading(driver.now);
        driver.run_for(ms(9_000));
        assert!(driver.written.is_empty());
        driver.run_for(ms(1_000));
        assert_eq!(opcodes(&driver.written), [9], "20 s of silence, the pause left out");
        driver.connection.heard(1, driver.now);
        driver.run_for(ms(9_000));
        driver.connection.heard(1, driver.now);
        driver.run_for(ms(80_000));
        let cause = driver.connection.cause();
        assert!(matches!(cause, Some(Cause::PingTimeout | Cause::MessageTimeout)), "{cause:?}");
        assert!(driver.now - driver.start >= ms(1_100_000));
    }
}

/// The application may take its time between two reads: that the driver was late to look is not the peer's
/// fault, whose bytes were there.
#[test]
fn a_driver_that_was_late_to_read_does_not_blame_the_peer() {
    for role in BOTH {
        let mut driver = Driver::new(role, Config::server().ping_after(None));
        let bytes = message().encode(role);
        driver.incoming.push_back(Ok(bytes[..3].to_vec()));
        driver.settle();
        // Nobody polls it for an hour.
        driver.now += ms(3_600_000);
        driver.incoming.push_back(Ok(vec![bytes[3]]));
        driver.read();
        assert!(driver.connection.poll_timeout(&driver.out).is_some_and(|due| due > driver.now));
    }
}

/// An input that is empty, or comes again, says nothing and breaks nothing.
#[test]
fn receiving_the_same_bytes_again_is_harmless() {
    for role in BOTH {
        let mut driver = Driver::new(role, Config::server());
        let due = driver.connection.poll_timeout(&driver.out);
        let mut bytes = message().encode(role);
        bytes.truncate(1);
        for _ in 0..3 {
            for input in [&mut [][..], &mut bytes] {
                let received = driver.connection.receive(input, &mut Vec::new(), &mut driver.out).unwrap();
                assert_eq!((received.consumed, received.event), (0, None));
            }
        }
        assert_eq!(driver.connection.poll_timeout(&driver.out), due, "nobody was heard");
    }
}

/// Anything that may happen, in any order.
fn acts() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![
        Just(ErrorKind::ConnectionReset),
        Just(ErrorKind::BrokenPipe),
        Just(ErrorKind::UnexpectedEof),
        Just(ErrorKind::Other)
    ];
    prop_oneof![
        6 => (0..4usize, 0..9usize, 0..99usize).prop_map(|(frame, from, length)| lifecycle_rows::sends(frame, from..from + length)),
        1 => Just(Act::Ends),
        1 => kind.clone().prop_map(Act::ReadFails),
        1 => kind.prop_map(Act::WritesFail),
        3 => proptest::option::of(0..2000usize).prop_map(Act::Takes),
        3 => (0..4000usize).prop_map(Act::Queues),
        1 => Just(Act::Closes),
    ]
}

proptest! {
    /// Whatever happens: no deadline spins, one cause is told and stays, and a peer that goes silent is
    /// dropped in bounded time.
    #[test]
    fn every_connection_ends_once_and_in_time(
        is_client: bool,
        read_timeout in proptest::option::of(100..2000u64),
        script in proptest::collection::vec((0..700u64, acts()), 0..12),
        pause in proptest::option::of((0..12usize, 0..3000u64)),
    ) {
        let role = if is_client { Role::Client } else { Role::Server };
        let config = rows()[0].config(role).read_timeout(read_timeout.map(ms));
        let mut driver = Driver::new(role, config);
        let mut cause: Option<Cause> = None;
        for (at, (time, act)) in script.into_iter().enumerate() {
            driver.run_for(ms(time));
            if let Some((of, length)) = pause && of == at && driver.done.is_none() {
                driver.connection.pause_reading(driver.now);
                driver.now += ms(length);
                driver.connection.resume_reading(driver.now);
            }
            let may_send = driver.connection.is_open();
            if driver.done.is_none() && (may_send || !matches!(act, Act::Queues(_) | Act::Closes)) {
                driver.act(&act);
            }
            driver.settle();
            let now = driver.connection.cause();
            if let Some(before) = cause {
                prop_assert!(now == Some(before) || now == Some(Cause::CloseTimeout), "{:?}, then {:?}", before, now);
            }
            cause = now;
        }
        driver.run_for(ms(200_000));
        prop_assert!(driver.done.is_some(), "{:?}", driver.connection);
        prop_assert_eq!(driver.connection.poll_timeout(&Outbox::new()), None);
        prop_assert!(driver.connection.cause().is_some());
    }
}
