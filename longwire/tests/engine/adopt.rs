//! Connections whose opening handshake the caller answers, on streams that are not sockets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use longwire::Shutdown;
use longwire::engine::{Handle, Invitation};
use longwire::http::{Request, StatusCode};
use longwire::{Acceptor, Config, Error, Refusal, Side};
use longwire_proto::frame::OpCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::counting::Account;
use crate::host::{Host, House, PATIENCE, closed};
use crate::raw::Raw;
use crate::support::frames::{Frame, close, frame, split_frames, text};

fn from() -> SocketAddr {
    ([127, 0, 0, 7], 4711).into()
}

fn request(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).unwrap()
}

async fn invite(engine: &Handle, path: &str) -> Result<Invitation, Refusal> {
    timeout(PATIENCE, engine.invite(request(path), from())).await.expect("an answer")
}

/// The far end of a stream that an engine has adopted.
struct Far {
    stream: DuplexStream,
    read: Vec<u8>,
}

impl Far {
    async fn open(house: &House, path: &str) -> Self {
        let invitation = invite(&house.handle(), path).await.unwrap();
        let (near, stream) = tokio::io::duplex(16 * 1024);
        invitation.adopt(near, None, None).unwrap();
        Self { stream, read: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("taken").unwrap();
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            let (mut frames, rest) = split_frames(&self.read);
            if !frames.is_empty() {
                let first = frames.remove(0);
                // The bytes behind the frame stay for the next call.
                let length = self.read.len() - rest.len();
                let behind: usize = frames.iter().map(encoded_len).sum();
                self.read.drain(..length - behind);
                return Some(first);
            }
            let mut block = vec![0; 64 * 1024];
            let count = timeout(PATIENCE, self.stream.read(&mut block)).await.expect("something").unwrap();
            if count == 0 {
                assert!(self.read.is_empty(), "a torn frame");
                return None;
            }
            self.read.extend_from_slice(&block[..count]);
        }
    }

    async fn next_text(&mut self) -> String {
        let frame = self.frame().await.expect("a message");
        assert_eq!(frame.opcode, OpCode::Text);
        String::from_utf8(frame.payload).unwrap()
    }

    async fn says(&mut self, message: &str, answer: &str) {
        self.send(text(true, message)).await;
        assert_eq!(self.next_text().await, answer);
    }
}

