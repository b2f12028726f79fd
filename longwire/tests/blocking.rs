//! The blocking client, against servers of the async driver on a runtime of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use longwire::blocking::{self, READ_AHEAD, RecvTimeoutError};
use longwire::{
    Acceptor, Client, CloseFrame, Config, ConnectError, Error, Message, Refusal, SendError, Side, WebSocket,
    http::StatusCode,
};
use longwire_proto::frame::OpCode;
use support::frames::whole_frames;
use support::{accept_of, read_head, response, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A server on a runtime of its own: what it does with each connection.
struct Server {
    runtime: Runtime,
    listener: TcpListener,
}

impl Server {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        Self { runtime, listener }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.address())
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Serves every connection with `serve`.
    fn serving<F, T>(serve: F) -> (String, Runtime)
    where
        F: Fn(WebSocket<TcpStream>) -> T + Send + Sync + Clone + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let Self { runtime, listener } = Self::new();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serve = serve.clone();
                tokio::spawn(async move {
                    let config = Config::server().max_message(64 * 1024 * 1024);
                    let acceptor = Acceptor::new().config(config).subprotocols(["chat"]);
                    serve(acceptor.accept(stream).await.unwrap()).await;
                });
            }
        });
        (url, runtime)
    }

    /// Both ends of a connection.
    fn pair(&self, client: &Client) -> (blocking::WebSocket, WebSocket<TcpStream>) {
        thread::scope(|scope| {
            let client = scope.spawn(|| client.connect_blocking(self.url()).unwrap());
            let ws = self.runtime.block_on(soon(async {
                let (stream, _) = self.listener.accept().await.unwrap();
                longwire::accept(stream).await.unwrap()
            }));
            (client.join().unwrap(), ws)
        })
    }

    /// The server's end as bytes.
    fn raw(&self, client: &Client) -> (blocking::WebSocket, TcpStream) {
        thread::scope(|scope| {
            let client = scope.spawn(|| client.connect_blocking(self.url()).unwrap());
            let stream = self.runtime.block_on(soon(async {
                let (mut stream, _) = self.listener.accept().await.unwrap();
                let request = read_head(&mut stream).await;
                stream.write_all(response(&accept_of(&request)).as_bytes()).await.unwrap();
                stream
            }));
            (client.join().unwrap(), stream)
        })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(soon(future))
    }
}

async fn echo(mut ws: WebSocket<TcpStream>) {
    while let Ok(Some(message)) = ws.recv().await {
        if ws.feed(message).await.is_err() {
            break;
        }
    }
}

#[test]
fn messages_of_every_size_come_back() {
    let (url, _runtime) = Server::serving(echo);
    let mut ws = Client::new().subprotocols(["chat"]).connect_blocking(&url).unwrap();
    assert_eq!(ws.subprotocol(), Some("chat"));
    assert_eq!(ws.deflate(), None, "the server was not told to");
    for size in [0, 1, 125, 126, 8192, 65_535, 65_536, READ_AHEAD as usize, 20 * 1024 * 1024] {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        ws.send(payload.clone()).unwrap();
        assert_eq!(ws.recv().unwrap(), Some(payload.into()), "{size}");
    }
    ws.send("你好 👋").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("你好 👋".into()));
    ws.close(1000, "再见").unwrap();
    let closed = ws.closed().unwrap();
    assert_eq!((closed.by, closed.frame), (Side::Us, Some(CloseFrame::new(1000, "再见"))));
    for _ in 0..2 {
        assert_eq!(ws.recv().unwrap(), None);
    }
    assert!(matches!(ws.send("late"), Err(SendError::Closed)));
    ws.close(1000, "").unwrap();
}

