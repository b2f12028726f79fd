//! A shutdown that includes the sockets: everybody is told, in turns, and who does not go is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longwire::{Acceptor, Client, CloseFrame, Connections, Error, Shutdown, Side, WebSocket};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::support::{pair, soon};

const SPREAD: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

fn shutdown(code: u16, reason: &str) -> Shutdown {
    Shutdown::new(code, reason).spread(SPREAD).timeout(TIMEOUT)
}

/// Echoes, until the connection ends.
async fn echo(mut ws: WebSocket<DuplexStream>) {
    while let Ok(Some(message)) = ws.recv().await {
        ws.send(message).await.unwrap();
    }
    assert_eq!(ws.closed().unwrap().by, Side::Us);
}

/// Clients of as many connections that are served.
async fn served(connections: &Connections, count: usize) -> Vec<WebSocket<DuplexStream>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let (client, server) = pair().await;
        tokio::spawn(connections.serve(server, echo));
        clients.push(client);
    }
    clients
}

#[tokio::test(start_paused = true)]
async fn all_are_closed_in_turns() {
    let connections = Connections::new();
    let mut clients = served(&connections, 100).await;
    for client in &mut clients {
        client.send("在吗").await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap().as_text(), Some("在吗"));
    }
    assert_eq!(connections.count(), 100);
    let began = Instant::now();
    let ends: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                assert_eq!(client.recv().await.unwrap(), None);
                let closed = client.closed().unwrap().clone();
                assert_eq!((closed.by, closed.frame), (Side::Peer, Some(CloseFrame::new(1012, "重启 🔄"))));
                began.elapsed()
            })
        })
        .collect();
    let left = connections.shutdown(shutdown(1012, "重启 🔄")).await;
    assert_eq!((left, connections.count()), (0, 0));
    assert!(began.elapsed() <= SPREAD + Duration::from_millis(100), "{:?}", began.elapsed());
    let mut turns = Vec::new();
    for end in ends {
        turns.push(end.await.unwrap());
    }
    turns.sort();
    // Never many at once, and all over the window.
    for tenth in 0..10u32 {
        let within = |turn: &&Duration| (SPREAD * tenth / 10..SPREAD * (tenth + 1) / 10).contains(*turn);
        let count = turns.iter().filter(within).count();
        assert!((8..=12).contains(&count), "{tenth}: {count} {turns:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_is_dropped() {
    let connections = Connections::new();
    let (mut client, server) = pair().await;
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counted = Counted(Arc::clone(&dropped));
    tokio::spawn(connections.serve(server, async move |ws| {
        let _kept = (ws, counted);
        std::future::pending::<()>().await;
    }));
    let began = Instant::now();
    let left = connections.shutdown(shutdown(1001, "")).await;
    assert_eq!(left, 1);
    assert_eq!(began.elapsed().as_secs(), (SPREAD + TIMEOUT).as_secs());
    // It was not told, for its handler did not look.
    assert!(matches!(client.recv().await, Err(Error::Eof)));
    assert_eq!((dropped.load(Ordering::Relaxed), connections.count()), (1, 0));

    // Behind the end, handlers are not begun.
    let (mut client, server) = pair().await;
    connections.serve(server, async |_| panic!("not begun")).await;
    assert!(matches!(client.recv().await, Err(Error::Eof)));
}

/// Peers that do not answer the closing handshake are given up by its own deadline.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_holds_nobody_up() {
    let connections = Connections::new();
    let (client, server) = pair().await;
    tokio::spawn(connections.serve(server, async |mut ws| {
        assert!(matches!(ws.recv().await, Err(Error::CloseTimeout)));
    }));
    let began = Instant::now();
    assert_eq!(connections.shutdown(Shutdown::new(1001, "").timeout(TIMEOUT * 2)).await, 0);
    assert_eq!(began.elapsed().as_secs(), 5);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_is_closed_at_once() {
    let connections = Connections::new();
    let stopping = tokio::spawn(connections.stopping());
    let shutting = tokio::spawn({
        let connections = connections.clone();
        // One that holds it up until the end.
        let (client, server) = pair().await;
        let held = connections.serve(server, |ws| async move {
            let _kept = (ws, client);
            std::future::pending::<()>().await;
        });
        tokio::spawn(held);
        async move { connections.shutdown(shutdown(1012, "")).await }
    });
    stopping.await.unwrap();
    tokio::time::sleep(SPREAD + TIMEOUT / 2).await;
    let began = Instant::now();
    let mut late = served(&connections, 1).await;
    assert_eq!(late[0].recv().await.unwrap(), None);
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(shutting.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_code_that_may_not_be_sent_becomes_1001_and_a_long_reason_is_cut() {
    let long = "好".repeat(42);
    for (code, reason, sent) in
        [(1006, "重启", (1001, "重启")), (999, "", (1001, "")), (1012, long.as_str(), (1012, &long[..123]))]
    {
        let connections = Connections::new();
        let mut clients = served(&connections, 1).await;
        let (left, end) = tokio::join!(connections.shutdown(Shutdown::new(code, reason)), clients[0].recv());
        assert_eq!((left, end.unwrap()), (0, None));
        assert_eq!(clients[0].closed().unwrap().frame, Some(CloseFrame::new(sent.0, sent.1)));
    }
}

/// A connection that was split and one that floods go as well.
#[tokio::test]
async fn however_a_connection_is_used() {
    let connections = Connections::new();
    let (split, server) = pair().await;
    tokio::spawn(connections.serve(server, async |ws| {
        let (sender, mut receiver) = ws.split();
        let sending = tokio::spawn(async move {
            while sender.send("tick").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        while let Ok(Some(_)) = receiver.recv().await {}
        sending.await.unwrap();
    }));
    let (flood, server) = pair().await;
    tokio::spawn(connections.serve(server, echo));
    let clients = [(split, false), (flood, true)].map(|(client, floods)| {
        let (sender, mut receiver) = client.split();
        let sending = tokio::spawn(async move { while floods && sender.send("洪水 🌊").await.is_ok() {} });
        tokio::spawn(async move {
            let mut received = 0;
            while let Ok(Some(_)) = receiver.recv().await {
                received += 1;
            }
            sending.await.unwrap();
            (received, receiver.closed().unwrap().frame)
        })
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let left = soon(
        connections
            .shutdown(Shutdown::new(1001, "走").spread(Duration::from_millis(10)).timeout(TIMEOUT * 2)),
    )
    .await;
    assert_eq!(left, 0);
    for client in clients {
        let (received, frame) = soon(client).await.unwrap();
        assert!(received > 0);
        assert_eq!(frame, Some(CloseFrame::new(1001, "走")));
    }
}

/// Whoever has opened them: here an acceptor on TCP, with axum beside it.
#[tokio::test]
async fn axum_and_an_acceptor_stop_together() {
    use axum::{Extension, Router, response::Response, routing::any};
    use longwire::axum::WebSocketUpgrade;

    async fn wait(ws: WebSocketUpgrade, Extension(connections): Extension<Connections>) -> Response {
        ws.on_upgrade(move |socket| {
            connections.serve(socket, async |mut socket| {
                assert_eq!(socket.recv().await.unwrap(), None);
            })
        })
    }

    let connections = Connections::new();
    let app = Router::new().route("/", any(wait)).layer(Extension(connections.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, app).with_graceful_shutdown(connections.stopping());
    let server = tokio::spawn(async move { server.await });

    let mut by_axum = longwire::connect(&url).await.unwrap();
    let (near, far) = tokio::io::duplex(4096);
    let (client, acceptor) = (Client::new(), Acceptor::new());
    let (by_acceptor, accepted) =
        tokio::join!(client.handshake("ws://localhost", near), acceptor.accept(far));
    tokio::spawn(connections.serve(accepted.unwrap(), echo));
    let mut by_acceptor = by_acceptor.unwrap();
    while connections.count() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let (left, one, other) = tokio::join!(
        connections.shutdown(Shutdown::new(1001, "").timeout(TIMEOUT)),
        by_axum.recv(),
        by_acceptor.recv()
    );
    assert_eq!((left, one.unwrap(), other.unwrap()), (0, None, None));
    drop(by_axum);
    soon(server).await.unwrap().unwrap();
}
