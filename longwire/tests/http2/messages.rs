//! What passes over a stream, and what passes beside it.

use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use longwire::{Acceptor, Client, Config, Deflate, Http2, Message};

use crate::server::Server;
use crate::support::soon;

const TEXT: &str = "你好，世界 👋🌊";

#[tokio::test]
async fn messages_both_ways_and_what_was_negotiated() {
    let acceptor = Acceptor::new().subprotocols(["chat.v2"]).config(Config::server().deflate(Deflate::new()));
    let server = Server::start(acceptor).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();
    let client = Client::new().subprotocols(["chat.v1", "chat.v2"]).header("x-name", "小红");
    let mut ws = connection.open(&client, "/茶馆?room=三 楼").await.unwrap();
    assert_eq!(ws.subprotocol(), Some("chat.v2"));
    assert!(ws.deflate().is_some());
    let long = TEXT.repeat(1000);
    for message in [Message::from(""), TEXT.into(), long.as_str().into(), vec![0u8, 255, 7].into()] {
        ws.send(message.clone()).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(message));
    }
    assert_eq!(connection.streams(), 1);
    soon(ws.close(1000, "")).await.unwrap();
    drop(ws);
    assert_eq!(connection.streams(), 0);

    let mut plain = connection.open(&Client::new().config(Config::client().no_deflate()), "/").await.unwrap();
    assert_eq!((plain.deflate(), plain.subprotocol()), (None, None));
    plain.send(TEXT).await.unwrap();
    assert_eq!(soon(plain.recv()).await.unwrap().unwrap().as_text(), Some(TEXT));
}

/// Windows that a message exceeds many times over, on either side.
#[tokio::test]
async fn large_messages_through_small_windows() {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.enable_connect_protocol().initial_stream_window_size(4096).initial_connection_window_size(65_535);
    let config = Config::server().max_message(4 << 20);
    let server = Server::with(Acceptor::new().config(config), http).await;
    let connection = Http2::new().stream_window(4096).max_streams(1).connect(server.url()).await.unwrap();
    let client = Client::new().config(Config::client().no_deflate());
    let mut ws = connection.open(&client, "/").await.unwrap();
    for size in [4095, 4096, 4097, 65_535, 65_536, 300_000] {
        let message = Message::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
        // Both directions at once: who only sends would be stuck when all windows are full.
        let (sender, mut receiver) = ws.split();
        let echoed = message.clone();
        let sending = tokio::spawn(async move {
            sender.send(echoed).await.unwrap();
            sender
        });
        assert_eq!(soon(receiver.recv()).await.unwrap(), Some(message), "{size}");
        let sender = soon(sending).await.unwrap();
        let (closed, received) = tokio::join!(sender.close(1000, ""), receiver.recv());
        assert_eq!((closed.unwrap(), received.unwrap()), ((), None));
        drop((sender, receiver));
        ws = connection.open(&client, "/").await.unwrap();
    }
}

#[tokio::test]
async fn a_hundred_streams_and_one_that_is_not_read() {
    let server = Server::start(Acceptor::new()).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();
    let client = Client::new().config(Config::client().no_deflate());
    // Its window fills up, and nobody reads it.
    let mut stalled = connection.open(&client, "/flood").await.unwrap();
    let mut others = Vec::new();
    for _ in 1..100 {
        others.push(connection.open(&client, "/").await.unwrap());
    }
    assert_eq!(connection.streams(), 100);
    let full = connection.open(&client, "/").await.unwrap_err().to_string();
    assert!(full.starts_with("the maximum of 100 streams is open"), "{full}");

    let echoes = others.into_iter().enumerate().map(|(number, mut ws)| {
        tokio::spawn(async move {
            for round in 0..10 {
                let message = Message::from(format!("{TEXT} {number} {round}").repeat(300));
                ws.send(message.clone()).await.unwrap();
                assert_eq!(ws.recv().await.unwrap(), Some(message));
            }
            ws.close(1000, "够了").await.unwrap();
        })
    });
    for echo in echoes.collect::<Vec<_>>() {
        soon(echo).await.unwrap();
    }
    // It has lost nothing.
    for _ in 0..20 {
        assert_eq!(soon(stalled.recv()).await.unwrap(), Some(Message::from(vec![7; 64 * 1024])));
    }
}

/// The same client and handler over axum's own server, which tells HTTP/1.1 and HTTP/2 apart by themselves.
#[tokio::test]
async fn axum_over_both_versions() {
    use axum::{Router, routing::any};
    use longwire::axum::WebSocketUpgrade;

    let app = Router::new().route(
        "/",
        any(async |ws: WebSocketUpgrade| {
            let version = format!("{:?} {}", ws.request().version(), ws.request().method());
            ws.on_upgrade(async |mut socket| {
                socket.send(version).await.unwrap();
                while let Ok(Some(message)) = socket.recv().await {
                    socket.send(message).await.unwrap();
                }
            })
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let connection = Http2::new().connect(&url).await.unwrap();
    let mut two = connection.open(&Client::new(), "/").await.unwrap();
    let mut one = longwire::connect(&url).await.unwrap();
    assert_eq!(soon(two.recv()).await.unwrap().unwrap().as_text(), Some("HTTP/2.0 CONNECT"));
    assert_eq!(soon(one.recv()).await.unwrap().unwrap().as_text(), Some("HTTP/1.1 GET"));
    two.send(TEXT).await.unwrap();
    one.send(TEXT).await.unwrap();
    assert_eq!(soon(two.recv()).await.unwrap().unwrap().as_text(), Some(TEXT));
    assert_eq!(soon(one.recv()).await.unwrap().unwrap().as_text(), Some(TEXT));
    soon(two.close(1000, "")).await.unwrap();
    soon(one.close(1000, "")).await.unwrap();
}
