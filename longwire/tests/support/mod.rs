//! What the tests of the driver share: both ends of open connections, and futures polled by hand.

#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod deflated;
pub(crate) mod frames;
pub(crate) mod wire;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use longwire::{Acceptor, Client, Config, WebSocket};
use longwire_proto::handshake::accept_key;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use wire::Wire;

/// The request of RFC 6455 1.3.
pub(crate) const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The value of Sec-WebSocket-Accept that answers a request.
pub(crate) fn accept_of(request: &str) -> String {
    let name = "sec-websocket-key:";
    let key = request.lines().find(|line| line.to_ascii_lowercase().starts_with(name)).expect("a key");
    accept_key(key[name.len()..].trim().as_bytes())
}

/// The answer that opens the connection.
pub(crate) fn response(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// A server's end on a wire; what was written for opening is forgotten.
pub(crate) async fn server_on(wire: &Wire, config: Config) -> WebSocket<Wire> {
    wire.input(REQUEST);
    let ws = Acceptor::new().config(config).accept(wire.clone()).await.unwrap();
    assert!(wire.take_written().starts_with(b"HTTP/1.1 101 "));
    ws
}

/// A client's end on a wire.
pub(crate) async fn client_on(wire: &Wire, config: Config) -> WebSocket<Wire> {
    wire.answer_request();
    let ws = Client::new().config(config).handshake("ws://localhost/", wire.clone()).await.unwrap();
    assert!(wire.take_written().is_empty());
    ws
}

/// An end of the given role on a wire.
pub(crate) async fn end_on(wire: &Wire, is_client: bool) -> WebSocket<Wire> {
    if is_client { client_on(wire, Config::client()).await } else { server_on(wire, Config::server()).await }
}

/// Client and server over a stream in memory that holds `size` bytes in each direction.
pub(crate) async fn duplex(
    size: usize,
    client: Config,
    server: Config,
) -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    let (near, far) = tokio::io::duplex(size);
    let (client, server) = (Client::new().config(client), Acceptor::new().config(server));
    let (client, server) = tokio::join!(client.handshake("ws://localhost/", near), server.accept(far));
    (client.unwrap(), server.unwrap())
}

/// Both with the defaults, in 64 KiB.
pub(crate) async fn pair() -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    duplex(64 * 1024, Config::client(), Config::server()).await
}

/// Two connected sockets.
pub(crate) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// Client and server over TCP.
pub(crate) async fn tcp_pair(client: Config, server: Config) -> (WebSocket<TcpStream>, WebSocket<TcpStream>) {
    let (near, far) = sockets().await;
    let (client, server) = (Client::new().config(client), Acceptor::new().config(server));
    let (client, server) = tokio::join!(client.handshake("ws://localhost/", near), server.accept(far));
    (client.unwrap(), server.unwrap())
}

/// A server's end over TCP, and the socket of its client, with the answer to the request read.
pub(crate) async fn server_and_socket(config: Config) -> (WebSocket<TcpStream>, TcpStream) {
    let (mut near, far) = sockets().await;
    near.write_all(REQUEST.as_bytes()).await.unwrap();
    let ws = Acceptor::new().config(config).accept(far).await.unwrap();
    let head = read_head(&mut near).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (ws, near)
}

/// Reads exactly the head of a request or response.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap_or_else(|error| {
            panic!("{error} behind {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Reads all there is until EOF.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// Polls a future up to `times`, as a task that is woken for nothing does, then drops it.
pub(crate) fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    (0..times).find_map(|_| match poll_once(future.as_mut()) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

/// Polls a future once, whatever the task of the test has done of its budget.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let unconstrained = tokio::task::coop::unconstrained(future);
    std::pin::pin!(unconstrained).poll(&mut Context::from_waker(Waker::noop()))
}

/// The future's output, which must come within seconds: a wake-up that is lost fails the test instead
/// of hanging it.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
}
