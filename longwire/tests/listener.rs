//! The listener: which calls come, how often and in which order, and what its handle may do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use longwire::listener::{Failure, Handle, Listener};
use longwire::{
    Acceptor, Client, Closed, Config, ConnectError, Error, Message, SendError, Side, WebSocket,
    http::StatusCode,
};
use longwire_proto::frame::OpCode;
use support::frames::{close, text, whole_frames};
use support::{accept_of, read_head, read_to_end, response, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// A call, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Open,
    Message(Message),
    Closing(Side, u16),
    Closed(Side, u16),
    Failed(String),
}

use Call::Open;

fn message(text: &str) -> Call {
    Call::Message(text.into())
}

fn code(closed: &Closed) -> u16 {
    closed.frame.as_ref().map_or(1005, |frame| frame.code.into())
}

/// Tells of each call, and panics in the one that it is told to.
struct Recorder {
    calls: UnboundedSender<(Call, tokio::task::Id)>,
    panics_at: Option<fn(&Call) -> bool>,
}

impl Recorder {
    fn called(&self, call: Call) {
        let panics = self.panics_at.is_some_and(|panics| panics(&call));
        self.calls.send((call, tokio::task::id())).unwrap();
        assert!(!panics, "as it was told to");
    }
}

impl Listener for Recorder {
    fn on_open(&mut self, _: &Handle, ws: &WebSocket) {
        assert_eq!(ws.subprotocol(), Some("chat"));
        self.called(Open);
    }

    fn on_message(&mut self, _: &Handle, message: Message) {
        self.called(Call::Message(message));
    }

    fn on_closing(&mut self, _: &Handle, closed: &Closed) {
        self.called(Call::Closing(closed.by, code(closed)));
    }

    fn on_closed(&mut self, _: &Handle, closed: Closed) {
        self.called(Call::Closed(closed.by, code(&closed)));
    }

    fn on_failure(&mut self, _: &Handle, failure: Failure) {
        let response = failure.response().map(|response| format!(" {}", response.body)).unwrap_or_default();
        self.called(Call::Failed(format!("{failure:#}{response}")));
    }
}

/// The calls as they come. They end when the listener is dropped: nothing can follow.
struct Calls(UnboundedReceiver<(Call, tokio::task::Id)>);

impl Calls {
    async fn next(&mut self) -> Option<Call> {
        Some(soon(self.0.recv()).await?.0)
    }

    /// All that are left, which came from one task.
    async fn rest(mut self) -> Vec<Call> {
        let (mut calls, mut task) = (Vec::new(), None);
        while let Some((call, id)) = soon(self.0.recv()).await {
            assert_eq!(*task.get_or_insert(id), id);
            calls.push(call);
        }
        calls
    }
}

/// A listener, its handle, and where its connection arrives.
async fn listen(client: Client, panics_at: Option<fn(&Call) -> bool>) -> (Handle, Calls, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    let (calls, called) = mpsc::unbounded_channel();
    let handle = client.subprotocols(["chat"]).listen(url, Recorder { calls, panics_at });
    (handle, Calls(called), server)
}

async fn open() -> (Handle, Calls, WebSocket<TcpStream>) {
    let (handle, calls, server) = listen(Client::new(), None).await;
    (handle, calls, accept(&server).await)
}

async fn accept(server: &TcpListener) -> WebSocket<TcpStream> {
    let (stream, _) = soon(server.accept()).await.unwrap();
    // No keepalive, which would wake a client that sleeps for ever.
    let config = Config::server().ping_after(None);
    soon(Acceptor::new().config(config).subprotocols(["chat"]).accept(stream)).await.unwrap()
}

