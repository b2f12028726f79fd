//! Whether the peer lives, on a clock that is stopped: Pings after silence, and the end of patience.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use longwire::{Config, Error, SendError, WebSocket};
use longwire_proto::frame::OpCode;
use support::frames::{frame, text, whole_frames};
use support::wire::Wire;
use support::{client_on, duplex, end_on, poll_times, server_on};
use tokio::time::{Instant, advance, sleep, timeout};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The end of a connection, and how long it took.
async fn end_of(ws: &mut WebSocket<Wire>) -> (Error, Duration) {
    let start = Instant::now();
    let error = loop {
        if let Err(error) = ws.recv().await {
            break error;
        }
    };
    (error, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_after_20_s_and_given_up_after_10_more() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        assert!(timeout(Duration::from_millis(19_990), ws.recv()).await.is_err());
        assert!(wire.take_written().is_empty());
        assert!(timeout(Duration::from_millis(20), ws.recv()).await.is_err());
        let frames = whole_frames(&wire.take_written());
        assert!(frames.len() == 1 && frames[0].is(OpCode::Ping, ""), "{frames:?}");
        let (error, elapsed) = end_of(&mut ws).await;
        assert!(matches!(error, Error::PingTimeout), "{error}");
        assert!(
            elapsed > Duration::from_millis(9_980) && elapsed < Duration::from_millis(10_020),
            "{elapsed:?}"
        );
        // What it tells a peer that may still read, without waiting for it.
        assert_eq!(whole_frames(&wire.take_written())[0].close_code(), 1011);
    }
}

#[tokio::test(start_paused = true)]
async fn its_times_are_a_choice() {
    let wire = Wire::new();
    let config = Config::server().ping_after(Some(seconds(3))).pong_timeout(seconds(2));
    let mut ws = server_on(&wire, config).await;
    let (error, elapsed) = end_of(&mut ws).await;
    assert!(matches!(error, Error::PingTimeout));
    assert!(elapsed >= seconds(5) && elapsed < Duration::from_millis(5_020), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn without_it_a_silent_peer_is_kept() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().ping_after(None)).await;
    assert!(timeout(seconds(1_000_000), ws.recv()).await.is_err());
    assert!(wire.take_written().is_empty());
    wire.input(text(true, "醒了"));
    assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("醒了"));
}

#[tokio::test(start_paused = true)]
async fn two_ends_keep_each_other_alive() {
    let (mut client, mut server) = duplex(1_000, Config::client(), Config::server().ping_after(None)).await;
    let idle = async { tokio::join!(client.recv(), server.recv()) };
    assert!(timeout(seconds(10_000), idle).await.is_err(), "nothing came, nothing ended");
    client.send("一万秒以后 👋").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap().as_text(), Some("一万秒以后 👋"));
}

/// One byte of a frame is life, not only a Pong.
#[tokio::test(start_paused = true)]
async fn any_byte_is_life() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = match is_client {
            true => client_on(&wire, Config::client().message_timeout(None)).await,
            false => server_on(&wire, Config::server().message_timeout(None)).await,
        };
        let message = text(!is_client, &"滴".repeat(100));
        for byte in &message[..message.len() - 1] {
            sleep(Duration::from_millis(15)).await;
            wire.input([*byte]);
            assert!(timeout(seconds(19), ws.recv()).await.is_err());
        }
        assert!(wire.take_written().is_empty(), "no Ping was due");
        sleep(Duration::from_millis(950)).await;
        wire.input([message[message.len() - 1]]);
        assert!(ws.recv().await.unwrap().is_some());
        // Nor is it only a Pong after the Ping.
        assert!(timeout(seconds(25), ws.recv()).await.is_err());
        wire.input(&message[..1]);
        assert!(timeout(seconds(19), ws.recv()).await.is_err());
        wire.input(&message[1..]);
        assert!(ws.recv().await.unwrap().is_some());
        let frames = whole_frames(&wire.take_written());
        assert!(frames.len() == 1 && frames[0].is(OpCode::Ping, ""), "{frames:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_large_message_are_life() {
    let wire = Wire::new();
    let mut ws = client_on(&wire, Config::client()).await;
    let message = frame(false, true, OpCode::Binary, vec![9; 200_000]);
    for piece in message.chunks(10_000) {
        assert!(timeout(seconds(19), ws.recv()).await.is_err());
        wire.input(piece);
    }
    assert_eq!(ws.recv().await.unwrap().unwrap().len(), 200_000);
    assert!(wire.take_written().is_empty());
}

/// What came while nobody received counts, however late it is read.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_comes_late_blames_nobody() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    assert!(timeout(seconds(1), ws.recv()).await.is_err());
    wire.input(text(true, "早就到了"));
    advance(seconds(3_600)).await;
    assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("早就到了"));
    advance(seconds(3_600)).await;
    // A Ping, and its time to answer, come before the end.
    let (error, elapsed) = end_of(&mut ws).await;
    assert!(matches!(error, Error::PingTimeout));
    assert!(elapsed >= seconds(10), "{elapsed:?}");
    assert!(whole_frames(&wire.take_written())[0].is(OpCode::Ping, ""));
}