#[test]
fn the_server_closes() {
    let (url, _runtime) = Server::serving(async |mut ws: WebSocket<TcpStream>| {
        ws.feed("最后").await.unwrap();
        ws.close(4001, "关门").await.unwrap();
    });
    let mut ws = blocking::connect(&url).unwrap();
    let messages: Vec<_> = (&mut ws).map(Result::unwrap).collect();
    assert_eq!(messages, [Message::from("最后")]);
    assert!(ws.next().is_none());
    let closed = ws.closed().unwrap();
    assert_eq!((closed.by, closed.frame), (Side::Peer, Some(CloseFrame::new(4001, "关门"))));
}

#[test]
fn an_end_without_a_closing_handshake_is_an_error_and_stays_one() {
    let server = Server::new();
    let (mut ws, other) = server.pair(&Client::new());
    let sender = ws.sender();
    drop(other);
    assert!(matches!(ws.recv(), Err(Error::Eof)));
    assert!(matches!(ws.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Failed(Error::Eof))));
    assert!(matches!(sender.send("late"), Err(SendError::Failed(Error::Eof))));
    assert!(matches!(ws.next(), Some(Err(Error::Eof))));
    assert!(ws.next().is_none());
    assert_eq!(ws.closed(), None);
}

#[test]
fn connecting_fails_as_it_does_elsewhere() {
    let server = Server::new();
    let refused = thread::scope(|scope| {
        let client = scope.spawn(|| blocking::connect(server.url()));
        server.wait(async {
            let (stream, _) = server.listener.accept().await.unwrap();
            let acceptor = Acceptor::new().on_request(|_, _| Err(Refusal::new(StatusCode::GONE, "搬走了")));
            acceptor.accept(stream).await.unwrap_err();
        });
        client.join().unwrap().unwrap_err()
    });
    let ConnectError::Refused(response) = refused else { panic!("{refused}") };
    assert_eq!((response.status, response.body.trim()), (StatusCode::GONE, "搬走了"));

    // Accepted by the system, answered by nobody.
    let client = Client::new().handshake_timeout(Duration::from_millis(50));
    assert!(matches!(client.connect_blocking(server.url()), Err(ConnectError::Timeout(_))));
    assert!(matches!(blocking::connect("mailto:a@b"), Err(ConnectError::Invalid(_))));
    let url = server.url();
    drop(server);
    assert!(matches!(blocking::connect(url), Err(ConnectError::Io(_))));
}

#[test]
fn a_timeout_loses_nothing() {
    let server = Server::new();
    let (mut ws, mut other) = server.pair(&Client::new());
    let begun = Instant::now();
    let time = Duration::from_millis(30);
    assert!(matches!(ws.recv_timeout(time), Err(RecvTimeoutError::Timeout)));
    assert!(begun.elapsed() >= time);
    assert!(matches!(ws.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout)));
    server.wait(other.send("来了")).unwrap();
    assert_eq!(ws.recv_timeout(Duration::from_secs(20)).unwrap(), Some("来了".into()));
}

#[test]
fn it_is_kept_alive_while_nobody_calls() {
    let server = Server::new();
    let client = Client::new().config(Config::client().ping_after(Some(Duration::from_millis(20))));
    let (mut ws, mut stream) = server.raw(&client);
    // It pings, and answers Pings, without a call.
    server.wait(async {
        let mut bytes = Vec::new();
        for _ in 0..5 {
            let mut header = [0; 6];
            stream.read_exact(&mut header).await.unwrap();
            let mut rest = vec![0; usize::from(header[1] & 0x7F)];
            stream.read_exact(&mut rest).await.unwrap();
            bytes.extend([&header[..], &rest].concat());
            // Any byte is life: an unsolicited Pong.
            stream.write_all(&[0x8A, 0]).await.unwrap();
        }
        let pings = whole_frames(&bytes);
        assert!(pings.len() == 5 && pings.iter().all(|frame| frame.opcode == OpCode::Ping));
        stream.write_all(&[0x89, 2, b'o', b'k']).await.unwrap();
        let mut frame = vec![0; 8];
        while frame[0] != 0x8A {
            frame.resize(6, 0);
            stream.read_exact(&mut frame).await.unwrap();
            let length = usize::from(frame[1] & 0x7F);
            frame.resize(6 + length, 0);
            stream.read_exact(&mut frame[6..]).await.unwrap();
        }
        assert!(whole_frames(&frame)[0].is(OpCode::Pong, "ok"));
    });
    server.wait(async { stream.write_all(b"\x81\x02ok").await.unwrap() });
    assert_eq!(ws.recv().unwrap(), Some("ok".into()));
}