/// The server's end as bytes.
async fn accept_raw(server: &TcpListener) -> TcpStream {
    let (mut stream, _) = soon(server.accept()).await.unwrap();
    let request = read_head(&mut stream).await;
    let answer =
        response(&accept_of(&request)).replacen("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", 1);
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn the_peer_closes() {
    let (handle, calls, mut ws) = open().await;
    ws.send("你好").await.unwrap();
    ws.send("👋").await.unwrap();
    soon(ws.close(4000, "再见")).await.unwrap();
    let (closing, closed) = (Call::Closing(Side::Peer, 4000), Call::Closed(Side::Peer, 4000));
    assert_eq!(calls.rest().await, [Open, message("你好"), message("👋"), closing, closed]);
    assert!(matches!(handle.send("late"), Err(SendError::Closed)));
    handle.close(1000, "").unwrap();
    handle.cancel();
}

#[tokio::test]
async fn what_was_queued_before_it_was_open_goes_before_the_close() {
    let (handle, calls, server) = listen(Client::new(), None).await;
    let texts: Vec<_> = (0..100).map(|at| format!("第 {at} 条 👋")).collect();
    for text in &texts {
        handle.send(text).unwrap();
    }
    assert!(handle.queue_size() > texts.iter().map(String::len).sum());
    handle.close(1000, "够了").unwrap();
    // Refused from now on, though nothing is sent yet.
    assert!(matches!(handle.send("late"), Err(SendError::Closed)));
    handle.close(1001, "the first counts").unwrap();
    let mut ws = accept(&server).await;
    for text in &texts {
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(text.into()));
    }
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().reason.as_str(), "够了");
    assert_eq!(calls.rest().await, [Open, Call::Closing(Side::Us, 1000), Call::Closed(Side::Us, 1000)]);
    assert_eq!(handle.queue_size(), 0);
}

#[tokio::test]
async fn closing_comes_with_the_frame_and_closed_with_the_end_of_tcp() {
    let (handle, mut calls, server) = listen(Client::new(), None).await;
    let mut stream = accept_raw(&server).await;
    stream.write_all(&[text(false, "最后"), close(false, 1001, "")].concat()).await.unwrap();
    assert_eq!(calls.next().await, Some(Open));
    assert_eq!(calls.next().await, Some(message("最后")));
    assert_eq!(calls.next().await, Some(Call::Closing(Side::Peer, 1001)));
    assert!(matches!(handle.send("late"), Err(SendError::Closed)));
    let mut answer = [0; 8];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(whole_frames(&answer)[0].close_code(), 1001);
    assert!(calls.0.try_recv().is_err(), "TCP has not ended");
    drop(stream);
    assert_eq!(calls.rest().await, [Call::Closed(Side::Peer, 1001)]);
}

#[tokio::test]
async fn messages_come_until_the_peer_has_answered_the_close() {
    let (handle, mut calls, server) = listen(Client::new(), None).await;
    let mut stream = accept_raw(&server).await;
    assert_eq!(calls.next().await, Some(Open));
    handle.close(1000, "").unwrap();
    let mut frame = [0; 8];
    soon(stream.read_exact(&mut frame)).await.unwrap();
    assert_eq!(whole_frames(&frame)[0].opcode, OpCode::Close);
    stream.write_all(&text(false, "还有")).await.unwrap();
    assert_eq!(calls.next().await, Some(message("还有")));
    stream.write_all(&close(false, 1000, "")).await.unwrap();
    drop(stream);
    assert_eq!(calls.rest().await, [Call::Closing(Side::Us, 1000), Call::Closed(Side::Us, 1000)]);
}

#[tokio::test]
async fn a_close_that_is_not_answered_is_a_failure() {
    let client = Client::new().config(Config::client().close_timeout(Duration::from_millis(50)));
    let (handle, calls, server) = listen(client, None).await;
    let stream = accept_raw(&server).await;
    handle.close(1000, "").unwrap();
    assert_eq!(calls.rest().await, [Open, Call::Failed(Error::CloseTimeout.to_string())]);
    drop(stream);
}

#[tokio::test]
async fn what_may_not_be_sent_is_refused_and_the_connection_goes_on() {
    let (handle, calls, mut ws) = open().await;
    assert!(matches!(handle.close(1006, ""), Err(SendError::InvalidCloseCode(_))));
    assert!(matches!(handle.close(1000, &"x".repeat(124)), Err(SendError::ReasonTooLong)));
    handle.send("好").unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("好".into()));
    handle.close(1000, &"x".repeat(123)).unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(calls.rest().await.len(), 3);
}

