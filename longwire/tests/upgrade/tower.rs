//! The layer for tower, before a service of hyper and a router of axum.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::get;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use longwire::tower::WebSocketLayer;
use longwire::{Acceptor, Bytes, Client, ConnectError, Refusal, Upgraded, WebSocket};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{read_to_end, sockets, soon};

fn acceptor() -> Acceptor {
    Acceptor::new().subprotocols(["chat"]).on_request(|request, _| match request.uri().path() {
        "/no" => Err(Refusal::new(StatusCode::FORBIDDEN, "不行 ✋")),
        _ => Ok(()),
    })
}

/// Says which request it was, then echoes.
async fn echo(mut ws: WebSocket<Upgraded>, request: Request<()>) {
    ws.send(request.uri().to_string()).await.unwrap();
    while let Ok(Some(message)) = ws.recv().await {
        ws.send(message).await.unwrap();
    }
}

/// A client over `stream` to a server with the layer.
async fn check(connect: impl AsyncFn() -> TcpStream) {
    let client = Client::new().subprotocols(["chat"]);
    let mut ws = soon(client.handshake("ws://localhost/room?a=1", connect().await)).await.unwrap();
    assert_eq!(ws.subprotocol(), Some("chat"));
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("/room?a=1"));
    ws.send("你好 👋").await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("你好 👋"));
    soon(ws.close(1000, "")).await.unwrap();

    let error = soon(client.handshake("ws://localhost/no", connect().await)).await.unwrap_err();
    let ConnectError::Refused(response) = error else { panic!("{error:?}") };
    assert_eq!((response.status.as_u16(), response.body.as_str()), (403, "不行 ✋"));

    let mut stream = connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let page = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("普通网页 📄"), "{page}");
}

#[derive(Clone)]
struct Page;

impl Service<Request<Incoming>> for Page {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Incoming>) -> Self::Future {
        ready(Ok(Response::new("普通网页 📄".into())))
    }
}

#[tokio::test]
async fn before_a_service_of_hyper() {
    let service = WebSocketLayer::new(acceptor(), echo).layer(Page);
    check(async || {
        let (near, far) = sockets().await;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades().await;
        });
        near
    })
    .await;
}

#[tokio::test]
async fn before_a_router_of_axum() {
    let app = Router::new()
        .route("/", get("普通网页 📄"))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(WebSocketLayer::new(acceptor(), echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    check(async || TcpStream::connect(address).await.unwrap()).await;
}
