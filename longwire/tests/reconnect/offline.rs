//! What is sent while there is no connection, and what is promised of it.

use std::io::ErrorKind::TimedOut;
use std::time::Duration;

use longwire::reconnect::{Event, Feed, NotSent, Offline};
use longwire::{Config, WebSocket};
use tokio::io::DuplexStream;

use crate::network::Meets::{Error, Server};
use crate::network::{Network, event, open};
use crate::support::soon;

/// The next messages that a server's end gets, while the feed runs.
async fn hears(
    feed: &mut Feed<DuplexStream>,
    server: &mut WebSocket<DuplexStream>,
    count: usize,
) -> Vec<String> {
    let mut heard = Vec::new();
    let hearing = async {
        while heard.len() < count {
            let message = server.recv().await.unwrap().expect("a message");
            heard.push(message.as_text().unwrap().to_owned());
        }
    };
    tokio::select! {
        () = soon(hearing) => {}
        event = feed.next() => panic!("{event:?}"),
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn by_default_it_is_refused_and_the_error_says_so() {
    let (network, mut servers) = Network::new([Error(TimedOut), Server]);
    let mut feed = network.plan().start();
    assert!(matches!(feed.send("你好").await, Err(NotSent::Offline)));
    assert!(matches!(feed.try_send("你好"), Err(NotSent::Offline)));
    event(&mut feed).await;
    assert!(matches!(feed.send("你好").await, Err(NotSent::Offline)));
    event(&mut feed).await;
    assert!(matches!(feed.send("你好").await, Err(NotSent::Offline)));
    open(&mut feed).await;
    feed.send("now 👋").await.unwrap();
    feed.try_send("and again").unwrap();
    let mut server = servers.next().await;
    assert_eq!(hears(&mut feed, &mut server, 2).await, ["now 👋", "and again"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_out_behind_the_hook_and_before_the_rest_in_order() {
    let (network, mut servers) = Network::new([Error(TimedOut), Server]);
    let plan = network.plan().offline(Offline::Hold { messages: 3, bytes: 100 });
    let mut feed = plan.on_open(async |mut ws, _| Ok(ws.send("订阅").await?)).start();
    feed.send("1").await.unwrap();
    event(&mut feed).await;
    feed.try_send("2").unwrap();
    event(&mut feed).await;
    feed.sender().send("3").await.unwrap();
    assert!(matches!(feed.send("4").await, Err(NotSent::Full)));
    assert_eq!(feed.sender().held(), 3);
    assert!(!feed.sender().is_open());
    open(&mut feed).await;
    assert!(feed.sender().is_open());
    let mut server = servers.next().await;
    // These came later, whatever is still held.
    let sender = feed.sender();
    let later = tokio::spawn(async move {
        while sender.held() > 0 {
            tokio::task::yield_now().await;
        }
        sender.send("5").await.unwrap();
    });
    assert_eq!(hears(&mut feed, &mut server, 5).await, ["订阅", "1", "2", "3", "5"]);
    later.await.unwrap();
    assert_eq!(feed.sender().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_newest_drive_out_the_oldest() {
    let (network, mut servers) = Network::new([Server]);
    let mut feed = network.plan().offline(Offline::HoldNewest { messages: 2, bytes: 8 }).start();
    for text in ["一", "二", "三"] {
        feed.send(text).await.unwrap();
    }
    assert!(matches!(feed.send("nine byte").await, Err(NotSent::Full)));
    assert_eq!((feed.sender().held(), feed.sender().dropped()), (2, 1));
    open(&mut feed).await;
    let mut server = servers.next().await;
    assert_eq!(hears(&mut feed, &mut server, 2).await, ["二", "三"]);
}

/// More is held than a connection takes at once: what it has not taken when it dies goes to the next one,
/// what it has taken does not.
#[tokio::test(start_paused = true)]
async fn nothing_is_handed_to_two_connections() {
    const COUNT: usize = 40;
    let config = Config::client().write_buffer(10_000).no_deflate();
    let (network, mut servers) = Network::with([Server, Server], config, 1024);
    let mut feed = network.plan().offline(Offline::Hold { messages: COUNT, bytes: 100_000 }).start();
    let body = "量".repeat(300);
    for number in 0..COUNT {
        feed.send(format!("{number} {body}")).await.unwrap();
    }
    open(&mut feed).await;
    let mut first = servers.next().await;
    let mut heard = hears(&mut feed, &mut first, 5).await;
    let left = feed.sender().held();
    assert!(left > 0 && left < COUNT - 5, "{left}");
    drop(first);
    assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
    assert_eq!(feed.sender().held(), left, "what was not taken is held");
    open(&mut feed).await;
    let mut second = servers.next().await;
    heard.extend(hears(&mut feed, &mut second, left).await);
    let numbers: Vec<usize> =
        heard.iter().map(|text| text.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "in order and once: {numbers:?}");
    assert_eq!(numbers[..5], [0, 1, 2, 3, 4]);
    assert_eq!(numbers[5..], (COUNT - left..COUNT).collect::<Vec<_>>());
}

/// The connection is dead, and the feed has not been told yet.
#[tokio::test(start_paused = true)]
async fn what_no_connection_takes_is_held_for_the_next() {
    for closes in [true, false] {
        let (network, mut servers) = Network::new([Server, Server]);
        let mut feed = network.plan().offline(Offline::Hold { messages: 9, bytes: 99 }).start();
        open(&mut feed).await;
        let mut server = servers.next().await;
        if closes {
            let closing = tokio::spawn(async move { server.close(1012, "").await });
            // The Close frame is read, the end is not told: the connection takes nothing any more.
            assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
            closing.await.unwrap().unwrap();
        } else {
            drop(server);
            // Writing meets the broken stream: nobody knows what became of this one.
            let lost = feed.send("perhaps").await;
            assert!(matches!(lost, Err(NotSent::Failed(_))), "{lost:?}");
        }
        assert_eq!(feed.sender().is_open(), !closes);
        feed.send("一").await.unwrap();
        feed.try_send("二").unwrap();
        assert_eq!(feed.sender().held(), 2);
        open(&mut feed).await;
        let mut server = servers.next().await;
        assert_eq!(hears(&mut feed, &mut server, 2).await, ["一", "二"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_is_over_takes_nothing() {
    let (network, _servers) = Network::new([Error(TimedOut)]);
    let mut feed = network.plan().max_attempts(1).offline(Offline::Hold { messages: 9, bytes: 99 }).start();
    let sender = feed.sender();
    sender.send("held").await.unwrap();
    event(&mut feed).await;
    assert!(matches!(event(&mut feed).await, Event::GivenUp { .. }));
    assert!(matches!(sender.send("late").await, Err(NotSent::Over)));
    assert!(matches!(sender.try_send("late"), Err(NotSent::Over)));
    assert_eq!(sender.held(), 0);

    let (network, _servers) = Network::new([Server]);
    let mut feed = network.plan().start();
    let sender = feed.sender();
    open(&mut feed).await;
    drop(feed);
    assert!(matches!(sender.send("late").await, Err(NotSent::Over)));
    assert!(!sender.is_open());
}

/// A peer that does not read: what waits is bounded also while there is a connection.
#[tokio::test(start_paused = true)]
async fn try_send_says_when_the_write_buffer_is_full() {
    let config = Config::client().write_buffer(1000).write_timeout(Duration::from_secs(9999)).no_deflate();
    let (network, mut servers) = Network::with([Server], config, 512);
    let mut feed = network.plan().offline(Offline::Hold { messages: 9, bytes: 9999 }).start();
    open(&mut feed).await;
    let _server = servers.next().await;
    let taken = (0..100).take_while(|_| feed.try_send("四百字节".repeat(10)).is_ok()).count();
    assert!((1..100).contains(&taken), "{taken}");
    assert!(matches!(feed.try_send("more"), Err(NotSent::Full)));
    assert_eq!(feed.sender().held(), 0, "what a connection refuses for want of room is not held");
}

/// A task that waits for a peer that does not read learns that the connection is lost.
#[tokio::test(start_paused = true)]
async fn who_waits_to_send_is_told_of_the_loss() {
    let config = Config::client().write_timeout(Duration::from_secs(9999)).no_deflate();
    let (network, mut servers) = Network::with([Server, Server], config, 512);
    let mut feed = network.plan().offline(Offline::Hold { messages: 9, bytes: 9999 }).start();
    open(&mut feed).await;
    let server = servers.next().await;
    let sender = feed.sender();
    let sending = tokio::spawn(async move { sender.send("很多".repeat(1000)).await });
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
        event = feed.next() => panic!("{event:?}"),
    }
    assert!(!sending.is_finished());
    drop(server);
    assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
    let sent = soon(sending).await.unwrap();
    assert!(matches!(sent, Err(NotSent::Failed(_))), "{sent:?}");
    open(&mut feed).await;
    assert_eq!(feed.sender().held(), 0, "it is not sent again");
    feed.send("fresh").await.unwrap();
    let mut server = servers.next().await;
    assert_eq!(hears(&mut feed, &mut server, 1).await, ["fresh"]);
}