#[tokio::test]
async fn what_was_not_opened_failed_and_nothing_else() {
    // Refused by HTTP.
    let (_, calls, server) = listen(Client::new(), None).await;
    let acceptor =
        Acceptor::new().on_request(|_, _| Err(longwire::Refusal::new(StatusCode::FORBIDDEN, "没有票")));
    let (stream, _) = soon(server.accept()).await.unwrap();
    soon(acceptor.accept(stream)).await.unwrap_err();
    let [Call::Failed(why)] = &calls.rest().await[..] else { panic!() };
    assert!(why.contains("403") && why.contains("没有票"), "{why}");

    // No one there.
    let (calls, called) = mpsc::unbounded_channel();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    Client::new().listen(format!("ws://{closed}/"), Recorder { calls, panics_at: None });
    assert!(matches!(&Calls(called).rest().await[..], [Call::Failed(_)]));

    // No URL.
    let (calls, called) = mpsc::unbounded_channel();
    Client::new().listen("gopher://a", Recorder { calls, panics_at: None });
    assert!(matches!(&Calls(called).rest().await[..], [Call::Failed(why)] if why.contains("gopher")));

    // Too slow.
    let (_, calls, server) = listen(Client::new().handshake_timeout(Duration::from_millis(50)), None).await;
    assert_eq!(
        calls.rest().await,
        [Call::Failed(ConnectError::Timeout(longwire::Phase::Handshake).to_string())]
    );
    drop(server);
}

#[tokio::test]
async fn an_end_without_a_closing_handshake_is_a_failure() {
    let (handle, calls, ws) = open().await;
    drop(ws);
    assert_eq!(calls.rest().await, [Open, Call::Failed(Error::Eof.to_string())]);
    assert!(matches!(handle.send("late"), Err(SendError::Closed)));

    // A masked frame of a server's (RFC 6455 5.1).
    let (_, calls, server) = listen(Client::new(), None).await;
    let mut stream = accept_raw(&server).await;
    stream.write_all(&text(true, "masked")).await.unwrap();
    let frames = whole_frames(&read_to_end_of_frames(&mut stream).await);
    assert_eq!(frames.last().unwrap().close_code(), 1002);
    drop(stream);
    assert!(matches!(&calls.rest().await[..], [Open, Call::Failed(why)] if why.contains("RFC 6455 5.1")));
}

/// What the client says before it ends its direction.
async fn read_to_end_of_frames(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let count = soon(stream.read(&mut bytes)).await.unwrap();
    bytes.truncate(count);
    bytes
}

#[tokio::test]
async fn the_queue_is_bounded_and_nothing_that_it_took_is_lost() {
    const LIMIT: usize = 64 * 1024;
    let client = Client::new().config(Config::client().write_buffer(LIMIT).no_deflate().ping_after(None));
    let (handle, calls, server) = listen(client, None).await;
    let mut ws = accept(&server).await;
    let payload = vec![b'x'; 8 * 1024];
    let mut taken = 0;
    // The server does not read: the system's buffers fill up, then the queue.
    let full = soon(async {
        let mut refused = 0;
        loop {
            match handle.send(payload.clone()) {
                Ok(()) => (taken, refused) = (taken + 1, 0),
                // It stays full when nothing more goes out.
                Err(SendError::Full) if refused == 50 => break handle.queue_size(),
                Err(SendError::Full) => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert!((LIMIT..LIMIT + payload.len() + 128).contains(&full), "{full}");
    handle.close(1000, "").unwrap();
    for _ in 0..taken {
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().len(), payload.len());
    }
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(handle.queue_size(), 0);
    assert_eq!(calls.rest().await.last(), Some(&Call::Closed(Side::Us, 1000)));
}

#[tokio::test]
async fn empty_messages_are_bounded_too() {
    let client = Client::new().config(Config::client().write_buffer(1280));
    let (handle, mut calls, server) = listen(client, None).await;
    for at in 0..10 {
        assert_eq!(handle.queue_size(), at * 128);
        handle.send("").unwrap();
    }
    assert!(matches!(handle.send(""), Err(SendError::Full)));
    let mut ws = accept(&server).await;
    for _ in 0..10 {
        assert_eq!(soon(ws.recv()).await.unwrap(), Some("".into()));
    }
    assert_eq!(calls.next().await, Some(Open));
    handle.send("有地方了").unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), Some("有地方了".into()));
}

#[tokio::test]
async fn cancelling_ends_it_at_once() {
    let cancelled = Call::Failed(Failure::Cancelled.to_string());
    // While it is connecting.
    let (handle, calls, server) = listen(Client::new(), None).await;
    let (mut stream, _) = soon(server.accept()).await.unwrap();
    handle.cancel();
    assert_eq!(calls.rest().await, std::slice::from_ref(&cancelled));
    read_to_end(&mut stream).await;

    // While it is open, with messages that wait.
    let (handle, mut calls, mut ws) = open().await;
    assert_eq!(calls.next().await, Some(Open));
    handle.cancel();
    handle.cancel();
    assert!(matches!(handle.send("late"), Err(SendError::Closed)));
    assert_eq!(calls.rest().await, std::slice::from_ref(&cancelled));
    assert!(matches!(soon(ws.recv()).await, Err(Error::Eof)));

    // While it is closing, and the peer does not answer.
    let (handle, mut calls, server) = listen(Client::new(), None).await;
    let mut stream = accept_raw(&server).await;
    assert_eq!(calls.next().await, Some(Open));
    handle.close(1000, "").unwrap();
    soon(stream.read_exact(&mut [0; 8])).await.unwrap();
    handle.cancel();
    assert_eq!(calls.rest().await, [cancelled]);
}

#[tokio::test]
async fn a_call_that_panics_closes_with_1011() {
    let panics: [fn(&Call) -> bool; 3] = [
        |call| *call == Open,
        |call| matches!(call, Call::Message(_)),
        |call| matches!(call, Call::Message(message) if message.as_text() == Some("二")),
    ];
    for (at, panics) in panics.into_iter().enumerate() {
        let (handle, calls, server) = listen(Client::new(), Some(panics)).await;
        let mut ws = accept(&server).await;
        for text in ["一", "二", "三"] {
            // It may be closed already.
            let _ = ws.send(text).await;
        }
        assert_eq!(soon(ws.recv()).await.unwrap(), None);
        assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, 1011);
        let calls = calls.rest().await;
        assert_eq!(calls.len(), at + 2, "{calls:?}");
        assert_eq!(calls.last(), Some(&Call::Failed(Error::Panicked.to_string())));
        assert!(matches!(handle.send("late"), Err(SendError::Closed)));
    }
}

