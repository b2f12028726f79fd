//! How a client opens a connection, against servers that do all they should not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use longwire::{Acceptor, Client, CloseCode, Config, ConnectError, Error, HandshakeError, WebSocket};
use support::frames::{text, whole_frames};
use support::wire::Wire;
use support::{accept_of, poll_times, read_head, read_to_end, response, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn connect_and_accept_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        let mut ws = longwire::accept(stream).await.unwrap();
        assert_eq!(ws.peer_addr().unwrap(), peer);
        while let Some(message) = ws.recv().await.unwrap() {
            ws.feed(message).await.unwrap();
        }
        ws.closed().cloned().unwrap()
    });
    let mut ws = soon(longwire::connect(format!("ws://{address}/房间?一=1"))).await.unwrap();
    assert_eq!(ws.peer_addr().unwrap(), address);
    assert_eq!((ws.role(), ws.subprotocol()), (longwire::Role::Client, None));
    assert!(ws.get_ref().tcp().nodelay().unwrap());
    ws.send("你好 👋").await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("你好 👋"));
    soon(ws.close(1000, "再见")).await.unwrap();
    assert_eq!(soon(server).await.unwrap().frame.unwrap().reason.as_str(), "再见");
}

#[tokio::test]
async fn a_name_is_resolved() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async { longwire::accept(listener.accept().await.unwrap().0).await };
    let (client, server) =
        soon(async { tokio::join!(longwire::connect(format!("ws://localhost:{port}")), server) }).await;
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn nobody_there_is_an_io_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    match soon(longwire::connect(format!("ws://{address}"))).await {
        Err(ConnectError::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_not_asked() {
    for url in ["ws://localhost/#x", "ftp://localhost/", "", "ws://"] {
        assert!(matches!(longwire::connect(url).await, Err(ConnectError::Invalid(_))), "{url}");
    }
    let clients = [
        Client::new().header("bad name", "x"),
        Client::new().header("X-Value", "line\r\nInjected: 1"),
        Client::new().header("Sec-WebSocket-Key", "mine"),
        Client::new().header("Host", "elsewhere"),
        Client::new().subprotocols(["two words"]),
        Client::new().subprotocols(["twice", "twice"]),
    ];
    for client in clients {
        let wire = Wire::new();
        let refused = client.handshake("ws://localhost/", wire.clone()).await;
        assert!(matches!(refused, Err(ConnectError::Invalid(_))), "{client:?}");
        assert!(wire.take_written().is_empty());
    }
}

#[tokio::test]
async fn the_request_says_what_was_asked() {
    let (near, mut far) = tokio::io::duplex(10_000);
    let client = tokio::spawn(async move {
        Client::new()
            .subprotocols(["chat.v2", "chat.v1"])
            .header("Authorization", "Bearer 令牌")
            .header("Cookie", "a=1")
            .header("Cookie", "b=2")
            .handshake("ws://Example.com:8080/房?间=1", near)
            .await
    });
    let request = read_head(&mut far).await;
    let lower = request.to_ascii_lowercase();
    assert!(
        request.starts_with("GET /%E6%88%BF?%E9%97%B4=1 HTTP/1.1\r\nHost: example.com:8080\r\n"),
        "{request}"
    );
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "cookie: a=1",
        "cookie: b=2",
    ] {
        assert!(lower.contains(&format!("\r\n{line}\r\n")), "{line} in {request}");
    }
    assert!(lower.contains("sec-websocket-protocol: chat.v2, chat.v1") && request.contains("Bearer 令牌"));
    let answer = response(&accept_of(&request));
    far.write_all(answer.replace("\r\n\r\n", "\r\nsec-websocket-protocol: chat.v1\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(soon(client).await.unwrap().unwrap().subprotocol(), Some("chat.v1"));
}

/// A server that answers a request with what `answer` makes of the right value of
/// Sec-WebSocket-Accept, and ends its direction.
async fn against(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Result<WebSocket, ConnectError> {
    let (address, server) = raw_server(|mut stream| async move {
        let request = read_head(&mut stream).await;
        stream.write_all(&answer(&accept_of(&request))).await.unwrap();
        let _ = stream.shutdown().await;
        // A client that has seen enough may reset the connection.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let connected = soon(Client::new().subprotocols(["ours"]).connect(format!("ws://{address}/"))).await;
    if connected.is_err() {
        soon(server).await.unwrap();
    }
    connected
}

/// A server of one connection.
async fn raw_server<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    (address, server)
}

#[tokio::test]
async fn answers_that_break_a_rule() {
    let wrong = against(|_| response("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").into_bytes()).await;
    assert!(matches!(wrong, Err(ConnectError::Handshake(HandshakeError::Accept))), "{wrong:?}");

    type Change = (&'static str, &'static str, fn(&HandshakeError) -> bool);
    let changes: [Change; 7] = [
        ("Upgrade: websocket\r\n", "", |error| matches!(error, HandshakeError::Upgrade)),
        ("Connection: Upgrade", "Connection: close", |error| matches!(error, HandshakeError::Connection)),
        ("Sec-WebSocket-Accept", "X-Accept", |error| matches!(error, HandshakeError::AcceptMissing)),
        ("HTTP/1.1", "HTTP/1.0", |error| matches!(error, HandshakeError::Version)),
        ("HTTP/1.1", "ICY", |error| matches!(error, HandshakeError::Head(_))),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: theirs\r\n\r\n", |error| {
            matches!(error, HandshakeError::Subprotocol(_))
        }),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x-webkit-deflate-frame\r\n\r\n", |error| {
            matches!(error, HandshakeError::Extension)
        }),
    ];
    for (from, to, expected) in changes {
        match against(move |accept| response(accept).replace(from, to).into_bytes()).await {
            Err(ConnectError::Handshake(error)) if expected(&error) => {}
            other => panic!("{to:?}: {other:?}"),
        }
    }
    assert!(against(|accept| response(accept).into_bytes()).await.is_ok());
}

#[tokio::test]
async fn a_refusal_is_told_with_its_body() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more";
    let missing =
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nX-Why: gone\r\n\r\n\n没有这个房间 👋\n";
    let long = format!("HTTP/1.1 503 Busy\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let chunked = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let cases = [
        (page.to_owned(), 200, "hello".to_owned()),
        (missing.to_owned(), 404, "\n没有这个房间 👋\n".to_owned()),
        (long, 503, "x".repeat(4096)),
        (chunked.to_owned(), 403, "hello".to_owned()),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(), 401, String::new()),
    ];
    for (answer, status, body) in cases {
        match against(move |_| answer.clone().into_bytes()).await {
            Err(ConnectError::Refused(response)) => {
                assert_eq!((response.status.as_u16(), &response.body), (status, &body));
                let told = ConnectError::Refused(response).to_string();
                assert!(told.contains(&status.to_string()) && told.contains(body.trim()), "{told}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over_but_not_for_ever() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    for count in [1, 8] {
        let opened = against(move |accept| (interim.repeat(count) + &response(accept)).into_bytes()).await;
        assert!(opened.is_ok(), "{count}: {opened:?}");
    }
    let endless = against(move |accept| (interim.repeat(9) + &response(accept)).into_bytes()).await;
    assert!(matches!(endless, Err(ConnectError::Handshake(HandshakeError::TooManyInterim))), "{endless:?}");
}

#[tokio::test]
async fn frames_behind_the_answer_in_one_read_are_not_lost() {
    let mut ws = against(|accept| {
        let mut answer = response(accept).into_bytes();
        answer.extend(text(false, "第一条"));
        answer.extend(text(false, &"👋".repeat(10_000)));
        answer
    })
    .await
    .unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("第一条"));
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some(&*"👋".repeat(10_000)));
    assert!(matches!(soon(ws.recv()).await, Err(Error::Eof)));
}

