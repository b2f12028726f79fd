//! Compressed messages, as bytes or as blocks made from them, in arbitrary fragments and reads, with small
//! limits: what is inflated is what a plain decoder makes of it, the verdict is the same, no step makes more
//! than it may, and nothing costs more memory than the limit.
//!
//! An input is what was agreed on (`Agreed::of`) with the sender (16: client), text (32) and blocks (64, see
//! `blocks`), the limit, the number of cuts, those, and the messages: each a byte that says how long it is, and
//! its bytes.

#![no_main]

#[path = "../agreed.rs"]
mod agreed;
mod bits;
mod blocks;
#[path = "../../../longwire-proto/tests/support/counting.rs"]
mod counting;
#[path = "../../../longwire-proto/tests/support/frames.rs"]
mod frames;
#[path = "../../../longwire-proto/tests/support/inflate.rs"]
mod inflate;
#[path = "../../../longwire-proto/tests/support/receiver.rs"]
mod receiver;

use std::time::Instant;

use agreed::{Agreed, other};
use bytes::{Buf, BytesMut};
use counting::Account;
use inflate::Inflated;
use libfuzzer_sys::fuzz_target;
use longwire_proto::{
    Assembler, Config, Connection, Event, Incoming, Outbox, Payload, ProtocolError, Role, Utf8State,
};
use receiver::{Entry, Receiver, Seen};

const LIMITS: [usize; 8] = [0, 1, 100, 258, 1_000, 32_768, 70_000, 1 << 20];

/// What one step makes at most: its last symbol begins where only one byte is missing.
const STEP: usize = 64 * 1024 - 1 + 258;

/// Beside what is received: tables, and windows while they grow.
const OWN: usize = 256 * 1024;

fuzz_target!(|data: &[u8]| {
    let [settings, limit, count, rest @ ..] = data else { return };
    let agreed = Agreed::of(*settings);
    let sender = if settings & 16 == 0 { Role::Server } else { Role::Client };
    let text = settings & 32 != 0;
    let limit = LIMITS[usize::from(*limit) % LIMITS.len()];
    let (cuts, rest) = rest.split_at((usize::from(*count) % 16).min(rest.len()));
    let messages = if settings & 64 == 0 { raw(rest) } else { blocks::messages(rest, agreed) };
    let wire = wire(&messages, cuts, text, sender);
    let case = Case { agreed, sender, text, limit, cuts };
    let (unbounded, bounded) = case.expected(&messages);
    case.in_steps(&wire, &unbounded);
    case.in_parts(&wire, &unbounded);
    let account = Account::of_this_thread();
    let before = account.rewind();
    case.whole(&wire, &bounded);
    let peak = usize::try_from(account.peak() - before).unwrap_or(0);
    // A buffer that grows is there twice, and a message is compared with a copy of it.
    let most = 2 * wire.len() + 5 * (limit + 258) + OWN;
    assert!(peak <= most, "{peak} bytes for {} with a limit of {limit}", wire.len());
});

/// Messages of arbitrary bytes.
fn raw(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, bytes)) = rest.split_first() {
        let (message, behind) = bytes.split_at(usize::from(*length).min(bytes.len()));
        messages.push(message.to_vec());
        rest = behind;
    }
    messages
}

/// The messages as frames, cut where the lowest bit of a cut is set.
fn wire(messages: &[Vec<u8>], cuts: &[u8], text: bool, sender: Role) -> Vec<u8> {
    let mut frames = Vec::new();
    for message in messages {
        let mut opcode = if text { 0x41 } else { 0x42 };
        let mut rest = &message[..];
        for cut in cuts.iter().filter(|cut| *cut % 2 == 1) {
            let (fragment, behind) = rest.split_at((usize::from(*cut) / 2).min(rest.len()));
            frames.push(frames::frame(opcode, fragment).more());
            opcode = 0;
            rest = behind;
        }
        frames.push(frames::frame(opcode, rest));
    }
    frames::encode(&frames, other(sender))
}

/// What all ways of receiving have in common.
struct Case<'a> {
    agreed: Agreed,
    sender: Role,
    text: bool,
    limit: usize,
    cuts: &'a [u8],
}

/// What is to be received: messages, and then one of these faults if there are any.
#[derive(Default)]
struct Expected {
    messages: Vec<Seen>,
    faults: Vec<ProtocolError>,
}

