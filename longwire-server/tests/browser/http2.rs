//! A browser's WebSocket over TLS, as a stream of the page's HTTP/2 connection and over HTTP/1.1 on the same
//! port.

use std::sync::{Arc, Mutex};

use axum::response::{Html, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use longwire::axum::WebSocketUpgrade;
use longwire::{Acceptor, Config, Deflate, Message};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::devtools::Browser;

/// What the server has received, in order.
type Seen = Arc<Mutex<Vec<String>>>;

const PAGE: &str = "<!doctype html><meta charset=utf-8><title>茶馆</title><p id=state>here";

/// In the page: opens a socket, receives the greeting, sends, receives echoes, closes, and returns the
/// results.
const TALK: &str = r"(async () => {
    const socket = new WebSocket(`wss://${location.host}/echo`, ['chat.v1', 'chat.v2']);
    const heard = [];
    const next = () => new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(data);
        socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`));
    });
    heard.push(await next());
    for (const text of ['你好，世界 👋🌊', '天地玄黄，宇宙洪荒。🚀'.repeat(20000)]) {
        socket.send(text);
        heard.push((await next()) === text);
    }
    const closed = new Promise(resolve => socket.onclose = resolve);
    socket.close(4001, '午饭 🍜');
    const { code, reason, wasClean } = await closed;
    const page = performance.getEntriesByType('navigation')[0].nextHopProtocol;
    return [page, socket.protocol, socket.extensions, ...heard, code, reason, wasClean];
})()";

async fn echo(ws: WebSocketUpgrade, Extension(seen): Extension<Seen>) -> Response {
    let asked = format!("{:?} {}", ws.request().version(), ws.request().method());
    seen.lock().expect("not poisoned").push(asked.clone());
    ws.on_upgrade(async move |mut socket| {
        socket.send(format!("{asked} 欢迎 🍵")).await.expect("sent");
        while let Ok(Some(message)) = socket.recv().await {
            if let Message::Text(text) = &message {
                seen.lock().expect("not poisoned").push(text.chars().take(8).collect());
            }
            socket.send(message).await.expect("sent");
        }
        let closed = socket.closed().expect("a closing handshake").frame.clone().expect("a code");
        seen.lock().expect("not poisoned").push(format!("{} {}", closed.code, closed.reason));
    })
}

/// Starts a TLS server with these protocols, and returns its port.
async fn serve(protocols: &[&str], seen: Seen) -> u16 {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.into()], key)
        .expect("a certificate");
    tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tls = TlsAcceptor::from(Arc::new(tls));

    let acceptor = Acceptor::new().subprotocols(["chat.v2"]).config(Config::server().deflate(Deflate::new()));
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/echo", any(echo))
        .layer(Extension(seen))
        .layer(Extension(acceptor));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2().enable_connect_protocol();

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, http, app) = (tls.clone(), http.clone(), app.clone());
            tokio::spawn(async move {
                // Browsers open spare connections.
                let Ok(stream) = tls.accept(stream).await else { return };
                let service = TowerToHyperService::new(app);
                let _ = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    port
}

async fn talks(protocols: &[&str], page: &str, asked: &str) {
    let seen = Seen::default();
    let port = serve(protocols, Arc::clone(&seen)).await;
    let mut browser = Browser::start_with(&["--ignore-certificate-errors"]).await;
    let tab = browser.open(&format!("https://127.0.0.1:{port}/")).await;
    let expected = json!([
        page,
        "chat.v2",
        "permessage-deflate; server_no_context_takeover",
        format!("{asked} 欢迎 🍵"),
        true,
        true,
        4001,
        "午饭 🍜",
        true
    ]);
    assert_eq!(browser.value(&tab, TALK).await, expected);
    let seen = seen.lock().expect("not poisoned").clone();
    assert_eq!(seen, [asked, "你好，世界 👋🌊", "天地玄黄，宇宙洪", "4001 午饭 🍜"]);
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_websocket_is_a_stream_of_the_pages_connection() {
    talks(&["h2", "http/1.1"], "h2", "HTTP/2.0 CONNECT").await;
}

#[tokio::test]
async fn the_same_server_without_http2() {
    talks(&["http/1.1"], "http/1.1", "HTTP/1.1 GET").await;
}
