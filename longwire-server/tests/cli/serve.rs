//! Channels, the echo, limits and origins.

use std::process::Command;
use std::time::Duration;

use longwire::{Client, CloseCode, Config, ConnectError, Error, Message, Side};
use tokio::net::{TcpSocket, TcpStream};

use crate::process::{ClientProcess, PROBE, Server, TIMEOUT, longwire, receive};

#[test]
fn one_line_announces_the_address() {
    let server = Server::start(&[]);
    let at = format!("127.0.0.1:{}", server.port);
    assert_eq!(
        server.announced,
        format!("longwire listening on http://{at}  (open it in a browser; channels are at ws://{at}/NAME)")
    );
    assert_ne!(server.port, 0);
}

#[tokio::test]
async fn messages_reach_all_others_on_the_channel() {
    let server = Server::start(&[]);
    let mut one = server.join("/茶馆?token=x").await;
    let mut two = server.join("/茶馆").await;
    let mut three = server.join("/茶馆").await;
    let mut elsewhere = server.join("/other").await;

    for message in [
        Message::from("你好 🌊"),
        Message::from(""),
        Message::from(vec![0, 255, 10, 13]),
        Message::from(Vec::new()),
        Message::from("plain"),
    ] {
        one.send(message.clone()).await.expect("sent");
        assert_eq!(receive(&mut two).await, message);
        assert_eq!(receive(&mut three).await, message);
    }
    two.send("answer").await.expect("sent");
    // The first message that the publisher receives is the answer, not its own message.
    assert_eq!(receive(&mut one).await, Message::from("answer"));
    let silence = tokio::time::timeout(Duration::from_millis(200), elsewhere.recv()).await;
    assert!(silence.is_err(), "heard on another channel: {silence:?}");
}

#[tokio::test]
async fn the_root_is_a_channel() {
    let server = Server::start(&["--threads", "1"]);
    let mut one = server.join("/").await;
    let mut two = server.join("/").await;
    one.send("根 🌱").await.expect("sent");
    assert_eq!(receive(&mut two).await, Message::from("根 🌱"));
}

