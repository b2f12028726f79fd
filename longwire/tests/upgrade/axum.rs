//! The extractor in axum, over HTTP/1.1; over HTTP/2 it is in `http2`.

use std::sync::Arc;

use axum::extract::FromRef;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use longwire::axum::{WebSocketRejection, WebSocketUpgrade, WithAcceptor};
use longwire::{
    AcceptError, Acceptor, Client, Config, ConnectError, Deflate, Error, Origins, ProtocolError, Refusal,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{REQUEST, read_head, soon};

async fn serve(app: Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn echo(ws: WebSocketUpgrade) -> Response {
    ws.on_upgrade(async |mut socket| {
        while let Ok(Some(message)) = socket.recv().await {
            socket.send(message).await.unwrap();
        }
    })
}

/// The status and body of a request by a WebSocket client.
async fn refused(client: Client, url: String) -> (u16, String) {
    match soon(client.connect(url)).await {
        Err(ConnectError::Refused(response)) => (response.status.as_u16(), response.body),
        other => panic!("{other:?}"),
    }
}

fn from(origin: &str) -> Client {
    Client::new().header("origin", origin)
}

#[tokio::test]
async fn a_handler_says_what_it_wants() {
    let app = Router::new().route(
        "/chat",
        any(async |ws: WebSocketUpgrade| {
            ws.protocols(["chat.v2", "chat.v1"])
                .config(Config::server().deflate(Deflate::new()))
                .origins(Origins::list(["https://example.com"]).unwrap())
                .on_upgrade(async |mut socket| {
                    let protocol = socket.subprotocol().unwrap().to_owned();
                    socket.send(format!("你好 👋 {protocol} {}", socket.deflate().is_some())).await.unwrap();
                    socket.close(4000, "好").await.unwrap();
                })
        }),
    );
    let address = serve(app).await;
    let client = from("https://example.com").subprotocols(["chat.v1"]);
    let mut ws = soon(client.connect(format!("ws://{address}/chat"))).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("你好 👋 chat.v1 true"));
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, 4000);
    let own = format!("http://{address}");
    assert_eq!(refused(from(&own), format!("ws://{address}/chat")).await.0, 403);
}

#[tokio::test]
async fn the_same_origin_by_default_and_an_acceptor_for_a_route() {
    let lax = Acceptor::new().origins(Origins::Any).on_request(|request, headers| {
        headers.insert("x-lax", "1".parse().unwrap());
        match request.uri().query() {
            Some("no") => Err(Refusal::new(http::StatusCode::IM_A_TEAPOT, "茶 🫖")),
            _ => Ok(()),
        }
    });
    let strict = Acceptor::new().subprotocols(["strict"]);
    let app = Router::new().route("/lax", any(echo).layer(Extension(lax))).route("/", any(echo)).route(
        "/strict",
        any(async move |ws: WebSocketUpgrade| {
            ws.acceptor(&strict).on_upgrade(async |socket| assert_eq!(socket.subprotocol(), Some("strict")))
        }),
    );
    let address = serve(app).await;
    let (status, body) = refused(from("https://evil.example"), format!("ws://{address}/")).await;
    assert_eq!(status, 403);
    assert!(body.contains("RFC 6455 10.2"), "{body}");
    let mut own = soon(from(&format!("http://{address}")).connect(format!("ws://{address}/"))).await.unwrap();
    own.send("自己人").await.unwrap();
    assert_eq!(soon(own.recv()).await.unwrap().unwrap().as_text(), Some("自己人"));
    soon(from("https://evil.example").connect(format!("ws://{address}/lax"))).await.unwrap();
    assert_eq!(refused(Client::new(), format!("ws://{address}/lax?no")).await, (418, "茶 🫖".into()));
    let client = Client::new().subprotocols(["strict"]);
    let mut ws = soon(client.connect(format!("ws://{address}/strict"))).await.unwrap();
    assert_eq!(ws.subprotocol(), Some("strict"));
    assert!(soon(ws.recv()).await.is_err(), "the handler returns without a closing handshake");
}

