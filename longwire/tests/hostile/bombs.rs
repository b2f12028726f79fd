//! Compressed messages that inflate to far more than was sent, never end, or are no messages at all.

use longwire::{Config, Deflate, Error, ProtocolError, Role};
use longwire_proto::frame::OpCode;

use crate::attacker::{Attacker, close_code};
use crate::crowd::crowd;
use crate::support::frames::whole_frames;
use crate::victim::{End, Habit, Setup, Victim, each_role};

/// What the attacked side takes in one message.
const LIMIT: usize = 64 * 1024;

/// The blocks that are read into, an inflater, and the connection.
const BASE: isize = 300_000;

/// A mebibyte of zeros: a literal, and matches of 258 at a distance of 1, in one block of fixed codes
/// (RFC 1951 3.2.6) of about two bytes each, ended by a sync flush.
fn zeros() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0, 1);
    bits.push(1, 2);
    bits.code(0x30, 8);
    for _ in 0..(1024 * 1024) / 258 {
        // Length 258 is symbol 285, distance 1 is symbol 0.
        bits.code(0xC5, 8);
        bits.code(0, 5);
    }
    bits.code(0, 7);
    // An empty stored block, whose length is the tail.
    bits.push(0, 3);
    bits.bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    /// The lowest bit first.
    fn push(&mut self, value: u32, count: usize) {
        for at in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> at & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A code, whose highest bit is first.
    fn code(&mut self, code: u32, count: usize) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

impl Attacker {
    /// A frame that begins a compressed message.
    fn deflated(&self, fin: bool, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let mut frame = self.frame(fin, OpCode::Binary, payload);
        frame[0] |= 0x40;
        frame
    }
}

fn compressing(config: Config) -> Config {
    config.deflate(Deflate::new())
}

async fn attacker(victim: &Victim) -> Attacker {
    let mut attacker = victim.attacker().await;
    attacker.agree_on_deflate().await;
    attacker
}

fn protocol_error(end: &End) -> ProtocolError {
    match end {
        End::Open(Err(Error::Protocol(error))) => *error,
        other => panic!("{other:?}"),
    }
}

/// SECURITY.md: a compressed message is bounded by what it becomes.
#[tokio::test]
async fn a_bomb_ends_at_the_message_limit() {
    each_role(async |role| {
        let victim = Setup::new(role).config(compressing).start();
        let friend = victim.friend().await;
        let zeros = zeros();
        let flushed = [&zeros[..], &TAIL].concat();
        for shape in ["one message", "many blocks", "fragments", "behind an honest message"] {
            let before = victim.rewind();
            let mut attacker = attacker(&victim).await;
            let attack = match shape {
                "one message" => attacker.deflated(true, &zeros),
                "many blocks" => attacker.deflated(true, [flushed.repeat(20), vec![0]].concat()),
                "fragments" => {
                    let more = attacker.frame(false, OpCode::Continuation, &flushed).repeat(20);
                    [attacker.deflated(false, &flushed), more].concat()
                }
                _ => [attacker.frame(true, OpCode::Text, "你好"), attacker.deflated(true, &zeros)].concat(),
            };
            // What comes behind the limit may meet a connection that has ended.
            let _ = attacker.write(attack).await;
            let frames = whole_frames(&attacker.read_to_end().await);
            assert_eq!(close_code(&frames), 1009, "{shape}");
            assert_eq!(
                protocol_error(&attacker.leave().await),
                ProtocolError::MessageTooBig { limit: LIMIT },
                "{shape}"
            );
            let held = victim.peak() - before;
            assert!(held < BASE + 3 * LIMIT as isize, "{shape}: {held}");
        }
        friend.goes_on().await;
    })
    .await;
}

/// In parts there is no limit, and nothing piles up.
#[tokio::test]
async fn a_bomb_taken_in_parts_passes_in_little_memory() {
    each_role(async |role| {
        let victim = Setup::new(role).config(compressing).habit(Habit::Parts).start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = attacker(&victim).await;
        let flushed = [&zeros()[..], &TAIL].concat();
        attacker.write(attacker.deflated(false, &flushed)).await.unwrap();
        for _ in 0..8 {
            attacker.write(attacker.frame(false, OpCode::Continuation, &flushed)).await.unwrap();
        }
        attacker.write(attacker.frame(true, OpCode::Continuation, [0])).await.unwrap();
        attacker.sync().await;
        let held = victim.peak() - before;
        assert!(held < BASE + 3 * LIMIT as isize, "{held}");
        attacker.leave().await;
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: what is not DEFLATE, or ends within it, is refused.
#[tokio::test]
async fn what_is_no_deflate_ends_with_1007() {
    each_role(async |role| {
        let victim = Setup::new(role).config(compressing).start();
        let friend = victim.friend().await;
        for payload in [&[0xFF; 40][..], &[], &zeros()[..100], b"\xF2\x00\x11\x00\x00"] {
            let mut attacker = attacker(&victim).await;
            attacker.write(attacker.deflated(true, payload)).await.unwrap();
            let frames = whole_frames(&attacker.read_to_end().await);
            assert_eq!(close_code(&frames), 1007, "{payload:x?}");
            let end = protocol_error(&attacker.leave().await);
            assert_eq!(end, ProtocolError::InvalidDeflate, "{payload:x?}");
        }
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: a compressed message that is never finished holds the tables of an inflater and what has
/// come, on each of very many connections, and all is given back.
#[tokio::test]
async fn compressed_messages_that_are_never_finished_hold_little() {
    const EACH: isize = 24 * 1024;
    let (_alone, count) = crowd(1_000).await;
    each_role(async |role| {
        if role == Role::Client {
            return;
        }
        let victim = Setup::new(role).config(compressing).start();
        let friend = victim.friend().await;
        let before = victim.live();
        // 1 KiB of a stored block of 64 KiB, then silence.
        let begun = [&[0x00, 0xFF, 0xFF, 0x00, 0x00][..], &[7; 1024]].concat();
        let mut attackers = Vec::with_capacity(count);
        for _ in 0..count {
            let mut attacker = attacker(&victim).await;
            attacker.write(attacker.deflated(false, &begun)).await.unwrap();
            attacker.sync().await;
            attackers.push(attacker);
        }
        let each = (victim.live() - before) / count as isize;
        assert!(each < EACH, "{each} on each of {count}");
        friend.goes_on().await;
        drop(attackers);
        victim.is_deserted().await;
        let left = victim.settled(|live| live - before < BASE).await - before;
        assert!(left < BASE, "{left} stay");
    })
    .await;
}