#[tokio::test]
async fn the_name_of_a_channel_is_bounded() {
    let server = Server::start(&[]);
    let longest = format!("/{}", "x".repeat(255));
    let mut one = server.join(&longest).await;
    let mut two = server.join(&longest).await;
    one.send("长 🐉").await.expect("sent");
    assert_eq!(receive(&mut two).await, Message::from("长 🐉"));
    match Client::new().connect(server.url(&format!("{longest}x"))).await {
        Err(ConnectError::Refused(response)) => {
            assert_eq!((response.status.as_u16(), response.body.contains("255")), (400, true));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_are_compressed_for_clients_that_offer_it() {
    let message = Message::from("行情 📈 ".repeat(100));
    for (arguments, threshold) in
        [(&["--deflate"][..], 256), (&["--deflate", "--deflate-threshold", "1K"], 1024)]
    {
        let server = Server::start(arguments);
        let mut one = server.join("/").await;
        let mut two = server.join("/").await;
        let not_offered = Client::new().config(Config::client().no_deflate());
        let plain = not_offered.connect(server.url("/")).await.expect("connected");
        assert!(one.deflate().is_some_and(|agreed| agreed.server_no_context_takeover));
        assert!(plain.deflate().is_none());
        for message in [message.clone(), Message::from("x".repeat(threshold)), Message::from("短")] {
            one.send(message.clone()).await.expect("sent");
            assert_eq!(receive(&mut two).await, message);
        }
    }
    let server = Server::start(&[]);
    assert!(server.join("/").await.deflate().is_none(), "not by itself");
}

#[tokio::test]
async fn echo_sends_back_in_order() {
    let server = Server::start(&[]);
    let mut socket = server.connect("/-/echo").await;
    let mut other = server.connect("/-/echo").await;
    for number in 0..500 {
        socket.feed(format!("第 {number} 🐟")).await.expect("queued");
    }
    socket.send(vec![7; 3000]).await.expect("sent");
    for number in 0..500 {
        assert_eq!(receive(&mut socket).await, Message::from(format!("第 {number} 🐟")));
    }
    assert_eq!(receive(&mut socket).await, Message::from(vec![7; 3000]));
    other.send("mine").await.expect("sent");
    assert_eq!(receive(&mut other).await, Message::from("mine"));
    socket.close(1000, "done").await.expect("a closing handshake");
    assert_eq!(socket.closed().map(|closed| closed.by), Some(Side::Us));
}

#[tokio::test]
async fn two_clients_exchange_messages() {
    let server = Server::start(&[]);
    let mut ada = ClientProcess::join(&server, "/lobby", &[]).await;
    let mut lin = ClientProcess::join(&server, "/lobby", &[]).await;
    let mut program = server.join("/lobby").await;

    ada.send_line("hello 林");
    assert_eq!(lin.next_line(), "hello 林");
    assert_eq!(receive(&mut program).await, Message::from("hello 林"));
    lin.send_line("你好 Ada 🌊");
    assert_eq!(ada.next_line(), "你好 Ada 🌊");
    assert_eq!(receive(&mut program).await, Message::from("你好 Ada 🌊"));
    program.send(b"\x00\x01binary".to_vec()).await.expect("sent");
    for client in [&ada, &lin] {
        assert_eq!(
            client.next_line(),
            "00000000  00 01 62 69 6e 61 72 79                           |..binary|"
        );
        assert_eq!(client.next_line(), "00000008");
    }
    for mut client in [ada, lin] {
        client.end_input();
        assert_eq!(client.ended(), (Some(0), vec![]));
    }
}

#[tokio::test]
async fn a_message_of_900_kb_arrives_whole() {
    let server = Server::start(&[]);
    let mut one = server.join("/large").await;
    let mut two = server.join("/large").await;
    let text = "长文🌊 ".repeat(900_000 / "长文🌊 ".len());
    let bytes: Vec<u8> = (0..900_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    for _ in 0..3 {
        one.feed(&*text).await.expect("queued");
        one.send(bytes.clone()).await.expect("sent");
        assert_eq!(receive(&mut two).await, Message::from(&*text));
        assert_eq!(receive(&mut two).await, Message::from(bytes.clone()));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_closes_only_its_sender_with_1009() {
    let server = Server::start(&["--max-message", "64K"]);
    let mut sender = server.join("/limit").await;
    let mut one = server.join("/limit").await;
    let mut two = server.join("/limit").await;

    one.send(vec![1; 64 * 1024]).await.expect("sent");
    assert_eq!(receive(&mut sender).await, Message::from(vec![1; 64 * 1024]));
    assert_eq!(receive(&mut two).await, Message::from(vec![1; 64 * 1024]));

    // The server may close before everything was sent.
    let _ = sender.send(vec![2; 64 * 1024 + 1]).await;
    while sender.recv().await.expect("a closing handshake").is_some() {}
    let closed = sender.closed().expect("closed");
    assert_eq!(
        (closed.by, closed.frame.as_ref().map(|frame| frame.code)),
        (Side::Peer, Some(CloseCode::TOO_BIG))
    );

    one.send("still here").await.expect("sent");
    assert_eq!(receive(&mut two).await, Message::from("still here"));
}

#[tokio::test]
async fn a_slow_consumer_is_closed_with_1013_and_others_are_not_affected() {
    const SIZE: usize = 64 * 1024;
    let server = Server::start(&["--max-message", "64K"]);
    let mut speaker = server.join("/flood").await;
    let mut quick = server.join("/flood").await;
    // A small receive buffer limits the data in flight.
    let narrow = TcpSocket::new_v4().expect("a socket");
    narrow.set_recv_buffer_size(16 * 1024).expect("set");
    let narrow = narrow.connect(([127, 0, 0, 1], server.port).into()).await.expect("connected");
    let mut slow = Client::new().handshake(server.url("/flood"), narrow).await.expect("accepted");
    speaker.send(PROBE).await.expect("sent");

    // More than the send buffer, the write buffer and the receive buffer together.
    for _ in 0..256 {
        speaker.send(vec![5; SIZE]).await.expect("sent");
        assert_eq!(receive(&mut quick).await.into_bytes().len(), SIZE);
    }
    let mut received = 0;
    let end = loop {
        match tokio::time::timeout(TIMEOUT, slow.recv()).await.expect("in time") {
            Ok(Some(_)) => received += 1,
            end => break end,
        }
    };
    assert!(received < 256, "never too slow");
    assert!(matches!(end, Ok(None)), "{end:?}");
    let closed = slow.closed().and_then(|closed| closed.frame.clone()).expect("a code");
    assert_eq!((closed.code, &*closed.reason), (CloseCode::TRY_AGAIN, "slow consumer"));

    speaker.send("over").await.expect("sent");
    assert_eq!(receive(&mut quick).await, Message::from("over"));
}

#[tokio::test]
async fn a_subprotocol_is_negotiated() {
    let server = Server::start(&["--subprotocol", "chat.v2", "--subprotocol", "chat.v1"]);
    for (offered, chosen) in [
        (&["chat.v1"][..], Some("chat.v1")),
        (&["chat.v1", "chat.v2"], Some("chat.v2")),
        (&["other"], None),
        (&[], None),
    ] {
        let client = Client::new().subprotocols(offered.iter().copied());
        let socket = client.connect(server.url("/")).await.expect("accepted");
        assert_eq!(socket.subprotocol(), chosen, "{offered:?}");
    }
}

/// Returns the status for a page of this origin that uses this host name.
async fn status_for(server: &Server, name: &str, origin: Option<&str>) -> u16 {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
    let client = origin.into_iter().fold(Client::new(), |client, origin| client.header("Origin", origin));
    match client.handshake(format!("ws://{name}:{}/", server.port), stream).await {
        Ok(_) => 101,
        Err(ConnectError::Refused(response)) => response.status.as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn pages_of_another_origin_are_rejected() {
    let server = Server::start(&[]);
    let own = format!("http://127.0.0.1:{}", server.port);
    assert_eq!(status_for(&server, "127.0.0.1", None).await, 101);
    assert_eq!(status_for(&server, "127.0.0.1", Some(&own)).await, 101);
    for foreign in ["https://evil.example", "http://127.0.0.1:1", "null", "nonsense"] {
        assert_eq!(status_for(&server, "127.0.0.1", Some(foreign)).await, 403, "{foreign}");
    }
}

#[tokio::test]
async fn a_foreign_host_name_is_rejected() {
    let server = Server::start(&[]);
    for (name, status) in [("evil.example", 403), ("localhost", 101), ("chat.localhost", 101)] {
        let origin = format!("http://{name}:{}", server.port);
        assert_eq!(status_for(&server, name, Some(&origin)).await, status, "{name}");
    }
    // With or without an Origin header.
    assert_eq!(status_for(&server, "evil.example", None).await, 403);
    let server = Server::start(&["--allow-host", "Chat.Example"]);
    assert_eq!(status_for(&server, "chat.example", None).await, 101);
    assert_eq!(status_for(&server, "evil.example", None).await, 403);
}

#[tokio::test]
async fn origins_can_be_allowed() {
    let server =
        Server::start(&["--allow-origin", "https://example.org", "--allow-origin", "http://localhost:3000"]);
    let own = format!("http://127.0.0.1:{}", server.port);
    for allowed in ["https://example.org", "http://localhost:3000", &own] {
        assert_eq!(status_for(&server, "127.0.0.1", Some(allowed)).await, 101, "{allowed}");
    }
    assert_eq!(status_for(&server, "127.0.0.1", Some("https://evil.example")).await, 403);
    let turned = format!("http://evil.example:{}", server.port);
    assert_eq!(status_for(&server, "evil.example", Some(&turned)).await, 403);

    let server = Server::start(&["--allow-origin", "any"]);
    assert_eq!(status_for(&server, "127.0.0.1", Some("https://evil.example")).await, 101);
}

#[cfg(unix)]
#[tokio::test]
async fn running_out_of_files_is_survived() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 32; exec \"$@\"", "sh"]).arg(longwire().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--threads", "2"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let server = Server::run(command);

    let mut member = server.join("/").await;
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(TcpStream::connect(("127.0.0.1", server.port)).await.expect("the system queues it"));
    }
    let told = server.stderr.next();
    assert!(
        told.starts_with("longwire: cannot accept a connection: ") && told.contains("ulimit -n"),
        "{told}"
    );

    // Existing connections continue, and new ones are possible once the others have closed.
    member.send("still here").await.expect("sent");
    drop(crowd);
    let mut other = server.join("/").await;
    member.send("终于 🎉").await.expect("sent");
    assert_eq!(receive(&mut other).await, Message::from("终于 🎉"));
    assert_eq!(server.stderr.within(Duration::ZERO), None, "told once, not for each attempt");
}

#[tokio::test]
async fn restart_on_the_same_port_after_a_kill() {
    let mut server = Server::start(&[]);
    let port = server.port;
    let mut member = server.join("/").await;
    server.signal("KILL");
    assert!(!server.ended().success());
    let end = tokio::time::timeout(TIMEOUT, member.recv()).await.expect("in time");
    assert!(matches!(end, Err(Error::Eof | Error::Io(_))), "{end:?}");

    let mut command = longwire();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let server = Server::run(command);
    let mut one = server.join("/").await;
    let mut two = server.join("/").await;
    one.send("又见面了 👋").await.expect("sent");
    assert_eq!(receive(&mut two).await, Message::from("又见面了 👋"));
}
