//! `Stream` and `Sink` in two tasks, as futures' `StreamExt::split` gives them: each half is woken for what it
//! waits for, whatever the other one does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use longwire::{Config, Error, Message, Side, WebSocket};
use support::{duplex, pair, soon};
use tokio::task::yield_now;
use tokio::time::Instant;

/// Lets all other tasks go on until they wait.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_send_that_waits_is_woken_though_the_stream_was_polled_since() {
    let (ws, mut peer) = duplex(1024, Config::client(), Config::server()).await;
    let (mut sink, mut stream) = StreamExt::split(ws);
    let reader = tokio::spawn(async move {
        let mut count = 0;
        while let Some(Ok(_)) = stream.next().await {
            count += 1;
        }
        count
    });
    let writer = tokio::spawn(async move {
        for text in ["一", "二 👋", "三"] {
            sink.send(Message::from(text.repeat(1000))).await.unwrap();
        }
        SinkExt::<Message>::close(&mut sink).await.unwrap();
    });
    // The writer waits for the peer to read; then something comes, and the reader waits again.
    settle().await;
    for _ in 0..3 {
        soon(peer.send("你好")).await.unwrap();
        settle().await;
    }
    let mut received = Vec::new();
    while let Some(message) = soon(peer.recv()).await.unwrap() {
        received.push(message.as_text().unwrap().chars().next().unwrap());
    }
    assert_eq!(received, ['一', '二', '三']);
    soon(writer).await.unwrap();
    assert_eq!(soon(reader).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_when_the_sink_closes() {
    for answers in [true, false] {
        let (ws, mut peer) = pair().await;
        let (mut sink, mut stream) = StreamExt::split(ws);
        let reader = tokio::spawn(async move { stream.next().await });
        settle().await;
        let begun = Instant::now();
        soon(SinkExt::<Message>::close(&mut sink)).await.unwrap();
        if answers {
            assert_eq!(soon(peer.recv()).await.unwrap(), None);
            assert!(soon(reader).await.unwrap().is_none());
            assert_eq!(begun.elapsed(), Duration::ZERO);
        } else {
            let item = soon(reader).await.unwrap();
            assert!(matches!(item, Some(Err(Error::CloseTimeout))), "{item:?}");
            // Not only when keepalive would have looked again.
            assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_notices_a_dead_network_under_a_send() {
    // The peer never reads; the send waits, or its caller has given it up.
    for patience in [Duration::from_millis(300), Duration::from_secs(600)] {
        let config = Config::client()
            .ping_after(Some(Duration::from_secs(1)))
            .pong_timeout(Duration::from_secs(1))
            .write_timeout(Duration::from_secs(3));
        let (ws, _peer) = duplex(1024, config, Config::server()).await;
        let (mut sink, mut stream) = StreamExt::split(ws);
        let begun = Instant::now();
        let reader = tokio::spawn(async move { stream.next().await });
        settle().await;
        let writer = tokio::spawn(async move {
            let sent = tokio::time::timeout(patience, sink.send(Message::from("断".repeat(50_000)))).await;
            (sink, sent)
        });
        let item = soon(reader).await.unwrap();
        assert!(matches!(item, Some(Err(Error::PingTimeout | Error::WriteTimeout))), "{item:?}");
        assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
        let (_sink, sent) = soon(writer).await.unwrap();
        // It is woken by the end, too.
        assert!(!matches!(sent, Ok(Ok(()))), "{sent:?}");
    }
}

/// What the server sends until it has read the client's Close frame reaches the stream.
#[tokio::test]
async fn forward_loses_no_answer() {
    let (ws, mut peer) = pair().await;
    let (sink, stream) = StreamExt::split(ws);
    let server = tokio::spawn(async move {
        while let Some(message) = peer.recv().await.unwrap() {
            settle().await;
            if peer.send(message).await.is_err() {
                break;
            }
        }
    });
    let messages = (0..10).map(|i| Ok(Message::from(format!("{i} 👋"))));
    let sending = stream::iter(messages).forward(sink);
    let (sent, received) = soon(async { tokio::join!(sending, stream.try_collect::<Vec<_>>()) }).await;
    sent.unwrap();
    let received = received.unwrap();
    assert_eq!(received.len(), 10);
    assert_eq!(received[9].as_text(), Some("9 👋"));
    soon(server).await.unwrap();
}

#[tokio::test]
async fn closing_the_sink_leaves_what_comes_to_the_stream() {
    let (mut ws, mut peer) = pair().await;
    for text in ["一", "二"] {
        soon(peer.send(text)).await.unwrap();
    }
    soon(SinkExt::send(&mut ws, Message::from("再见"))).await.unwrap();
    soon(SinkExt::<Message>::close(&mut ws)).await.unwrap();
    // Closing again is no error, and sends nothing more.
    soon(SinkExt::<Message>::close(&mut ws)).await.unwrap();
    assert!(soon(SinkExt::send(&mut ws, Message::from("太晚"))).await.is_err());
    assert_eq!(soon(peer.recv()).await.unwrap(), Some(Message::from("再见")));
    assert_eq!(soon(peer.recv()).await.unwrap(), None);
    assert_eq!(peer.closed().unwrap().by, Side::Peer);
    let received: Vec<Message> = soon(StreamExt::by_ref(&mut ws).try_collect()).await.unwrap();
    assert_eq!(received, [Message::from("一"), Message::from("二")]);
    assert_eq!(ws.closed().unwrap().by, Side::Us);
}

/// A connection is moved between the two ways to use it.
#[tokio::test]
async fn the_halves_are_put_together_again() {
    let (ws, mut peer) = pair().await;
    let (mut sink, mut stream) = StreamExt::split(ws);
    soon(sink.send(Message::from("一"))).await.unwrap();
    soon(peer.send("二")).await.unwrap();
    assert_eq!(soon(stream.next()).await.unwrap().unwrap(), Message::from("二"));
    let ws: WebSocket<_> = stream.reunite(sink).unwrap();
    let (sender, mut receiver) = ws.split();
    soon(sender.send("三")).await.unwrap();
    soon(peer.send("四")).await.unwrap();
    assert_eq!(soon(receiver.recv()).await.unwrap(), Some(Message::from("四")));
    for text in ["一", "三"] {
        assert_eq!(soon(peer.recv()).await.unwrap(), Some(Message::from(text)));
    }
}
