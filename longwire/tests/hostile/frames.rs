//! Frames that break a rule, that announce what never comes, and that come a byte at a time and then not
//! at all.

use std::time::Duration;

use futures_util::future::join_all;
use longwire::{Error, ProtocolError};
use longwire_proto::frame::OpCode;

use crate::attacker::{announced, close_code};
use crate::support::frames::frame;
use crate::victim::{End, Habit, Setup, Target, each_target};

/// What an attacked connection may hold of a frame that is not there: itself and its task.
const NO_FRAME: isize = 4_000;

/// And what the thread may need at one time for any one of them: blocks to read into.
const PEAK: isize = 200_000;

/// A keepalive of half a second.
fn setup(target: Target) -> Setup {
    let half = Duration::from_millis(250);
    Setup::new(target).config(|config| config.ping_after(Some(half)).pong_timeout(half))
}

/// SECURITY.md: no length field reserves memory; a peer that is silent is dropped. Whatever it has
/// announced, it is told 1011.
#[tokio::test]
async fn frames_that_never_come_hold_nothing_and_keepalive_ends_them() {
    each_target(async |target| {
        let limited = setup(target).start();
        let unlimited =
            setup(target).config(|config| config.max_message(usize::MAX)).habit(Habit::Parts).start();
        let friends = [limited.friend().await, unlimited.friend().await];
        let max = 64 * 1024;
        let header = announced(target, OpCode::Binary, 70_000, 0);
        let prefixes = (1..header.len()).flat_map(|length| {
            let begun = &header[..length];
            [(&limited, begun.to_vec()), (&unlimited, begun.to_vec())]
        });
        let announced = [
            (&limited, announced(target, OpCode::Binary, max, 0)),
            (&limited, announced(target, OpCode::Binary, max, 100)),
            (&limited, announced(target, OpCode::Text, max - 1, 100)),
            (&unlimited, announced(target, OpCode::Binary, 1 << 30, 0)),
            (&unlimited, announced(target, OpCode::Text, 1 << 30, 0)),
            (&unlimited, announced(target, OpCode::Binary, i64::MAX as u64, 0)),
            (&unlimited, announced(target, OpCode::Binary, i64::MAX as u64, 100)),
            (&limited, announced(target, OpCode::Ping, 125, 0)),
            (&limited, announced(target, OpCode::Ping, 125, 124)),
            (&limited, announced(target, OpCode::Close, 125, 124)),
            (&limited, announced(target, OpCode::Pong, 1, 0)),
            (&unlimited, announced(target, OpCode::Ping, 125, 124)),
        ];
        let rows: Vec<_> = prefixes.chain(announced).collect();
        let before = [limited.rewind(), unlimited.rewind()];
        let attackers = join_all(rows.iter().map(async |(victim, bytes)| {
            let mut attacker = victim.open_attacker().await;
            attacker.write(bytes).await.unwrap();
            (attacker, bytes)
        }));
        let attackers = attackers.await;
        for (victim, before) in [&limited, &unlimited].into_iter().zip(before) {
            let held = victim.settled(|_| true).await - before;
            let peak = victim.peak() - before;
            assert!(held < rows.len() as isize * NO_FRAME, "{target:?}: {held} B");
            assert!(peak < rows.len() as isize * NO_FRAME + PEAK, "{target:?}: {peak} B");
        }
        for (mut attacker, bytes) in attackers {
            let frames = attacker.read_frames().await;
            let end = attacker.end().await;
            assert!(matches!(end, End::Open(Err(Error::PingTimeout))), "{bytes:?}: {end:?}");
            assert!(frames[0].is(OpCode::Ping, ""), "{bytes:?}: {frames:?}");
            // Where what is announced came late, there is a Ping before it too.
            assert!(frames.len() >= 2 && close_code(&frames) == 1011, "{bytes:?}: {frames:?}");
        }
        for friend in friends {
            friend.goes_on().await;
        }
    })
    .await;
}

