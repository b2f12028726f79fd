//! Counters that many share, from many threads.

use longwire::{Acceptor, Client, Counters};
use tokio::io::duplex;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_that_many_tasks_do_is_counted() {
    const PAIRS: u64 = 50;
    const MESSAGES: u64 = 40;
    let counters = Counters::new();
    let mut tasks = Vec::new();
    for _ in 0..PAIRS {
        let (near, far) = duplex(1000);
        let (acceptor, client) = (Acceptor::new().counters(&counters), Client::new().counters(&counters));
        tasks.push(tokio::spawn(async move {
            let mut ws = acceptor.accept(near).await.unwrap();
            while let Some(message) = ws.recv().await.unwrap() {
                ws.send(message).await.unwrap();
            }
        }));
        tasks.push(tokio::spawn(async move {
            let mut ws = client.handshake("ws://localhost/", far).await.unwrap();
            for number in 0..MESSAGES {
                ws.send(format!("第 {number:03} 条")).await.unwrap();
                ws.recv().await.unwrap().unwrap();
            }
            ws.close(1000, "").await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let snapshot = counters.snapshot();
    assert_eq!((snapshot.open, snapshot.opened, snapshot.closed), (0, 2 * PAIRS, 2 * PAIRS));
    assert_eq!(snapshot.received, snapshot.sent);
    assert_eq!(
        (snapshot.sent.texts, snapshot.sent.text_bytes),
        (2 * PAIRS * MESSAGES, 2 * PAIRS * MESSAGES * 11)
    );
    let text = snapshot.prometheus("chat");
    assert!(
        text.contains("\nchat_connections_ended_total{cause=\"closed_by_us\",code=\"1000\"} 50\n"),
        "{text}"
    );
    assert!(text.contains("\nchat_messages_total{direction=\"sent\",kind=\"text\"} 4000\n"), "{text}");
}
