//! What waits to be written: its bound, its order, and how it leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use longwire::{Config, Error, SendError, SharedFrame};
use longwire_proto::frame::OpCode;
use support::frames::{frame, messages, text, whole_frames};
use support::wire::Wire;
use support::{client_on, duplex, end_on, poll_once, poll_times, server_on, soon};

#[tokio::test]
async fn sixteen_pipelined_messages_are_echoed_in_one_write() {
    for is_client in [false, true] {
        for size in [0, 1, 125, 126, 2000] {
            let wire = Wire::new();
            let mut ws = end_on(&wire, is_client).await;
            let payloads: Vec<_> = (0..16).map(|i| format!("第{i}条👋{}", "x".repeat(size))).collect();
            wire.input(payloads.iter().flat_map(|payload| text(!is_client, payload)).collect::<Vec<_>>());
            for _ in 0..16 {
                let message = poll_times(ws.recv(), 1).unwrap().unwrap().unwrap();
                poll_times(ws.feed(message), 1).unwrap().unwrap();
            }
            assert_eq!(wire.state().writes, []);
            assert!(poll_times(ws.recv(), 1).is_none());
            assert_eq!(wire.state().writes.len(), 1, "client {is_client}, {size}");
            assert_eq!(ws.buffered_amount(), 0);
            let frames = whole_frames(&wire.take_written());
            assert_eq!(frames.len(), 16);
            for (frame, payload) in frames.iter().zip(payloads) {
                assert!(frame.is(OpCode::Text, payload) && frame.masked == is_client);
            }
        }
    }
}

#[tokio::test]
async fn large_replies_are_gathered_too() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        for i in 0..16u8 {
            poll_times(ws.feed(vec![i; 50_000]), 1).unwrap().unwrap();
            poll_times(ws.feed("小"), 1).unwrap().unwrap();
        }
        assert!(poll_times(ws.recv(), 1).is_none());
        assert_eq!(wire.state().writes.len(), 1, "client {is_client}");
        assert_eq!(messages(&whole_frames(&wire.take_written())).len(), 32);
    }
}

#[tokio::test]
async fn pongs_leave_with_the_replies() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        let mut input = Vec::new();
        for i in 0..4u8 {
            input.extend(frame(!is_client, true, OpCode::Ping, [i]));
            input.extend(text(!is_client, "问"));
            input.extend(frame(!is_client, true, OpCode::Pong, "unasked"));
        }
        wire.input(input);
        while let Some(message) = poll_times(ws.recv(), 1) {
            poll_times(ws.feed(message.unwrap().unwrap()), 1).unwrap().unwrap();
        }
        assert_eq!(wire.state().writes.len(), 1, "client {is_client}");
        let frames = whole_frames(&wire.take_written());
        for (i, pair) in (0..).zip(frames.chunks(2)) {
            assert!(pair[0].is(OpCode::Pong, [i]) && pair[1].is(OpCode::Text, "问"), "{frames:?}");
        }
        assert_eq!(frames.len(), 8);
    }
}

#[tokio::test]
async fn a_ping_passes_messages_that_wait() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().frame_size(40_000)).await;
    wire.room(Some(10));
    poll_times(ws.feed(vec![1; 200_000]), 1).unwrap().unwrap();
    assert!(poll_times(ws.flush(), 1).is_none());
    assert!(poll_times(ws.ping("early"), 1).is_none(), "blocked");
    wire.room(None);
    poll_times(ws.flush(), 1).unwrap().unwrap();
    let frames = whole_frames(&wire.take_written());
    assert!(frames[1].is(OpCode::Ping, "early"), "behind the frame under way");
    assert_eq!(messages(&frames), [(OpCode::Binary, vec![1; 200_000])]);
}

#[tokio::test]
async fn feed_waits_for_room_and_no_longer() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let config = if is_client { Config::client() } else { Config::server() }.write_buffer(10_000);
        let mut ws = if is_client { client_on(&wire, config).await } else { server_on(&wire, config).await };
        wire.room(Some(0));
        poll_times(ws.feed(vec![0; 9_000]), 1).unwrap().unwrap();
        poll_times(ws.feed(vec![1; 9_000]), 1).expect("less than the bound waits").unwrap();
        let waiting = ws.buffered_amount();
        assert!(waiting > 18_000, "{waiting}");
        assert!(poll_times(ws.feed("三"), 5).is_none());
        assert_eq!(ws.buffered_amount(), waiting, "nothing was queued");

        wire.room(Some(5_000));
        assert!(poll_times(ws.feed("三"), 5).is_none());
        assert_eq!(ws.buffered_amount(), waiting - 5_000);
        wire.room(Some(5_000));
        poll_times(ws.feed("三"), 1).expect("less than the bound waits again").unwrap();

        wire.room(None);
        poll_times(ws.flush(), 1).unwrap().unwrap();
        assert_eq!(ws.buffered_amount(), 0);
        let sent = messages(&whole_frames(&wire.take_written()));
        assert_eq!(sent[0].1, [0; 9_000]);
        assert_eq!(sent[1].1, [1; 9_000]);
        assert_eq!(sent[2..], [(OpCode::Text, "三".into())]);
    }
}

