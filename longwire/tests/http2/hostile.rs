//! Clients that mean no good, against a hyper server and our side of it.

use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use longwire::{Acceptor, Config, Error, ProtocolError};

use crate::raw::{all, raw_client, raw_client_with, request};
use crate::server::{BIG, Server};
use crate::support::soon;

#[tokio::test]
async fn requests_that_are_none() {
    let server = Server::start(Acceptor::new()).await;
    let mut requests = raw_client(server.address).await;

    let mut no_protocol = request("/");
    no_protocol.extensions_mut().remove::<Protocol>();
    // A plain CONNECT has neither :scheme nor :path (RFC 9113 8.5).
    *no_protocol.uri_mut() = "server.example.com:80".parse().unwrap();
    let mut other_protocol = request("/");
    other_protocol.extensions_mut().insert(Protocol::from_static("connect-udp"));
    let mut old = request("/");
    old.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let mut twice = request("/");
    twice.headers_mut().append("sec-websocket-version", "13".parse().unwrap());
    let mut length = request("/");
    // Of more than nothing, hyper makes an end of the whole connection.
    length.headers_mut().insert("content-length", "0".parse().unwrap());
    let mut get = request("/");
    get.extensions_mut().remove::<Protocol>();
    *get.method_mut() = http::Method::GET;
    let mut foreign = request("/");
    foreign.headers_mut().insert("origin", "https://evil.example".parse().unwrap());

    for (request, expected) in [
        (no_protocol, 400),
        (other_protocol, 501),
        (old, 400),
        (twice, 400),
        (length, 400),
        (get, 405),
        (foreign, 403),
        (request("/"), 200),
    ] {
        let shown = format!("{request:?}");
        let (answer, _send) = requests.send_request(request, false).unwrap();
        let response = soon(answer).await.unwrap_or_else(|error| panic!("{error}: {shown}"));
        assert_eq!(response.status(), expected, "{shown}");
        if expected != 200 {
            // RFC 9113 8.2.2: what a refusal over HTTP/1.1 has, has no place here.
            assert!(!response.headers().contains_key("upgrade"), "{shown}");
            let body = all(&mut response.into_body()).await.unwrap();
            assert!(String::from_utf8(body).unwrap().contains("RFC "), "{shown}");
        }
    }
}

/// Frames that a client does not wait to send are not lost, and not looked at before the answer.
#[tokio::test]
async fn data_before_the_answer() {
    let server = Server::start(Acceptor::new()).await;
    let mut requests = raw_client(server.address).await;
    let (answer, mut send) = requests.send_request(request("/"), false).unwrap();
    send.send_data(Bytes::from_static(b"\x81\x86\0\0\0\0\xe4\xbd\xa0\xe5\xa5\xbd"), false).unwrap();
    send.send_data(Bytes::from_static(b"\x88\x80\0\0\0\0"), true).unwrap();
    let response = soon(answer).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(all(&mut response.into_body()).await.unwrap(), b"\x81\x06\xe4\xbd\xa0\xe5\xa5\xbd\x88\x00");
}

#[tokio::test]
async fn a_broken_rule_is_told() {
    let mut server = Server::start(Acceptor::new()).await;
    let mut requests = raw_client(server.address).await;
    let (answer, mut send) = requests.send_request(request("/"), false).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    // Not masked (RFC 6455 5.1).
    send.send_data(Bytes::from_static(b"\x81\x01a"), false).unwrap();
    send.send_data(Bytes::new(), true).unwrap();
    let said = all(&mut body).await.unwrap();
    assert_eq!((said[0], &said[2..4]), (0x88, &1002u16.to_be_bytes()[..]));
    assert!(matches!(server.end().await, Err(Error::Protocol(ProtocolError::NotMasked))), "a broken rule");
}

/// A client that opens streams and resets them without end (CVE-2023-44487): hyper ends its connection, and all
/// that had been opened ends; others are served.
#[tokio::test]
async fn a_flood_of_resets_ends_its_connection() {
    let mut http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    http.enable_connect_protocol().max_pending_accept_reset_streams(20);
    let server = Server::with(Acceptor::new(), http).await;
    let mut requests = raw_client(server.address).await;
    let flood = async {
        loop {
            let Ok(ready) = requests.clone().ready().await else { return };
            requests = ready;
            match requests.send_request(request("/"), false) {
                Ok((_answer, mut send)) => {
                    // What is reset before it was written is never heard of.
                    tokio::task::yield_now().await;
                    send.send_reset(h2::Reason::CANCEL);
                }
                Err(_) => return,
            }
        }
    };
    soon(flood).await;
    let mut others = raw_client(server.address).await;
    let (answer, _send) = others.send_request(request("/"), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
}

/// A client that opens no window: 64 KiB of the message are hyper's at most, all else is counted by the WebSocket,
/// and the client is dropped when it is time.
#[tokio::test]
async fn a_window_that_never_opens() {
    let config = Config::server().write_timeout(Duration::from_secs(1)).write_buffer(64 * 1024);
    let mut server = Server::start(Acceptor::new().config(config)).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut requests = raw_client_with(server.address, &builder).await;
    let (answer, _send) = requests.send_request(request("/big"), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    let waits = server.waits().await;
    assert!((BIG - 64 * 1024..BIG).contains(&waits), "{waits}");
    let end = server.end().await;
    assert!(matches!(end, Err(Error::WriteTimeout)), "{end:?}");
}