#[test]
fn a_silent_peer_is_noticed_while_nobody_calls() {
    let server = Server::new();
    let config =
        Config::client().ping_after(Some(Duration::from_millis(10))).pong_timeout(Duration::from_millis(30));
    let (mut ws, mut stream) = server.raw(&Client::new().config(config));
    server.wait(async {
        // What comes before its end is Pings.
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
    });
    assert!(matches!(ws.recv(), Err(Error::PingTimeout)));
}

#[test]
fn a_client_that_does_not_take_does_not_read_on() {
    const SIZE: usize = 16 * 1024;
    let server = Server::new();
    let (mut ws, other) = server.pair(&Client::new());
    let (sender, mut receiver) = other.split();
    server.runtime.spawn(async move { while let Ok(Some(_)) = receiver.recv().await {} });
    // Far more than the system and both write buffers hold: it cannot all be read ahead.
    let mut sent = 0;
    let full = Instant::now() + Duration::from_secs(20);
    let mut still = 0;
    while still < 50 {
        match sender.try_send(vec![0; SIZE]) {
            Ok(()) => (sent, still) = (sent + 1, 0),
            Err(SendError::Full) => {
                still += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent * SIZE < 256 * 1024 * 1024, "it reads without bound");
        assert!(Instant::now() < full, "it reads on and on");
    }
    // It goes on where it stopped, and nothing was lost.
    for _ in 0..sent {
        assert_eq!(ws.recv_timeout(Duration::from_secs(20)).unwrap().unwrap().len(), SIZE);
    }
    ws.close(1000, "").unwrap();
}

#[test]
fn what_is_read_ahead_is_counted() {
    // Empty messages, which count 128 bytes each.
    let fits = READ_AHEAD as usize / 128;
    let server = Server::new();
    let client = Client::new().config(Config::client().ping_after(None));
    let mut frame = [0; 8];
    let ping = b"\x89\x02ok";

    // So many, and the one that finds no room, but nothing behind it.
    let (mut ws, mut stream) = server.raw(&client);
    server.wait(async {
        stream.write_all(&[&b"\x81\0".repeat(fits)[..], ping].concat()).await.unwrap();
        stream.read_exact(&mut frame).await.unwrap();
        assert!(whole_frames(&frame)[0].is(OpCode::Pong, "ok"));
        stream.write_all(&[b"\x81\0", &ping[..]].concat()).await.unwrap();
        // Had it read on, it would have answered by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    ws.send("ok").unwrap();
    server.wait(stream.read_exact(&mut frame)).unwrap();
    assert!(whole_frames(&frame)[0].is(OpCode::Text, "ok"));
    assert_eq!(ws.recv().unwrap(), Some("".into()));
    server.wait(stream.read_exact(&mut frame)).unwrap();
    assert!(whole_frames(&frame)[0].is(OpCode::Pong, "ok"));
}

#[test]
fn closing_passes_over_what_was_read_ahead() {
    let server = Server::new();
    let (mut ws, mut other) = server.pair(&Client::new());
    let sends = server.runtime.spawn(async move {
        for _ in 0..64 {
            other.send(vec![0; 64 * 1024]).await.unwrap();
        }
        while other.recv().await.unwrap().is_some() {}
    });
    ws.close(1000, "不看了").unwrap();
    assert_eq!(ws.closed().unwrap().by, Side::Us);
    server.wait(sends).unwrap();
}

#[test]
fn dropped_it_ends_tcp() {
    let server = Server::new();
    let (ws, mut other) = server.pair(&Client::new());
    drop(ws);
    assert!(matches!(server.wait(other.recv()), Err(Error::Eof)));

    // The last hand counts.
    let (ws, mut other) = server.pair(&Client::new());
    let (sender, receiver) = ws.split();
    drop(receiver);
    let second = sender.clone();
    drop(sender);
    second.send("还在").unwrap();
    assert_eq!(server.wait(other.recv()).unwrap(), Some("还在".into()));
    // Without a receiver what comes is dropped, and it closes all the same.
    for _ in 0..64 {
        server.wait(other.send(vec![0; 64 * 1024])).unwrap();
    }
    drop(second);
    assert!(matches!(server.wait(other.recv()), Err(Error::Eof | Error::Io(_))));
}

#[test]
fn several_threads_on_several_connections() {
    let (url, _runtime) = Server::serving(echo);
    thread::scope(|scope| {
        for client in 0..8 {
            let url = &url;
            scope.spawn(move || {
                let (sender, mut receiver) = blocking::connect(url).unwrap().split();
                thread::scope(|scope| {
                    for half in 0..2 {
                        let sender = sender.clone();
                        scope.spawn(move || {
                            for at in 0..200 {
                                sender.send(format!("{client} {half} {at} 👋")).unwrap();
                            }
                        });
                    }
                    // Each thread's messages come in its order.
                    let mut next = [0, 0];
                    for _ in 0..400 {
                        let message = receiver.recv().unwrap().unwrap();
                        let words: Vec<_> = message.as_text().unwrap().split(' ').collect();
                        let half: usize = words[1].parse().unwrap();
                        assert_eq!((words[0], words[2]), (&*client.to_string(), &*next[half].to_string()));
                        next[half] += 1;
                    }
                });
                sender.close(1000, "").unwrap();
                assert!(receiver.recv().unwrap().is_none());
            });
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn all_connections_have_one_thread() {
    let server = Server::new();
    let pairs: Vec<_> = (0..10).map(|_| server.pair(&Client::new())).collect();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().filter(|task| {
        // A thread of another test may be gone by now; the system keeps 15 bytes of a name.
        let name = std::fs::read_to_string(task.as_ref().unwrap().path().join("comm")).unwrap_or_default();
        name.trim_end() == "longwire-blocki"
    });
    assert_eq!(threads.count(), 1);
    drop(pairs);
}

#[test]
fn a_thread_that_waits_is_woken_by_the_close_of_another() {
    let server = Server::new();
    let (ws, mut other) = server.pair(&Client::new());
    let (sender, mut receiver) = ws.split();
    let waits = thread::spawn(move || (receiver.recv(), receiver.closed()));
    let closes = server.runtime.spawn(async move { other.recv().await });
    sender.close(1000, "够了").unwrap();
    let (received, closed) = waits.join().unwrap();
    assert_eq!(received.unwrap(), None);
    assert_eq!(closed.unwrap().by, Side::Us);
    assert_eq!(server.wait(closes).unwrap().unwrap(), None);
}

#[test]
fn in_a_task_it_panics_and_says_why() {
    let (url, _runtime) = Server::serving(echo);
    let runtime = Runtime::new().unwrap();
    let inside = url.clone();
    let panicked =
        runtime.block_on(runtime.spawn(async move { drop(blocking::connect(inside)) })).unwrap_err();
    let payload = panicked.into_panic();
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap();
    assert!(text.contains("runtime"), "{text}");

    // Where a thread may wait it works.
    let (told, heard) = mpsc::channel();
    runtime.block_on(async {
        let waits = tokio::task::spawn_blocking(move || {
            let mut ws = blocking::connect(url).unwrap();
            ws.send("好").unwrap();
            told.send(ws.recv().unwrap()).unwrap();
        });
        soon(waits).await.unwrap();
    });
    assert_eq!(heard.recv().unwrap(), Some("好".into()));
}
