//! The counters of the async driver.

use std::time::Duration;

use longwire::http::StatusCode;
use longwire::{Acceptor, Client, Config, Counters, Deflate, Kind, Message, Refusal, SharedFrame, Snapshot};
use longwire_proto::frame::OpCode;
use tokio::io::{AsyncWriteExt, duplex};

use crate::endings::{config, live, table};
use crate::support::REQUEST;
use crate::support::frames::{frame, text};
use crate::support::wire::Wire;

async fn server(counters: &Counters, config: Config, wire: &Wire) -> longwire::WebSocket<Wire> {
    wire.input(REQUEST);
    let ws = Acceptor::new().counters(counters).config(config).accept(wire.clone()).await.unwrap();
    wire.take_written();
    ws
}

/// Each end is counted once, under its cause and code, and nothing else is.
#[tokio::test(start_paused = true)]
async fn each_end_once() {
    for ending in table() {
        let counters = Counters::new();
        let wire = Wire::new();
        let ws = server(&counters, config(), &wire).await;
        assert_eq!((counters.snapshot().open, counters.snapshot().opened), (1, 1));
        live(&ending, &wire, ws).await;
        let Snapshot { open, opened, ended, closed, protocol_errors, timeouts, lost, .. } =
            counters.snapshot();
        assert_eq!((open, opened), (0, 1), "{}", ending.cause);
        let counted: Vec<_> = ended.iter().filter(|ended| ended.count > 0).collect();
        assert_eq!(counted.len(), 1, "{counted:?}");
        assert_eq!((counted[0].cause, counted[0].code, counted[0].count), (ending.cause, ending.code, 1));
        assert_eq!(closed + protocol_errors + timeouts + lost, 1, "{}", ending.cause);
        assert_eq!(closed == 1, ending.cause.starts_with("closed_by_"));
        assert_eq!(timeouts == 1, ending.cause.ends_with("_timeout"));
        assert_eq!(lost == 1, ending.code == "1006" && timeouts == 0);
    }
}

/// One that has failed and is dropped before the peer has gone has ended all the same, for its cause.
#[tokio::test(start_paused = true)]
async fn dropped_behind_a_failure() {
    let counters = Counters::new();
    let wire = Wire::new();
    let mut ws = server(&counters, config(), &wire).await;
    wire.input(text(false, "not masked"));
    let received = tokio::time::timeout(Duration::from_millis(1), ws.recv()).await;
    assert!(received.is_err(), "it lingers: {received:?}");
    drop(ws);
    assert_eq!((counters.snapshot().ended_by("not_masked"), counters.snapshot().open), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_received_and_sent() {
    let counters = Counters::new();
    let wire = Wire::new();
    let mut ws = server(&counters, Config::server(), &wire).await;
    let input = [
        text(true, "你好 👋"),
        frame(true, true, OpCode::Ping, "在吗"),
        frame(true, true, OpCode::Pong, ""),
        frame(true, false, OpCode::Binary, [1; 70]),
        frame(true, true, OpCode::Continuation, [2; 30]),
    ]
    .concat();
    wire.input(&input);
    for _ in 0..2 {
        ws.recv().await.unwrap().unwrap();
    }
    ws.send("早上好").await.unwrap();
    ws.feed(SharedFrame::new(vec![3; 200])).await.unwrap();
    ws.send_part((Kind::Text, "半", false)).await.unwrap();
    ws.send_part((Kind::Text, "整", true)).await.unwrap();
    ws.ping("你").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), ws.recv()).await.is_err());

    let Snapshot { received, sent, .. } = counters.snapshot();
    assert_eq!((received.texts, received.text_bytes), (1, "你好 👋".len() as u64));
    assert_eq!((received.binaries, received.binary_bytes), (1, 100));
    assert_eq!((received.pings, received.pongs), (1, 1));
    assert_eq!(received.wire_bytes, input.len() as u64);
    assert_eq!((received.messages(), received.payload_bytes()), (2, 100 + received.text_bytes));
    assert_eq!((sent.texts, sent.text_bytes), (2, 15));
    assert_eq!((sent.binaries, sent.binary_bytes, sent.pings), (1, 200, 1));
    assert_eq!(sent.wire_bytes, wire.take_written().len() as u64);
}

