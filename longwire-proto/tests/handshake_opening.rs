//! A server's opening handshake as its bytes arrive.

#![allow(clippy::unwrap_used)]

#[path = "support/head.rs"]
#[allow(dead_code)]
mod head;

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use head::{REQUEST, text, with};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use longwire_proto::handshake::{HeadLimits, Refusal, ServerOpening, server};
use longwire_proto::{Assembler, Config, Connection, Deflate, Incoming, Message, Outbox};

fn opening() -> ServerOpening {
    ServerOpening::new(HeadLimits::default())
}

#[test]
fn a_request_in_pieces_of_any_size() {
    let request = text(REQUEST);
    // A frame behind the request: it is not part of it.
    let bytes = [&request[..], b"\x81\x80\0\0\0\0"].concat();
    for size in 1..=bytes.len() {
        let mut opening = opening();
        let mut end = 0;
        let received = loop {
            end = (end + size).min(bytes.len());
            match opening.receive(&bytes[..end]).unwrap() {
                Some(received) => break received,
                None => assert!(end < request.len(), "{size}"),
            }
        };
        assert_eq!(received.head_length, request.len());
        assert!(received.is_websocket());
    }
}

#[test]
fn plain_http_is_not_refused() {
    let bytes = with(REQUEST, "Upgrade", &[]);
    let received = opening().receive(&bytes).unwrap().unwrap();
    assert!(!received.is_websocket());
    let refusal = server::check(&received.request, &server::Policy::new()).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::UPGRADE_REQUIRED);
}

#[test]
fn bytes_that_are_no_request_are_refused_at_once() {
    let status =
        |bytes: &[u8]| opening().receive(bytes).map_or_else(|refusal| refusal.status().as_u16(), |_| 0);
    assert_eq!(status(b"\x16\x03\x01"), 400);
    assert_eq!(status(b"GET / HTTP/1.1\n"), 400);
    assert_eq!(status(&[b"GET /".to_vec(), vec![b'a'; 16 * 1024]].concat()), 414);
    assert_eq!(status(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 400);
}

/// A client that has sent nothing gets no response when its time is up, any other one gets 408.
#[test]
fn a_request_that_is_late() {
    let mut opening = opening();
    assert_eq!(opening.time_out(), None);
    opening.receive(b"").unwrap();
    assert_eq!(opening.time_out(), None);
    opening.receive(b"G").unwrap();
    assert_eq!(opening.time_out().map(|refusal| refusal.status()), Some(StatusCode::REQUEST_TIMEOUT));
}

#[test]
fn the_response_and_the_connection_that_it_opens() {
    let extensions = "Sec-WebSocket-Extensions: permessage-deflate";
    let bytes = with(REQUEST, "Origin", &["Origin: http://server.example.com", extensions]);
    let received = opening().receive(&bytes).unwrap().unwrap();
    let policy = server::Policy::new().deflate(Deflate::new());
    let acceptance = server::check(&received.request, &policy).unwrap();

    let mut out = b"before".to_vec();
    let mut extra = HeaderMap::new();
    extra.insert(header::UPGRADE, HeaderValue::from_static("h2c"));
    let refusal: Refusal = acceptance.encode(&extra, &mut out).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(out, b"before");

    acceptance.encode(&HeaderMap::new(), &mut out).unwrap();
    assert!(out.starts_with(b"beforeHTTP/1.1 101 Switching Protocols\r\n"), "{}", out.escape_ascii());

    // The connection decompresses, as negotiated.
    let now = Instant::now();
    let mut connection = acceptance.connection(Arc::new(Config::server()), now);
    let mut client = Connection::client(Arc::new(Config::client()), [7; 32], now)
        .with_deflate(acceptance.deflate().unwrap());
    let mut wire = Outbox::new();
    let message = "你好 👋".repeat(100);
    client.send(Message::from(message.as_str()), &mut wire).unwrap();
    let mut input = BytesMut::from(&wire.copy_to_bytes(wire.remaining())[..]);
    assert!(input.len() < message.len() / 2);
    let incoming = Assembler::default().receive(&mut connection, &mut input, &mut Outbox::new()).unwrap();
    let Some(Incoming::Data(received)) = incoming else { panic!("{incoming:?}") };
    assert_eq!(received.as_text(), Some(message.as_str()));
}
