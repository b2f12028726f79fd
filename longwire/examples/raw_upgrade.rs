//! A WebSocket whose opening handshake is made by an HTTP library: here by hyper's client, as a program does that has one
//! already, with its connection pool, its proxy or its middleware.
//!
//!     cargo run --example raw_upgrade -- 127.0.0.1:8080 /chat
//!     cargo run --example raw_upgrade -- --demo
//!
//! The demo runs against an echo server of its own, and fails if an echo differs.

use std::env;
use std::error::Error;

use base64::Engine as _;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use longwire::{Acceptor, Bytes, Config, Deflate, DeflateParameters, RawParts, Role, WebSocket};
use longwire_proto::handshake::accept_key;
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--demo"] => demo().await,
        [address, path] => talk(open(address, path).await?).await,
        _ => Err("usage: raw_upgrade ADDRESS PATH | --demo".into()),
    }
}

/// Connects with hyper, and opens a WebSocket over what it hands out.
async fn open(address: &str, path: &str) -> Result<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());

    // RFC 6455 4.1: a nonce of 16 random bytes. A fixed one serves an example only.
    let key = base64::engine::general_purpose::STANDARD.encode(b"a nonce, fixed!!");
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate; client_max_window_bits")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("the server answered {}", response.status()).into());
    }
    let headers = response.headers().clone();
    if headers.get(header::SEC_WEBSOCKET_ACCEPT).is_none_or(|value| *value != accept_key(key.as_bytes())) {
        return Err("the server accepted another request".into());
    }

    let upgraded = hyper::upgrade::on(response).await?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| "not the stream that was given")?;
    let mut raw = RawParts::new(parts.io.into_inner(), Role::Client, Config::client())
        // Messages that the server sent at once may have been read with the response.
        .buffered(parts.read_buf);
    if let Some(parameters) = DeflateParameters::from_headers(&headers) {
        raw = raw.deflate(parameters);
    }
    Ok(raw.open())
}

async fn talk(mut ws: WebSocket<TcpStream>) -> Result<()> {
    println!("connected to {}, compressed: {}", ws.peer_addr()?, ws.deflate().is_some());
    for text in ["你好 👋".to_owned(), "天地玄黄 🌏".repeat(1000)] {
        ws.send(&text).await?;
        match ws.recv().await? {
            Some(echo) if echo == text => println!("{} bytes came back", text.len()),
            other => return Err(format!("{} bytes were answered by {other:?}", text.len()).into()),
        }
    }
    ws.close(1000, "done").await?;
    Ok(())
}

async fn demo() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let acceptor = Acceptor::new().config(Config::server().deflate(Deflate::new()));
        let mut ws = acceptor.accept(stream).await?;
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok::<(), longwire::Error>(())
    });
    talk(open(&address, "/").await?).await?;
    server.await??;
    Ok(())
}
