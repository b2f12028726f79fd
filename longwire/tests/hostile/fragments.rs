//! Messages in very many fragments, and messages that are never finished on very many connections.

use futures_util::future::join_all;
use longwire::{Closed, Config, Error, ProtocolError};
use longwire_proto::frame::OpCode;

use crate::attacker::{announced, close_code};
use crate::crowd::crowd;
use crate::support::frames::{frame, whole_frames};
use crate::victim::{End, Habit, Setup, Target, each_target};

const MILLION: usize = 1_000_000;

/// The blocks that are read into, and the connection.
const BASE: isize = 200_000;

/// SECURITY.md: a message has a bounded number of fragments, empty ones too.
#[tokio::test]
async fn a_million_fragments_end_at_the_limit_in_little_memory() {
    each_target(async |target| {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        for payload in ["x", ""] {
            let before = victim.rewind();
            let mut attacker = victim.open_attacker().await;
            let first = attacker.frame(false, OpCode::Text, payload);
            let more = attacker.frame(false, OpCode::Continuation, payload).repeat(MILLION / 100);
            let came = attacker.flood_and_read(first, more).await;
            let frames = whole_frames(&came);
            assert_eq!((frames.len(), close_code(&frames)), (1, 1008), "{payload:?}");
            let end = attacker.leave().await;
            let Err(Error::Protocol(ProtocolError::TooManyFragments { limit: 16_384 })) = open(&end) else {
                panic!("{payload:?}: {end:?}");
            };
            assert!(victim.peak() - before < BASE + 2 * 16_384, "{} B", victim.peak() - before);
        }
        friend.goes_on().await;
    })
    .await;
}

/// Fragments that pay for themselves by their payload are not limited: 4 MiB in 65,536 of 64 bytes.
#[tokio::test]
async fn a_large_message_in_small_fragments_passes_by_default() {
    each_target(async |target| {
        let config = |config: Config| config.max_message(4 * 1024 * 1024);
        let victim = Setup::new(target).config(config).habit(Habit::Listen).start();
        let mut attacker = victim.open_attacker().await;
        attacker.write(attacker.frame(false, OpCode::Binary, [7; 64])).await.unwrap();
        let more = attacker.frame(false, OpCode::Continuation, [7; 64]).repeat(1_023);
        for _ in 0..64 {
            attacker.write(&more).await.unwrap();
        }
        attacker.write(attacker.frame(false, OpCode::Continuation, [7; 64]).repeat(62)).await.unwrap();
        attacker.write(attacker.frame(true, OpCode::Continuation, [7; 64])).await.unwrap();
        attacker.sync().await;
        let end = attacker.leave().await;
        assert!(matches!(end, End::Open(Err(Error::Eof))), "{end:?}");
    })
    .await;
}

fn open(end: &End) -> Result<&Closed, &Error> {
    match end {
        End::Open(ended) => ended.as_ref(),
        other => panic!("not opened: {other:?}"),
    }
}

/// A fragment costs its bytes, not an object.
#[tokio::test]
async fn a_million_fragments_that_are_allowed_cost_their_bytes() {
    each_target(async |target| {
        let config = |config: Config| config.max_small_fragments(u32::MAX).max_message(MILLION);
        let victim = Setup::new(target).config(config).habit(Habit::Listen).start();
        let friend = victim.friend().await;
        for payload in ["x", ""] {
            let before = victim.rewind();
            let mut attacker = victim.open_attacker().await;
            let more = attacker.frame(false, OpCode::Continuation, payload).repeat(1_000);
            attacker.write(attacker.frame(false, OpCode::Binary, payload)).await.unwrap();
            for _ in 0..MILLION / 1_000 - 1 {
                attacker.write(&more).await.unwrap();
            }
            attacker.sync().await;
            let (live, peak) = (victim.live() - before, victim.peak() - before);
            let size = (payload.len() * MILLION) as isize;
            assert!(live < 2 * size + BASE, "{live} B");
            // While it grows, the old buffer and the new one are there.
            assert!(peak < 3 * size + BASE, "{peak} B");
            // The message is good to its end.
            let rest = attacker.frame(false, OpCode::Continuation, payload).repeat(998);
            attacker.write(rest).await.unwrap();
            attacker.write(attacker.frame(true, OpCode::Continuation, payload)).await.unwrap();
            attacker.sync().await;
            let end = attacker.leave().await;
            assert!(matches!(end, End::Open(Err(Error::Eof))), "{end:?}");
        }
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: no length field reserves memory, buffers grow by what has come. Everything is given back
/// when the connections are gone.
#[tokio::test]
async fn messages_that_are_never_finished_hold_what_has_come() {
    const KIB: usize = 1024;
    const COUNT: usize = 1_000;
    let _alone = crowd(2 * COUNT).await;
    each_target(async |target| {
        let by_client = target.is_server();
        let fragment = frame(by_client, false, OpCode::Binary, [7; KIB]);
        let half = |size: usize| announced(target, OpCode::Binary, size as u64, size / 2);
        let rows = [
            ("a fragment of 1 KiB", fragment.clone(), KIB),
            ("half of 64 KiB", half(64 * KIB), 32 * KIB),
            ("a fragment, and half of 32 KiB", [fragment, half_of(target, 32 * KIB)].concat(), 17 * KIB),
        ];
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        for (name, bytes, come) in rows {
            let before = victim.live();
            let mut attackers = Vec::with_capacity(COUNT);
            for _ in 0..COUNT {
                let mut attacker = victim.open_attacker().await;
                attacker.write(&bytes).await.unwrap();
                attackers.push(attacker);
            }
            let least = before + (COUNT * come) as isize;
            let each = (victim.settled(|live| live >= least).await - before) / COUNT as isize;
            assert_eq!(victim.open_ones(), COUNT, "{name}");
            let most = 2 * come as isize + 3_000;
            assert!(each < most, "{target:?}, {name}: {each} B");
            let ends = attackers.into_iter().map(|attacker| attacker.leave());
            for end in join_all(ends).await {
                assert!(matches!(end, End::Open(Err(Error::Eof))), "{name}: {end:?}");
            }
            // What the thread keeps for all connections is bounded: large buffers of 4 MiB, and 16 blocks.
            victim.settled(|live| live < before + 6_000_000).await;
        }
        friend.goes_on().await;
    })
    .await;
}

/// The first half of a continuation frame that announces `size` bytes.
fn half_of(target: Target, size: usize) -> Vec<u8> {
    announced(target, OpCode::Continuation, size as u64, size / 2)
}
