//! `next` is cancel-safe: dropped at each await, it loses nothing.

use std::io::ErrorKind::TimedOut;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use longwire::reconnect::{Event, Feed, Offline};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};

use crate::network::Meets::{Answer, Error, Server};
use crate::network::{Network, brief};
use crate::support::poll_once;

/// The next event, by futures that are polled once and dropped; counts them.
async fn chopped(feed: &mut Feed<DuplexStream>, drops: &mut usize) -> Option<Event> {
    let began = Instant::now();
    loop {
        if let Poll::Ready(event) = poll_once(pin!(feed.next())) {
            return event;
        }
        *drops += 1;
        assert!(began.elapsed() < Duration::from_secs(3600), "it hangs");
        sleep(Duration::from_millis(1)).await;
    }
}

/// A life of a feed, with all its stages. What it tells and what its servers hear.
async fn life(chop: bool) -> (Vec<String>, Vec<Vec<String>>, usize) {
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let (network, mut servers) = Network::new([Error(TimedOut), Server, Answer(busy), Server]);
    let plan = network.plan().offline(Offline::Hold { messages: 9, bytes: 99 }).on_open(async |mut ws, _| {
        ws.send("订阅").await?;
        sleep(Duration::from_millis(20)).await;
        ws.recv().await?.ok_or("no answer")?;
        Ok(())
    });
    let mut feed = plan.start();
    feed.send("held").await.unwrap();
    let sender = feed.sender();
    let serving = tokio::spawn(async move {
        let mut all = Vec::new();
        for connection in 0..2 {
            let mut server = servers.next().await;
            let mut heard = Vec::new();
            heard.push(server.recv().await.unwrap().unwrap().as_text().unwrap().to_owned());
            sleep(Duration::from_millis(20)).await;
            server.feed("ok").await.unwrap();
            for number in 0..5 {
                server.feed(format!("{connection} 消息 {number}")).await.unwrap();
            }
            server.flush().await.unwrap();
            sleep(Duration::from_millis(50)).await;
            if connection == 0 {
                heard.push(server.recv().await.unwrap().unwrap().as_text().unwrap().to_owned());
                drop(server);
            } else {
                sender.start_close(1000, "").unwrap();
                assert!(server.recv().await.unwrap().is_none());
            }
            all.push(heard);
        }
        all
    });
    let (mut told, mut drops) = (Vec::new(), 0);
    loop {
        let event = if chop { chopped(&mut feed, &mut drops).await } else { feed.next().await };
        let Some(event) = event else { break };
        told.push(brief(&event));
    }
    (told, serving.await.unwrap(), drops)
}

#[tokio::test(start_paused = true)]
async fn a_life_in_futures_that_are_polled_once_is_the_same_life() {
    let (told, heard, _) = life(false).await;
    let (chopped_told, chopped_heard, drops) = life(true).await;
    assert_eq!(chopped_told, told);
    assert_eq!(chopped_heard, heard);
    assert!(drops > 500, "{drops}");
    assert_eq!(heard, [vec!["订阅", "held"], vec!["订阅"]]);
    assert_eq!(told.iter().filter(|event| event.starts_with("message ")).count(), 10);
    assert_eq!(told.iter().filter(|event| event.starts_with("open ")).count(), 2);
    assert_eq!(told.last().map(String::as_str), Some("closed by Us"));
}
