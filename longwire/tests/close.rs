//! How connections end: by either side, by both, by failure; and what is known afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use longwire::{CloseCode, Config, Error, Message, ProtocolError, SendError, Side, WebSocket};
use longwire_proto::frame::OpCode;
use support::frames::{close, frame, text, whole_frames};
use support::wire::Wire;
use support::{
    client_on, duplex, end_on, pair, poll_times, read_head, read_to_end, response, server_and_socket,
    server_on, sockets, soon, tcp_pair,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

#[tokio::test]
async fn every_code_that_may_be_sent_arrives() {
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        for by_client in [true, false] {
            let (client, server) = pair().await;
            let (mut closes, mut other) = if by_client { (client, server) } else { (server, client) };
            let reason = format!("原因 {code} 👋");
            let (us, them) = soon(async { tokio::join!(closes.close(code, &reason), other.recv()) }).await;
            us.unwrap();
            assert_eq!(them.unwrap(), None);
            for (ws, by) in [(&closes, Side::Us), (&other, Side::Peer)] {
                let closed = ws.closed().unwrap();
                let frame = closed.frame.as_ref().unwrap();
                assert_eq!((closed.by, u16::from(frame.code), frame.reason.as_str()), (by, code, &*reason));
            }
        }
    }
}

#[tokio::test]
async fn a_close_without_a_code_has_no_frame_body() {
    let (mut client, mut server) = pair().await;
    let (us, them) = tokio::join!(client.close(CloseCode::NO_STATUS, ""), server.recv());
    us.unwrap();
    assert_eq!(them.unwrap(), None);
    for (ws, by) in [(client, Side::Us), (server, Side::Peer)] {
        let closed = ws.closed().unwrap();
        assert_eq!((closed.by, &closed.frame), (by, &None));
    }
}

#[tokio::test]
async fn what_may_not_be_sent_is_refused_and_the_connection_goes_on() {
    let (mut client, mut server) = pair().await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let refused = client.close(code, "不行").await;
        let Err(Error::Send(refused)) = refused else { panic!("{refused:?}") };
        let SendError::InvalidCloseCode(refused) = *refused else { panic!("{refused:?}") };
        assert_eq!(u16::from(refused), code);
    }
    let long = format!("{}x", "长".repeat(41));
    let error = SendError::from(client.close(1000, &long).await.unwrap_err());
    assert!(matches!(error, SendError::ReasonTooLong), "{error}");
    assert!(client.closed().is_none());
    client.send("还在").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap().as_text(), Some("还在"));
    let (us, them) = soon(async { tokio::join!(client.close(1000, &long[..123]), server.recv()) }).await;
    us.unwrap();
    assert_eq!(them.unwrap(), None);
    assert_eq!(server.closed().unwrap().frame.as_ref().unwrap().reason.as_str(), &long[..123]);
}

#[tokio::test]
async fn both_at_once() {
    let (mut client, mut server) = pair().await;
    let both = async { tokio::join!(client.close(4001, "甲"), server.close(4002, "乙")) };
    let (one, two) = soon(both).await;
    one.unwrap();
    two.unwrap();
    assert_eq!(client.closed().unwrap().by, Side::Us);
    assert_eq!(server.closed().unwrap().by, Side::Us);
    client.close(1000, "").await.unwrap();
    assert_eq!(client.closed().unwrap().frame.as_ref().unwrap().code, CloseCode::from(4001));
}