/// As long as bytes come the peer lives; then it is dropped as if nothing had come.
#[tokio::test]
async fn a_frame_that_dribbles_and_stops_is_dropped_by_keepalive() {
    each_target(async |target| {
        let victim = setup(target).start();
        let friend = victim.friend().await;
        let rows = [
            announced(target, OpCode::Binary, 60_000, 30),
            announced(target, OpCode::Ping, 125, 20),
            frame(target.is_server(), false, OpCode::Text, "半条消息"),
        ];
        join_all(rows.iter().map(async |bytes| {
            let mut attacker = victim.open_attacker().await;
            // No pause is as long as the silence that is too long, unless this machine makes it so.
            let _ = attacker.dribble(bytes, Duration::from_millis(20)).await;
            let frames = attacker.read_frames().await;
            assert_eq!(close_code(&frames), 1011);
            let end = attacker.end().await;
            assert!(matches!(end, End::Open(Err(Error::PingTimeout))), "{end:?}");
        }))
        .await;
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: a message is bounded by what is announced; what breaks a rule ends the connection at once.
/// That goes for compressed frames where no compression was agreed upon.
#[tokio::test]
async fn frames_that_break_a_rule_end_with_its_code_at_once() {
    each_target(async |target| {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        let max = 64 * 1024;
        let good = |fin, opcode, payload: &str| frame(target.is_server(), fin, opcode, payload);
        // "Hello" as permessage-deflate has it (RFC 7692 7.2.3.1).
        let deflated = |fin, opcode| {
            let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
            let mut bytes = frame(target.is_server(), fin, opcode, hello);
            bytes[0] |= 0x40;
            bytes
        };
        let reserved = |bits: u8| {
            let mut bytes = good(true, OpCode::Text, "你好");
            bytes[0] |= bits;
            bytes
        };
        // Bit 63 is set.
        let mut beyond = announced(target, OpCode::Binary, i64::MAX as u64, 0);
        beyond[2] |= 0x80;
        let mut reserved_opcode = good(true, OpCode::Text, "");
        reserved_opcode[0] = 0x83;
        let rows = [
            ("deflated text", deflated(true, OpCode::Text), 1002),
            ("a deflated fragment", deflated(false, OpCode::Binary), 1002),
            (
                "a deflated continuation",
                [good(false, OpCode::Text, "你"), deflated(true, OpCode::Continuation)].concat(),
                1002,
            ),
            ("a deflated Ping", deflated(true, OpCode::Ping), 1002),
            (
                "a deflated bomb, announced",
                {
                    let mut bytes = announced(target, OpCode::Text, max, 0);
                    bytes[0] |= 0x40;
                    bytes
                },
                1002,
            ),
            ("RSV2", reserved(0x20), 1002),
            ("RSV3", reserved(0x10), 1002),
            ("all of them", reserved(0x70), 1002),
            ("a reserved opcode", reserved_opcode, 1002),
            ("one byte too many announced", announced(target, OpCode::Binary, max + 1, 0), 1009),
            ("1 GiB announced", announced(target, OpCode::Text, 1 << 30, 0), 1009),
            ("2^63 - 1 announced", announced(target, OpCode::Binary, i64::MAX as u64, 100), 1009),
            ("2^63 announced", beyond, 1002),
            (
                "too much in two fragments",
                [good(false, OpCode::Text, "你"), announced(target, OpCode::Continuation, max - 2, 0)]
                    .concat(),
                1009,
            ),
            (
                "2^63 - 1 in the second fragment",
                [
                    good(false, OpCode::Text, "你"),
                    announced(target, OpCode::Continuation, i64::MAX as u64, 0),
                ]
                .concat(),
                1009,
            ),
            ("a Ping of 126 bytes", announced(target, OpCode::Ping, 126, 0), 1002),
            ("a Close of 2^63 - 1 bytes", announced(target, OpCode::Close, i64::MAX as u64, 0), 1002),
            ("masked as it must not be", frame(!target.is_server(), true, OpCode::Text, "你好"), 1002),
            ("a Ping in fragments", good(false, OpCode::Ping, ""), 1002),
            ("a continuation of nothing", good(true, OpCode::Continuation, "好"), 1002),
            (
                "a message in a message",
                [good(false, OpCode::Text, "你"), good(true, OpCode::Text, "好")].concat(),
                1002,
            ),
        ];
        for (name, bytes, code) in rows {
            let before = victim.rewind();
            let mut attacker = victim.open_attacker().await;
            attacker.write(&bytes).await.unwrap();
            let frames = attacker.read_frames().await;
            assert_eq!((frames.len(), close_code(&frames)), (1, code), "{name}");
            match attacker.leave().await {
                End::Open(Err(Error::Protocol(error))) => {
                    assert_eq!(u16::from(error.close_code()), code, "{name}: {error}");
                    let is_too_big = matches!(error, ProtocolError::MessageTooBig { limit: 65_536 });
                    assert_eq!(is_too_big, code == 1009, "{name}: {error}");
                }
                other => panic!("{name}: {other:?}"),
            }
            assert!(victim.peak() - before < PEAK, "{name}: {} B", victim.peak() - before);
        }
        friend.goes_on().await;
    })
    .await;
}
