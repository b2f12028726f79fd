//! Closing handshakes that are not answered, not finished, or talked through.

use std::time::Duration;

use longwire::{Config, Error, Side};
use longwire_proto::frame::OpCode;

use crate::attacker::close_code;
use crate::support::frames::{close, frame, split_frames, text};
use crate::victim::{End, Habit, Setup, Target, Victim, each_target};

/// What may be held for a connection that discards what comes: the blocks that are read into.
const PEAK: isize = 300_000;

/// A short close timeout, and a peer for whom nothing else ends.
fn start(target: Target, habit: Habit) -> Victim {
    let config = |config: Config| config.close_timeout(Duration::from_millis(400)).ping_after(None);
    Setup::new(target).config(config).habit(habit).start()
}

/// SECURITY.md: a closing handshake ends, whatever comes meanwhile.
#[tokio::test]
async fn a_close_that_is_not_answered_is_timed_out() {
    each_target(async |target| {
        let victim = start(target, Habit::Close);
        let friend = victim.friend().await;
        let by_client = target.is_server();
        let rows = [
            ("silence", vec![], false),
            ("half an answer", close(by_client, 1001, "再见")[..5].to_vec(), false),
            ("messages without end", text(by_client, "还没完").repeat(1_000), true),
            ("large messages without end", frame(by_client, true, OpCode::Binary, vec![7; 10_000]), true),
            ("one message without end", frame(by_client, true, OpCode::Pong, "").repeat(1_000), true),
        ];
        for (name, bytes, is_endless) in rows {
            let before = victim.rewind();
            let mut attacker = victim.open_attacker().await;
            let came = if is_endless {
                attacker.flood_and_read("", bytes).await
            } else {
                attacker.write(bytes).await.unwrap();
                attacker.read_to_end().await
            };
            let (frames, _) = split_frames(&came);
            assert_eq!(frames[0].close_code(), 1001, "{name}");
            let end = attacker.end().await;
            let is_expected = match name {
                // Too many of them in a row, which is a failure like any other.
                "one message without end" => {
                    matches!(end, End::Open(Err(Error::CloseTimeout | Error::Protocol(_))))
                }
                _ => matches!(end, End::Open(Err(Error::CloseTimeout))),
            };
            assert!(is_expected, "{name}: {end:?}");
            assert!(victim.peak() - before < PEAK, "{name}: {} B", victim.peak() - before);
        }
        friend.goes_on().await;
    })
    .await;
}

/// The peer has answered and does not end TCP, or goes on sending. The closing handshake is complete: the
/// server ends TCP itself, and a client waits no longer than the close timeout (RFC 6455 7.1.1).
#[tokio::test]
async fn a_close_that_is_answered_needs_no_end_of_tcp() {
    each_target(async |target| {
        let by_client = target.is_server();
        for (habit, by) in [(Habit::Close, Side::Us), (Habit::Echo, Side::Peer)] {
            let victim = start(target, habit);
            let friend = victim.friend().await;
            for more in [&[][..], &[0xFF; 5_000]] {
                let before = victim.rewind();
                let mut attacker = victim.open_attacker().await;
                let answer = close(by_client, 1001, "再见");
                if more.is_empty() {
                    attacker.write(answer).await.unwrap();
                } else {
                    attacker.write(answer).await.unwrap();
                    attacker.flood(more).await;
                }
                let end = attacker.end().await;
                match end {
                    End::Open(Ok(closed)) => {
                        assert_eq!(closed.by, by);
                        assert_eq!(u16::from(closed.frame.unwrap().code), 1001);
                    }
                    // A server that ends TCP while the peer still sends is reset, maybe before it has
                    // written its own Close frame.
                    End::Open(Err(Error::Io(_))) if !more.is_empty() => {}
                    other => panic!("{habit:?}: {other:?}"),
                }
                assert!(victim.peak() - before < PEAK, "{} B", victim.peak() - before);
            }
            friend.goes_on().await;
        }
    })
    .await;
}

/// SECURITY.md: nothing is processed after a failure. Who has failed the connection reads on, so that the
/// peer sees why, but not for ever.
#[tokio::test]
async fn a_peer_that_goes_on_after_it_was_failed_is_dropped() {
    each_target(async |target| {
        let victim = start(target, Habit::Echo);
        let friend = victim.friend().await;
        for is_reading in [true, false] {
            let before = victim.rewind();
            let mut attacker = victim.open_attacker().await;
            let bad = [0xFF, 0xFF];
            let more = text(target.is_server(), "听我说").repeat(1_000);
            if is_reading {
                let (frames, _) = split_frames(&attacker.flood_and_read(bad, &more).await);
                assert_eq!((frames.len(), close_code(&frames)), (1, 1002));
            }
            attacker.flood([&bad[..], &more].concat()).await;
            let end = attacker.end().await;
            assert!(matches!(end, End::Open(Err(Error::Protocol(_)))), "{end:?}");
            assert!(victim.peak() - before < PEAK, "{} B", victim.peak() - before);
        }
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: a closing handshake ends, also for a peer that has asked for it and does not read the
/// answer, which waits behind echoes.
#[tokio::test]
async fn a_close_whose_answer_nobody_reads_is_timed_out() {
    each_target(async |target| {
        let by_client = target.is_server();
        // Enough for a Close frame to wait behind, whatever the system takes.
        let config = |config: Config| {
            config.close_timeout(Duration::from_millis(400)).ping_after(None).write_buffer(64 << 20)
        };
        let victim = Setup::new(target).config(config).start();
        let friend = victim.friend().await;
        let mut attacker = victim.narrow_attacker().await;
        let message = frame(by_client, true, OpCode::Binary, vec![7; 60_000]);
        attacker.write(message.repeat(200)).await.unwrap();
        attacker.write(close(by_client, 1000, "")).await.unwrap();
        let end = attacker.end().await;
        assert!(matches!(end, End::Open(Err(Error::CloseTimeout))), "{end:?}");
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: nothing is held for a connection that has failed while its peer is still there.
#[tokio::test]
async fn failed_connections_whose_peers_stay_hold_nothing() {
    const COUNT: usize = 300;
    each_target(async |target| {
        let config = |config: Config| config.close_timeout(Duration::from_millis(1_500));
        let victim = Setup::new(target).config(config).start();
        let friend = victim.friend().await;
        let before = victim.live();
        let mut attackers = Vec::new();
        for _ in 0..COUNT {
            let mut attacker = victim.open_attacker().await;
            // Half a message, so that there is something to give back.
            attacker.write(frame(target.is_server(), false, OpCode::Binary, vec![7; 10_000])).await.unwrap();
            attacker.write([0xFF, 0xFF]).await.unwrap();
            assert_eq!(close_code(&attacker.read_frames().await), 1002);
            attackers.push(attacker);
        }
        let (held, open) = (victim.live() - before, victim.open_ones());
        assert!(held < 4_000 * COUNT as isize, "{held} B for {open}");
        for attacker in attackers {
            let end = attacker.end().await;
            assert!(matches!(end, End::Open(Err(Error::Protocol(_)))), "{end:?}");
        }
        friend.goes_on().await;
    })
    .await;
}
