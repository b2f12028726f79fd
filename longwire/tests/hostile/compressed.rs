//! What peers do that do not read, that reset, flood and dribble, with compression agreed on.

use std::time::Duration;

use longwire::{Config, Error, ProtocolError};
use longwire_proto::frame::OpCode;
use tokio::time::{sleep, timeout};

use crate::attacker::close_code;
use crate::resets::is_reset;
use crate::support::deflated::{TAIL, nothing, stored, zeros};
use crate::support::frames::split_frames;
use crate::victim::{End, Habit, Setup, each_target};

const KIB: usize = 1024;

/// The blocks that are read into, an inflater with its window, the largest message and what becomes of it.
const BASE: isize = 500_000;

/// What a thread has for compressing, besides.
const COMPRESSOR: isize = 500_000;

/// Bytes that become half as many, for they are hexadecimal digits of nothing known.
fn digits(size: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"0123456789abcdef"[(state >> 60) as usize]
    };
    (0..size).map(next).collect()
}

/// SECURITY.md: bytes that wait for a slow reader are bounded; a peer that takes nothing is dropped.
#[tokio::test]
async fn echoes_that_nobody_reads_wait_and_end_with_the_write_timeout() {
    each_target(async |target| {
        let config =
            |config: Config| config.write_buffer(128 * KIB).write_timeout(Duration::from_millis(500));
        for habit in [Habit::Send, Habit::Echo] {
            let victim = Setup::new(target).config(config).deflate().habit(habit).start();
            let friend = victim.friend().await;
            for size in [300, 15 * KIB] {
                let before = victim.rewind();
                let mut attacker = victim.deflating_attacker(true).await;
                let message = attacker.deflated(true, [&stored(&digits(size))[..], &[0]].concat());
                attacker.flood(message.repeat(1 + 100_000 / size)).await;
                let end = attacker.end().await;
                assert!(matches!(end, End::Open(Err(Error::WriteTimeout))), "{habit:?}, {size}: {end:?}");
                let peak = victim.peak() - before;
                let most = BASE + COMPRESSOR + 4 * (128 * KIB + size) as isize;
                assert!(peak < most, "{habit:?}, {size}: {peak} B");
            }
            friend.goes_on().await;
        }
    })
    .await;
}

/// A reset is an error of the transport, wherever in a compressed message it strikes, and leaves nothing.
#[tokio::test]
async fn a_reset_in_the_middle() {
    each_target(async |target| {
        let victim = Setup::new(target).deflate().start();
        let friend = victim.friend().await;
        let before = victim.live();
        for pause in [0, 20] {
            for name in [
                "behind a header",
                "in a block",
                "between fragments",
                "in a bomb",
                "in empty blocks",
                "while it writes",
            ] {
                let mut attacker = victim.deflating_attacker(true).await;
                let whole = attacker.deflated(true, [&stored(&digits(60_000))[..], &[0]].concat());
                let bytes = match name {
                    "behind a header" => whole[..whole.len() - 60_006].to_vec(),
                    "in a block" => whole[..30_000].to_vec(),
                    "between fragments" => attacker.deflated(false, [&zeros(1000)[..], &TAIL].concat()),
                    "in a bomb" => attacker.deflated(true, zeros(60_000))[..40].to_vec(),
                    "in empty blocks" => attacker.deflated(true, nothing(100_000))[..50_000].to_vec(),
                    _ => whole.repeat(100),
                };
                // What is echoed and not read stops it; the rest is what is reset.
                let _ = timeout(Duration::from_millis(100), attacker.write(&bytes)).await;
                sleep(Duration::from_millis(pause)).await;
                match attacker.reset().await {
                    End::Open(Err(Error::Io(error))) if is_reset(&error) => {}
                    other => panic!("{target:?}, {name}: {other:?}"),
                }
            }
        }
        // What the thread keeps for all: large buffers, blocks, a compressor and inflaters.
        victim.settled(|live| live < before + 6_000_000).await;
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: a message has a bounded number of fragments, and Pings between them are answered until then.
#[tokio::test]
async fn pings_between_fragments_are_answered_until_there_are_too_many_fragments() {
    each_target(async |target| {
        let victim = Setup::new(target).deflate().start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = victim.deflating_attacker(false).await;
        let first = attacker.deflated(false, stored(b"x"));
        let fragment = attacker.frame(false, OpCode::Continuation, stored(b"x"));
        let pings = attacker.frame(true, OpCode::Ping, "乒").repeat(5);
        let came = attacker.flood_and_read(first, [fragment, pings].concat().repeat(100)).await;
        let (frames, _) = split_frames(&came);
        assert_eq!(close_code(&frames), 1008);
        assert!(frames.iter().rev().skip(1).all(|frame| frame.is(OpCode::Pong, "乒")));
        let end = attacker.leave().await;
        let End::Open(Err(Error::Protocol(ProtocolError::TooManyFragments { limit: 16_384 }))) = end else {
            panic!("{end:?}");
        };
        assert!(victim.peak() - before < BASE, "{} B", victim.peak() - before);
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: Pongs that wait are bounded; a peer that takes nothing is dropped.
#[tokio::test]
async fn pings_between_fragments_whose_pongs_are_not_read_end_with_the_write_timeout() {
    each_target(async |target| {
        let config = |config: Config| config.write_timeout(Duration::from_millis(500));
        let victim = Setup::new(target).config(config).deflate().start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = victim.deflating_attacker(true).await;
        attacker.write(attacker.deflated(false, stored(b"x"))).await.unwrap();
        let fragment = attacker.frame(false, OpCode::Continuation, nothing(100).split_last().unwrap().1);
        let pings = attacker.frame(true, OpCode::Ping, "乒".repeat(41)).repeat(1_000);
        attacker.flood([fragment, pings].concat()).await;
        let end = attacker.end().await;
        assert!(matches!(end, End::Open(Err(Error::WriteTimeout))), "{end:?}");
        assert!(victim.peak() - before < BASE, "{} B", victim.peak() - before);
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: a message ends, however it dribbles; a peer that is silent is dropped, in the middle of
/// anything. Neither holds more than has come.
#[tokio::test]
async fn a_frame_that_dribbles_is_given_up_after_its_time_or_when_it_stops() {
    each_target(async |target| {
        for stops in [false, true] {
            let config = |config: Config| match stops {
                false => config.message_timeout(Some(Duration::from_secs(1))),
                true => config
                    .ping_after(Some(Duration::from_millis(500)))
                    .pong_timeout(Duration::from_millis(200)),
            };
            let victim = Setup::new(target).config(config).deflate().start();
            let friend = victim.friend().await;
            for (name, payload) in [("nothing", nothing(100_000)), ("bytes", stored(&digits(60_000)))] {
                let mut attacker = victim.deflating_attacker(false).await;
                let before = victim.rewind();
                let mut bytes = attacker.deflated(true, payload);
                bytes.truncate(if stops { 40 } else { 1_000 });
                let _ = attacker.dribble(bytes, Duration::from_millis(15)).await;
                let (frames, end) = (attacker.read_frames().await, attacker.end().await);
                let (code, is_right) = match stops {
                    false => (1008, matches!(end, End::Open(Err(Error::MessageTimeout)))),
                    true => (1011, matches!(end, End::Open(Err(Error::PingTimeout)))),
                };
                assert!(is_right, "{name}: {end:?}");
                assert_eq!(close_code(&frames), code, "{name}");
                assert!(victim.peak() - before < BASE, "{name}: {} B", victim.peak() - before);
            }
            friend.goes_on().await;
        }
    })
    .await;
}