#[tokio::test]
async fn what_is_no_handshake_is_rejected_with_a_reason() {
    let app = Router::new()
        .route("/", any(echo))
        .route(
            "/both",
            any(async |ws: Option<WebSocketUpgrade>| match ws {
                Some(ws) => echo(ws).await,
                None => "网页 📄".into_response(),
            }),
        )
        .route(
            "/own",
            any(async |ws: Result<WebSocketUpgrade, WebSocketRejection>| match ws {
                Ok(ws) => echo(ws).await,
                Err(rejection) => rejection.refusal().text().to_uppercase().into_response(),
            }),
        );
    let address = serve(app).await;
    let ask = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        soon(read_head(&mut stream)).await
    };
    for (path, line, with, status) in [
        ("/", "Upgrade: websocket", "X: y", 426),
        ("/", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 7", 426),
        ("/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short", 400),
        ("/", "GET", "POST", 405),
        ("/", "x", "x", 101),
        ("/both", "Upgrade: websocket", "X: y", 200),
        ("/both", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 7", 426),
        ("/both", "x", "x", 101),
        ("/own", "Upgrade: websocket", "X: y", 200),
    ] {
        let head = ask(REQUEST.replace(line, with).replace("/chat", path)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {with}: {head}");
    }
}

/// A handler that answers something else: hyper does not get to upgrade.
#[tokio::test]
async fn a_failed_upgrade_is_told() {
    let (told, mut failures) = mpsc::unbounded_channel();
    let impatient = Acceptor::new().handshake_timeout(std::time::Duration::from_millis(50));
    let app = Router::new().route(
        "/chat",
        any(async move |ws: WebSocketUpgrade| {
            let told = told.clone();
            let response = ws
                .acceptor(&impatient)
                .on_failed_upgrade(move |error| drop(told.send(error)))
                .on_upgrade(async |_| panic!("never open"));
            drop(response);
            "别的 🤷"
        }),
    );
    let mut stream = TcpStream::connect(serve(app).await).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(soon(read_head(&mut stream)).await.starts_with("HTTP/1.1 200 "));
    assert!(matches!(soon(failures.recv()).await, Some(AcceptError::Timeout)));
}

/// axum's names, which people who come from its extractor try first.
#[tokio::test]
async fn the_names_of_axum() {
    let app = Router::new().route(
        "/",
        any(async |ws: WebSocketUpgrade| {
            let requested = ws.requested_protocols().collect::<Vec<_>>().join("|");
            assert_eq!(ws.selected_protocol(), None);
            let ws = ws.protocols(["chat.v2", "chat.v1"]).max_message_size(1000);
            let selected = ws.selected_protocol().map(str::to_owned);
            ws.on_upgrade(async move |mut socket| {
                assert_eq!(socket.subprotocol(), selected.as_deref());
                socket.send(format!("{requested} {selected:?}")).await.unwrap();
                let error = socket.recv().await.unwrap_err();
                assert!(matches!(error, Error::Protocol(ProtocolError::MessageTooBig { .. })), "{error:?}");
            })
        }),
    );
    let address = serve(app).await;
    let client = Client::new().subprotocols(["chat.v1", "chat.v2", "other"]);
    let mut ws = soon(client.connect(format!("ws://{address}/"))).await.unwrap();
    let answer = soon(ws.recv()).await.unwrap().unwrap();
    assert_eq!(answer.as_text(), Some("chat.v1|chat.v2|other Some(\"chat.v2\")"));
    ws.send("大".repeat(400)).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, 1009);
}

#[derive(Clone)]
struct App {
    acceptor: Acceptor,
}

impl FromRef<App> for Acceptor {
    fn from_ref(app: &App) -> Self {
        app.acceptor.clone()
    }
}

/// Whatever way the acceptor comes in, its limit holds.
#[tokio::test]
async fn an_acceptor_is_found() {
    let acceptor = Acceptor::new().config(Config::server().max_message(1000));
    let from_state = async |WithAcceptor(ws): WithAcceptor| echo(ws).await;
    let app = Router::new()
        .route("/extension", any(echo).layer(Extension(acceptor.clone())))
        .route("/shared", any(echo).layer(Extension(Arc::new(acceptor.clone()))))
        .route("/state", any(from_state))
        .with_state(App { acceptor });
    let address = serve(app).await;
    for path in ["extension", "shared", "state"] {
        let mut ws = soon(Client::new().connect(format!("ws://{address}/{path}"))).await.unwrap();
        ws.send("大".repeat(333)).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().len(), 999, "{path}");
        ws.send("大".repeat(334)).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap(), None, "{path}");
        assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, 1009, "{path}");
    }
}