impl Case<'_> {
    /// Without and with the limit.
    fn expected(&self, messages: &[Vec<u8>]) -> (Expected, Expected) {
        let mut window = self.agreed.window();
        let (mut unbounded, mut bounded) = (Expected::default(), Expected::default());
        for message in messages {
            let Inflated { bytes, stop } = window.inflate(message, true, usize::MAX);
            let stop = stop.map(|_| ProtocolError::InvalidDeflate);
            if bounded.faults.is_empty() {
                bounded.faults = match bytes.get(..self.limit) {
                    Some(within) if bytes.len() > self.limit => {
                        self.faults(within, Some(ProtocolError::MessageTooBig { limit: self.limit }))
                    }
                    _ => self.faults(&bytes, stop),
                };
            }
            unbounded.faults = self.faults(&bytes, stop);
            if !unbounded.faults.is_empty() {
                break;
            }
            window.pass(&bytes);
            let message = if self.text {
                Seen::Text(String::from_utf8(bytes).expect("it was checked"))
            } else {
                Seen::Binary(bytes)
            };
            if bounded.faults.is_empty() {
                bounded.messages.push(message.clone());
            }
            unbounded.messages.push(message);
        }
        (unbounded, bounded)
    }

    /// What may be said of a message that goes on so. Of text that is wrong in front of another fault either
    /// may be found first.
    fn faults(&self, bytes: &[u8], stop: Option<ProtocolError>) -> Vec<ProtocolError> {
        let mut utf8 = Utf8State::default();
        let bad_text = self.text && (utf8.push(bytes).is_err() || (stop.is_none() && !utf8.is_complete()));
        bad_text.then_some(ProtocolError::InvalidUtf8).into_iter().chain(stop).collect()
    }

    fn config(&self) -> Config {
        Config::server().max_message(self.limit)
    }

    fn connection(&self) -> Connection {
        let connection = receiver::connection(other(self.sender), &self.config(), Instant::now());
        connection.with_deflate(self.agreed.parameters(self.sender))
    }

    /// The wire as it is read: in pieces as large as the cuts say.
    fn reads<'w>(&self, mut wire: &'w [u8]) -> Vec<&'w [u8]> {
        let least = wire.len() / 100 + 1;
        let mut reads = Vec::new();
        for cut in self.cuts.iter().map(|cut| usize::from(*cut) / 2).chain([wire.len()]).cycle() {
            if wire.is_empty() {
                break;
            }
            let (read, rest) = wire.split_at(cut.max(least).min(wire.len()));
            reads.push(read);
            wire = rest;
        }
        reads
    }

    /// Through `Connection::receive`, where each step is seen.
    fn in_steps(&self, wire: &[u8], expected: &Expected) {
        let mut connection = self.connection();
        let (mut input, mut inflated, mut out) = (BytesMut::new(), Vec::new(), Outbox::new());
        let (mut joined, mut next) = (Vec::new(), expected.messages.iter());
        for read in self.reads(wire) {
            input.extend_from_slice(read);
            loop {
                let received = connection.receive(&mut input, &mut inflated, &mut out);
                assert!(inflated.len() <= STEP && inflated.capacity() <= 3 * STEP, "{}", inflated.len());
                let received = match received {
                    Ok(received) => received,
                    Err(error) => {
                        assert_eq!(next.len(), 0, "{error:?} too early");
                        assert!(expected.faults.contains(&error), "{error:?} {:?}", expected.faults);
                        return;
                    }
                };
                input.advance(received.consumed);
                let Some(event) = received.event else {
                    if received.consumed == 0 {
                        break;
                    }
                    continue;
                };
                let Event::Part(part) = event else { panic!("{event:?}") };
                let Payload::Inflated(range) = part.payload else { panic!("{part:?}") };
                assert!(part.last || !range.is_empty(), "a step for nothing");
                assert_eq!((part.first, range.start), (joined.is_empty(), 0));
                joined.extend_from_slice(&inflated[range]);
                inflated.clear();
                if part.last {
                    let message = Seen::message(part.kind, std::mem::take(&mut joined));
                    assert!(next.next() == Some(&message), "another message");
                }
            }
            assert!(input.len() <= 14, "{} bytes are not consumed", input.len());
        }
        assert!(next.len() == 0 && expected.faults.is_empty(), "{:?}", expected.faults);
    }

    /// Through `Assembler::receive_part`.
    fn in_parts(&self, wire: &[u8], expected: &Expected) {
        let mut end = Receiver::new(Entry::Parts, other(self.sender), &self.config());
        end.connection = self.connection();
        self.reads(wire).into_iter().for_each(|read| end.feed(read));
        assert!(end.seen == expected.messages);
        check_end(end.error, expected);
    }

    /// Through `Assembler::receive`, within the limit.
    fn whole(&self, wire: &[u8], expected: &Expected) {
        let (mut connection, mut assembler) = (self.connection(), Assembler::default());
        let (mut input, mut out) = (BytesMut::with_capacity(wire.len()), Outbox::new());
        let mut next = expected.messages.iter();
        let mut error = None;
        for read in self.reads(wire) {
            input.extend_from_slice(read);
            while error.is_none() {
                match assembler.receive(&mut connection, &mut input, &mut out) {
                    Ok(None) => break,
                    Ok(Some(Incoming::Data(message))) => {
                        assert!(message.len() <= self.limit);
                        let message = Seen::incoming(Incoming::Data(message));
                        assert!(next.next() == Some(&message), "another message");
                    }
                    Ok(Some(Incoming::Progress)) => {}
                    Ok(other) => panic!("{other:?}"),
                    Err(fault) => error = Some(fault),
                }
            }
        }
        assert_eq!(next.len(), 0);
        check_end(error, expected);
    }
}

fn check_end(error: Option<ProtocolError>, expected: &Expected) {
    match error {
        Some(error) => assert!(expected.faults.contains(&error), "{error:?} {:?}", expected.faults),
        None => assert!(expected.faults.is_empty(), "{:?}", expected.faults),
    }
}
