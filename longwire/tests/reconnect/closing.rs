//! Closed by this end, at each stage: for good.

use std::io::ErrorKind::TimedOut;
use std::time::Duration;

use longwire::reconnect::{Event, Offline};
use longwire::{CloseCode, Config, Error as Failed, Side};
use tokio::time::sleep;

use crate::network::Meets::{Error, Server, Silence};
use crate::network::{Network, brief, event, open};
use crate::support::soon;

const NONE: &str = "closed without a connection";

#[tokio::test(start_paused = true)]
async fn before_it_begins_while_it_connects_and_while_it_waits() {
    for (script, events) in [(Silence, 0), (Silence, 1), (Error(TimedOut), 2)] {
        let (network, servers) = Network::new([script, Server]);
        let mut feed = network.plan().start();
        for _ in 0..events {
            event(&mut feed).await;
        }
        // From another task, while the feed waits.
        let sender = feed.sender();
        let asked = tokio::spawn(async move {
            if events > 0 {
                sleep(Duration::from_millis(10)).await;
            }
            sender.start_close(1000, "够了").unwrap();
        });
        if events == 0 {
            asked.await.unwrap();
        }
        assert_eq!(brief(&event(&mut feed).await), NONE, "behind {events} events");
        assert!(feed.next().await.is_none());
        assert!(servers.is_empty(), "it does not connect again");
        assert!(matches!(feed.close(1000, "").await, Ok(None)), "closing twice is no error");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_hook_runs() {
    let (network, mut servers) = Network::new([Server]);
    let plan = network.plan().on_open(async |mut ws, _| {
        ws.recv().await?;
        Ok(())
    });
    let mut feed = plan.start();
    event(&mut feed).await;
    let mut server = tokio::select! {
        server = servers.next() => server,
        event = feed.next() => panic!("{event:?}"),
    };
    assert!(matches!(feed.close(1000, "").await, Ok(None)));
    assert!(matches!(soon(server.recv()).await, Err(Failed::Eof)));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_by_a_closing_handshake_behind_what_waits() {
    let (network, mut servers) = Network::new([Server]);
    let mut feed = network.plan().offline(Offline::Hold { messages: 9, bytes: 99 }).start();
    feed.send("held 一").await.unwrap();
    open(&mut feed).await;
    let sender = feed.sender();
    sender.try_send("held 二").unwrap();
    let mut server = servers.next().await;
    server.send("last words 👋").await.unwrap();
    let serving = tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(message) = server.recv().await.unwrap() {
            heard.push(message.as_text().unwrap().to_owned());
        }
        (heard, server.closed().cloned())
    });
    sender.start_close(4001, "够了").unwrap();
    // The first that was said counts.
    sender.start_close(4002, "").unwrap();
    assert_eq!(brief(&event(&mut feed).await), "message last words 👋");
    assert_eq!(brief(&event(&mut feed).await), "closed by Us");
    assert!(feed.next().await.is_none());
    let (heard, closed) = serving.await.unwrap();
    assert_eq!(heard, ["held 一", "held 二"]);
    let frame = closed.unwrap().frame.unwrap();
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::from(4001), "够了"));
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_the_handshake_and_no_longer_than_its_time() {
    let (network, mut servers) = Network::new([Server]);
    let mut feed = network.plan().start();
    open(&mut feed).await;
    let mut server = servers.next().await;
    tokio::spawn(async move { server.recv().await });
    let closed = feed.close(1000, "").await.unwrap().unwrap();
    assert_eq!(closed.by, Side::Us);

    let config = Config::client().close_timeout(Duration::from_secs(3));
    let (network, mut servers) = Network::with([Server, Server], config, 64 * 1024);
    let mut feed = network.plan().start();
    open(&mut feed).await;
    let _silent = servers.next().await;
    assert!(matches!(feed.close(1000, "").await, Err(Failed::CloseTimeout)));
    assert!(feed.next().await.is_none(), "it does not connect again");
}

#[tokio::test(start_paused = true)]
async fn a_code_that_may_not_be_sent_changes_nothing() {
    let (network, mut servers) = Network::new([Server]);
    let mut feed = network.plan().start();
    for code in [999, 1004, 1006, 1015, 5000] {
        assert!(matches!(feed.close(code, "").await, Err(Failed::Send(_))), "{code}");
    }
    assert!(feed.close(1000, &"x".repeat(124)).await.is_err());
    open(&mut feed).await;
    let mut server = servers.next().await;
    server.send("still here").await.unwrap();
    assert_eq!(brief(&event(&mut feed).await), "message still here");
    feed.sender().start_close(1000, &"x".repeat(123)).unwrap();
    tokio::spawn(async move { server.recv().await });
    assert!(matches!(event(&mut feed).await, Event::Closed(Ok(Some(_)))));
}

/// Both ends close at once: it is closed, and not lost.
#[tokio::test(start_paused = true)]
async fn the_peer_may_be_faster() {
    let (network, mut servers) = Network::new([Server, Server]);
    let mut feed = network.plan().start();
    open(&mut feed).await;
    let mut server = servers.next().await;
    tokio::spawn(async move { server.close(1012, "").await });
    tokio::task::yield_now().await;
    let closed = feed.close(1000, "").await.unwrap();
    assert!(closed.is_some());
    assert!(feed.next().await.is_none());
}