#[tokio::test]
async fn the_peers_close_is_answered_with_its_code_behind_what_was_queued() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        ws.feed("先写完").await.unwrap();
        let mut input = text(!is_client, "最后一条");
        input.extend(close(!is_client, 4321, "再见"));
        // RFC 6455 5.5.1: nothing follows a Close frame; what does is discarded.
        input.extend(frame(!is_client, true, OpCode::Ping, "ignored"));
        input.extend(text(!is_client, "ignored"));
        wire.input(input);
        assert_eq!(poll_times(ws.recv(), 1).unwrap().unwrap().unwrap().as_text(), Some("最后一条"));
        if is_client {
            // RFC 6455 7.1.1: the server ends TCP first.
            assert!(poll_times(ws.recv(), 3).is_none());
            assert!(!wire.state().is_shut_down);
            wire.eof();
        }
        for _ in 0..3 {
            assert_eq!(poll_times(ws.recv(), 1).unwrap().unwrap(), None);
            assert_eq!(poll_times(ws.recv_part(), 1).unwrap().unwrap(), None);
        }
        assert!(wire.state().is_shut_down);
        let frames = whole_frames(&wire.take_written());
        assert!(frames[0].is(OpCode::Text, "先写完"));
        assert_eq!((frames.len(), frames[1].close_code()), (2, 4321));
        assert_eq!(&frames[1].payload[2..], "再见".as_bytes());
        let closed = ws.closed().unwrap();
        assert_eq!((closed.by, closed.frame.as_ref().unwrap().reason.as_str()), (Side::Peer, "再见"));
        assert!(matches!(ws.send("太晚").await, Err(SendError::Closed)));
        ws.close(1000, "").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_is_dropped_after_the_close_timeout() {
    for seconds in [5, 2] {
        let config = Config::client().close_timeout(Duration::from_secs(seconds));
        let (mut client, mut server) = duplex(100, config, Config::server()).await;
        let start = tokio::time::Instant::now();
        let mut sent = 0;
        let closing = async {
            let closed = client.close(1000, "").await;
            (closed, start.elapsed())
        };
        // Messages are no answer, however long they go on.
        let chatter = async {
            loop {
                server.send("还在说").await.unwrap();
                sent += 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let (closed, elapsed) = tokio::select! { closed = closing => closed, () = chatter => unreachable!() };
        assert!(matches!(closed, Err(Error::CloseTimeout)), "{closed:?}");
        assert!(
            elapsed >= Duration::from_secs(seconds) && elapsed < Duration::from_millis(seconds * 1000 + 500)
        );
        assert!(sent > 5);
        assert!(matches!(client.recv().await, Err(Error::CloseTimeout)));
        assert!(client.closed().is_none());
    }
}

/// A peer whose input never ends: `body` for ever behind `head`. It ends after a while, so that a test
/// that fails does so in time.
struct Endless {
    head: Vec<u8>,
    body: Vec<u8>,
    position: usize,
    /// Waits now and then, as Tokio's own streams do.
    is_fair: bool,
    until: Instant,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_fair {
            ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        }
        if !self.head.is_empty() {
            buf.put_slice(&std::mem::take(&mut self.head));
        } else if Instant::now() < self.until {
            while buf.remaining() > 0 {
                let rest = &self.body[self.position..];
                let count = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..count]);
                self.position = (self.position + count) % self.body.len();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
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

async fn server_of_endless(is_fair: bool, head: &[u8], body: Vec<u8>) -> WebSocket<Endless> {
    let head = [support::REQUEST.as_bytes(), head].concat();
    let until = Instant::now() + Duration::from_secs(1);
    let stream = Endless { head, body, position: 0, is_fair, until };
    let config = Config::server().close_timeout(Duration::from_millis(50)).max_message(1 << 40);
    longwire::Acceptor::new().config(config).accept(stream).await.unwrap()
}

#[tokio::test]
async fn input_that_never_pauses_does_not_hide_the_close_timeout() {
    for is_fair in [true, false] {
        let bodies = [text(true, "说个不停"), frame(true, true, OpCode::Binary, vec![1; 3_000_000])];
        for body in bodies {
            let mut ws = server_of_endless(is_fair, b"", body).await;
            let closed = ws.close(1000, "够了").await;
            assert!(matches!(closed, Err(Error::CloseTimeout)), "fair {is_fair}: {closed:?}");
        }
    }
}

#[tokio::test]
async fn input_that_never_pauses_does_not_hold_a_failed_connection() {
    for is_fair in [true, false] {
        let mut ws = server_of_endless(is_fair, &[0xFF, 0xFF], vec![0; 4096]).await;
        let start = Instant::now();
        let failed = ws.recv().await;
        assert!(matches!(
            failed,
            Err(Error::Protocol(ProtocolError::ReservedBits | ProtocolError::ReservedOpcode(_)))
        ));
        assert!(start.elapsed() < Duration::from_millis(600), "fair {is_fair}: {:?}", start.elapsed());
    }
}

/// Real TCP: a socket that is closed with unread input is reset, and the reset overtakes the Close.
#[tokio::test]
async fn the_peer_reads_why_it_failed_even_if_it_was_sending_megabytes() {
    let (mut ws, socket) = server_and_socket(Config::server().max_message(100_000)).await;
    let server = tokio::spawn(async move {
        let ended = ws.recv().await;
        drop(ws);
        ended
    });
    let (mut reads, mut writes) = socket.into_split();
    let mut sent = frame(true, true, OpCode::Binary, vec![7; 8 * 1024 * 1024]);
    sent.extend(text(true, "后面"));
    // Nothing is read before everything is sent.
    soon(writes.write_all(&sent)).await.unwrap();
    let frames = whole_frames(&read_to_end(&mut reads).await);
    assert_eq!((frames.len(), frames[0].close_code()), (1, 1009));
    drop((reads, writes));
    let ended = soon(server).await.unwrap();
    assert!(matches!(ended, Err(Error::Protocol(ProtocolError::MessageTooBig { limit: 100_000 }))));
}

#[tokio::test]
async fn a_client_that_fails_the_connection_says_why() {
    let wire = Wire::new();
    let mut ws = client_on(&wire, Config::client()).await;
    wire.input(frame(false, true, OpCode::Text, b"\xE4\xBD\xA0\xFF"));
    assert!(poll_times(ws.recv(), 2).is_none(), "it waits for the server's end of TCP");
    assert!(wire.state().is_shut_down);
    wire.eof();
    let ended = poll_times(ws.recv(), 1).unwrap();
    assert!(matches!(ended, Err(Error::Protocol(ProtocolError::InvalidUtf8))));
    let frames = whole_frames(&wire.take_written());
    assert_eq!((frames.len(), frames[0].close_code(), frames[0].masked), (1, 1007, true));
    assert!(matches!(
        ws.send("x").await,
        Err(SendError::Failed(Error::Protocol(ProtocolError::InvalidUtf8)))
    ));
    for _ in 0..2 {
        assert!(matches!(ws.recv().await, Err(Error::Protocol(ProtocolError::InvalidUtf8))));
    }
    assert!(matches!(ws.close(1000, "").await, Err(Error::Protocol(ProtocolError::InvalidUtf8))));
}

#[tokio::test]
async fn a_server_that_closes_and_half_closes_at_once_gets_its_answer() {
    let (near, mut far) = sockets().await;
    let client = tokio::spawn(async move {
        let client = longwire::Client::new();
        let mut ws = client.handshake("ws://localhost/", near).await.unwrap();
        (ws.recv().await, ws)
    });
    let head = read_head(&mut far).await;
    let mut answer = response(&support::accept_of(&head)).into_bytes();
    answer.extend(close(false, 1012, "重启"));
    far.write_all(&answer).await.unwrap();
    far.shutdown().await.unwrap();
    let (ended, ws) = soon(client).await.unwrap();
    assert_eq!(ended.unwrap(), None);
    assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, CloseCode::RESTART);
    drop(ws);
    let frames = whole_frames(&read_to_end(&mut far).await);
    assert_eq!((frames.len(), frames[0].close_code()), (1, 1012));
}

#[tokio::test]
async fn tcp_that_ends_without_a_close_is_eof() {
    for (torn, is_client) in [(false, false), (true, false), (false, true), (true, true)] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        wire.input(text(!is_client, "完整"));
        if torn {
            wire.input(&text(!is_client, "半条")[..5]);
        }
        wire.eof();
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("完整"));
        for _ in 0..3 {
            assert!(matches!(poll_times(ws.recv(), 1).unwrap(), Err(Error::Eof)));
        }
        assert!(matches!(poll_times(ws.recv_part(), 1).unwrap(), Err(Error::Eof)));
        assert!(matches!(ws.close(1000, "").await, Err(Error::Eof)));
        assert!(ws.closed().is_none());
    }
}

