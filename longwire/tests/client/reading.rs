//! A feed that is stuck: the read timeout.

use std::time::Duration;

use longwire::{Config, Error, Kind};
use longwire_proto::frame::OpCode;
use tokio::time::{Instant, sleep, timeout};

use crate::support::frames::{frame, text};
use crate::support::wire::Wire;
use crate::support::{client_on, duplex, poll_times};

const LIMIT: Duration = Duration::from_secs(60);

fn limited() -> Config {
    Config::client().read_timeout(Some(LIMIT)).no_deflate()
}

/// A peer that answers Pings and says nothing more is no feed.
#[tokio::test(start_paused = true)]
async fn pongs_are_no_messages() {
    let (mut client, mut server) = duplex(10_000, limited(), Config::server()).await;
    let start = Instant::now();
    let serves = async {
        server.send("第一条").await.unwrap();
        // It answers Pings meanwhile.
        assert!(timeout(Duration::from_secs(50), server.recv()).await.is_err());
        server.send("第二条").await.unwrap();
        server.recv().await
    };
    let hears = async {
        for _ in 0..2 {
            assert!(client.recv().await.unwrap().unwrap().as_text().is_some());
        }
        let ended = client.recv().await;
        assert!(matches!(ended, Err(Error::ReadTimeout)), "{ended:?}");
        let elapsed = start.elapsed();
        assert!((110_000..110_100).contains(&elapsed.as_millis()), "{elapsed:?}");
        drop(client);
    };
    // The server is told why.
    let (heard, ()) = tokio::join!(serves, hears);
    assert_eq!(heard.unwrap(), None);
    let frame = server.closed().unwrap().frame.clone().unwrap();
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, "read timeout"));
}

#[tokio::test(start_paused = true)]
async fn by_default_there_is_none() {
    let (mut client, mut server) = duplex(10_000, Config::client(), Config::server()).await;
    let idle = async { tokio::join!(client.recv(), server.recv()) };
    assert!(timeout(Duration::from_secs(100_000), idle).await.is_err());
}

/// What is half received has its own limit; parts count each.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_is_not_silence() {
    let wire = Wire::new();
    let config = limited().ping_after(None).message_timeout(Some(3 * LIMIT));
    let mut ws = client_on(&wire, config.clone()).await;
    wire.input(frame(false, false, OpCode::Text, "一半"));
    let start = Instant::now();
    assert!(matches!(ws.recv().await, Err(Error::MessageTimeout)));
    assert!(start.elapsed() >= 3 * LIMIT);

    let wire = Wire::new();
    let mut ws = client_on(&wire, config).await;
    let start = Instant::now();
    for count in 0..4 {
        let opcode = if count == 0 { OpCode::Text } else { OpCode::Continuation };
        wire.input(frame(false, false, opcode, "一段"));
        let part = ws.recv_part().await.unwrap().unwrap();
        assert_eq!((part.kind, part.payload.len()), (Kind::Text, 6));
        assert!(timeout(Duration::from_secs(50), ws.recv_part()).await.is_err());
    }
    assert!(matches!(ws.recv_part().await, Err(Error::ReadTimeout)));
    // The peer, which does not end TCP, is given the close timeout of 5 s to read why.
    assert!((215_000..215_100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

/// What has come while nobody listened is not late.
#[tokio::test(start_paused = true)]
async fn a_message_that_waits_is_not_late() {
    let wire = Wire::new();
    let mut ws = client_on(&wire, limited().ping_after(None)).await;
    assert!(poll_times(ws.recv(), 1).is_none());
    sleep(10 * LIMIT).await;
    wire.input(text(false, "在这儿"));
    assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("在这儿"));
    // A closing handshake has a limit of its own.
    assert!(matches!(ws.close(1000, "").await, Err(Error::CloseTimeout)));
}
