//! Floods of Pings and Pongs, read or not.

use std::time::Duration;

use longwire::{Config, Error, ProtocolError};
use longwire_proto::frame::OpCode;

use crate::attacker::close_code;
use crate::support::frames::split_frames;
use crate::victim::{End, Habit, Setup, each_target};

/// The blocks that are read into, the 16 KiB of Pongs that may wait, and what the outbox keeps.
const PEAK: isize = 300_000;

/// SECURITY.md: control frames in a row are bounded.
#[tokio::test]
async fn a_flood_of_control_frames_ends_with_1008() {
    each_target(async |target| {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        for (opcode, payload) in
            [(OpCode::Ping, "".to_owned()), (OpCode::Ping, "乒".repeat(41)), (OpCode::Pong, "乓".repeat(41))]
        {
            let before = victim.rewind();
            let mut attacker = victim.open_attacker().await;
            let flood = attacker.frame(true, opcode, &payload).repeat(1_000);
            let came = attacker.flood_and_read("", flood).await;
            let (frames, _) = split_frames(&came);
            assert_eq!(close_code(&frames), 1008, "{opcode:?}");
            let pongs = &frames[..frames.len() - 1];
            assert!(pongs.iter().all(|frame| frame.is(OpCode::Pong, &payload)));
            assert_eq!(pongs.is_empty(), opcode == OpCode::Pong);
            let end = attacker.leave().await;
            let End::Open(Err(Error::Protocol(ProtocolError::TooManyControlFrames { limit: 10_000 }))) = end
            else {
                panic!("{opcode:?}: {end:?}");
            };
            assert!(victim.peak() - before < PEAK, "{} B", victim.peak() - before);
        }
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: control frames in a row are bounded, also for who does not read the answers.
#[tokio::test]
async fn a_flood_of_pings_whose_pongs_are_not_read_ends_with_1008() {
    each_target(async |target| {
        let config = |config: Config| config.close_timeout(Duration::from_millis(500));
        let victim = Setup::new(target).config(config).start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = victim.narrow_attacker().await;
        let flood = attacker.frame(true, OpCode::Ping, "乒".repeat(41)).repeat(1_000);
        attacker.flood(flood).await;
        let end = attacker.end().await;
        let End::Open(Err(Error::Protocol(ProtocolError::TooManyControlFrames { limit: 10_000 }))) = end
        else {
            panic!("{end:?}");
        };
        assert!(victim.peak() - before < PEAK, "{} B", victim.peak() - before);
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: Pongs that wait are bounded; a peer that takes nothing is dropped. A data frame now and
/// then keeps the Pings from being too many in a row.
#[tokio::test]
async fn pongs_that_nobody_reads_are_bounded_and_end_with_the_write_timeout() {
    each_target(async |target| {
        let config = |config: Config| config.write_timeout(Duration::from_millis(500));
        let victim = Setup::new(target).config(config).habit(Habit::Listen).start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = victim.narrow_attacker().await;
        let mut flood = attacker.frame(true, OpCode::Ping, "乒".repeat(41)).repeat(1_000);
        flood.extend(attacker.frame(true, OpCode::Text, "不读"));
        attacker.flood(flood).await;
        let end = attacker.end().await;
        assert!(matches!(end, End::Open(Err(Error::WriteTimeout))), "{end:?}");
        assert!(victim.peak() - before < PEAK, "{} B", victim.peak() - before);
        friend.goes_on().await;
    })
    .await;
}