#[tokio::test]
async fn a_dropped_end_is_eof_for_the_other() {
    let (client, mut server) = tcp_pair(Config::client(), Config::server()).await;
    drop(client);
    assert!(matches!(soon(server.recv()).await, Err(Error::Eof)));
}

#[tokio::test]
async fn a_reset_is_an_io_error() {
    let (mut ws, socket) = server_and_socket(Config::server()).await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    for _ in 0..2 {
        match soon(ws.recv()).await {
            Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    }
    assert!(ws.send("没人").await.is_err());
    assert!(matches!(ws.close(1000, "").await, Err(Error::Io(_))));
}

/// The stream breaks for writing before the Close that came is read.
#[tokio::test]
async fn a_broken_pipe_does_not_hide_why_the_peer_closed() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        wire.input(text(!is_client, "最后"));
        wire.input(close(!is_client, 1008, "不守规矩"));
        wire.eof();
        wire.write_error(ErrorKind::BrokenPipe);
        match ws.send("写给谁").await {
            Err(SendError::Failed(Error::Io(error))) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
        assert!(matches!(ws.feed("再来").await, Err(SendError::Failed(Error::Io(_)))));
        assert!(matches!(ws.flush().await, Err(SendError::Failed(Error::Io(_)))));
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("最后"));
        assert_eq!(soon(ws.recv()).await.unwrap(), None);
        assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, CloseCode::POLICY);
    }
}

