//! What connections hold: nothing but themselves while they are idle, and never by what a header claims.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../longwire-proto/tests/support/counting.rs"]
mod counting;
mod support;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use counting::Account;
use longwire::{Acceptor, Client, Config, WebSocket};
use longwire_proto::frame::OpCode;
use support::frames::{close, frame, text};
use support::poll_times;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn live() -> isize {
    Account::of_this_thread().live()
}

/// A stream that holds no more than it must: input is shared, and what is written is forgotten.
#[derive(Clone, Default)]
struct Quiet(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    input: Bytes,
    is_blocked: bool,
    /// The request of a client, until it is answered.
    request: Option<Vec<u8>>,
}

impl Quiet {
    fn input(&self, bytes: &Bytes) {
        self.0.borrow_mut().input = bytes.clone();
    }

    fn block(&self, blocked: bool) {
        self.0.borrow_mut().is_blocked = blocked;
    }
}

impl AsyncRead for Quiet {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        if ends.input.is_empty() {
            return Poll::Pending;
        }
        let count = buf.remaining().min(ends.input.len());
        buf.put_slice(&ends.input[..count]);
        ends.input.advance(count);
        if ends.input.is_empty() {
            ends.input = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.borrow_mut();
        if ends.is_blocked {
            return Poll::Pending;
        }
        if let Some(mut request) = ends.request.take() {
            request.extend_from_slice(buf);
            if request.ends_with(b"\r\n\r\n") {
                let accept = support::accept_of(std::str::from_utf8(&request).unwrap());
                ends.input = support::response(&accept).into();
            } else {
                ends.request = Some(request);
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn open(is_client: bool) -> WebSocket<Quiet> {
    let stream = Quiet::default();
    if is_client {
        stream.0.borrow_mut().request = Some(Vec::new());
        return Client::new().handshake("ws://localhost/", stream).await.unwrap();
    }
    stream.input(&Bytes::from_static(support::REQUEST.as_bytes()));
    Acceptor::new().config(Config::server().max_message(4 * 1024 * 1024)).accept(stream).await.unwrap()
}

/// Connections of a test; fewer where each of them does much.
const MANY: usize = 1_000;
const SOME: usize = 50;

/// What an idle connection may hold: itself, its timer, its stream, and a client's masking keys.
const IDLE_MAX: isize = 1_000;

/// Bytes per connection over `count` of them, after each has done `act` and waits in `recv`.
async fn held(is_client: bool, count: usize, mut act: impl FnMut(&mut WebSocket<Quiet>)) -> isize {
    let mut waits = async move || {
        let mut ws = open(is_client).await;
        assert!(poll_times(ws.recv(), 1).is_none());
        act(&mut ws);
        assert!(poll_times(ws.recv(), 1).is_none());
        ws
    };
    // What the thread keeps for all its connections is bounded, and there before counting.
    let mut kept = (live(), 0);
    while kept.1 < 3 {
        drop(waits().await);
        kept = if live() > kept.0 { (live(), 0) } else { (kept.0, kept.1 + 1) };
    }
    let before = live();
    let mut open_ones = Vec::with_capacity(count);
    for _ in 0..count {
        open_ones.push(waits().await);
    }
    (live() - before) / count as isize
}

/// Echoes all that `input` has.
fn echo(ws: &mut WebSocket<Quiet>, input: &Bytes) {
    ws.get_ref().input(input);
    while let Some(message) = poll_times(ws.recv(), 1) {
        poll_times(ws.feed(message.unwrap().unwrap()), 1).unwrap().unwrap();
    }
}

fn binary(by_client: bool, size: usize) -> Bytes {
    frame(by_client, true, OpCode::Binary, vec![5; size]).into()
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    for is_client in [false, true] {
        let each = held(is_client, MANY, |_| {}).await;
        assert!(each < IDLE_MAX, "fresh: {each} B");
        for size in [10, 2_000, 64 * 1024, 1024 * 1024] {
            let input = binary(!is_client, size);
            let count = if size < 10_000 { MANY } else { SOME };
            let each = held(is_client, count, |ws| echo(ws, &input)).await;
            assert!(each < IDLE_MAX, "after {size} bytes: {each} B");
        }
    }
}

#[tokio::test]
async fn nor_after_messages_in_parts() {
    for is_client in [false, true] {
        let mut input = Vec::new();
        for i in 0..50 {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            input.extend(frame(!is_client, i == 49, opcode, "一段一段".repeat(200)));
            input.extend(frame(!is_client, true, OpCode::Ping, "还在吗"));
        }
        let input = Bytes::from(input);
        let each = held(is_client, SOME, |ws| echo(ws, &input)).await;
        assert!(each < IDLE_MAX, "joined: {each} B");
        let each = held(is_client, SOME, |ws| {
            ws.get_ref().input(&input);
            let mut parts = 0;
            while let Some(part) = poll_times(ws.recv_part(), 1) {
                parts += 1;
                if part.unwrap().unwrap().last {
                    break;
                }
            }
            assert!(parts >= 50);
        })
        .await;
        assert!(each < IDLE_MAX, "in parts: {each} B");
    }
}

#[tokio::test]
async fn nor_when_a_write_was_blocked_for_a_while() {
    for is_client in [false, true] {
        let input = binary(!is_client, 100_000);
        let each = held(is_client, SOME, |ws| {
            ws.get_ref().block(true);
            echo(ws, &input);
            assert!(ws.buffered_amount() > 100_000);
            ws.get_ref().block(false);
        })
        .await;
        assert!(each < IDLE_MAX, "{each} B");
    }
}

#[tokio::test]
async fn half_a_header_keeps_no_block() {
    let mut too_much = Vec::new();
    for is_client in [false, true] {
        let half = &frame(!is_client, true, OpCode::Binary, [0; 70_000])[..5];
        let each = held(is_client, MANY, |ws| echo(ws, &Bytes::copy_from_slice(half))).await;
        assert!(each < IDLE_MAX + 500, "alone: {each} B");
        // Also where it lies at the end of a block, behind messages whose echoes have filled the outbox.
        let small = [1, 2_000, 6_400].map(|count| (count, text(!is_client, "小").repeat(count)));
        let large = [1_000, 30_000, 500_000].map(|size| (size, binary(!is_client, size).to_vec()));
        for (size, mut input) in small.into_iter().chain(large) {
            input.extend_from_slice(half);
            let input = Bytes::from(input);
            let echoed = held(is_client, SOME, |ws| echo(ws, &input)).await;
            let dropped = held(is_client, SOME, |ws| {
                ws.get_ref().input(&input);
                while poll_times(ws.recv(), 1).is_some() {}
            })
            .await;
            if echoed.max(dropped) > IDLE_MAX + 500 {
                too_much.push(format!("client {is_client}, {size}: {echoed} B echoed, {dropped} B dropped"));
            }
        }
    }
    assert!(too_much.is_empty(), "{too_much:#?}");
}

#[tokio::test]
async fn a_header_reserves_nothing() {
    for is_client in [false, true] {
        for announced in [1024 * 1024, 4 * 1024 * 1024] {
            let input = binary(!is_client, announced).slice(..14 + 5);
            let each = held(is_client, MANY, |ws| echo(ws, &input)).await;
            assert!(each < IDLE_MAX + 500, "5 bytes of {announced}: {each} B");
        }
    }
}

#[tokio::test]
async fn half_a_message_holds_about_what_has_come() {
    for is_client in [false, true] {
        for come in [3_000, 20_000, 60_000] {
            let input = binary(!is_client, 1024 * 1024).slice(..come);
            let each = held(is_client, SOME, |ws| echo(ws, &input)).await;
            let bound = 2 * come as isize + IDLE_MAX + 500;
            assert!(each < bound, "{come} bytes: {each} B");
        }
    }
}

#[tokio::test]
async fn half_a_message_taken_in_parts_holds_nothing() {
    for is_client in [false, true] {
        let input = binary(!is_client, 1024 * 1024).slice(..300_000);
        let each = held(is_client, SOME, |ws| {
            ws.get_ref().input(&input);
            while let Some(part) = poll_times(ws.recv_part(), 1) {
                part.unwrap().unwrap();
            }
        })
        .await;
        assert!(each < IDLE_MAX + 500, "{each} B");
    }
}

#[tokio::test]
async fn a_closed_connection_holds_no_buffer() {
    let input = Bytes::from([binary(true, 40_000), close(true, 1000, "").into()].concat());
    let closed_one = async || {
        let mut ws = open(false).await;
        ws.get_ref().input(&input);
        while poll_times(ws.recv(), 1).unwrap().unwrap().is_some() {}
        ws
    };
    drop(closed_one().await);
    let before = live();
    let mut closed = Vec::with_capacity(SOME);
    for _ in 0..SOME {
        closed.push(closed_one().await);
    }
    let each = (live() - before) / SOME as isize;
    assert!(each < IDLE_MAX, "{each} B");
}

/// A message far beyond any buffer passes in parts, in bounded memory on both sides.
#[tokio::test]
async fn parts_pass_in_bounded_memory() {
    const SIZE: usize = 256 * 1024 * 1024;
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let (mut client, mut server) = support::pair().await;
    let before = Account::of_this_thread().rewind();
    let sends = async {
        for i in 1..=SIZE / piece.len() {
            let last = i == SIZE / piece.len();
            server.send_part((longwire::Kind::Binary, piece.clone(), last)).await.unwrap();
        }
    };
    let receives = async {
        let mut size = 0;
        loop {
            let part = client.recv_part().await.unwrap().unwrap();
            assert_eq!(part.first, size == 0);
            assert!(part.payload.iter().step_by(4_096).all(|&byte| byte == b'x'));
            size += part.payload.len();
            if part.last {
                break size;
            }
        }
    };
    let ((), size) = tokio::join!(sends, receives);
    assert_eq!(size, SIZE);
    let peak = Account::of_this_thread().peak() - before;
    assert!(peak < 2 * 1024 * 1024, "{peak} B");
}
