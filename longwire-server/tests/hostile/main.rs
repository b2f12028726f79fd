//! `longwire serve` with hostile peers: memory use, availability, and service for other clients.
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod attacks;
mod memory;

#[allow(dead_code, clippy::unwrap_used, reason = "it is shared")]
#[path = "../../../longwire/tests/support/deflated.rs"]
mod deflated;
#[path = "../process/mod.rs"]
mod process;

use std::time::Duration;

use longwire::{Message, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use process::{Server, TIMEOUT, receive};

/// A connection for arbitrary bytes. Its small receive buffer limits what the system stores.
async fn raw(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(8 * 1024).expect("set");
    socket.connect(([127, 0, 0, 1], server.port).into()).await.expect("connected")
}

/// Returns a valid request for this path that offers compression.
fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
}

/// Returns the arguments of a server with or without compression.
fn arguments(deflate: bool) -> Vec<&'static str> {
    let arguments = ["--max-message", "64K", "--threads", "2", "--deflate"];
    arguments[..if deflate { 5 } else { 4 }].to_vec()
}

/// Returns a connection after a valid opening handshake, with compression if the server accepts it.
async fn open(server: &Server, path: &str) -> TcpStream {
    let mut stream = raw(server).await;
    stream.write_all(request(path).as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(TIMEOUT, stream.read_u8()).await.expect("in time").expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Returns a client's frame, masked with a zero key.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let mut bytes = match length {
        ..126 => vec![first, 0x80 | length as u8],
        126..0x1_0000 => [&[first, 0xFE][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, 0xFF][..], &length.to_be_bytes()].concat(),
    };
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Returns a complete message.
fn message(payload: &[u8]) -> Vec<u8> {
    frame(0x82, payload)
}

/// Returns a complete compressed message, one byte larger than its payload.
fn compressed(payload: &[u8]) -> Vec<u8> {
    frame(0xC2, &[&deflated::stored(payload)[..], &[0]].concat())
}

/// Returns bytes that compress to half their size at most.
fn digits(size: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"0123456789abcdef"[(state >> 60) as usize]
    };
    (0..size).map(next).collect()
}

/// Two clients that exchange messages on their own channel.
struct Friends(WebSocket, WebSocket);

impl Friends {
    async fn join(server: &Server) -> Self {
        Self(server.join("/朋友").await, server.join("/朋友").await)
    }

    async fn talk(&mut self) {
        let Self(one, two) = self;
        one.send("还好吗 👋").await.expect("sent");
        assert_eq!(receive(two).await, Message::from("还好吗 👋"));
        two.send("很好").await.expect("sent");
        assert_eq!(receive(one).await, Message::from("很好"));
    }
}

/// Returns the current and the maximum resident memory of the process, in bytes.
fn memory(server: &Server) -> (usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of this name");
        let kib: usize = line.trim_end_matches("kB").trim().parse().expect("a number");
        kib * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Checks that standard error is empty: no task has panicked.
fn is_calm(server: &Server) {
    assert_eq!(server.stderr.within(Duration::from_millis(50)), None);
}