#[tokio::test]
async fn over_tcp_recv_yields_the_close_of_a_peer_that_is_gone() {
    let (mut ws, mut socket) = server_and_socket(Config::server()).await;
    socket.write_all(&close(true, 4999, "走了")).await.unwrap();
    drop(socket);
    let gone = async {
        while ws.send("还在吗".repeat(100)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(gone).await;
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, CloseCode::from(4999));
}

#[tokio::test]
async fn a_stream_yields_its_error_once_and_then_ends() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.input(text(true, "一"));
    wire.eof();
    assert_eq!(ws.next().await.unwrap().unwrap(), Message::from("一"));
    assert!(matches!(ws.next().await, Some(Err(Error::Eof))));
    for _ in 0..2 {
        assert!(ws.next().await.is_none());
    }
    assert!(matches!(ws.recv().await, Err(Error::Eof)));

    let (client, mut server) = pair().await;
    let (sender, mut receiver) = client.split();
    server.feed("二").await.unwrap();
    let (closed, ()) = soon(async {
        tokio::join!(server.close(1000, ""), async {
            assert_eq!(receiver.next().await.unwrap().unwrap(), Message::from("二"));
            assert!(receiver.next().await.is_none());
            assert!(receiver.next().await.is_none());
        })
    })
    .await;
    closed.unwrap();
    assert_eq!(sender.closed().unwrap().by, Side::Peer);
}

#[tokio::test]
async fn a_sink_closes_with_1000() {
    let (mut client, mut server) = pair().await;
    let sends = async {
        SinkExt::send(&mut client, Message::from("一")).await.unwrap();
        SinkExt::feed(&mut client, Message::from("二")).await.unwrap();
        SinkExt::close(&mut client).await
    };
    let receives = async {
        let messages: Vec<_> = (&mut server).map(|message| message.unwrap()).collect().await;
        assert_eq!(messages, ["一", "二"].map(Message::from));
    };
    let (closed, ()) = soon(async { tokio::join!(sends, receives) }).await;
    closed.unwrap();
    assert_eq!(server.closed().unwrap().frame.as_ref().unwrap().code, CloseCode::NORMAL);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_peer_did_not_take_is_no_success() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().write_timeout(Duration::from_secs(600))).await;
    wire.room(Some(10));
    ws.feed("丢了").await.unwrap();
    assert!(matches!(ws.recv().await, Err(Error::PingTimeout)));
    assert!(ws.flush().await.is_err(), "it was not written");
    assert_eq!(wire.take_written().len(), 10);
}

/// The peer's Close was read together with the last message, whose handler took its time: the answer
/// still has all the time that a close has.
#[tokio::test(start_paused = true)]
async fn a_slow_handler_still_gets_its_answer_out() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    let mut input = text(true, "最后一问");
    input.extend(close(true, 1000, ""));
    wire.input(input);
    assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("最后一问"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    wire.room(Some(0));
    ws.feed("答").await.unwrap();
    assert!(poll_times(ws.recv(), 3).is_none());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(poll_times(ws.recv(), 3).is_none(), "the peer still has a second to take it");
    wire.room(None);
    assert!(matches!(soon(ws.recv()).await, Ok(None)));
    let frames = whole_frames(&wire.take_written());
    assert!(frames[0].is(OpCode::Text, "答"));
    assert_eq!(frames[1].close_code(), 1000);
}

/// What was queued and never taken makes no clean end.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_no_clean_end() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.room(Some(1));
    ws.feed("没人要").await.unwrap();
    wire.input(close(true, 1000, ""));
    assert!(matches!(ws.recv().await, Err(Error::CloseTimeout)));
    assert!(ws.closed().is_none());
}

/// What the stream took but has not flushed when the closing handshake runs out of time may be lost too.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_never_flushed_is_no_clean_end() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.block_flush(true);
    wire.input(close(true, 1000, "再见"));
    let end = soon(ws.recv()).await;
    assert!(matches!(end, Err(Error::CloseTimeout)), "{end:?}");
}

/// The peer is gone behind its Close frame: that closed the connection, but what was queued is lost, and
/// who flushes is told.
#[tokio::test]
async fn a_flush_behind_a_close_tells_what_was_lost() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.room(Some(0));
    ws.feed("迟到的").await.unwrap();
    wire.input(close(true, 1000, "再见"));
    assert!(poll_times(ws.recv(), 3).is_none(), "the answer waits");
    wire.write_error(ErrorKind::BrokenPipe);
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    let flushed = soon(ws.flush()).await;
    assert!(matches!(flushed, Err(SendError::Failed(Error::Io(_)))), "{flushed:?}");
}