fn encoded_len(frame: &Frame) -> usize {
    let length = frame.payload.len();
    length
        + if length < 126 {
            2
        } else if length < 65536 {
            4
        } else {
            10
        }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_of_every_size_come_back() {
    let house = House::new(Host::echo());
    let mut far = Far::open(&house, "/").await;
    far.says("你好 👋", "你好 👋").await;
    for size in [0, 125, 126, 10_000, 65_536, 1_000_000] {
        let payload: Vec<u8> = (0..size).map(|at| (at * 31 + 7) as u8).collect();
        let bytes = frame(true, true, OpCode::Binary, &payload);
        let (mut reads, mut writes) = tokio::io::split(&mut far.stream);
        let mut came = Vec::new();
        let read = async {
            while split_frames(&came).0.last().is_none_or(|frame: &Frame| !frame.fin) {
                let mut block = vec![0; 64 * 1024];
                let count = reads.read(&mut block).await.unwrap();
                assert!(count > 0);
                came.extend_from_slice(&block[..count]);
            }
        };
        let both = async { tokio::join!(writes.write_all(&bytes), read) };
        timeout(PATIENCE, both).await.expect("in time").0.unwrap();
        let joined: Vec<u8> = split_frames(&came).0.into_iter().flat_map(|frame| frame.payload).collect();
        assert!(joined == payload, "{size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_is_as_others_are() {
    let mut host = Host::new();
    host.on_request = Box::new(|request, headers| {
        if request.uri().path() == "/no" {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "不行"));
        }
        headers.insert("x-served-by", "longwire".parse().unwrap());
        Ok(())
    });
    host.on_opened = Box::new(|conn, _, opening| {
        assert!(conn.peer_addr().unwrap().ip().is_loopback());
        if opening.request().uri().path() == "/adopted" {
            assert_eq!(conn.peer_addr().unwrap(), from());
            assert_eq!(opening.subprotocol(), Some("chat.v2"));
        }
    });
    let house = House::with(host, |engine| engine.threads(2));
    let refusal = invite(&house.handle(), "/no").await.unwrap_err();
    assert_eq!((refusal.status(), refusal.text()), (StatusCode::FORBIDDEN, "不行"));
    let invitation = invite(&house.handle(), "/adopted").await.unwrap();
    assert_eq!(invitation.headers()["x-served-by"], "longwire");
    let (near, stream) = tokio::io::duplex(1000);
    invitation.adopt(near, Some("chat.v2"), None).unwrap();
    let mut far = Far { stream, read: Vec::new() };
    // It publishes and is published to.
    far.says("sub 甲", "true").await;
    let address = house.address();
    let raw = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::open(address, "/raw");
        raw.text("sub 甲");
        assert_eq!(raw.next_text(), "true");
        raw.text("pub 甲 从TCP");
        raw
    });
    let mut raw = raw.await.unwrap();
    assert_eq!(far.next_text().await, "从TCP");
    far.send(text(true, "pub 甲 从流")).await;
    assert_eq!(tokio::task::spawn_blocking(move || raw.next_text()).await.unwrap(), "从流");
    house.counters(|counters| counters.opened == 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_ends_close() {
    let house = House::new(Host::new());
    let mut far = Far::open(&house, "/peer").await;
    far.send(close(true, 4000, "走了")).await;
    let answer = far.frame().await.unwrap();
    assert_eq!((answer.opcode, answer.close_code()), (OpCode::Close, 4000));
    assert!(far.frame().await.is_none());
    assert_eq!(closed(house.log.closed("/peer")), (Side::Peer, Some((4000, "走了".into()))));
    let mut far = Far::open(&house, "/us").await;
    far.send(text(true, "close 1012 重启")).await;
    assert_eq!(far.frame().await.unwrap().close_code(), 1012);
    far.send(close(true, 1012, "")).await;
    assert!(far.frame().await.is_none());
    assert_eq!(closed(house.log.closed("/us")), (Side::Us, Some((1012, "重启".into()))));
    // Without a Close frame.
    let far = Far::open(&house, "/eof").await;
    house.log.opened("/eof");
    drop(far);
    assert!(matches!(house.log.closed("/eof"), Err(Error::Eof)));
    // A peer that breaks a rule gets a Close frame that says why.
    let mut far = Far::open(&house, "/broken").await;
    far.send(text(false, "not masked")).await;
    assert_eq!(far.frame().await.unwrap().close_code(), 1002);
    assert!(far.frame().await.is_none());
}

/// A stream that fails on command.
struct Failing(Arc<Failure>);

#[derive(Default)]
struct Failure {
    now: AtomicBool,
    waits: std::sync::Mutex<Option<Waker>>,
}

impl AsyncRead for Failing {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        *self.0.waits.lock().unwrap() = Some(cx.waker().clone());
        match self.0.now.load(Ordering::SeqCst) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => Poll::Pending,
        }
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn how_its_stream_fails_is_told() {
    let house = House::new(Host::new());
    let failure = Arc::new(Failure::default());
    invite(&house.handle(), "/").await.unwrap().adopt(Failing(Arc::clone(&failure)), None, None).unwrap();
    house.log.opened("/");
    failure.now.store(true, Ordering::SeqCst);
    if let Some(waker) = failure.waits.lock().unwrap().take() {
        waker.wake();
    }
    let error = house.log.closed("/").unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
}

/// A stream that takes all bytes and never flushes them.
struct Unflushed {
    written: Option<oneshot::Sender<()>>,
    /// Dropped with the stream.
    _alive: oneshot::Sender<()>,
}

impl AsyncRead for Unflushed {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Unflushed {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.written.take() {
            let _ = written.send(());
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// The engine's own deadlines end only its end of the pair of sockets.
#[tokio::test(start_paused = true)]
async fn one_that_never_flushes_is_dropped() {
    // No timer is set until the engine's bytes have come, so time stands still until then.
    let house = House::new(Host::new());
    let (written, was_written) = oneshot::channel();
    let (alive, dropped) = oneshot::channel();
    let stream = Unflushed { written: Some(written), _alive: alive };
    let invitation = house.handle().invite(request("/"), from()).await.unwrap();
    invitation.adopt(stream, None, None).unwrap();
    house.handle().conn(house.log.opened("/")).send("你好 👋").unwrap();
    was_written.await.unwrap();
    timeout(Duration::from_secs(40), dropped).await.expect("it is dropped after 30 s").unwrap_err();
    let error = house.log.closed("/").unwrap_err();
    assert!(matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::TimedOut), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_does_not_read_is_dropped() {
    let config = Config::server().ping_after(None).write_timeout(Duration::from_millis(300));
    let house = House::of(Host::new(), config.write_buffer(64 * 1024 * 1024));
    let mut far = Far::open(&house, "/").await;
    far.send(text(true, "flood 100 100000")).await;
    assert!(matches!(house.log.closed("/"), Err(Error::WriteTimeout)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_invitation_that_is_dropped_gives_its_room_back() {
    let house = House::with(Host::echo(), |engine| engine.threads(2).max_connections(1));
    // A caller that drops the future frees the room too.
    for _ in 0..100 {
        let asked = timeout(Duration::ZERO, house.handle().invite(request("/lost"), from())).await;
        drop(asked);
    }
    let began = std::time::Instant::now();
    let first = loop {
        assert!(began.elapsed() < PATIENCE);
        if let Ok(first) = invite(&house.handle(), "/first").await {
            break first;
        }
    };
    assert_eq!(invite(&house.handle(), "/").await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    let began = std::time::Instant::now();
    let second = loop {
        assert!(began.elapsed() < PATIENCE);
        if let Ok(second) = invite(&house.handle(), "/second").await {
            break second;
        }
    };
    let (near, stream) = tokio::io::duplex(1000);
    second.adopt(near, None, None).unwrap();
    let mut far = Far { stream, read: Vec::new() };
    far.says("好", "好").await;
    assert_eq!(invite(&house.handle(), "/").await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
    house.counters(|counters| counters.opened == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_is_drained() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut far = Far::open(&house, "/").await;
    house.log.opened("/");
    let kept = invite(&house.handle(), "/kept").await.unwrap();
    house.handle().shutdown(Shutdown::new(1012, "重启"));
    assert_eq!(far.frame().await.unwrap().close_code(), 1012);
    let late = invite(&house.handle(), "/late").await.unwrap_err();
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    // An invitation that is used after the engine has stopped ends its stream.
    let (near, mut end) = tokio::io::duplex(1000);
    kept.adopt(near, None, None).unwrap();
    assert_eq!(timeout(PATIENCE, end.read(&mut [0])).await.expect("the end").unwrap(), 0);
    far.send(close(true, 1012, "")).await;
    assert!(far.frame().await.is_none());
    let House { mut running, .. } = house;
    timeout(PATIENCE, running.ended()).await.expect("the end").unwrap();
}

/// The task that carries an idle connection holds no buffer.
#[tokio::test]
async fn what_carries_it_is_small() {
    const COUNT: usize = 50;
    let account = Account::of_this_thread();
    let house = House::with(Host::echo(), |engine| {
        engine.threads(1).acceptor(Acceptor::new().config(Config::server().ping_after(None)))
    });
    // What the runtime and the pools keep for all connections.
    let mut first = Far::open(&house, "/").await;
    first.says("好", "好").await;
    let before = account.live();
    let mut fars = Vec::new();
    for _ in 0..COUNT {
        let mut far = Far::open(&house, "/").await;
        far.says(&"静".repeat(3000), &"静".repeat(3000)).await;
        far.read = Vec::new();
        fars.push(far);
    }
    // The pipes of the test itself hold up to 16 KiB each way.
    let each = (account.live() - before) / COUNT as isize;
    assert!(each < 2 * 16 * 1024 + 4 * 1024, "{each} B");
}
