//! `longwire connect --reconnect` with servers that come and go.

use longwire::WebSocket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{ClientProcess, TIMEOUT, receive, signal};

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/room", listener.local_addr().expect("bound"));
    (listener, url)
}

async fn accept(listener: &TcpListener) -> WebSocket<TcpStream> {
    let accepted = tokio::time::timeout(TIMEOUT, listener.accept()).await.expect("in time");
    longwire::accept(accepted.expect("accepted").0).await.expect("a handshake")
}

/// Receives until the end and returns the close code.
async fn closed(mut socket: WebSocket<TcpStream>) -> u16 {
    while tokio::time::timeout(TIMEOUT, socket.recv()).await.expect("in time").expect("clean").is_some() {}
    socket.closed().and_then(|closed| closed.frame.as_ref()).map_or(1005, |frame| frame.code.into())
}

#[tokio::test]
async fn it_reconnects_and_sends_each_line_once() {
    let (listener, url) = listen().await;
    let mut client = ClientProcess::start(&url, &["--reconnect"]);
    let mut first = accept(&listener).await;
    first.send("一").await.expect("sent");
    assert_eq!(client.stdout.next(), "一");
    client.send_line("before 👋");
    assert_eq!(receive(&mut first).await.as_text(), Some("before 👋"));
    // As if the server had crashed.
    drop(first);
    let lost = client.stderr.next();
    assert!(lost.starts_with("longwire: ") && lost.contains("; reconnecting in 0."), "{lost}");
    client.send_line("meanwhile 你好");
    client.send_line("in order");
    client.end_input();
    let mut second = accept(&listener).await;
    assert_eq!(receive(&mut second).await.as_text(), Some("meanwhile 你好"));
    assert_eq!(receive(&mut second).await.as_text(), Some("in order"));
    // After the end of the input, the client closes once everything is sent.
    assert_eq!(closed(second).await, 1000);
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn it_waits_for_a_server() {
    let (listener, url) = listen().await;
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let mut client = ClientProcess::start(&url, &["--reconnect"]);
    client.send_line("你好");
    client.end_input();
    let lost = client.stderr.next();
    assert!(
        lost.starts_with("longwire: attempt 1: cannot connect: ") && lost.contains("; reconnecting in "),
        "{lost}"
    );
    let listener = TcpListener::bind(address).await.expect("the same port");
    let mut server = accept(&listener).await;
    assert_eq!(receive(&mut server).await.as_text(), Some("你好"));
    assert_eq!(closed(server).await, 1000);
    assert_eq!(client.ended().0, Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_immediately() {
    // While it waits for a server.
    let (listener, url) = listen().await;
    drop(listener);
    let mut client = ClientProcess::start(&url, &["--reconnect", "--no-input"]);
    client.stderr.next();
    signal(&client.child, "INT");
    assert_eq!(client.ended().0, Some(0));

    // While it connects.
    let (listener, url) = listen().await;
    let mut client = ClientProcess::start(&url, &["--reconnect", "--no-input"]);
    let silent = listener.accept().await.expect("accepted");
    signal(&client.child, "TERM");
    assert_eq!(client.ended().0, Some(0));
    drop(silent);

    // While it is connected: with a closing handshake.
    let mut client = ClientProcess::start(&url, &["--reconnect", "--no-input"]);
    let mut server = accept(&listener).await;
    // A received message proves that the client has completed the handshake, too.
    server.send("到了 👋").await.expect("sent");
    assert_eq!(client.stdout.next(), "到了 👋");
    signal(&client.child, "INT");
    assert_eq!(closed(server).await, 1000);
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn it_ends_if_reconnecting_cannot_succeed() {
    let (listener, url) = listen().await;
    let mut client = ClientProcess::start(&url, &["--reconnect", "--no-input"]);
    accept(&listener).await.close(1000, "done").await.expect("closed");
    assert_eq!(client.ended(), (Some(0), vec![]));

    let mut client = ClientProcess::start(&url, &["--reconnect", "--no-input"]);
    accept(&listener).await.close(1008, "不行").await.expect("closed");
    let (status, stderr) = client.ended();
    assert_eq!(status, Some(1));
    assert_eq!(stderr, ["longwire: closed by the server with 1008 (policy violation): 不行"]);

    let mut client = ClientProcess::start(&url, &["--reconnect", "--no-input"]);
    let mut stream = listener.accept().await.expect("accepted").0;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.expect("written");
    let (status, stderr) = client.ended();
    assert_eq!((status, stderr), (Some(1), vec!["longwire: refused with status 403 Forbidden".to_owned()]));
}
