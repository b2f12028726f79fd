//! The hook that prepares each connection: it comes first, its failure is the connection's, and it has its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longwire::Message;
use longwire::reconnect::{Cause, Event, GaveUp};
use tokio::time::Instant;

use crate::network::Meets::Server;
use crate::network::{Network, brief, event, open};
use crate::support::soon;

#[tokio::test(start_paused = true)]
async fn it_resumes_where_the_application_is() {
    let (network, mut servers) = Network::new([Server, Server]);
    let position = Arc::new(AtomicU64::new(0));
    let remembered = Arc::clone(&position);
    let plan = network.plan().on_open(move |mut ws, attempt| {
        let from = remembered.load(Ordering::Relaxed);
        async move {
            ws.send(format!("from {from}, {} before", attempt.opened)).await?;
            match ws.recv().await? {
                Some(Message::Text(text)) if text.as_str() == "好" => Ok(()),
                other => Err(format!("{other:?}").into()),
            }
        }
    });
    let mut feed = plan.start();
    for (from, opened) in [(0, 0), (7, 1)] {
        let serving = async {
            let mut server = servers.next().await;
            let asked = server.recv().await.unwrap().unwrap();
            assert_eq!(asked.as_text(), Some(&*format!("from {from}, {opened} before")));
            server.send("好").await.unwrap();
            server.send("news 📰").await.unwrap();
            server
        };
        let (attempt, server) = tokio::join!(open(&mut feed), serving);
        assert_eq!(attempt.opened, opened);
        let Event::Message(news) = event(&mut feed).await else { panic!("a message") };
        assert_eq!(news.as_text(), Some("news 📰"), "the answer was the hook's");
        position.store(7, Ordering::Relaxed);
        drop(server);
        assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn its_failure_is_a_lost_connection() {
    let (network, mut servers) = Network::new([Server, Server]);
    let plan = network.plan().on_open(
        async |_, attempt| {
            if attempt.number == 1 { Err("不行".into()) } else { Ok(()) }
        },
    );
    let mut feed = plan.start();
    assert_eq!(brief(&event(&mut feed).await), "connecting 1");
    let lost = event(&mut feed).await;
    assert_eq!(brief(&lost), "lost 500 ms: the new connection could not be prepared: 不行");
    assert!(matches!(lost, Event::Lost { cause: Cause::Hook(_), .. }));
    assert!(soon(servers.next().await.recv()).await.is_err(), "it was dropped");
    let attempt = open(&mut feed).await;
    assert_eq!((attempt.number, attempt.opened), (2, 0), "it never was open");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_has_its_time() {
    let (network, mut servers) = Network::new([Server, Server]);
    let plan = network.plan().open_timeout(Duration::from_secs(2)).on_open(async |mut ws, attempt| {
        if attempt.number == 1 {
            ws.recv().await?;
        }
        Ok(())
    });
    let mut feed = plan.start();
    event(&mut feed).await;
    let began = Instant::now();
    let lost = event(&mut feed).await;
    assert!(matches!(lost, Event::Lost { cause: Cause::OpenTimeout, .. }), "{lost:?}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2020), "{took:?}");
    assert!(soon(servers.next().await.recv()).await.is_err(), "it was dropped");
    assert_eq!(open(&mut feed).await.number, 2);
}

/// A server that judges the first message: its close code decides, whatever the hook makes of the end.
#[tokio::test(start_paused = true)]
async fn how_the_connection_ended_is_the_cause() {
    let (network, mut servers) = Network::new([Server, Server]);
    let plan = network.plan().on_open(async |mut ws, _| {
        ws.send("令牌").await?;
        ws.recv().await?.ok_or("no answer")?;
        Ok(())
    });
    let mut feed = plan.start();
    tokio::spawn(async move {
        let mut server = servers.next().await;
        server.recv().await.unwrap();
        // Without a closing handshake.
        drop(server);
        let mut server = servers.next().await;
        server.recv().await.unwrap();
        server.close(1008, "who are you?").await.unwrap();
    });
    event(&mut feed).await;
    let lost = event(&mut feed).await;
    assert!(matches!(lost, Event::Lost { cause: Cause::Failed(_), .. }), "{lost:?}");
    event(&mut feed).await;
    let given_up = event(&mut feed).await;
    assert_eq!(brief(&given_up), "given up Permanent: closed with 1008: who are you?");
    assert!(matches!(given_up, Event::GivenUp { cause: Cause::Closed(_), why: GaveUp::Permanent }));
}

/// A hook that keeps what it was lent leaves the feed nothing to go on with.
#[tokio::test(start_paused = true)]
async fn a_connection_that_the_hook_keeps_is_lost() {
    let (network, _servers) = Network::new([Server]);
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keeps = Arc::clone(&kept);
    let plan = network.plan().on_open(move |ws, _| {
        *keeps.lock().unwrap() = Some(ws);
        async { Ok(()) }
    });
    let mut feed = plan.start();
    event(&mut feed).await;
    let lost = event(&mut feed).await;
    assert_eq!(
        brief(&lost),
        "lost 500 ms: the new connection could not be prepared: the hook did not drop the connection"
    );
    assert!(kept.lock().unwrap().is_some());
}
