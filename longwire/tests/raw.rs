//! Connections over streams whose opening handshake was done elsewhere, and what a connection runs on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use longwire::{
    Acceptor, Bytes, Config, Counters, Deflate, DeflateParameters, Message, RawParts, Role, WebSocket,
};
use longwire_proto::frame::OpCode;
use longwire_proto::handshake::accept_key;
use support::frames::{frame, text};
use support::{sockets, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

#[tokio::test]
async fn both_ends_over_a_stream_in_memory() {
    let (near, far) = duplex(1024);
    let mut client = WebSocket::from_raw(near, Role::Client, Config::client());
    let mut server = WebSocket::from_raw(far, Role::Server, Config::server());
    assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
    assert!(client.deflate().is_none() && client.subprotocol().is_none());
    let sends = async {
        for text in ["你好 👋".to_owned(), "长".repeat(10_000)] {
            client.send(text.as_str()).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap().as_text(), Some(text.as_str()));
        }
        client.close(1000, "再见").await.unwrap();
    };
    let echoes = async {
        while let Some(message) = server.recv().await.unwrap() {
            server.send(message).await.unwrap();
        }
    };
    soon(async { tokio::join!(sends, echoes) }).await;
    assert_eq!(server.closed().unwrap().frame.as_ref().unwrap().reason.as_str(), "再见");
}

#[tokio::test]
async fn bytes_behind_the_handshake_come_first() {
    for role in [Role::Client, Role::Server] {
        let by_client = role == Role::Server;
        let (near, mut far) = duplex(1024);
        let all =
            [text(by_client, "一"), frame(by_client, true, OpCode::Binary, [2, 2]), text(by_client, "三 👋")]
                .concat();
        // Cut within the second message.
        let cut = text(by_client, "一").len() + 3;
        let config = if by_client { Config::server() } else { Config::client() };
        let mut ws = RawParts::new(near, role, config).buffered(all[..cut].to_vec()).open();
        far.write_all(&all[cut..]).await.unwrap();
        let expected = [Message::from("一"), Message::from(vec![2, 2]), Message::from("三 👋")];
        for message in expected {
            assert_eq!(soon(ws.recv()).await.unwrap(), Some(message));
        }
    }
}

#[tokio::test]
async fn what_was_negotiated_holds() {
    let parameters = DeflateParameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 10,
        client_max_window_bits: 15,
    };
    let counters = Counters::new();
    let (near, far) = duplex(64 * 1024);
    let mut client = RawParts::new(near, Role::Client, Config::client())
        .deflate(parameters)
        .subprotocol("chat")
        .counters(&counters)
        .open();
    let mut server = RawParts::new(far, Role::Server, Config::server()).deflate(parameters).open();
    assert_eq!((client.deflate(), client.subprotocol()), (Some(parameters), Some("chat")));
    let long = "天地玄黄 🌏".repeat(1000);
    soon(client.send(long.as_str())).await.unwrap();
    assert_eq!(soon(server.recv()).await.unwrap().unwrap().as_text(), Some(long.as_str()));
    drop(client);
    let snapshot = counters.snapshot();
    assert!(snapshot.sent.wire_bytes < long.len() as u64 / 10, "it was compressed: {snapshot:?}");
    assert_eq!((snapshot.opened, snapshot.open), (1, 0));
}

#[tokio::test]
async fn the_stream_is_given_back() {
    let (near, mut far) = duplex(1024);
    let mut ws = WebSocket::from_raw(near, Role::Server, Config::server());
    soon(ws.send("你好")).await.unwrap();
    ws.get_mut().flush().await.unwrap();
    let mut stream = ws.into_inner();
    stream.write_all(b"raw").await.unwrap();
    drop(stream);
    let mut bytes = Vec::new();
    soon(far.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, [&text(false, "你好")[..], b"raw"].concat());
}

/// hyper's client makes the request and hands out what is behind the 101.
#[tokio::test]
async fn a_client_of_hypers() {
    let (near, far) = sockets().await;
    let server = tokio::spawn(async move {
        let config = Config::server().deflate(Deflate::new());
        let mut ws = Acceptor::new().config(config).subprotocols(["chat"]).accept(far).await.unwrap();
        // Behind the response at once, so that hyper may have read it.
        ws.send("欢迎 👋").await.unwrap();
        while let Some(message) = ws.recv().await.unwrap() {
            ws.send(message).await.unwrap();
        }
        ws.closed().cloned()
    });
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let request = Request::get("/chat")
        .header(header::HOST, "localhost")
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, "chat")
        .header(header::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers().clone();
    assert_eq!(headers[header::SEC_WEBSOCKET_ACCEPT], accept_key(key.as_bytes()));
    let upgraded = soon(hyper::upgrade::on(response)).await.unwrap();
    let parts = upgraded.downcast::<TokioIo<tokio::net::TcpStream>>().unwrap();
    let mut ws = RawParts::new(parts.io.into_inner(), Role::Client, Config::client())
        .buffered(parts.read_buf)
        .deflate(DeflateParameters::from_headers(&headers).expect("it was accepted"))
        .subprotocol(headers[header::SEC_WEBSOCKET_PROTOCOL].to_str().unwrap())
        .open();
    assert_eq!(ws.subprotocol(), Some("chat"));
    assert!(ws.peer_addr().unwrap().ip().is_loopback());
    assert_eq!(soon(ws.recv()).await.unwrap(), Some(Message::from("欢迎 👋")));
    let long = "天地玄黄 🌏".repeat(1000);
    soon(ws.send(long.as_str())).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some(long.as_str()));
    soon(ws.close(1000, "")).await.unwrap();
    assert_eq!(soon(server).await.unwrap().unwrap().frame.unwrap().code, 1000);
}

#[tokio::test(start_paused = true)]
async fn keepalive_runs_without_a_handshake_too() {
    let (near, _far) = duplex(1024);
    let mut ws = WebSocket::from_raw(near, Role::Client, Config::client());
    let begun = tokio::time::Instant::now();
    assert!(matches!(ws.recv().await, Err(longwire::Error::PingTimeout)));
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn the_address_of_the_peer_through_tls() {
    use longwire::tls::ServerTls;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (near, far) = sockets().await;
    let address = near.local_addr().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let connector = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(connector));
    let server = ServerTls::from_pem(certificate, key).unwrap();
    let (client, server) = soon(async {
        tokio::join!(
            connector.connect(ServerName::try_from("localhost").unwrap(), near),
            server.accept(far, Duration::from_secs(10))
        )
    })
    .await;
    let _client = client.unwrap();
    let ws = WebSocket::from_raw(server.unwrap(), Role::Server, Config::server());
    assert_eq!(ws.peer_addr().unwrap(), address);
}

#[test]
#[should_panic(expected = "an Acceptor takes Config::server()")]
fn the_configuration_of_a_client_is_not_that_of_a_server() {
    let _ = Acceptor::new().config(Config::client());
}

#[test]
#[should_panic(expected = "a Client takes Config::client()")]
fn the_configuration_of_a_server_is_not_that_of_a_client() {
    let _ = longwire::Client::new().config(Config::server());
}

#[test]
#[should_panic(expected = "the configuration is that of the other role")]
fn a_raw_connection_has_the_configuration_of_its_role() {
    let _ = RawParts::new((), Role::Client, Config::server());
}
