//! Peers that never read what they are sent.

use std::time::Duration;

use futures_util::future::join_all;
use longwire::engine::SlowConsumer;
use longwire::{Config, Error};
use longwire_proto::frame::OpCode;
use tokio::time::{Instant, sleep};

use crate::attacker::close_code;
use crate::victim::{End, Habit, PATIENCE, Setup, Target, each_target};

const KIB: usize = 1024;

fn config(config: Config) -> Config {
    config.write_buffer(128 * KIB).write_timeout(Duration::from_millis(500))
}

/// What may be held for a peer that reads nothing, where messages have this size: four times what may wait,
/// for what was written already may lie before it, and buffers grow by doubling; the blocks that are read
/// into.
const fn most(size: usize) -> isize {
    (4 * (128 * KIB + size) + 3 * 64 * KIB) as isize
}

/// SECURITY.md: bytes that wait for a slow reader are bounded; a peer that takes nothing is dropped.
#[tokio::test]
async fn echoes_that_nobody_reads_wait_and_end_with_the_write_timeout() {
    each_target(async |target| {
        for habit in [Habit::Send, Habit::Echo] {
            let victim = Setup::new(target).config(config).habit(habit).start();
            let friend = victim.friend().await;
            for size in [100, 15 * KIB] {
                let before = victim.rewind();
                let mut attacker = victim.narrow_attacker().await;
                let flood = attacker.frame(true, OpCode::Binary, vec![7; size]).repeat(1 + 100_000 / size);
                attacker.flood(flood).await;
                let end = attacker.end().await;
                assert!(matches!(end, End::Open(Err(Error::WriteTimeout))), "{habit:?}, {size}: {end:?}");
                let peak = victim.peak() - before;
                assert!(peak < most(size), "{habit:?}, {size}: {peak} B");
            }
            friend.goes_on().await;
        }
    })
    .await;
}

/// SECURITY.md: bytes that wait for a slow reader are bounded: `try_send` fails, and whoever broadcasts is
/// not held up.
#[tokio::test]
async fn broadcasts_that_nobody_reads_are_bounded() {
    each_target(async |target| {
        for size in [1_000, 15 * KIB] {
            // What waits for who is subscribed is bounded by a policy of its own.
            let policy = SlowConsumer::drop_oldest(128 * KIB);
            let habit = Habit::Broadcast(size);
            let victim = Setup::new(target).config(config).slow_consumers(policy).habit(habit).start();
            let friend = victim.friend().await;
            let before = victim.rewind();
            let attacker = victim.narrow_attacker().await;
            let end = attacker.end().await;
            assert!(matches!(end, End::Open(Err(Error::WriteTimeout))), "{size}: {end:?}");
            assert!(victim.full() > 10, "{size}: full {} times", victim.full());
            let peak = victim.peak() - before;
            assert!(peak < most(size), "{size}: {peak} B");
            friend.goes_on().await;
        }
    })
    .await;
}

/// SECURITY.md: who is subscribed to a topic of an engine and reads too slowly is closed, and told so if it
/// reads after all.
#[tokio::test]
async fn a_slow_consumer_is_closed_with_1013() {
    for size in [1_000, 15 * KIB] {
        let config = |limits| config(limits).close_timeout(Duration::from_secs(1));
        let victim = Setup::new(Target::Engine).config(config).habit(Habit::Broadcast(size)).start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attacker = victim.narrow_attacker().await;
        let began = Instant::now();
        // It has until then to read what was written before.
        while victim.peak() - before < (128 * KIB) as isize {
            assert!(began.elapsed() < PATIENCE);
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(100)).await;
        let frames = attacker.read_frames().await;
        assert_eq!(close_code(&frames), 1013, "{size}");
        let end = attacker.end().await;
        assert!(matches!(end, End::Open(Err(Error::SlowConsumer))), "{size}: {end:?}");
        let peak = victim.peak() - before;
        assert!(peak < most(size), "{size}: {peak} B");
        friend.goes_on().await;
    }
}

/// What the attacked thread keeps for all its connections together is bounded: 4 MiB of buffers of large
/// messages, and 16 blocks of 64 KiB.
#[tokio::test]
async fn a_thread_keeps_a_bounded_pool_of_large_buffers() {
    each_target(async |target| {
        let victim = Setup::new(target).habit(Habit::Listen).start();
        let friend = victim.friend().await;
        let before = victim.live();
        for size in [33 * KIB, 50 * KIB, 64 * KIB] {
            let attackers: Vec<_> = join_all((0..20).map(|_| victim.open_attacker())).await;
            let ends = attackers.into_iter().map(async |mut attacker| {
                for _ in 0..20 {
                    let message = attacker.frame(true, OpCode::Binary, vec![7; size]);
                    attacker.write(message).await.unwrap();
                }
                attacker.sync().await;
                attacker.leave().await
            });
            for end in join_all(ends).await {
                assert!(matches!(end, End::Open(Err(Error::Eof | Error::Io(_)))), "{end:?}");
            }
        }
        let kept = victim.settled(|_| true).await - before;
        assert!(kept < (5 * KIB * KIB + 200 * KIB) as isize, "{kept} B");
        friend.goes_on().await;
    })
    .await;
}