#[tokio::test(start_paused = true)]
async fn sending_is_no_sign_of_the_peers_life() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    let start = Instant::now();
    let error = loop {
        match timeout(seconds(1), ws.recv()).await {
            Err(_) => ws.send("在吗").await.unwrap(),
            Ok(ended) => break ended.unwrap_err(),
        }
    };
    assert!(matches!(error, Error::PingTimeout));
    assert!(start.elapsed() < seconds(31), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_given_up_by_those_who_send() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.room(Some(3));
    let start = Instant::now();
    let sent = ws.send("没人读").await;
    assert!(matches!(sent, Err(SendError::Failed(Error::WriteTimeout))), "{sent:?}");
    let elapsed = start.elapsed();
    assert!(elapsed >= seconds(30) && elapsed < Duration::from_millis(30_020), "{elapsed:?}");
    assert!(matches!(ws.recv().await, Err(Error::WriteTimeout)));
    assert!(ws.send("再试").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn and_by_those_who_receive() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().ping_after(None)).await;
    wire.room(Some(3));
    ws.feed("没人读").await.unwrap();
    let (error, elapsed) = end_of(&mut ws).await;
    assert!(matches!(error, Error::WriteTimeout), "{error}");
    assert!(elapsed >= seconds(30) && elapsed < Duration::from_millis(30_020), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn each_byte_that_is_taken_prolongs_the_write() {
    let wire = Wire::new();
    let config = Config::server().ping_after(None).write_timeout(seconds(5));
    let mut ws = server_on(&wire, config).await;
    wire.room(Some(0));
    ws.feed("慢".repeat(10)).await.unwrap();
    for _ in 0..20 {
        assert!(timeout(seconds(4), ws.flush()).await.is_err());
        wire.room(Some(1));
    }
    assert!(timeout(seconds(4), ws.recv()).await.is_err());
    wire.room(None);
    ws.flush().await.unwrap();
    assert!(whole_frames(&wire.take_written())[0].is(OpCode::Text, "慢".repeat(10)));
}

/// A peer that sends and never reads: there is always input, so no wait ever shows the deadline.
#[tokio::test(start_paused = true)]
async fn input_that_never_pauses_does_not_hide_the_write_timeout() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().write_timeout(seconds(5))).await;
    wire.room(Some(0));
    let start = Instant::now();
    let error = loop {
        wire.input(text(true, "只说不听"));
        match poll_times(ws.recv(), 1).expect("there is always input") {
            Ok(message) => ws.feed(message.unwrap()).await.unwrap(),
            Err(error) => break error,
        }
        advance(Duration::from_millis(100)).await;
    };
    assert!(matches!(error, Error::WriteTimeout), "{error}");
    assert!(start.elapsed() >= seconds(5) && start.elapsed() < seconds(6), "{:?}", start.elapsed());
}