#[tokio::test]
async fn nothing_is_called_behind_the_last_call_even_if_it_panics() {
    // In on_closing it is still a failure.
    let (_, calls, server) = listen(Client::new(), Some(|call| matches!(call, Call::Closing(..)))).await;
    soon(accept(&server).await.close(1000, "")).await.unwrap();
    let closing = Call::Closing(Side::Peer, 1000);
    assert_eq!(calls.rest().await, [Open, closing.clone(), Call::Failed(Error::Panicked.to_string())]);

    let (_, calls, server) = listen(Client::new(), Some(|call| matches!(call, Call::Closed(..)))).await;
    soon(accept(&server).await.close(1000, "")).await.unwrap();
    assert_eq!(calls.rest().await, [Open, closing, Call::Closed(Side::Peer, 1000)]);

    let (_, calls, server) = listen(Client::new(), Some(|call| matches!(call, Call::Failed(_)))).await;
    drop(soon(server.accept()).await.unwrap());
    assert!(matches!(&calls.rest().await[..], [Call::Failed(_)]));
}

#[tokio::test]
async fn a_handle_that_is_dropped_closes_nothing() {
    let (handle, mut calls, mut ws) = open().await;
    drop(handle);
    assert_eq!(calls.next().await, Some(Open));
    ws.send("还在").await.unwrap();
    assert_eq!(calls.next().await, Some(message("还在")));
}

#[test]
fn a_runtime_that_ends_takes_the_connection_along() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (handle, mut calls, ws) = runtime.block_on(open());
    assert_eq!(runtime.block_on(calls.next()), Some(Open));
    drop(runtime);
    assert!(calls.0.try_recv().is_err(), "nothing was called");
    assert!(matches!(handle.send("late"), Err(SendError::Closed)));
    drop(ws);
}

/// Answers from within the calls.
struct Echo(UnboundedSender<()>);

impl Listener for Echo {
    fn on_message(&mut self, handle: &Handle, message: Message) {
        match message.as_text() {
            Some("结束") => handle.close(1000, "好").unwrap(),
            _ => handle.send(message).unwrap(),
        }
    }

    fn on_closed(&mut self, _: &Handle, _: Closed) {
        self.0.send(()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_answers() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ended, mut end) = mpsc::unbounded_channel();
    Client::new().listen(format!("ws://{}/", server.local_addr().unwrap()), Echo(ended));
    let (stream, _) = server.accept().await.unwrap();
    let mut ws = longwire::accept(stream).await.unwrap();
    for at in 0..2000 {
        ws.feed(format!("{at} 👋")).await.unwrap();
    }
    for at in 0..2000 {
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(format!("{at} 👋").into()));
    }
    ws.send("结束").await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    soon(end.recv()).await.unwrap();
}
