//! Keepalive by Ping (5.5.2), the time a closing handshake may take (7.1.1), and the time a write may.

use std::time::Duration;

use longwire_proto::{Cause, CloseFrame, Config, TcpStep};

use crate::frames::{close, decode, encode, ping, text};
use crate::pair::Pair;
use crate::receiver::{Entry, Receiver, Seen};
use crate::row::BOTH;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn receiver(role: longwire_proto::Role, config: &Config) -> Receiver {
    Receiver::new(Entry::Connection, role, config)
}

/// Asks at this moment whether something is due.
fn timeout(end: &mut Receiver) -> Result<(), Cause> {
    end.connection.handle_timeout(&mut end.out, end.now)
}

/// How long until something is due.
fn due_in(end: &Receiver) -> Option<Duration> {
    end.connection.poll_timeout(&end.out).map(|due| due - end.now)
}

fn opcodes(end: &mut Receiver) -> Vec<u8> {
    decode(&end.replies()).into_iter().map(|frame| frame.opcode).collect()
}

#[test]
fn a_ping_is_sent_after_exactly_that_much_silence() {
    for &role in BOTH {
        for (config, silence) in [
            (Config::server(), 20 * SECOND),
            (Config::client(), 20 * SECOND),
            (Config::server().ping_after(Some(7 * SECOND)), 7 * SECOND),
        ] {
            let mut end = receiver(role, &config);
            assert_eq!(due_in(&end), Some(silence));
            end.wait(silence - Duration::from_nanos(1));
            assert_eq!(timeout(&mut end), Ok(()));
            assert!(end.out.is_empty());
            end.wait(Duration::from_nanos(1));
            assert_eq!(timeout(&mut end), Ok(()));
            assert_eq!(opcodes(&mut end), [9]);
            assert_eq!(timeout(&mut end), Ok(()));
            assert!(end.out.is_empty(), "one Ping");
        }
    }
}

/// Any byte counts as life: half a frame, before the Ping and after it.
#[test]
fn any_byte_puts_the_ping_off() {
    for &role in BOTH {
        let mut end = receiver(role, &Config::server());
        for byte in encode(&[text("好")], role) {
            end.wait(20 * SECOND - MS);
            assert_eq!(timeout(&mut end), Ok(()));
            end.feed(&[byte]);
            assert_eq!(due_in(&end), Some(20 * SECOND));
        }
        for byte in encode(&[text("再来")], role) {
            end.wait(20 * SECOND);
            assert_eq!(timeout(&mut end), Ok(()));
            assert_eq!(opcodes(&mut end), [9]);
            assert_eq!(due_in(&end), Some(10 * SECOND));
            end.wait(10 * SECOND - MS);
            assert_eq!(timeout(&mut end), Ok(()));
            end.feed(&[byte]);
            assert_eq!(due_in(&end), Some(20 * SECOND));
        }
        assert_eq!(end.seen, [Seen::Text("好".into()), Seen::Text("再来".into())]);
    }
}

#[test]
fn a_peer_that_stays_silent_after_the_ping_is_gone() {
    for &role in BOTH {
        for (config, silence) in
            [(Config::server(), 10 * SECOND), (Config::client().pong_timeout(3 * SECOND), 3 * SECOND)]
        {
            let mut end = receiver(role, &config);
            end.wait(20 * SECOND);
            timeout(&mut end).unwrap();
            assert_eq!(opcodes(&mut end), [9]);
            end.wait(silence - MS);
            assert_eq!(timeout(&mut end), Ok(()));
            assert!(end.connection.is_open());
            end.wait(MS);
            assert_eq!(timeout(&mut end), Err(Cause::PingTimeout));
            assert!(end.connection.is_done());
            assert_eq!(opcodes(&mut end), [8]);
            end.feed(&encode(&[text("太晚"), ping("")], role));
            assert!(end.seen.is_empty() && end.out.is_empty());
        }
    }
}