/// One timer serves all deadlines: a later one must not hide an earlier one.
#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_counts() {
    let wire = Wire::new();
    let config = Config::server().write_timeout(seconds(2)).close_timeout(seconds(1));
    let mut ws = server_on(&wire, config.clone()).await;
    assert!(timeout(seconds(1), ws.recv()).await.is_err(), "its timer is now at 20 s");
    wire.room(Some(0));
    let start = Instant::now();
    assert!(matches!(ws.send("x").await, Err(SendError::Failed(Error::WriteTimeout))));
    assert!(start.elapsed() < Duration::from_millis(2_020), "{:?}", start.elapsed());

    let wire = Wire::new();
    let mut ws = server_on(&wire, config).await;
    assert!(timeout(seconds(1), ws.recv()).await.is_err());
    wire.room(Some(0));
    let start = Instant::now();
    assert!(matches!(ws.close(1000, "").await, Err(Error::CloseTimeout)));
    assert!(start.elapsed() < Duration::from_millis(1_020), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_and_says_nothing_lives() {
    let wire = Wire::new();
    let ws = server_on(&wire, Config::server()).await;
    wire.room(Some(0));
    let (sender, mut receiver) = ws.split();
    sender.try_send(vec![7; 900_000]).unwrap();
    let receives = tokio::spawn(async move { receiver.recv().await });
    for _ in 0..30 {
        sleep(Duration::from_secs(6)).await;
        wire.room(Some(1_000));
    }
    assert!(!receives.is_finished(), "it takes some bytes every six seconds");
    sleep(Duration::from_secs(31)).await;
    assert!(matches!(receives.await.unwrap(), Err(Error::PingTimeout | Error::WriteTimeout)));
}

/// A task that has used up Tokio's budget when it comes to receive has its timer all the same.
#[tokio::test(start_paused = true)]
async fn a_task_without_budget_is_pinged_too() {
    for used in [0, 127, 128, 129, 256] {
        let wire = Wire::new();
        let mut ws = server_on(&wire, Config::server()).await;
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        (0..used).for_each(|i| sender.send(i).unwrap());
        let task = tokio::spawn(async move {
            for _ in 0..used {
                receiver.recv().await;
            }
            end_of(&mut ws).await
        });
        let (error, after) = timeout(seconds(120), task).await.expect("nobody looks at the clock").unwrap();
        assert!(matches!(error, Error::PingTimeout), "{error}");
        assert_eq!(after, seconds(30));
    }
}

/// A byte now and then is life, but a message has a time for the whole of it: by default too.
#[tokio::test(start_paused = true)]
async fn what_dribbles_is_given_up_after_its_time() {
    for (is_client, time) in [(false, Some(60)), (true, Some(60)), (false, None), (true, None)] {
        let frame = |fin, opcode, payload: &[u8]| frame(!is_client, fin, opcode, payload);
        let fragments = [
            frame(false, OpCode::Text, "你".as_bytes()),
            frame(false, OpCode::Continuation, b"").repeat(900),
        ];
        let announced = frame(true, OpCode::Binary, &[7; 5000]);
        let ping = frame(true, OpCode::Ping, &[7; 120]);
        // A control frame is as short as that.
        let pause = if is_client && time.is_none() { 10 } else { 1 };
        for (name, bytes) in [("fragments", fragments.concat()), ("a frame", announced), ("a Ping", ping)] {
            let wire = Wire::new();
            let config = |config: Config| match time {
                Some(time) => config.message_timeout(Some(seconds(time))),
                None => config,
            };
            let mut ws = match is_client {
                true => client_on(&wire, config(Config::client())).await,
                false => server_on(&wire, config(Config::server())).await,
            };
            let dribbling = wire.clone();
            let dribble = tokio::spawn(async move {
                for byte in bytes {
                    dribbling.input([byte]);
                    sleep(seconds(pause)).await;
                }
            });
            let (error, elapsed) = end_of(&mut ws).await;
            dribble.abort();
            assert!(matches!(error, Error::MessageTimeout), "{name}: {error}");
            // It lingers until the close timeout, for this peer does not end TCP.
            let due = time.unwrap_or(if is_client { 600 } else { 120 }) + 5;
            assert!(elapsed >= seconds(due - 1) && elapsed < seconds(due + 2), "{name}: {elapsed:?}");
            let closed = whole_frames(&wire.take_written()).iter().any(|one| one.close_code() == 1008);
            assert!(closed, "{name}");
        }
    }
}

/// Each message has its own, and one that is taken in parts has none.
#[tokio::test(start_paused = true)]
async fn messages_one_after_the_other_have_a_time_each() {
    for in_parts in [false, true] {
        let wire = Wire::new();
        let mut ws = server_on(&wire, Config::server().message_timeout(Some(seconds(60)))).await;
        let bytes = if in_parts {
            frame(true, true, OpCode::Binary, vec![7; 300])
        } else {
            // Each read ends within a message, for minutes.
            frame(true, true, OpCode::Binary, vec![7; 24]).repeat(10)
        };
        let dribbling = wire.clone();
        tokio::spawn(async move {
            for byte in bytes {
                dribbling.input([byte]);
                sleep(seconds(1)).await;
            }
        });
        let mut received = 0;
        while received < 240 {
            received += match in_parts {
                true => ws.recv_part().await.unwrap().unwrap().payload.len(),
                false => ws.recv().await.unwrap().unwrap().len(),
            };
        }
    }
}

/// The time of a message begins when the application waits for it whole: not when its header came, for
/// somebody who took parts, and not when another connection on this thread read last.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_message_is_its_own() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().ping_after(None)).await;
    let message = text(true, "你好 👋");
    wire.input(&message[..6]);
    assert!(poll_times(ws.recv_part(), 3).is_none(), "a header is no part");
    advance(seconds(3600)).await;
    assert!(timeout(seconds(119), ws.recv()).await.is_err());
    wire.input(&message[6..]);
    assert_eq!(ws.recv().await.unwrap(), Some("你好 👋".into()));
}

/// Half a message is there and the application does something else for an hour: the rest has come
/// meanwhile, and is taken.
#[tokio::test(start_paused = true)]
async fn an_application_that_takes_its_time_blames_nobody() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().ping_after(None)).await;
    let message = frame(true, true, OpCode::Binary, vec![7; 300_000]);
    wire.input(&message[..1000]);
    assert!(poll_times(ws.recv(), 3).is_none());
    advance(seconds(3600)).await;
    // As much as a socket holds; the peer sends the rest when that is read.
    wire.input(&message[1000..200_000]);
    assert!(timeout(seconds(20), ws.recv()).await.is_err(), "it has not failed");
    wire.input(&message[200_000..]);
    assert_eq!(ws.recv().await.unwrap().unwrap().len(), 300_000);
}

/// A slow link: the peer reads a megabyte that the system has taken at once, and answers the Ping behind it.
#[tokio::test(start_paused = true)]
async fn a_pong_may_come_behind_what_was_written_before() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        ws.send(vec![7; 1_000_000]).await.unwrap();
        assert!(timeout(seconds(50), ws.recv()).await.is_err(), "at 20 kB a second it has the Ping now");
        wire.input(frame(!is_client, true, OpCode::Pong, ""));
        assert!(timeout(seconds(29), ws.recv()).await.is_err());
        assert!(matches!(ws.recv().await, Err(Error::PingTimeout)), "and no more time for the next");
    }
}
