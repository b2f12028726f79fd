//! Channels within an axum application.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use longwire::Acceptor;
use longwire_server::realtime::Realtime;
use longwire_server::realtime::http::Http;

use crate::client::Connection;
use crate::server::{Server, config};
use crate::{in_time, wait_until};

#[tokio::test]
async fn channels_as_the_fallback_of_a_router() {
    let http = Http::new(Realtime::new(config("")).expect("channels"));
    let channels = move |ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request| async move {
        http.handle(request, from).await
    };
    let router = Router::new().route("/own", get(|| async { "我的" })).fallback(channels);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    let mut stream = Connection::open(port).await;
    stream.send("GET", "/a", &[("Accept", "text/event-stream")], b"").await;
    assert_eq!(in_time(stream.head()).await.status, 200);
    stream.next().await;
    let mut other = Connection::open(port).await;
    other.send("POST", "/a", &[("Content-Type", "text/plain")], "你好".as_bytes()).await;
    let position = in_time(other.answer()).await.good()["position"].clone();
    let event = stream.next().await;
    assert_eq!((serde_json::json!(event.id), &*event.data), (position, "你好"));
    other.send("GET", "/own", &[], b"").await;
    assert_eq!(in_time(other.answer()).await.body, "我的");
    other.send("GET", "/-/own", &[], b"").await;
    assert_eq!(in_time(other.answer()).await.refusal().0, 404);
}

#[tokio::test]
async fn a_websocket_keeps_the_extensions_of_its_request() {
    let server = Server::start("");
    let http = Http::new(server.realtime.clone()).websockets(Acceptor::new());
    let given = Arc::new("这里");
    let kept = Arc::downgrade(&given);
    let given = Mutex::new(Some(given));
    let channels = async move |ConnectInfo(from): ConnectInfo<SocketAddr>, mut request: Request| {
        let given = given.lock().expect("no panic").take().expect("one request");
        request.extensions_mut().insert(given);
        http.handle(request, from).await
    };
    let channels = Arc::new(channels);
    let router = Router::new().fallback(move |from, request| {
        let channels = Arc::clone(&channels);
        async move { channels(from, request).await }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/a", listener.local_addr().expect("an address"));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    let mut socket = in_time(longwire::connect(url)).await.expect("open");
    wait_until(|| server.present("a") == 1).await;
    server.publish("a", "你好");
    assert_eq!(in_time(socket.recv()).await.expect("open").expect("open").as_text(), Some("你好"));
    assert_eq!(kept.strong_count(), 1);
    in_time(socket.close(1000, "")).await.expect("closed");
    wait_until(|| kept.strong_count() == 0).await;
}