#[tokio::test]
async fn without_a_write_buffer_each_message_waits_for_the_one_before() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().write_buffer(1)).await;
    poll_times(ws.send("一"), 1).unwrap().unwrap();
    wire.room(Some(1));
    poll_times(ws.feed("二"), 1).unwrap().unwrap();
    assert!(poll_times(ws.feed("三"), 3).is_none());
    wire.room(None);
    poll_times(ws.send("四"), 1).unwrap().unwrap();
    let sent: Vec<_> = messages(&whole_frames(&wire.take_written()));
    assert_eq!(
        sent.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>(),
        ["一", "二", "四"].map(Vec::from)
    );
}

#[tokio::test]
async fn try_send_fails_when_full_and_queues_nothing() {
    let wire = Wire::new();
    let ws = server_on(&wire, Config::server().write_buffer(1_000)).await;
    wire.room(Some(0));
    let (sender, mut receiver) = ws.split();
    let shared = SharedFrame::new("广播 📣");
    let mut sent = 0;
    let full = loop {
        match if sent % 2 == 0 { sender.try_send("单独") } else { sender.try_send(&shared) } {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SendError::Full), "{full}");
    let waiting = sender.buffered_amount();
    assert!((1_000..1_020).contains(&waiting), "{waiting}");
    assert!(matches!(sender.try_send(vec![0; 5_000]), Err(SendError::Full)));
    assert!(matches!(sender.try_send(&shared), Err(SendError::Full)));
    assert_eq!(sender.buffered_amount(), waiting);
    assert!(poll_times(receiver.recv(), 2).is_none());

    wire.room(Some(waiting - 500));
    assert!(poll_times(receiver.recv(), 2).is_none());
    assert_eq!(sender.buffered_amount(), 500);
    sender.try_send("又有地方了").unwrap();
    wire.room(None);
    assert!(poll_times(receiver.recv(), 1).is_none());
    let messages = messages(&whole_frames(&wire.take_written()));
    assert_eq!(messages.len(), sent + 1);
    for (i, (_, payload)) in messages[..sent].iter().enumerate() {
        assert_eq!(payload, if i % 2 == 0 { "单独".as_bytes() } else { "广播 📣".as_bytes() });
    }
    assert_eq!(messages[sent].1, "又有地方了".as_bytes());
}

/// As TLS does: what was written is not yet sent, and the flush has to wait.
#[tokio::test]
async fn recv_finishes_a_flush_that_had_to_wait() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.block_flush(true);
    poll_times(ws.feed("还在里面"), 1).unwrap().unwrap();
    assert!(poll_times(ws.recv(), 2).is_none());
    assert_eq!(wire.state().flushed, 0);
    wire.block_flush(false);
    assert!(poll_times(ws.recv(), 2).is_none());
    let state = wire.state();
    assert_eq!(state.flushed, state.written.len(), "written, but never flushed");
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_has_the_write_deadline() {
    let wire = Wire::new();
    let config = Config::server().write_timeout(Duration::from_secs(3)).ping_after(None);
    let mut ws = server_on(&wire, config).await;
    wire.block_flush(true);
    let sent = tokio::time::timeout(Duration::from_secs(10), ws.send("不动")).await;
    assert!(matches!(sent.expect("a bound on every wait"), Err(SendError::Failed(Error::WriteTimeout))));
}

#[tokio::test]
async fn what_was_fed_is_written_by_flush_or_a_recv_that_waits() {
    let (mut client, mut server) = duplex(100, Config::client(), Config::server()).await;
    client.feed("一").await.unwrap();
    client.feed("二").await.unwrap();
    assert!(client.buffered_amount() > 0);
    let mut waiting = pin!(client.recv());
    assert!(poll_once(waiting.as_mut()).is_pending());
    for expected in ["一", "二"] {
        assert_eq!(soon(server.recv()).await.unwrap().unwrap().as_text(), Some(expected));
    }
    server.feed("三").await.unwrap();
    server.flush().await.unwrap();
    let Poll::Ready(Ok(Some(message))) = poll_once(waiting.as_mut()) else { panic!("nothing came") };
    assert_eq!(message.as_text(), Some("三"));
}

/// Both send more than the streams hold before either reads: `recv` writes while it waits.
#[tokio::test]
async fn two_ends_that_feed_first_do_not_wait_for_each_other() {
    let (mut client, mut server) = duplex(1_000, Config::client(), Config::server()).await;
    let exchange = |mut ws: longwire::WebSocket<tokio::io::DuplexStream>| async move {
        for i in 0..20 {
            ws.feed(format!("{i} 号 {}", "长".repeat(5_000))).await.unwrap();
        }
        for i in 0..20 {
            let message = ws.recv().await.unwrap().unwrap();
            assert!(message.as_text().unwrap().starts_with(&format!("{i} 号 长")));
        }
        // Keep writing until the peer has everything.
        ws.flush().await.unwrap();
        ws
    };
    client.feed("先").await.unwrap();
    server.feed("先").await.unwrap();
    client.flush().await.unwrap();
    server.flush().await.unwrap();
    client.recv().await.unwrap();
    server.recv().await.unwrap();
    soon(async { tokio::join!(exchange(client), exchange(server)) }).await;
}