/// While our Ping may still wait behind other bytes, silence is no answer to it; the write deadline then
/// tells a slow peer from one that is gone.
#[test]
fn a_ping_that_was_not_written_yet_is_not_missed() {
    for &role in BOTH {
        let mut end = receiver(role, &Config::server());
        end.connection.send(vec![1; 1000].into(), &mut end.out).unwrap();
        for _ in 0..5 {
            end.wait(20 * SECOND);
            assert_eq!(timeout(&mut end), Ok(()));
            bytes::Buf::advance(&mut end.out, 100);
        }
        assert_eq!(bytes::Buf::remaining(&end.out) / 100, 5, "one Ping");
        end.replies();
        // The 500 bytes that waited before the Ping have the time that they take at the lowest rate.
        let allowed = MS * 500 * 1000 / 4096;
        end.wait(10 * SECOND + allowed);
        assert_eq!(timeout(&mut end), Ok(()));
        end.wait(MS * 200);
        assert_eq!(timeout(&mut end), Err(Cause::PingTimeout));

        let mut end = receiver(role, &Config::server());
        end.connection.send("好".into(), &mut end.out).unwrap();
        end.out.block(end.now);
        end.wait(20 * SECOND);
        assert_eq!(timeout(&mut end), Ok(()));
        end.wait(10 * SECOND);
        assert_eq!(timeout(&mut end), Err(Cause::WriteTimeout));
    }
}

#[test]
fn without_keepalive_a_silent_peer_is_kept() {
    for &role in BOTH {
        let mut end = receiver(role, &Config::server().ping_after(None));
        assert_eq!(due_in(&end), None);
        end.wait(1000 * HOUR);
        assert_eq!(timeout(&mut end), Ok(()));
        assert!(end.out.is_empty() && end.connection.is_open());
        // Deadlines beyond the end of time are none.
        let end = receiver(role, &Config::server().ping_after(Some(Duration::MAX)));
        assert_eq!(due_in(&end), None);
    }
}

#[test]
fn an_idle_pair_lives_on_pings() {
    let mut pair = Pair::new(&Config::client().ping_after(None), &Config::server());
    pair.to_client.pieces = vec![1];
    pair.run_for(HOUR);
    assert!(pair.client.connection.is_open() && pair.server.connection.is_open());
    let pings = pair.client.seen.len();
    assert_eq!(pings, pair.server.seen.len());
    assert!((175..=180).contains(&pings), "{pings} in an hour");
    assert!(pair.server.seen.iter().all(|seen| *seen == Seen::Pong(Vec::new())));

    // The client's process is stopped: nothing is read any more.
    let stopped = pair.now;
    pair.to_client.stalled = true;
    pair.run_for(HOUR);
    let (reason, at) = pair.server.timed_out.unwrap();
    assert_eq!(reason, Cause::PingTimeout);
    assert!(at <= stopped + 30 * SECOND);
}

/// A suspended process finds what has come, and asks before it gives a peer up.
#[test]
fn a_process_suspended_for_an_hour_asks_before_it_gives_up() {
    let mut pair = Pair::new(&Config::client(), &Config::server());
    pair.run_for(5 * SECOND);
    pair.client.connection.send("还在".into(), &mut pair.client.out).unwrap();
    pair.suspend(HOUR);
    pair.run_for(60 * SECOND);
    assert_eq!((pair.client.timed_out, pair.server.timed_out), (None, None));
    assert!(pair.server.seen.contains(&Seen::Text("还在".into())));
    assert!(pair.client.connection.is_open() && pair.server.connection.is_open());

    for &role in BOTH {
        let mut end = receiver(role, &Config::server());
        end.wait(HOUR);
        assert_eq!(timeout(&mut end), Ok(()), "the first thing is a Ping");
        assert_eq!(opcodes(&mut end), [9]);
        // Suspended once more, with a Pong in the socket: it is read first, and all is well.
        end.wait(HOUR);
        end.feed(&encode(&[crate::frames::pong("")], role));
        assert_eq!(timeout(&mut end), Ok(()));
        assert_eq!(due_in(&end), Some(20 * SECOND));
    }
}

