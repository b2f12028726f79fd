//! permessage-deflate (RFC 7692) as a program uses it: what is agreed on, and what is compressed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use longwire::{
    Acceptor, Client, Compress, Config, Deflate, DeflateParameters, Kind, Message, Outgoing, OutgoingPart,
    SharedFrame,
};
use support::{duplex, server_and_socket, soon, tcp_pair};
use tokio::io::AsyncReadExt;

/// A text that compresses well.
fn text(size: usize) -> String {
    "行情：上证指数 3,051.02 📈 ".chars().cycle().take(size).collect()
}

const SERVER_ALONE: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

#[tokio::test]
async fn what_is_agreed_on() {
    let server = || Config::server().deflate(Deflate::new());
    let takeover = || Deflate::new().send_context_takeover(1 << 20);
    let both = DeflateParameters {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..SERVER_ALONE
    };
    let cases = [
        // A client offers by default, a server does not accept by default.
        (Config::client(), Config::server(), None),
        (Config::client().no_deflate(), server(), None),
        (Config::client(), server(), Some(SERVER_ALONE)),
        (Config::client().deflate(takeover()), Config::server().deflate(takeover()), Some(both)),
        (
            Config::client().deflate(takeover().no_context_takeover()),
            Config::server().deflate(takeover()),
            Some(SERVER_ALONE),
        ),
        (
            Config::client().deflate(Deflate::new().send_window_bits(8)),
            Config::server().deflate(Deflate::new().send_window_bits(9).receive_window_bits(10)),
            Some(DeflateParameters { server_max_window_bits: 9, client_max_window_bits: 8, ..SERVER_ALONE }),
        ),
    ];
    for (client, server, expected) in cases {
        let (client, server) = duplex(64 * 1024, client, server).await;
        assert_eq!((client.deflate(), server.deflate()), (expected, expected));
    }
}

#[tokio::test]
async fn messages_of_all_sizes_pass_both_ways() {
    let config = |config: Config| config.deflate(Deflate::new().threshold(0).send_context_takeover(1 << 20));
    let (mut client, mut server) =
        tcp_pair(config(Config::client()), config(Config::server()).max_message(8 << 20)).await;
    let echo = tokio::spawn(async move {
        while let Some(message) = server.recv().await.unwrap() {
            server.feed(message).await.unwrap();
        }
        server
    });
    for size in [0, 1, 5, 127, 128, 1000, 16 * 1024, 70_000, 1 << 20] {
        for message in [Message::from(text(size)), Message::from(vec![7; size])] {
            soon(client.send(message.clone())).await.unwrap();
            let answer = soon(client.recv()).await.unwrap();
            assert!(answer == Some(message), "{size}");
        }
    }
    soon(client.close(1000, "够了")).await.unwrap();
    assert!(soon(echo).await.unwrap().closed().is_some());
}

/// The first byte of the next frame that comes, behind `skip` bytes of payload.
async fn first_byte(socket: &mut tokio::net::TcpStream) -> u8 {
    let mut header = [0; 2];
    socket.read_exact(&mut header).await.unwrap();
    let length = match header[1] {
        126 => socket.read_u16().await.unwrap().into(),
        127 => socket.read_u64().await.unwrap(),
        short => short.into(),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut payload).await.unwrap();
    header[0]
}

#[tokio::test]
async fn the_callers_word_is_heard() {
    let offer = "permessage-deflate";
    let config = Config::server().deflate(Deflate::new().threshold(1000));
    let (mut ws, mut socket) = server_and_socket_with(offer, config).await;
    let long = text(1000);
    ws.send("short").await.unwrap();
    assert_eq!(first_byte(&mut socket).await, 0x81);
    ws.send(&long).await.unwrap();
    assert_eq!(first_byte(&mut socket).await, 0xC1);
    ws.send(Outgoing::from(&long).compress(Compress::Never)).await.unwrap();
    assert_eq!(first_byte(&mut socket).await, 0x81);
    ws.feed(Outgoing::from(text(100)).compress(Compress::Always)).await.unwrap();
    ws.flush().await.unwrap();
    assert_eq!(first_byte(&mut socket).await, 0xC1);
    ws.send_part(OutgoingPart::new(Kind::Binary, "口令", false).compress(Compress::Never)).await.unwrap();
    ws.send_part((Kind::Binary, "👋", true)).await.unwrap();
    assert_eq!([first_byte(&mut socket).await, first_byte(&mut socket).await], [0x02, 0x80]);
    ws.send_part((Kind::Text, text(500), false)).await.unwrap();
    ws.send_part((Kind::Text, "", true)).await.unwrap();
    assert_eq!([first_byte(&mut socket).await, first_byte(&mut socket).await], [0x41, 0x80]);

    let (sender, _receiver) = ws.split();
    sender.send(Outgoing::from(text(100)).compress(Compress::Always)).await.unwrap();
    assert_eq!(first_byte(&mut socket).await, 0xC1);
    sender.try_send(Outgoing::from(&long).compress(Compress::Never)).unwrap();
    sender.try_send(SharedFrame::new(&long)).unwrap();
    sender.try_send(SharedFrame::new("short")).unwrap();
    sender.flush().await.unwrap();
    let firsts =
        [first_byte(&mut socket).await, first_byte(&mut socket).await, first_byte(&mut socket).await];
    assert_eq!(firsts, [0x81, 0xC1, 0x81]);
}

