//! Many publishers and many reconnecting subscribers: no gaps and no duplicates.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::server::{Server, Session, at, config};

const PUBLISHERS: usize = 4;
const EACH: usize = 100;

/// Receives until `last`, and reconnects every few messages.
async fn receive_all(server: &Server, every: usize, last: u64) -> Vec<(u64, String)> {
    let mut received: Vec<(u64, String)> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut session: Session = server.session("").await;
        let mut request = json!({"type": "subscribe", "channel": "人来人往"});
        if let Some(after) = &after {
            request["after"] = json!(after);
        }
        let answer = session.request_reply(request).await;
        assert_ne!(answer["recovered"], json!(false), "{answer}");
        if after.is_none() {
            after = answer["position"].as_str().map(str::to_owned);
        }
        for _ in 0..every {
            if received.last().is_some_and(|(offset, _)| *offset >= last) {
                return received;
            }
            let message: Value = session.event().await;
            received.push((at(&message), message["data"].as_str().unwrap().to_owned()));
            after = message["position"].as_str().map(str::to_owned);
        }
        // Without closing it properly.
        drop(session);
    }
}

#[tokio::test]
async fn no_gaps_and_no_duplicates() {
    let server = Server::start(config("[[channel]]\npattern = \">\"\nhistory = { messages = 1000 }\n"));
    let last = (PUBLISHERS * EACH) as u64;
    let mut listeners = Vec::new();
    for every in [7, 23, 1000] {
        listeners.push(receive_all(&server, every, last));
    }
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let server = &server;
        async move {
            // Wait for the subscribers.
            while server
                .realtime
                .hub()
                .presence(&"人来人往".parse().unwrap())
                .is_none_or(|there| there.counts.connections < 3)
            {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let mut session = server.session("").await;
            for number in 0..EACH {
                let data = format!("{publisher}-{number} 🌊");
                session.request_reply(json!({"type": "publish", "channel": "人来人往", "data": data})).await;
            }
        }
    });
    let (received, _) = tokio::join!(join_all(listeners), join_all(publishers));
    for one in &received {
        let offsets: Vec<u64> = one.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (1..=last).collect::<Vec<_>>());
        assert_eq!(one, &received[0]);
    }
}
