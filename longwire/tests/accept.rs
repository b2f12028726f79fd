//! How a server answers opening handshakes: with 101, or with a complete response that says why not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use longwire::http::{HeaderMap, StatusCode, header};
use longwire::{AcceptError, Acceptor, Config, Error, Origins, Refusal, WebSocket};
use longwire_proto::frame::OpCode;
use support::frames::{close, frame, text, whole_frames};
use support::wire::Wire;
use support::{REQUEST, poll_times, read_head, read_to_end, sockets, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// The request of RFC 6455 1.3 with more header lines.
fn request_with(lines: &str) -> String {
    REQUEST.replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"))
}

/// What a client that sends `request` over TCP gets until EOF, and what the server makes of it.
async fn exchange(
    acceptor: &Acceptor,
    request: impl AsRef<[u8]>,
) -> (String, Result<WebSocket<TcpStream>, AcceptError>) {
    let (mut near, far) = sockets().await;
    let client = async {
        near.write_all(request.as_ref()).await.unwrap();
        let answer = read_head(&mut near).await;
        if answer.starts_with("HTTP/1.1 101 ") {
            return answer;
        }
        let body = read_to_end(&mut near).await;
        drop(near);
        answer + std::str::from_utf8(&body).unwrap()
    };
    soon(async { tokio::join!(client, acceptor.accept(far)) }).await
}

/// A refusal is a complete HTTP response, after which the connection ends.
fn check_response(answer: &str, status: u16) -> &str {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let header = |name: &str| {
        let mut found = head.lines().skip(1).filter_map(|line| {
            let (this, value) = line.split_once(':').unwrap();
            this.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = found.next().unwrap_or_else(|| panic!("no {name} in {answer}"));
        assert_eq!(found.next(), None, "{name} twice");
        value
    };
    assert_eq!(header("content-length").parse(), Ok(body.len()));
    assert!(header("connection").to_ascii_lowercase().split(", ").any(|option| option == "close"));
    let date = header("date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    body
}

#[tokio::test]
async fn each_refusal_is_a_complete_response() {
    let cases = [
        ("no HTTP at all\r\n\r\n".to_owned(), 400),
        ("\x16\x03\x01\x02\x00\x01".to_owned(), 400),
        (REQUEST.replace("GET", "POST"), 405),
        (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (REQUEST.replace("HTTP/1.1", "HTTP/2.0"), 505),
        (REQUEST.replace("Upgrade: websocket\r\n", ""), 426),
        (REQUEST.replace("Connection: Upgrade", "Connection: keep-alive"), 400),
        (REQUEST.replace("Version: 13", "Version: 8"), 426),
        (REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (REQUEST.replace("Host: server.example.com\r\n", ""), 400),
        (request_with("Content-Length: 3"), 400),
        (request_with("Transfer-Encoding: chunked"), 400),
        (request_with("Origin: https://evil.example"), 403),
        (request_with(&"X-Many: 1\r\n".repeat(100)), 431),
        (request_with(&format!("X-Long: {}", "x".repeat(20_000))), 431),
        ("GET /长 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000)), 414),
        (request_with("X-Bare: a\nb"), 400),
    ];
    for (request, status) in cases {
        let (answer, accepted) = exchange(&Acceptor::new(), &request).await;
        assert!(!check_response(&answer, status).is_empty(), "{answer}");
        match accepted {
            Err(AcceptError::Refused(refusal)) => assert_eq!(refusal.status().as_u16(), status),
            other => panic!("{other:?}"),
        }
    }
}

/// The client reads the answer though it is still sending when it is refused.
#[tokio::test]
async fn a_refused_client_that_goes_on_sending_reads_the_answer() {
    let request = request_with("Origin: https://evil.example").into_bytes();
    let request = [request, frame(true, true, OpCode::Binary, vec![1; 500_000])].concat();
    let (answer, _) = exchange(&Acceptor::new(), request).await;
    check_response(&answer, 403);
}

#[tokio::test]
async fn a_good_request_is_answered_as_the_rfc_has_it() {
    let (answer, accepted) = exchange(&Acceptor::new(), REQUEST).await;
    assert!(
        answer.to_ascii_lowercase().contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n")
    );
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(accepted.unwrap().subprotocol(), None);
}

#[tokio::test]
async fn frames_behind_the_request_are_not_lost() {
    let mut input = REQUEST.as_bytes().to_vec();
    input.extend(text(true, "没等回答"));
    input.extend(text(true, &"👋".repeat(20_000)));
    input.extend(close(true, 1000, ""));
    for piece in [1, 100, 170, usize::MAX] {
        let wire = Wire::new();
        for piece in input.chunks(piece.min(input.len())) {
            wire.input(piece);
        }
        let mut ws = longwire::accept(wire.clone()).await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("没等回答"));
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some(&*"👋".repeat(20_000)));
        assert_eq!(ws.recv().await.unwrap(), None);
        let written = wire.take_written();
        let head = written.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(whole_frames(&written[head..])[0].close_code(), 1000);
    }
}

#[tokio::test]
async fn subprotocols_are_the_servers_choice() {
    let acceptor = Acceptor::new().subprotocols(["chat.v3", "chat.v2", "chat.v1"]);
    for (offer, selected) in [
        ("chat.v1, chat.v2", Some("chat.v2")),
        ("chat.v1\r\nSec-WebSocket-Protocol: other", Some("chat.v1")),
        ("other", None),
        ("CHAT.V1", None),
    ] {
        let request = request_with(&format!("Sec-WebSocket-Protocol: {offer}"));
        let (answer, accepted) = exchange(&acceptor, request).await;
        assert_eq!(accepted.unwrap().subprotocol(), selected);
        let lower = answer.to_ascii_lowercase();
        match selected {
            Some(name) => {
                assert!(lower.contains(&format!("\r\nsec-websocket-protocol: {name}\r\n")), "{answer}")
            }
            None => assert!(!lower.contains("sec-websocket-protocol"), "{answer}"),
        }
    }
    let (_, accepted) = exchange(&acceptor, REQUEST).await;
    assert_eq!(accepted.unwrap().subprotocol(), None);
    let (answer, _) = exchange(&acceptor, request_with("Sec-WebSocket-Protocol: a, a")).await;
    check_response(&answer, 400);
}

#[tokio::test]
async fn origins() {
    let list = Origins::list(["https://example.com", "null"]).unwrap();
    let cases = [
        (Origins::Same, "http://server.example.com", true),
        (Origins::Same, "https://server.example.com", true),
        (Origins::Same, "https://server.example.com:444", false),
        (Origins::Same, "null", false),
        (list.clone(), "https://EXAMPLE.com:443", true),
        (list.clone(), "null", true),
        (list.clone(), "https://server.example.com", false),
        (list, "https://example.com.evil", false),
        (Origins::Any, "https://anyone.example", true),
    ];
    for (origins, origin, passes) in cases {
        let acceptor = Acceptor::new().origins(origins);
        let (answer, accepted) = exchange(&acceptor, request_with(&format!("Origin: {origin}"))).await;
        assert_eq!(accepted.is_ok(), passes, "{origin}: {answer}");
        if !passes {
            check_response(&answer, 403);
        }
        assert!(exchange(&acceptor, REQUEST).await.1.is_ok(), "no browser");
    }
}

#[tokio::test]
async fn on_request_refuses_or_adds_headers() {
    let acceptor = Acceptor::new().on_request(|request, headers| {
        match request.uri().path() {
            "/chat" => headers.append(header::SET_COOKIE, "a=1".parse().unwrap()),
            "/bad" => headers.append(header::SEC_WEBSOCKET_ACCEPT, "mine".parse().unwrap()),
            _ => {
                let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "先登录 🔒");
                return Err(refusal.header(header::WWW_AUTHENTICATE, "Bearer".parse().unwrap()));
            }
        };
        headers.append(header::SET_COOKIE, "b=2".parse().unwrap());
        Ok(())
    });
    let (answer, accepted) = exchange(&acceptor, REQUEST).await;
    accepted.unwrap();
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"), "{answer}");

    let (answer, accepted) = exchange(&acceptor, REQUEST.replace("/chat", "/other")).await;
    assert_eq!(check_response(&answer, 401), "先登录 🔒");
    assert!(answer.to_ascii_lowercase().contains("\r\nwww-authenticate: bearer\r\n"));
    assert!(matches!(accepted, Err(AcceptError::Refused(refusal)) if refusal.text() == "先登录 🔒"));

    let (answer, _) = exchange(&acceptor, REQUEST.replace("/chat", "/bad")).await;
    check_response(&answer, 500);

    // It sees good requests only.
    let never = Acceptor::new().on_request(|_, _| panic!("called for a bad request"));
    let (answer, _) = exchange(&never, request_with("Origin: https://evil.example")).await;
    check_response(&answer, 403);
}

#[tokio::test]
async fn a_request_is_received_and_then_decided() {
    let acceptor = Acceptor::new().subprotocols(["chat"]);
    let wire = Wire::new();
    wire.input(request_with("Sec-WebSocket-Protocol: chat"));
    let handshake = acceptor.receive(wire.clone()).await.unwrap();
    assert!(handshake.is_websocket());
    assert_eq!(handshake.request().uri().path(), "/chat");
    assert_eq!(handshake.request().headers()[header::HOST], "server.example.com");
    assert!(wire.take_written().is_empty(), "nothing is decided yet");
    let mut headers = HeaderMap::new();
    headers.insert("x-room", "1".parse().unwrap());
    let mut ws = handshake.accept_with(headers).await.unwrap();
    assert_eq!(ws.subprotocol(), Some("chat"));
    let answer = String::from_utf8(wire.take_written()).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("\r\nx-room: 1\r\n"), "{answer}");
    wire.input(text(true, "开始"));
    assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("开始"));

    let wire = Wire::new();
    wire.input(REQUEST);
    wire.eof();
    let handshake = acceptor.receive(wire.clone()).await.unwrap();
    let refused = handshake.refuse(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "慢一点")).await;
    assert!(matches!(refused, AcceptError::Refused(refusal) if refusal.status() == 429));
    assert!(wire.state().is_shut_down);
    let answer = String::from_utf8(wire.take_written()).unwrap();
    assert_eq!(check_response(&answer, 429), "慢一点");
}

/// Plain HTTP goes to an HTTP server, with every byte that was read.
#[tokio::test]
async fn plain_http_is_handed_on_with_all_its_bytes() {
    let plain = "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n你好吗GET";
    for request in [plain.as_bytes(), REQUEST.as_bytes()] {
        let wire = Wire::new();
        let (one, two) = request.split_at(30);
        wire.input(one);
        wire.input(two);
        let acceptor = Acceptor::new();
        let handshake = acceptor.receive(wire.clone()).await.unwrap();
        assert_eq!(handshake.is_websocket(), request == REQUEST.as_bytes());
        let (mut stream, bytes) = handshake.into_parts();
        assert_eq!(bytes, request);
        wire.input("后面的还在流里");
        wire.eof();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "后面的还在流里");
        assert!(wire.take_written().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_408_and_none_is_nothing() {
    for (acceptor, seconds) in
        [(Acceptor::new(), 10), (Acceptor::new().handshake_timeout(Duration::from_secs(2)), 2)]
    {
        for sent in ["", "GET / HTTP/1.1\r\nHost: exa", "G"] {
            let (mut near, far) = tokio::io::duplex(10_000);
            near.write_all(sent.as_bytes()).await.unwrap();
            let start = Instant::now();
            let client = async {
                let mut answer = String::new();
                near.read_to_string(&mut answer).await.unwrap();
                let elapsed = start.elapsed();
                drop(near);
                (answer, elapsed)
            };
            let server = async { acceptor.accept(far).await.map(drop) };
            let ((answer, elapsed), accepted) = tokio::join!(client, server);
            assert!(matches!(accepted, Err(AcceptError::Timeout)), "{accepted:?}");
            let due = Duration::from_secs(seconds);
            assert!(elapsed >= due && elapsed < due + Duration::from_millis(20), "{elapsed:?}");
            if sent.is_empty() {
                assert_eq!(answer, "");
            } else {
                check_response(&answer, 408);
            }
        }
    }
}

/// A byte now and then does not move the deadline.
#[tokio::test(start_paused = true)]
async fn a_request_that_dribbles_is_timed_out() {
    let (mut near, far) = tokio::io::duplex(10_000);
    let start = Instant::now();
    let dribble = async {
        for byte in REQUEST.bytes() {
            sleep(Duration::from_millis(300)).await;
            if near.write_u8(byte).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let acceptor = Acceptor::new();
    tokio::select! {
        () = dribble => unreachable!(),
        accepted = acceptor.accept(far) => assert!(matches!(accepted, Err(AcceptError::Timeout))),
    }
    // The deadline, and at most two seconds in which the client may read the answer.
    assert!(start.elapsed() < Duration::from_millis(12_100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_timed_out() {
    for request in [REQUEST.to_owned(), request_with("Origin: https://evil.example")] {
        let wire = Wire::new();
        wire.input(request);
        wire.room(Some(20));
        let start = Instant::now();
        let accepted = longwire::accept(wire.clone()).await;
        assert!(matches!(accepted, Err(AcceptError::Timeout)), "{accepted:?}");
        assert!(start.elapsed() < Duration::from_secs(11));
    }
}

#[tokio::test]
async fn a_client_that_leaves_early_is_eof() {
    for sent in ["", "GET /chat HTTP/1.1\r\nHost: a\r\n"] {
        let wire = Wire::new();
        wire.input(sent);
        wire.eof();
        assert!(matches!(longwire::accept(wire).await, Err(AcceptError::Eof)), "{sent:?}");
    }
    let (near, far) = sockets().await;
    near.set_zero_linger().unwrap();
    drop(near);
    assert!(matches!(soon(longwire::accept(far)).await, Err(AcceptError::Io(_))));
}

#[tokio::test]
async fn a_handshake_that_waits_and_cuts_where_it_likes() {
    for seed in 0..50 {
        let wire = Wire::new();
        wire.chaos(Some(seed));
        wire.input([REQUEST.as_bytes(), &text(true, "你好")].concat());
        let config = Config::server();
        let mut ws = soon(Acceptor::new().config(config).accept(wire.clone())).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("你好"));
        assert!(String::from_utf8(wire.take_written()).unwrap().ends_with("\r\n\r\n"));
        wire.eof();
        assert!(matches!(soon(ws.recv()).await, Err(Error::Eof)));
    }
    let wire = Wire::new();
    wire.input(&REQUEST[..50]);
    assert!(poll_times(longwire::accept(wire.clone()), 3).is_none());
    assert!(wire.take_written().is_empty());
}

/// Without it the second of two small messages waits for the acknowledgement of the first, often for 40 ms.
#[tokio::test]
async fn tcp_nodelay_is_set() {
    let (mut near, far) = sockets().await;
    far.set_nodelay(false).unwrap();
    near.write_all(REQUEST.as_bytes()).await.unwrap();
    let handshake = soon(Acceptor::new().receive(far)).await.unwrap();
    assert!(handshake.stream().nodelay().unwrap());

    let (mut near, far) = sockets().await;
    far.set_nodelay(false).unwrap();
    near.write_all(REQUEST.as_bytes()).await.unwrap();
    let ws = soon(longwire::accept(far)).await.unwrap();
    assert!(ws.get_ref().nodelay().unwrap());
}
