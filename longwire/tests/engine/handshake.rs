//! Opening handshakes: how requests arrive, and how they are answered.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use longwire::engine::{Conn, Opening};
use longwire::http::{HeaderMap, Request, StatusCode};
use longwire::{Acceptor, Config, Deflate, Origins, Refusal};
use longwire_proto::frame::OpCode;
use longwire_proto::handshake::accept_key;

use crate::host::{Host, House, held};
use crate::raw::{Raw, request};
use crate::support::frames::{frame, text};

fn refused(house: &House, bytes: &str) -> (String, String) {
    let mut raw = Raw::connect(house.address());
    raw.send(bytes);
    let head = raw.head();
    (head, String::from_utf8(raw.rest()).unwrap())
}

#[test]
fn a_good_request_is_answered_by_the_rfc() {
    let house = House::new(Host::echo());
    let (mut raw, head) = Raw::open_with(house.address(), "/", "");
    let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
    assert!(head.to_ascii_lowercase().contains(&format!("sec-websocket-accept: {}", accept.to_lowercase())));
    raw.text("你好");
    assert_eq!(raw.next_text(), "你好");
    raw.close();
    assert_eq!(house.counters(|counters| counters.closed == 1).opened, 1);
}

#[test]
fn byte_by_byte() {
    let house = House::new(Host::echo());
    let mut raw = Raw::connect(house.address());
    for byte in request("/", "").bytes() {
        raw.send([byte]);
    }
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    raw.text("好");
    assert_eq!(raw.next_text(), "好");
}

#[test]
fn frames_right_behind_the_request() {
    let house = House::new(Host::echo());
    let mut raw = Raw::connect(house.address());
    let half = text(true, "二");
    raw.send([request("/", "").into_bytes(), text(true, "一"), half[..5].to_vec()].concat());
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.next_text(), "一");
    raw.send(&half[5..]);
    assert_eq!(raw.next_text(), "二");
}

/// More frames than one read takes, all there when the engine reads: no event reports the rest.
#[test]
fn very_many_frames_right_behind_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Accepted sockets inherit it.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 600_000).unwrap();
    let (host, hold) = held(Host::echo());
    let house = House::on(listener, host, |engine| engine.threads(1));
    let mut holder = Raw::open(house.address(), "/holder");
    for size in [100_000, 131_072, 140_000, 300_000] {
        hold.hold(&house, "/holder", &mut holder);
        let mut raw = Raw::connect(house.address());
        let payload = vec![b'x'; size];
        let mut bytes = request("/", "").into_bytes();
        bytes.extend(frame(true, true, OpCode::Binary, &payload));
        bytes.extend(text(true, "末"));
        raw.send(bytes);
        std::thread::sleep(Duration::from_millis(100));
        hold.let_go();
        assert!(raw.head().starts_with("HTTP/1.1 101 "));
        assert!(raw.message() == (OpCode::Binary, payload), "{size}");
        assert_eq!(raw.next_text(), "末");
    }
}

