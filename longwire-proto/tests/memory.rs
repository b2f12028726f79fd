//! What a peer can make an end allocate: nothing by what it claims, little by what it sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/receiver.rs"]
mod receiver;

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use counting::Account;
use frames::{Frame, binary, continuation, encode, ping, text};
use longwire_proto::{Assembler, Config, Connection, Incoming, Outbox, ProtocolError, Role};
use receiver::connection;

/// The most bytes that `work` had allocated at one time, beyond what there was before.
fn peak(work: impl FnOnce()) -> usize {
    let account = Account::of_this_thread();
    let before = account.rewind();
    work();
    (account.peak() - before) as usize
}

/// An end with an `Assembler`. Its input is of a fixed size, as a driver's read block is.
struct End {
    connection: Connection,
    assembler: Assembler,
    out: Outbox,
    input: BytesMut,
    messages: usize,
}

impl End {
    fn new(role: Role, config: &Config) -> Self {
        Self {
            connection: connection(role, config, Instant::now()),
            assembler: Assembler::default(),
            out: Outbox::new(),
            input: BytesMut::new(),
            messages: 0,
        }
    }

    /// Takes `bytes` in pieces of `size`.
    fn feed(&mut self, bytes: &[u8], size: usize, landing: bool) -> Result<(), ProtocolError> {
        for piece in bytes.chunks(size) {
            let mut piece = piece;
            while landing && self.input.is_empty() && !piece.is_empty() {
                let Some(mut room) = self.assembler.landing(&self.connection) else { break };
                let count = room.remaining_mut().min(piece.len());
                room.put_slice(&piece[..count]);
                piece = &piece[count..];
                let message = self.assembler.landed(count, &mut self.connection, &mut self.out)?;
                self.messages += usize::from(message.is_some());
            }
            self.input.extend_from_slice(piece);
            let (connection, out) = (&mut self.connection, &mut self.out);
            while let Some(incoming) = self.assembler.receive(connection, &mut self.input, out)? {
                self.messages += usize::from(matches!(incoming, Incoming::Data(_)));
            }
        }
        Ok(())
    }

    fn feed_parts(&mut self, bytes: &[u8], size: usize) -> Result<(), ProtocolError> {
        for piece in bytes.chunks(size) {
            self.input.extend_from_slice(piece);
            let (connection, out) = (&mut self.connection, &mut self.out);
            while self.assembler.receive_part(connection, &mut self.input, out)?.is_some() {}
        }
        Ok(())
    }
}

const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// No limit that would save an end from a claim.
fn unlimited() -> Config {
    Config::server().max_message(usize::MAX).max_small_fragments(u32::MAX)
}

#[test]
fn a_claimed_length_reserves_nothing() {
    for role in ROLES {
        for claimed in [70_000, 1 << 30, 1 << 62, i64::MAX as u64] {
            for payload in [0, 100, 5_000, 20_000] {
                let frame = text(vec![b'a'; payload]).length64(claimed);
                let bytes = encode(&[frame], role);
                for landing in [false, true] {
                    let mut end = End::new(role, &unlimited());
                    let peak = peak(|| end.feed(&bytes, 1000, landing).unwrap());
                    assert!(peak <= 2_500 + 3 * payload, "{peak} for {payload} of {claimed}, {landing}");
                }
                let mut end = End::new(role, &unlimited());
                let peak = peak(|| end.feed_parts(&bytes, 1000).unwrap());
                assert!(peak <= 4_000, "{peak} for {payload} of {claimed} in parts");

                let mut end = connection(role, &unlimited(), Instant::now());
                let mut out = Outbox::new();
                let mut bytes = bytes.clone();
                let peak = self::peak(|| {
                    let mut at = 0;
                    while at < bytes.len() {
                        at += end.receive(&mut bytes[at..], &mut Vec::new(), &mut out).unwrap().consumed;
                    }
                });
                assert_eq!(peak, 0, "the connection itself keeps nothing");
            }
        }
    }
}

