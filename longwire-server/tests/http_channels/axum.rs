//! Channels within somebody else's server.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use longwire_server::realtime::Realtime;
use longwire_server::realtime::http::Http;

use crate::client::Connection;
use crate::server::config;
use crate::soon;

#[tokio::test]
async fn channels_are_what_a_router_falls_back_to() {
    let http = Http::new(Realtime::new(config("")).expect("channels"));
    let channels = move |ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request| async move {
        http.answer(request, from).await
    };
    let router = Router::new().route("/own", get(|| async { "我的" })).fallback(channels);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    let mut stream = Connection::open(port).await;
    stream.send("GET", "/a", &[("Accept", "text/event-stream")], b"").await;
    assert_eq!(soon(stream.head()).await.status, 200);
    stream.next().await;
    let mut other = Connection::open(port).await;
    other.send("POST", "/a", &[("Content-Type", "text/plain")], "你好".as_bytes()).await;
    let position = soon(other.answer()).await.good()["position"].clone();
    let event = stream.next().await;
    assert_eq!((serde_json::json!(event.id), &*event.data), (position, "你好"));
    other.send("GET", "/own", &[], b"").await;
    assert_eq!(soon(other.answer()).await.body, "我的");
    other.send("GET", "/-/own", &[], b"").await;
    assert_eq!(soon(other.answer()).await.refusal().0, 404);
}
