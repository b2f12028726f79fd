//! The counters of an engine, by its handle and shared with others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use longwire::engine::{Conn, Engine, Handler, MessageRef, Opening};
use longwire::http::{HeaderMap, Request, StatusCode};
use longwire::{Acceptor, Client, Config, Counters, Deflate, Refusal, Snapshot};

use crate::support::REQUEST;
use crate::support::frames::{frame, text};
use longwire_proto::frame::OpCode;

/// Echoes, or publishes to all what begins with an exclamation mark.
struct Host;

impl Handler for Host {
    type State = ();

    fn on_request(&self, request: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        match request.uri().path() {
            "/no" => Err(Refusal::new(StatusCode::FORBIDDEN, "不")),
            _ => Ok(()),
        }
    }

    fn opened(&self, conn: &mut Conn<'_>, (): &mut (), _: &Opening<'_>) {
        conn.subscribe("all");
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        if message.as_text().is_some_and(|text| text.starts_with('!')) {
            conn.publish_to_all("all", message);
        } else {
            conn.send(message).unwrap();
        }
    }
}

fn wait_for(counters: impl Fn() -> Snapshot, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let begun = Instant::now();
    loop {
        let snapshot = counters();
        if wanted(&snapshot) {
            return snapshot;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{snapshot:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A connection of which each byte is ours.
fn raw(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(REQUEST.replace("/chat", path).as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    stream
}

#[tokio::test]
async fn an_engine_counts_as_its_clients_do() {
    let (ours, theirs) = (Counters::new(), Counters::new());
    let config = Config::server().deflate(Deflate::new()).ping_after(None);
    let acceptor = Acceptor::new().config(config).counters(&ours);
    let running = Engine::new(Host).threads(2).acceptor(acceptor).listen("127.0.0.1:0").unwrap();
    let handle = running.handle();
    let url = format!("ws://{}/", running.local_addr().unwrap());
    let client = Client::new().counters(&theirs).config(Config::client().ping_after(None));
    let mut ws = client.connect(&url).await.unwrap();
    for (kind, size) in [("text", 3), ("text", 2000), ("binary", 70_000), ("binary", 300_000)] {
        if kind == "text" {
            ws.send("好".repeat(size)).await
        } else {
            ws.send(vec![size as u8; size]).await
        }
        .unwrap();
        ws.recv().await.unwrap().unwrap();
    }
    let mut other = client.connect(&url).await.unwrap();
    ws.send("! 大家好 👋").await.unwrap();
    ws.send("! again").await.unwrap();
    for ws in [&mut ws, &mut other] {
        for _ in 0..2 {
            ws.recv().await.unwrap().unwrap();
        }
    }
    ws.ping("?").await.unwrap();
    ws.close(1000, "").await.unwrap();
    other.close(4000, "").await.unwrap();
    let snapshot = wait_for(|| handle.counters(), |counters| counters.closed == 2);
    let clients = theirs.snapshot();
    assert_eq!(snapshot.received.pings, 1);
    assert_eq!(snapshot.received, clients.sent);
    // What the clients got beside is a Pong, which is in the wire's bytes only, in the engine's too.
    let answers = snapshot.sent.wire_bytes - clients.received.wire_bytes;
    assert!((2 * 129..2 * 300).contains(&answers), "two opening handshakes: {answers}");
    assert_eq!((snapshot.sent.texts, snapshot.sent.binaries), (2 + 4, 2));
    assert_eq!(snapshot.sent.payload_bytes(), clients.received.payload_bytes());
    assert_eq!(snapshot.ended_by("closed_by_peer"), 2);
    assert_eq!(
        wait_for(|| ours.snapshot(), |counters| counters.received == snapshot.received),
        handle.counters()
    );
}

#[test]
fn ends_and_refusals_of_an_engine() {
    let counters = Counters::new();
    let config = Config::server()
        .max_message(100)
        .message_timeout(Some(Duration::from_millis(50)))
        .close_timeout(Duration::from_millis(50));
    let acceptor =
        Acceptor::new().config(config).counters(&counters).handshake_timeout(Duration::from_millis(100));
    let running = Engine::new(Host).threads(1).acceptor(acceptor).listen("127.0.0.1:0").unwrap();
    let address = running.local_addr().unwrap();
    let cases: [(&str, Vec<u8>); 5] = [
        ("not_masked", text(false, "x")),
        ("invalid_utf8", frame(true, true, OpCode::Text, [0xFF])),
        ("message_too_big", frame(true, true, OpCode::Binary, [0; 101])),
        ("message_timeout", frame(true, false, OpCode::Text, "half")),
        ("eof", Vec::new()),
    ];
    for (cause, bytes) in cases {
        let mut stream = raw(address, "/");
        stream.write_all(&bytes).unwrap();
        if bytes.is_empty() {
            drop(stream);
        } else {
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        wait_for(|| counters.snapshot(), |counters| counters.ended_by(cause) == 1);
    }
    drop(raw(address, "/no"));
    wait_for(|| counters.snapshot(), |counters| counters.not_opened_by("403") == 1);
    drop(TcpStream::connect(address).unwrap());
    wait_for(|| counters.snapshot(), |counters| counters.not_opened_by("eof") == 1);
    let idle = TcpStream::connect(address).unwrap();
    wait_for(|| counters.snapshot(), |counters| counters.handshake_timeouts == 1);
    drop(idle);
    let open = raw(address, "/");
    wait_for(|| counters.snapshot(), |counters| counters.open == 1);
    let handle = running.handle();
    handle.stop();
    running.wait().unwrap();
    // What it has counted is still there, once.
    let snapshot = counters.snapshot();
    assert_eq!(snapshot, handle.counters());
    assert_eq!((snapshot.open, snapshot.opened, snapshot.ended_by("aborted")), (0, 6, 1));
    assert_eq!((snapshot.refused, snapshot.lost, snapshot.timeouts, snapshot.protocol_errors), (2, 2, 1, 3));
    drop(open);
}
