//! Compressed messages that inflate to far more than was sent, never end, or are no messages at all.

use longwire::{Error, ProtocolError};
use longwire_proto::frame::OpCode;

use crate::attacker::close_code;
use crate::crowd::crowd;
use crate::support::deflated::{TAIL, zeros};
use crate::support::frames::whole_frames;
use crate::victim::{End, Habit, Setup, Target, each_target};

/// What the attacked side takes in one message.
const LIMIT: usize = 64 * 1024;

/// The blocks that are read into, an inflater, and the connection.
const BASE: isize = 300_000;

const MIB: usize = 1024 * 1024;

fn protocol_error(end: &End) -> ProtocolError {
    match end {
        End::Open(Err(Error::Protocol(error))) => *error,
        other => panic!("{other:?}"),
    }
}

/// SECURITY.md: a compressed message is bounded by what it becomes.
#[tokio::test]
async fn a_bomb_ends_at_the_message_limit() {
    each_target(async |target| {
        let victim = Setup::new(target).deflate().start();
        let friend = victim.friend().await;
        let zeros = zeros(MIB);
        let flushed = [&zeros[..], &TAIL].concat();
        for shape in ["one message", "many blocks", "fragments", "behind an honest message"] {
            let before = victim.rewind();
            let mut attacker = victim.deflating_attacker(false).await;
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
    each_target(async |target| {
        if target == Target::Engine {
            // It lends whole messages only.
            return;
        }
        let victim = Setup::new(target).deflate().habit(Habit::Parts).start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = victim.deflating_attacker(false).await;
        let flushed = [&zeros(MIB)[..], &TAIL].concat();
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
    each_target(async |target| {
        let victim = Setup::new(target).deflate().start();
        let friend = victim.friend().await;
        for payload in [&[0xFF; 40][..], &[], &zeros(MIB)[..30], b"\xF2\x00\x11\x00\x00"] {
            let mut attacker = victim.deflating_attacker(false).await;
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
    const COUNT: usize = 1_000;
    const EACH: isize = 24 * 1024;
    let _alone = crowd(2 * COUNT).await;
    each_target(async |target| {
        let victim = Setup::new(target).deflate().start();
        let friend = victim.friend().await;
        let before = victim.live();
        // 1 KiB of a stored block of 64 KiB, then silence.
        let begun = [&[0x00, 0xFF, 0xFF, 0x00, 0x00][..], &[7; 1024]].concat();
        let mut attackers = Vec::with_capacity(COUNT);
        for _ in 0..COUNT {
            let mut attacker = victim.deflating_attacker(false).await;
            attacker.write(attacker.deflated(false, &begun)).await.unwrap();
            attacker.sync().await;
            attackers.push(attacker);
        }
        let each = (victim.live() - before) / COUNT as isize;
        assert!(each < EACH, "{target:?}: {each} on each");
        friend.goes_on().await;
        drop(attackers);
        victim.is_deserted().await;
        // What the runtime keeps for each connection that it had at one time, too.
        let most = BASE + 500 * COUNT as isize;
        let left = victim.settled(|live| live - before < most).await - before;
        assert!(left < most, "{target:?}: {left} stay");
    })
    .await;
}