#[test]
fn no_ping_is_sent_once_closing() {
    for &role in BOTH {
        let config = Config::server().ping_after(Some(SECOND)).close_timeout(HOUR);
        let mut ours = receiver(role, &config);
        ours.connection.close(&CloseFrame::new(1000, ""), &mut ours.out, ours.now).unwrap();
        let mut theirs = receiver(role, &config);
        theirs.feed(&encode(&[close(1000, "")], role));
        for mut end in [ours, theirs] {
            end.replies();
            for _ in 0..59 {
                end.wait(60 * SECOND);
                assert_eq!(timeout(&mut end), Ok(()));
                assert!(end.out.is_empty());
            }
        }
    }
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_dropped_in_time() {
    for &role in BOTH {
        for (config, time) in
            [(Config::server(), 5 * SECOND), (Config::client().close_timeout(2 * SECOND), 2 * SECOND)]
        {
            let mut end = receiver(role, &config);
            end.wait(3 * SECOND);
            end.connection.close(&CloseFrame::new(1000, ""), &mut end.out, end.now).unwrap();
            end.replies();
            assert_eq!(due_in(&end), Some(time));
            // Data does not put it off.
            end.wait(time - MS);
            end.feed(&encode(&[text("还在"), ping("")], role));
            assert_eq!(due_in(&end), Some(MS));
            assert_eq!(timeout(&mut end), Ok(()));
            end.wait(MS);
            assert_eq!(timeout(&mut end), Err(Cause::CloseTimeout));
            assert!(end.connection.is_done() && end.out.is_empty());
        }
    }
}

/// `close_timeout` bounds the closing handshake "the end of TCP included": the peer's Close frame, that
/// comes late, does not begin it anew.
#[test]
fn the_close_deadline_includes_the_end_of_tcp() {
    for &role in BOTH {
        let mut end = receiver(role, &Config::server());
        end.connection.close(&CloseFrame::new(1000, ""), &mut end.out, end.now).unwrap();
        end.replies();
        end.wait(4 * SECOND);
        end.feed(&encode(&[close(1000, "")], role));
        assert_eq!(due_in(&end), Some(SECOND), "of the 5 s that a closing handshake may take");
    }
}

#[test]
fn a_peer_that_does_not_end_tcp_is_dropped_in_time() {
    for &role in BOTH {
        for (frames, what) in [(close(1000, ""), "a clean close"), (text([0xFF]), "a failure")] {
            let mut end = receiver(role, &Config::server());
            end.wait(SECOND);
            end.feed(&encode(&[frames], role));
            end.replies();
            assert_eq!(due_in(&end), Some(5 * SECOND), "{what}");
            end.wait(5 * SECOND - MS);
            end.feed(&encode(&[text("太晚")], role));
            assert_eq!(timeout(&mut end), Ok(()));
            end.wait(MS);
            assert_eq!(timeout(&mut end).err(), end.connection.cause(), "{what}");
            assert_eq!(end.connection.tcp_step(true, end.now), TcpStep::Done, "{what}");
        }
    }
}

/// The write deadline runs from the first write that found no room until a byte is taken.
#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    for &role in BOTH {
        for (config, time) in
            [(Config::server(), 30 * SECOND), (Config::client().write_timeout(SECOND), SECOND)]
        {
            let mut end = receiver(role, &config.ping_after(None));
            end.connection.send("你好".into(), &mut end.out).unwrap();
            assert_eq!(due_in(&end), None, "nothing was tried yet");
            end.out.block(end.now);
            end.wait(time - MS);
            end.out.block(end.now);
            assert_eq!(due_in(&end), Some(MS), "a second attempt does not put it off");
            bytes::Buf::advance(&mut end.out, 0);
            assert_eq!(due_in(&end), Some(MS), "nor does nothing");
            bytes::Buf::advance(&mut end.out, 1);
            assert_eq!(due_in(&end), None, "a byte does");
            end.out.block(end.now);
            assert_eq!(end.connection.write_deadline(&end.out), Some(end.now + time));
            // That the peer sends does not help it.
            end.wait(time - MS);
            end.feed(&encode(&[text("我还在说")], role));
            assert_eq!(timeout(&mut end), Ok(()));
            end.wait(MS);
            assert_eq!(timeout(&mut end), Err(Cause::WriteTimeout));
            assert!(end.connection.is_done());
        }
    }
}

#[test]
fn a_stalled_reader_is_given_up_and_a_slow_one_is_not() {
    let payload = vec![1u8; 300_000];
    let quiet = Config::server().ping_after(None);
    let mut pair = Pair::new(&Config::client().ping_after(None), &quiet);
    pair.to_client.room = 1000;
    pair.to_client.delay = 100 * MS;
    pair.server.connection.send(payload.clone().into(), &mut pair.server.out).unwrap();
    pair.run_for(40 * SECOND);
    assert_eq!(pair.client.seen, [Seen::Binary(payload.clone())], "slow: 1000 bytes in 100 ms");
    assert_eq!(pair.server.timed_out, None);

    pair.to_client.stalled = true;
    pair.server.connection.send(payload.into(), &mut pair.server.out).unwrap();
    let began = pair.now;
    pair.run_for(HOUR);
    assert_eq!(pair.server.timed_out, Some((Cause::WriteTimeout, began + 30 * SECOND)));
}
