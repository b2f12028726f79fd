//! What a task may work off before others on its thread have a turn, where few bytes become many or are much
//! work. A neighbour on the same thread counts its turns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use longwire::{Acceptor, Client, Config, Deflate, WebSocket};
use longwire_proto::frame::OpCode;
use support::deflated::{TAIL, nothing, zeros};
use support::frames::{frame, text};
use support::wire::Wire;
use support::{REQUEST, duplex, soon};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The most that is inflated in a turn, with the step that goes beyond it.
const TURN: usize = 8 * MIB + 512 * KIB;

/// An end with compression, on a stream that never makes its reader wait and knows no budget.
async fn end(is_client: bool) -> (WebSocket<Wire>, Wire) {
    let wire = Wire::new();
    let config = |config: Config| config.deflate(Deflate::new()).max_message(64 * MIB);
    let ws = if is_client {
        wire.answer_request_with("\r\nSec-WebSocket-Extensions: permessage-deflate");
        let client = Client::new().config(config(Config::client()));
        client.handshake("ws://localhost/", wire.clone()).await.unwrap()
    } else {
        let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        wire.input(REQUEST.replace("\r\n\r\n", offer));
        Acceptor::new().config(config(Config::server())).accept(wire.clone()).await.unwrap()
    };
    assert!(ws.deflate().is_some());
    (ws, wire)
}

/// The first frame of a compressed message.
fn deflated(to_client: bool, fin: bool, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = frame(!to_client, fin, OpCode::Binary, payload);
    bytes[0] |= 0x40;
    bytes
}

/// How many turns another task of this thread has until this is done.
async fn turns_beside<T>(work: impl Future<Output = T>) -> (T, usize) {
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let neighbour = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
        }
    });
    tokio::task::yield_now().await;
    let before = turns.load(Relaxed);
    let done = soon(work).await;
    let turns = turns.load(Relaxed) - before;
    neighbour.abort();
    (done, turns)
}

/// Empty blocks with codes of their own: all work and no bytes.
#[tokio::test]
async fn blocks_without_content() {
    const SIZE: usize = MIB;
    for is_client in [false, true] {
        for in_parts in [false, true] {
            let (mut ws, wire) = end(is_client).await;
            wire.input(deflated(is_client, true, nothing(SIZE)));
            let (size, turns) = if in_parts {
                let (part, turns) = turns_beside(ws.recv_part()).await;
                (part.unwrap().unwrap().payload.len(), turns)
            } else {
                let (message, turns) = turns_beside(ws.recv()).await;
                (message.unwrap().unwrap().len(), turns)
            };
            assert_eq!(size, 0);
            assert!(turns >= SIZE / (320 * KIB), "{turns} turns");
        }
    }
}

/// Who has begun in parts and then asks for messages passes over the rest: that is bounded by nothing.
#[tokio::test]
async fn the_rest_that_is_passed_over() {
    const SIZE: usize = 64 * MIB;
    let beginning = [&zeros(1)[..], &TAIL].concat();
    let flushed = [&zeros(SIZE / 320)[..], &TAIL].concat();
    for is_client in [false, true] {
        let fragment = |payload: &[u8]| frame(!is_client, false, OpCode::Continuation, payload);
        let ping = frame(!is_client, true, OpCode::Ping, "");
        let piece = fragment(&flushed);
        for (name, rest, reads) in [
            ("in one frame", [fragment(&zeros(SIZE)), fragment(&TAIL)].concat(), 1),
            ("in fragments", piece.repeat(320), 1),
            ("with Pings between them", [piece.clone(), ping].concat().repeat(320), 1),
            ("in small reads", piece.repeat(320), 320),
        ] {
            let (mut ws, wire) = end(is_client).await;
            wire.input(deflated(is_client, false, &beginning));
            assert_eq!(*ws.recv_part().await.unwrap().unwrap().payload, [0]);
            rest.chunks(rest.len().div_ceil(reads)).for_each(|read| wire.input(read));
            wire.input(frame(!is_client, true, OpCode::Continuation, [0]));
            wire.input(text(!is_client, "后来"));
            let (message, turns) = turns_beside(ws.recv()).await;
            assert_eq!(message.unwrap(), Some("后来".into()));
            assert!(turns >= SIZE / TURN, "{name}: {turns} turns");
        }
    }
}

/// One message may be as large as the limit, and come in one read.
#[tokio::test]
async fn a_large_message_of_few_bytes() {
    const SIZE: usize = 60 * MIB;
    let (mut ws, wire) = end(true).await;
    wire.input(deflated(true, true, zeros(SIZE)));
    let (message, turns) = turns_beside(ws.recv()).await;
    assert_eq!(message.unwrap().unwrap().len(), SIZE);
    assert!(turns >= SIZE / TURN, "{turns} turns");
}

/// Few bytes may become many: the task yields by what they become.
#[tokio::test]
async fn messages_that_were_small_on_the_wire() {
    let server = Config::server().deflate(Deflate::new());
    let (mut client, mut server) = duplex(4 * MIB, Config::client(), server).await;
    for _ in 0..40 {
        client.send(vec![0; MIB]).await.unwrap();
    }
    let mut at_once = Vec::new();
    while at_once.iter().sum::<usize>() < 40 {
        let received = std::future::poll_fn(|cx| {
            let mut received = 0;
            while let Poll::Ready(message) = std::pin::pin!(server.recv()).poll(cx) {
                assert_eq!(message.unwrap().unwrap().len(), MIB);
                received += 1;
            }
            Poll::Ready(received)
        });
        at_once.push(received.await);
        tokio::task::yield_now().await;
    }
    assert!(at_once.iter().all(|&messages| messages <= 9), "{at_once:?}");
}

/// Whoever sends what it received gets rid of nothing by that: each message is read, echoed, and charged.
#[tokio::test]
async fn echoes_of_messages_that_were_small_on_the_wire() {
    const COUNT: usize = 40;
    let (mut ws, wire) = end(false).await;
    for _ in 0..COUNT {
        wire.input(deflated(false, true, zeros(MIB)));
    }
    let (sizes, turns) = turns_beside(async {
        let mut sizes = 0;
        for _ in 0..COUNT {
            let message = ws.recv().await.unwrap().unwrap();
            sizes += message.len();
            ws.send(message).await.unwrap();
        }
        sizes
    })
    .await;
    assert_eq!(sizes, COUNT * MIB);
    assert!(turns >= COUNT * MIB / TURN, "{turns} turns");
}

/// What one connection has inflated is not charged to the next one on this thread.
#[tokio::test]
async fn a_neighbour_pays_for_nothing() {
    let (mut busy, busy_wire) = end(false).await;
    busy_wire.input(deflated(false, true, zeros(40 * MIB)));
    assert_eq!(busy.recv().await.unwrap().unwrap().len(), 40 * MIB);
    busy.flush().await.unwrap();
    let (mut other, wire) = end(false).await;
    wire.input(text(true, "你好"));
    let (message, turns) = turns_beside(other.recv()).await;
    assert_eq!((message.unwrap(), turns), (Some("你好".into()), 0));
}