/// Under the default limit a claim is refused before its payload comes.
#[test]
fn a_claim_over_the_limit_costs_the_close_frame_alone() {
    for role in ROLES {
        let bytes = encode(&[binary("").length64(1 << 62)], role);
        let mut end = End::new(role, &Config::server());
        let peak = peak(|| assert!(end.feed(&bytes, usize::MAX, true).is_err()));
        assert!(peak <= 1000, "{peak}");
    }
}

#[test]
fn a_million_empty_fragments_take_no_memory() {
    for role in ROLES {
        let first = encode(&[text("").more()], role);
        let more: Vec<Frame> = vec![continuation("").more(); 1000];
        let bytes = encode(&more, role);
        let mut end = End::new(role, &unlimited());
        let peak = peak(|| {
            end.feed(&first, usize::MAX, true).unwrap();
            for _ in 0..1000 {
                end.feed(&bytes, 6000, true).unwrap();
            }
        });
        assert!(peak <= 30_000, "{peak}");
        end.feed(&encode(&[continuation("好")], role), 1, true).unwrap();
        assert_eq!(end.messages, 1);
    }
}

/// Bytes that come one by one are kept in two to three times their size.
#[test]
fn a_message_byte_by_byte_takes_in_proportion_to_what_has_come() {
    for role in ROLES {
        for landing in [false, true] {
            let bytes = encode(&[binary(vec![7; 200_000])], role);
            let mut end = End::new(role, &unlimited());
            let account = Account::of_this_thread();
            let before = account.rewind();
            for (i, byte) in bytes.iter().enumerate() {
                end.feed(&[*byte], 1, landing).unwrap();
                let peak = (account.peak() - before) as usize;
                assert!(peak <= 2_000 + 3 * i, "{peak} after {i} bytes, {landing}");
            }
            assert_eq!(end.messages, 1);
        }
    }
}

/// A large message grows in steps that grow with it: the bytes that are moved for it are a few times
/// its size, not a multiple of the number of reads.
#[test]
fn the_buffer_of_a_large_message_grows_in_linear_time() {
    let size = 32 * 1024 * 1024;
    for landing in [false, true] {
        for read in [4 * 1024, 64 * 1024] {
            let bytes = encode(&[binary(vec![7; size])], Role::Client);
            let mut end = End::new(Role::Client, &Config::client());
            let account = Account::of_this_thread();
            let before = account.moved();
            let peak = peak(|| end.feed(&bytes, read, landing).unwrap());
            assert_eq!(end.messages, 1);
            assert!(peak <= 3 * size, "{peak}");
            let moved = (account.moved() - before) / size;
            assert!(moved <= 8, "{moved} times its size is moved in reads of {read}, {landing}");
        }
    }
}

/// Pongs that wait behind a large message, each behind the other, cost little more than their bytes.
#[test]
fn pongs_that_wait_cost_little_more_than_their_bytes() {
    for role in ROLES {
        let bytes = encode(&vec![ping(""); 9_000], role);
        let mut end = End::new(role, &Config::server());
        end.connection.send(vec![1; 200_000].into(), &mut end.out).unwrap();
        let peak = peak(|| end.feed(&bytes, 1000, false).unwrap());
        assert!(peak <= 64 * 1024, "{peak} bytes for the 16 KiB of Pongs that may wait");
    }
}

/// When all is written, the outbox keeps at most 64 KiB, and nothing of the payloads.
#[test]
fn an_empty_outbox_keeps_little() {
    for role in ROLES {
        let mut end = connection(role, &Config::server(), Instant::now());
        let mut out = Outbox::new();
        let account = Account::of_this_thread();
        let before = account.live();
        for size in [10_000, 100_000, 1_000_000] {
            for _ in 0..20 {
                end.send(vec![1; size].into(), &mut out).unwrap();
            }
            receiver::drain(&mut out);
            let kept = (account.live() - before) as usize;
            assert!(kept <= 70_000, "{kept} after messages of {size}");
        }
    }
}