#[tokio::test]
async fn an_answer_may_dribble_in() {
    let (near, mut far) = tokio::io::duplex(1);
    let server = async move {
        let request = read_head(&mut far).await;
        let mut answer = response(&accept_of(&request)).into_bytes();
        answer.extend(text(false, "慢慢来"));
        far.write_all(&answer).await.unwrap();
        far
    };
    let client = async {
        let mut ws = Client::new().handshake("ws://localhost/", near).await.unwrap();
        ws.recv().await.unwrap().unwrap()
    };
    let (message, far) = soon(async { tokio::join!(client, server) }).await;
    assert_eq!(message.as_text(), Some("慢慢来"));
    drop(far);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    for filler in ["X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", "A: b\r\n"] {
        let endless =
            against(move |_| format!("HTTP/1.1 101 OK\r\n{}", filler.repeat(2_000)).into_bytes()).await;
        assert!(matches!(endless, Err(ConnectError::Handshake(HandshakeError::Head(_)))), "{endless:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_an_error() {
    for answer in ["", "HTTP/1.1 101 Switching", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"]
    {
        let torn = against(|_| answer.into()).await;
        let Err(error) = torn else { panic!("{answer:?}") };
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::Head(_))), "{error}");
    }
}

#[tokio::test]
async fn a_reset_is_an_io_error() {
    let (address, server) = raw_server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    match soon(longwire::connect(format!("ws://{address}"))).await {
        Err(ConnectError::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    soon(server).await.unwrap();
}

/// Silence, and a server that says just enough to seem alive.
#[tokio::test(start_paused = true)]
async fn the_handshake_has_a_deadline() {
    async fn dribble(mut far: DuplexStream) {
        let mut answer = response("x").into_bytes().into_iter().cycle();
        loop {
            sleep(Duration::from_millis(900)).await;
            if far.write_u8(answer.next().unwrap()).await.is_err() {
                return;
            }
        }
    }
    for (client, seconds) in
        [(Client::new(), 10), (Client::new().handshake_timeout(Duration::from_secs(3)), 3)]
    {
        for silent in [true, false] {
            let (near, far) = tokio::io::duplex(1_000);
            let start = Instant::now();
            let server = async {
                if silent {
                    let kept = far;
                    std::future::pending::<()>().await;
                    drop(kept);
                } else {
                    dribble(far).await;
                }
            };
            let opened = tokio::select! {
                opened = client.handshake("ws://localhost/", near) => opened,
                () = server => unreachable!(),
            };
            assert!(matches!(opened, Err(ConnectError::Timeout(longwire::Phase::Handshake))), "{opened:?}");
            let elapsed = start.elapsed();
            assert!(
                elapsed >= Duration::from_secs(seconds)
                    && elapsed < Duration::from_millis(seconds * 1000 + 20)
            );
        }
    }
}

/// The body of a refusal is not waited for long: what came of it is told.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_cut_off() {
    let (near, mut far) = tokio::io::duplex(1_000);
    let server = async {
        read_head(&mut far).await;
        far.write_all("HTTP/1.1 404 Not Found\r\nContent-Length: 999\r\n\r\n没有".as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    };
    let start = Instant::now();
    let client = Client::new();
    tokio::select! {
        () = server => unreachable!(),
        refused = client.handshake("ws://localhost/", near) => match refused {
            Err(ConnectError::Refused(response)) => assert_eq!(response.body, "没有"),
            other => panic!("{other:?}"),
        },
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_dropped_handshake_ends_the_stream() {
    let (near, mut far) = tokio::io::duplex(1_000);
    assert!(poll_times(Client::new().handshake("ws://localhost/", near), 3).is_none());
    assert!(read_to_end(&mut far).await.starts_with(b"GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn limits_are_those_of_the_config() {
    let (near, far) = tokio::io::duplex(100_000);
    let client = Client::new().config(Config::client().max_message(10));
    let acceptor = Acceptor::new().config(Config::server().max_message(10));
    let (client, server) = tokio::join!(client.handshake("ws://localhost/", near), acceptor.accept(far));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.send("十个字节多一点").await.unwrap();
    let told = async move {
        assert_eq!(client.recv().await.unwrap(), None);
        client.closed().cloned().unwrap().frame.unwrap().code
    };
    // The server listens on until the client has ended TCP.
    let (refused, told) = soon(async { tokio::join!(server.recv(), told) }).await;
    assert!(matches!(refused, Err(Error::Protocol(_))));
    assert_eq!(told, CloseCode::TOO_BIG);
}

/// A client masks, with a key of its own for each frame.
#[tokio::test]
async fn masking_keys_are_fresh() {
    let mut keys = std::collections::HashSet::new();
    for _ in 0..10 {
        let wire = Wire::new();
        let mut ws = support::client_on(&wire, Config::client()).await;
        for _ in 0..10 {
            ws.send("一样的话").await.unwrap();
            let bytes = wire.take_written();
            assert_eq!(whole_frames(&bytes)[0].payload, "一样的话".as_bytes());
            keys.insert(<[u8; 4]>::try_from(&bytes[2..6]).unwrap());
        }
    }
    assert_eq!(keys.len(), 100);
}