/// Of both ends, by way of parts, of split halves, and of messages that land in buffers of their own.
#[tokio::test]
async fn both_ends_count_the_same() {
    let (ours, theirs) = (Counters::new(), Counters::new());
    let (near, far) = duplex(64 * 1024);
    let deflated = Config::server().deflate(Deflate::new());
    let acceptor = Acceptor::new().counters(&ours).config(deflated);
    let client = Client::new().counters(&theirs);
    let (server, client) = tokio::join!(acceptor.accept(near), client.handshake("ws://localhost/聊", far));
    let (sender, mut receiver) = server.unwrap().split();
    let mut client = client.unwrap();
    let large = Message::from("天地玄黄 ".repeat(20_000));
    let echo = tokio::spawn(async move {
        while let Some(message) = receiver.recv().await.unwrap() {
            sender.try_send(message).unwrap();
        }
    });
    let random: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for message in [large.clone(), Message::from(random.clone()), "👋".into()] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), message);
    }
    client.close(1000, "").await.unwrap();
    echo.await.unwrap();

    let (ours, theirs) = (ours.snapshot(), theirs.snapshot());
    assert_eq!(ours.received, theirs.sent);
    assert_eq!(ours.sent, theirs.received);
    assert_eq!(ours.received.text_bytes, large.len() as u64 + 4);
    assert_eq!(ours.received.binary_bytes, random.len() as u64);
    let ratio = ours.received.wire_bytes as f64 / ours.received.payload_bytes() as f64;
    assert!(ratio < 0.7, "text was compressed: {ratio}");
    assert_eq!((ours.ended_by("closed_by_peer"), theirs.ended_by("closed_by_us")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_open() {
    let counters = Counters::new();
    let acceptor = Acceptor::new().counters(&counters).on_request(|request, _| match request.uri().path() {
        "/451" => Err(Refusal::new(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, "不行")),
        _ => Err(Refusal::new(StatusCode::FORBIDDEN, "")),
    });
    let accept = |input: String, eof: bool| {
        let wire = Wire::new();
        wire.input(input);
        if eof {
            wire.eof();
        }
        acceptor.accept(wire)
    };
    assert!(accept(REQUEST.into(), true).await.is_err());
    assert!(accept(REQUEST.replace("/chat", "/451"), true).await.is_err());
    assert!(accept("GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), true).await.is_err());
    assert!(accept("GET".into(), true).await.is_err());
    assert!(accept("GET".into(), false).await.is_err());
    let broken = Wire::new();
    broken.read_error(std::io::ErrorKind::ConnectionReset);
    assert!(acceptor.accept(broken).await.is_err());
    let wire = Wire::new();
    wire.input(REQUEST);
    wire.eof();
    let handshake = acceptor.receive(wire).await.unwrap();
    handshake.refuse(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "")).await;

    let snapshot = counters.snapshot();
    let counted: Vec<_> = snapshot.not_opened.iter().filter(|one| one.count > 0).collect();
    let counted: Vec<_> = counted.iter().map(|one| (one.reason, one.count)).collect();
    let expected = [("403", 1), ("426", 1), ("503", 1), ("4xx", 1), ("timeout", 1), ("eof", 1), ("io", 1)];
    assert_eq!(counted, expected);
    assert_eq!((snapshot.refused, snapshot.handshake_timeouts, snapshot.opened), (5, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_does_not_get() {
    let counters = Counters::new();
    let client = Client::new().counters(&counters);
    assert!(client.connect("ftp://a").await.is_err());
    for answer in ["HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 x\r\n\r\n", ""] {
        let (near, mut far) = duplex(10_000);
        far.write_all(answer.as_bytes()).await.unwrap();
        assert!(client.handshake("ws://localhost/", near).await.is_err());
    }
    let snapshot = counters.snapshot();
    assert_eq!(snapshot.not_opened_by("503"), 1);
    assert_eq!(snapshot.not_opened_by("handshake"), 1);
    assert_eq!(snapshot.not_opened_by("invalid"), 1);
    assert_eq!(snapshot.not_opened_by("timeout"), 1);
}