/// A server's end, and the socket of a client that offered these extensions.
async fn server_and_socket_with(
    offer: &str,
    config: Config,
) -> (longwire::WebSocket<tokio::net::TcpStream>, tokio::net::TcpStream) {
    use tokio::io::AsyncWriteExt;
    let (mut near, far) = support::sockets().await;
    let offer = format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n");
    near.write_all(support::REQUEST.replace("\r\n\r\n", &offer).as_bytes()).await.unwrap();
    let ws = Acceptor::new().config(config).accept(far).await.unwrap();
    let head = support::read_head(&mut near).await;
    assert!(head.contains("permessage-deflate"), "{head}");
    (ws, near)
}

#[tokio::test]
async fn parts_of_a_large_message_arrive_one_by_one() {
    let deflate = || Deflate::new().threshold(0);
    let (mut client, mut server) =
        tcp_pair(Config::client().deflate(deflate()), Config::server().deflate(deflate()).max_message(1000))
            .await;
    // Longer than the limit for messages that are put together: parts have none.
    for number in 0..100 {
        soon(client.send_part((Kind::Text, text(1000), number == 99))).await.unwrap();
        let (mut received, mut ended) = (0, false);
        while received < text(1000).len() {
            let part = soon(server.recv_part()).await.unwrap().unwrap();
            received += part.payload.len();
            ended = part.last;
        }
        assert_eq!(received, text(1000).len(), "all that was sent is there before more is sent");
        assert_eq!(ended, number == 99);
    }
}

#[tokio::test]
async fn a_server_without_it_refuses_compressed_frames() {
    use tokio::io::AsyncWriteExt;
    let (mut ws, mut socket) = server_and_socket(Config::server()).await;
    socket.write_all(b"\xC1\x87\0\0\0\0\xF2\x48\xCD\xC9\xC9\x07\x00").await.unwrap();
    socket.shutdown().await.unwrap();
    let error = format!("{:#}", soon(ws.recv()).await.unwrap_err());
    assert!(error.ends_with("reserved bit set where no extension defines it (RFC 6455 5.2)"), "{error}");
}

#[tokio::test]
async fn a_server_that_accepts_what_was_not_offered_is_left() {
    use tokio::io::AsyncWriteExt;
    for (config, answer) in [
        (Config::client().no_deflate(), "permessage-deflate"),
        (Config::client(), "permessage-deflate; server_max_window_bits=16"),
        (Config::client().deflate(Deflate::new().no_context_takeover()), "permessage-deflate"),
    ] {
        let (near, mut far) = support::sockets().await;
        let answer = format!("\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n");
        let server = async {
            let request = support::read_head(&mut far).await;
            let response = support::response(&support::accept_of(&request)).replace("\r\n\r\n", &answer);
            far.write_all(response.as_bytes()).await.unwrap();
        };
        let client = Client::new().config(config);
        let (connected, ()) = tokio::join!(client.handshake("ws://localhost/", near), server);
        let error = format!("{:#}", connected.unwrap_err());
        assert!(error.contains("RFC 7692") || error.contains("RFC 6455 4.1"), "{error}");
    }
}

#[tokio::test]
async fn a_shared_frame_heeds_the_callers_word() {
    let config = Config::server().deflate(Deflate::new());
    let (mut ws, mut socket) = server_and_socket_with("permessage-deflate", config).await;
    for (compress, expected) in [(Compress::Auto, 0xC1), (Compress::Always, 0xC1), (Compress::Never, 0x81)] {
        ws.feed(SharedFrame::new(Outgoing::from(text(500)).compress(compress))).await.unwrap();
        ws.flush().await.unwrap();
        assert_eq!(first_byte(&mut socket).await, expected);
    }
    let (sender, _receiver) = ws.split();
    sender.feed(Outgoing::from(text(500)).compress(Compress::Never)).await.unwrap();
    sender.flush().await.unwrap();
    assert_eq!(first_byte(&mut socket).await, 0x81);
}