/// The end of TCP is reported once, too.
#[test]
fn a_client_that_says_all_at_once_and_ends() {
    let house = House::with(Host::echo(), |engine| engine.threads(1).http(async |_, _| {}));
    for number in 0..50 {
        let mut raw = Raw::connect(house.address());
        let path = format!("/{number}");
        raw.send([request(&path, "").into_bytes(), text(true, "再见")].concat());
        raw.end();
        assert!(raw.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(raw.next_text(), "再见");
        assert!(matches!(house.log.closed(&path), Err(longwire::Error::Eof)));
    }
    for beginning in ["", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut raw = Raw::connect(house.address());
        raw.send(beginning);
        raw.end();
        assert!(raw.rest().is_empty());
    }
}

/// The 101 and the messages that `opened` sends leave in one write.
#[test]
fn what_is_sent_when_it_opens_leaves_with_the_answer() {
    let on_opened = Box::new(|conn: &mut Conn<'_>, _: &mut _, _: &Opening<'_>| {
        conn.send("欢迎").unwrap();
        conn.ping("?".as_bytes()).unwrap();
    });
    let house = House::new(Host { on_opened, ..Host::new() });
    let mut raw = Raw::connect(house.address());
    raw.send(request("/", ""));
    let mut block = [0; 4096];
    let count = std::io::Read::read(&mut raw.stream, &mut block).unwrap();
    let bytes = &block[..count];
    assert!(bytes.starts_with(b"HTTP/1.1 101 "));
    let end = [text(false, "欢迎"), frame(false, true, OpCode::Ping, "?")].concat();
    assert!(bytes.ends_with(&end), "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn what_is_refused() {
    let on_request: Box<_> = Box::new(|request: &Request<()>, _: &mut _| match request.uri().path() {
        "/panic" => panic!("as was asked for"),
        "/no" => Err(Refusal::new(StatusCode::NOT_FOUND, "没有")),
        _ => Ok(()),
    });
    let acceptor =
        Acceptor::new().origins(Origins::list(["https://example.com"]).unwrap()).on_request(|request, _| {
            assert_ne!(request.uri().path(), "/panic-before");
            Ok(())
        });
    let house =
        House::with(Host { on_request, ..Host::echo() }, |engine| engine.threads(1).acceptor(acceptor));
    let long = "x".repeat(100_000);
    let cases = [
        (request("/", "Origin: https://evil.example\r\n"), 403),
        (request("/no", ""), 404),
        (request("/panic", ""), 500),
        (request("/panic-before", ""), 500),
        ("GET / HTTP/1.1\r\nnonsense\r\n\r\n".into(), 400),
        (request("/", "").replace("Version: 13", "Version: 12"), 426),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 426),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".into(), 405),
        (request("/", &format!("X-Long: {long}\r\n")), 431),
        (request(&format!("/{long}"), ""), 414),
    ];
    let count = cases.len() as u64;
    for (bytes, status) in cases {
        let (head, body) = refused(&house, &bytes);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {head}");
        assert!(!body.is_empty());
    }
    let (mut raw, _) = Raw::open_with(house.address(), "/good", "Origin: https://example.com\r\n");
    raw.text("好");
    assert_eq!(raw.next_text(), "好", "the loop goes on");
    let counters = house.counters(|counters| counters.refused == count && counters.opened == 1);
    assert_eq!((counters.opened, counters.open, counters.http), (1, 1, 0));
}

#[test]
fn a_head_that_dribbles_is_given_up() {
    let timeout = Duration::from_millis(300);
    let house = House::with(Host::echo(), |engine| {
        engine.threads(1).acceptor(Acceptor::new().handshake_timeout(timeout))
    });
    let mut silent = Raw::connect(house.address());
    let mut dribbles = Raw::connect(house.address());
    for byte in request("/", "").bytes().take(100) {
        if std::io::Write::write_all(&mut dribbles.stream, &[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(dribbles.head().starts_with("HTTP/1.1 408 "));
    assert!(silent.rest().is_empty(), "who has said nothing is told nothing");
    assert_eq!(house.counters(|counters| counters.refused == 2).opened, 0);
}

#[test]
fn what_was_agreed_on_is_told() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let on_opened: Box<_> = Box::new(move |conn: &mut Conn<'_>, _: &mut _, opening: &Opening<'_>| {
        assert_eq!(conn.deflate(), opening.deflate());
        let header =
            opening.request().headers().get("x-name").map(|value| value.to_str().unwrap().to_owned());
        let subprotocol = opening.subprotocol().map(str::to_owned);
        told.lock().unwrap().push((subprotocol, opening.deflate().is_some(), header));
    });
    let on_request: Box<_> = Box::new(|_: &_, headers: &mut HeaderMap| {
        headers.insert("x-served-by", "longwire".parse().unwrap());
        Ok(())
    });
    let acceptor =
        Acceptor::new().subprotocols(["v2", "v1"]).config(Config::server().deflate(Deflate::new()));
    let host = Host { on_opened, on_request, ..Host::new() };
    let house = House::with(host, |engine| engine.threads(1).acceptor(acceptor));
    let headers = "Sec-WebSocket-Protocol: v1, v2\r\nX-Name: y\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (_one, head) = Raw::open_with(house.address(), "/", headers);
    let head = head.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-protocol: v2\r\n") && head.contains("x-served-by: longwire\r\n"));
    assert!(head.contains("sec-websocket-extensions: permessage-deflate"));
    let _two = Raw::open(house.address(), "/");
    house.counters(|counters| counters.opened == 2);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (Some("v2".to_owned()), true, Some("y".to_owned())));
    assert_eq!(seen[1], (None, false, None));
}
