//! `longwire connect` with servers that behave in every way.

use std::process::Stdio;
use std::time::Duration;

use longwire::{Acceptor, CloseCode, Config, Message, Side, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{ClientProcess, Lines, Server, TIMEOUT, ended, longwire, receive};

/// A server for one connection.
struct Host(TcpListener);

impl Host {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    fn url(&self) -> String {
        format!("ws://{}/room", self.0.local_addr().expect("bound"))
    }

    async fn stream(&self) -> TcpStream {
        let accepted = tokio::time::timeout(TIMEOUT, self.0.accept()).await.expect("in time");
        accepted.expect("accepted").0
    }

    async fn accept(&self) -> WebSocket<TcpStream> {
        longwire::accept(self.stream().await).await.expect("a handshake")
    }

    /// Reads the opening handshake and sends these bytes.
    async fn answer(&self, answer: &str) -> TcpStream {
        let mut stream = self.stream().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        stream.write_all(answer.as_bytes()).await.expect("written");
        stream
    }
}

/// Receives until the end and answers the closing handshake.
async fn drain(socket: &mut WebSocket<TcpStream>) {
    while tokio::time::timeout(TIMEOUT, socket.recv()).await.expect("in time").expect("clean").is_some() {}
}

/// Writes raw bytes after the opening handshake.
async fn write_raw(socket: &WebSocket<TcpStream>, bytes: &[u8]) {
    socket.get_ref().writable().await.expect("writable");
    assert_eq!(socket.get_ref().try_write(bytes).expect("written"), bytes.len());
}

/// Runs a client to its end, which must be an error in one line.
fn fails(mut client: ClientProcess) -> String {
    let (status, stderr) = client.ended();
    assert_eq!((status, stderr.len()), (Some(1), 1), "{stderr:?}");
    assert!(stderr[0].starts_with("longwire: "), "{stderr:?}");
    stderr[0].clone()
}

#[tokio::test]
async fn lines_are_text_messages_and_the_end_of_input_closes_with_1000() {
    let host = Host::new().await;
    let mut client = ClientProcess::start(&host.url(), &[]);
    let mut socket = host.accept().await;
    client.write("one\n二 🌊\r\n\nlast without end".as_bytes());
    for line in ["one", "二 🌊", ""] {
        assert_eq!(receive(&mut socket).await, Message::from(line));
    }
    client.end_input();
    assert_eq!(receive(&mut socket).await, Message::from("last without end"));
    drain(&mut socket).await;
    let closed = socket.closed().expect("closed");
    assert_eq!(
        (closed.by, closed.frame.as_ref().map(|frame| frame.code)),
        (Side::Peer, Some(CloseCode::NORMAL))
    );
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn piped_input_is_sent_before_the_close_and_replies_are_printed() {
    let server = Server::start(&[]);
    let mut client = ClientProcess::start(&server.url("/-/echo"), &[]);
    let long = "长".repeat(200_000);
    let lines: Vec<String> = (0..300).map(|n| format!("{n} 🐟")).chain([long]).collect();
    client.write(lines.join("\n").as_bytes());
    client.end_input();
    assert_eq!(client.stdout.rest(), lines);
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn more_data_than_all_buffers_passes_the_echo() {
    let server = Server::start(&[]);
    let mut client = ClientProcess::start(&server.url("/-/echo"), &[]);
    let line = "流".repeat(20_000);
    for _ in 0..300 {
        client.send_line(&line);
    }
    client.end_input();
    let echoed = client.stdout.rest();
    assert_eq!(echoed.len(), 300);
    assert!(echoed.iter().all(|echoed| *echoed == line));
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn invalid_utf8_input_is_reported_with_its_line() {
    let host = Host::new().await;
    let mut client = ClientProcess::start(&host.url(), &[]);
    let mut socket = host.accept().await;
    client.write(b"good\nb\xffd\nnever\n");
    assert_eq!(receive(&mut socket).await, Message::from("good"));
    drain(&mut socket).await;
    assert_eq!(fails(client), "longwire: line 2 of standard input is not UTF-8: invalid byte 2");
}

#[tokio::test]
async fn without_input_it_receives_until_the_server_closes() {
    for code in [1000_u16, 1001] {
        let host = Host::new().await;
        let mut client = ClientProcess::start(&host.url(), &["--no-input"]);
        client.end_input();
        let mut socket = host.accept().await;
        socket.send("早上好 ☀").await.expect("sent");
        assert_eq!(client.stdout.next(), "早上好 ☀");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(client.child.try_wait().expect("a child").is_none(), "it still receives");
        socket.close(code, "bye").await.expect("a closing handshake");
        assert_eq!(client.ended(), (Some(0), vec![]), "{code}");
    }
}

#[tokio::test]
async fn echo_sends_back_what_is_received() {
    let host = Host::new().await;
    let mut client = ClientProcess::start(&host.url(), &["--no-input", "--echo"]);
    let mut socket = host.accept().await;
    for message in [Message::from("回声 🏔"), Message::from(vec![0, 1, 2]), Message::from("")] {
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(receive(&mut socket).await, message);
    }
    socket.close(1000, "").await.expect("a closing handshake");
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn binary_is_a_hex_dump_or_unchanged() {
    let bytes: Vec<u8> = (0..=255).chain("海🌊".bytes()).collect();
    for raw in [false, true] {
        let host = Host::new().await;
        let arguments: &[&str] = if raw { &["--no-input", "--binary"] } else { &["--no-input"] };
        let mut child = longwire().arg("connect").args(arguments).arg(host.url()).spawn().expect("it starts");
        let mut socket = host.accept().await;
        socket.send(bytes.clone()).await.expect("sent");
        socket.send(Vec::new()).await.expect("sent");
        socket.close(1000, "").await.expect("a closing handshake");
        assert!(ended(&mut child).success());
        let mut stdout = Vec::new();
        std::io::Read::read_to_end(&mut child.stdout.take().expect("piped"), &mut stdout).expect("read");
        if raw {
            assert_eq!(stdout, bytes);
            continue;
        }
        let lines: Vec<&str> = std::str::from_utf8(&stdout).expect("a dump is ASCII").lines().collect();
        assert_eq!(lines.len(), 17 + 2, "{lines:?}");
        assert_eq!(
            lines[4],
            "00000040  40 41 42 43 44 45 46 47  48 49 4a 4b 4c 4d 4e 4f  |@ABCDEFGHIJKLMNO|"
        );
        assert_eq!(lines[16], "00000100  e6 b5 b7 f0 9f 8c 8a                              |.......|");
        assert_eq!(lines[17..], ["00000107", "00000000"]);
    }
}

#[tokio::test]
async fn headers_and_subprotocols_are_sent() {
    let host = Host::new().await;
    let url = host.url();
    let client = ClientProcess::start(
        &url,
        &["-H", "X-Token: a:b", "--header", "Cookie: k=v", "--subprotocol", "b", "--subprotocol", "a"],
    );
    let acceptor = Acceptor::new().subprotocols(["a", "b"]).on_request(|request, _| {
        assert_eq!(request.headers()["x-token"], "a:b");
        assert_eq!(request.headers()["cookie"], "k=v");
        assert_eq!(request.headers()["sec-websocket-protocol"], "b, a");
        assert_eq!(request.uri().path(), "/room");
        Ok(())
    });
    let socket = acceptor.accept(host.stream().await).await.expect("a handshake");
    assert!(socket.subprotocol().is_some());
    drop(client);
}

#[tokio::test]
async fn a_rejection_shows_status_and_first_line() {
    let host = Host::new().await;
    let client = ClientProcess::start(&host.url(), &[]);
    let body = "\nno entry: \u{1b}[31msign in\nmore\n";
    let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _stream = host.answer(&answer).await;
    let said = fails(client);
    assert!(
        said.contains("refused") && said.contains("403 Forbidden: no entry: \\u{1b}[31msign in"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_without_websocket_is_reported() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let host = Host::new().await;
        let client = ClientProcess::start(&host.url(), &[]);
        drop(host.answer(answer).await);
        let said = fails(client);
        assert!(said.contains("handshake"), "{said}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_reported() {
    let host = Host::new().await;
    let url = host.url();
    drop(host);
    let said = fails(ClientProcess::start(&url, &[]));
    assert!(said.contains("cannot connect") && said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let host = Host::new().await;
    let client = ClientProcess::start(&host.url(), &[]);
    let _stream = host.stream().await;
    let said = fails(client);
    assert!(said.contains("timed out"), "{said}");
}

#[tokio::test]
async fn a_protocol_error_names_the_section() {
    for (frame, section) in [
        (&[0x83, 0x00][..], "5.2"),               // a reserved opcode
        (&[0x81, 0x81, 1, 2, 3, 4, 0x60], "5.1"), // masked by a server
        (&[0x81, 0x01, 0xff], "8.1"),             // not UTF-8
        (&[0x80, 0x00], "5.4"),                   // a continuation of nothing
    ] {
        let host = Host::new().await;
        let client = ClientProcess::start(&host.url(), &[]);
        let mut socket = host.accept().await;
        write_raw(&socket, frame).await;
        let said = tokio::task::spawn_blocking(|| fails(client));
        // Answer its Close frame, so that it does not wait for the end of TCP.
        while let Ok(Some(_)) = socket.recv().await {}
        drop(socket);
        let said = said.await.expect("no panic");
        assert!(
            said.contains("broke the protocol") && said.contains(&format!("RFC 6455 {section}")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_close_with_another_code_is_a_failure() {
    for (code, reason, said) in [
        (1011_u16, "out of tea 🍵", "closed by the server with 1011 (internal error): out of tea 🍵"),
        (1008, "", "closed by the server with 1008 (policy violation)"),
        (4001, "two\nlines", "closed by the server with 4001 (application code): two lines"),
    ] {
        let host = Host::new().await;
        let client = ClientProcess::start(&host.url(), &["--no-input"]);
        let mut socket = host.accept().await;
        socket.close(code, reason).await.expect("a closing handshake");
        assert_eq!(fails(client), format!("longwire: {said}"));
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_1005_and_a_failure() {
    let host = Host::new().await;
    let client = ClientProcess::start(&host.url(), &["--no-input"]);
    let mut socket = host.accept().await;
    write_raw(&socket, &[0x88, 0x00]).await;
    let said = tokio::task::spawn_blocking(|| fails(client));
    // This also ends the connection for the library, which does not know about the raw frame.
    while let Ok(Some(_)) = socket.recv().await {}
    drop(socket);
    assert_eq!(said.await.expect("no panic"), "longwire: closed by the server with 1005 (no status code)");
}

#[tokio::test]
async fn a_missing_closing_handshake_is_1006() {
    let host = Host::new().await;
    let client = ClientProcess::start(&host.url(), &[]);
    drop(host.accept().await);
    let said = fails(client);
    assert!(said.contains("without a closing handshake (1006)"), "{said}");
}

#[tokio::test]
async fn an_unanswered_close_is_a_failure() {
    let host = Host::new().await;
    let mut client = ClientProcess::start(&host.url(), &[]);
    let _silent = host.accept().await;
    client.end_input();
    let said = fails(client);
    assert!(said.contains("clos"), "{said}");
}

#[tokio::test]
async fn ctrl_c_closes_with_1000() {
    let host = Host::new().await;
    let mut client = ClientProcess::start(&host.url(), &[]);
    let mut socket = host.accept().await;
    socket.send("ready").await.expect("sent");
    assert_eq!(client.stdout.next(), "ready");
    crate::process::signal(&client.child, "INT");
    drain(&mut socket).await;
    let closed = socket.closed().expect("closed");
    assert_eq!(
        (closed.by, closed.frame.as_ref().map(|frame| frame.code)),
        (Side::Peer, Some(CloseCode::NORMAL))
    );
    assert_eq!(client.ended(), (Some(0), vec![]));
}

#[tokio::test]
async fn a_closed_output_ends_it_without_an_error() {
    let host = Host::new().await;
    let mut child = longwire()
        .args(["connect", "--no-input", &host.url()])
        .stdin(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut socket = host.accept().await;
    drop(child.stdout.take());
    socket.send("nobody reads this").await.expect("sent");
    drain(&mut socket).await;
    assert_eq!(
        socket.closed().and_then(|closed| closed.frame.clone()).map(|frame| frame.code),
        Some(CloseCode::NORMAL)
    );
    assert_eq!(ended(&mut child).code(), Some(0));
    assert_eq!(Lines::of(child.stderr.take().expect("piped")).rest(), Vec::<String>::new());
}

#[tokio::test]
async fn an_idle_input_keeps_the_connection_alive() {
    let host = Host::new().await;
    let mut client = ClientProcess::start(&host.url(), &[]);
    let silence = Duration::from_millis(100);
    let config = Config::server().ping_after(Some(silence)).pong_timeout(silence * 10);
    let mut socket = Acceptor::new().config(config).accept(host.stream().await).await.expect("a handshake");
    // Without Pongs, the connection would end within this time.
    let heard = tokio::time::timeout(silence * 25, socket.recv()).await;
    assert!(heard.is_err(), "{heard:?}");
    client.send_line("还在 🙂");
    assert_eq!(receive(&mut socket).await, Message::from("还在 🙂"));
}
