//! All kinds of attacks at once, next to two normal clients.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::deflated::{TAIL, nothing, stored, zeros};
use crate::process::Server;
use crate::{Friends, arguments, frame, is_calm, message, open, raw, request};

/// Bytes before the opening handshake is complete, and after it.
fn attacks() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let before = [
        "".to_owned(),
        "G".to_owned(),
        "\0\0\0".to_owned(),
        "GET / HTTP/1.1\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(10_000)),
        format!("GET /{}", "长".repeat(10_000)),
        format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{}",
            "x".repeat(100_000)
        ),
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"
            .to_owned(),
        request("/-/nothing"),
        request("/朋友?%00"),
        request("/a").repeat(100),
    ];
    let behind = [
        vec![],
        vec![0x82],
        vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4],
        vec![0x02, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4, 5, 6, 7],
        vec![0xC1, 0x87, 0, 0, 0, 0, 0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0],
        vec![0x81, 0x02, b'h', b'i'],
        vec![0x89, 0xFD, 0, 0, 0, 0],
        [&[0x02, 0x80, 0, 0, 0, 0][..], &[0x00, 0x80, 0, 0, 0, 0].repeat(100_000)].concat(),
        [0x89, 0x80, 0, 0, 0, 0].repeat(100_000),
        vec![0xFF; 1_000_000],
        [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8].repeat(1_000),
        message(&[7; 60_000]).repeat(100),
    ];
    (before.map(String::into_bytes).into(), behind.into())
}

/// Compressed messages: complete, unfinished and invalid ones.
fn compressed_attacks() -> Vec<Vec<u8>> {
    let bomb = [&zeros(1_000_000)[..], &TAIL].concat();
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    vec![
        vec![0xC2, 0x80, 0, 0, 0, 0],
        vec![0xC2, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4],
        frame(0xC2, &[0xFF; 1_000]),
        frame(0xC2, &zeros(1_000_000)),
        frame(0xC2, &zeros(60_000)).repeat(100),
        frame(0xC2, &zeros(1_000_000)[..30]),
        frame(0xC2, &[bomb.repeat(1_000), vec![0]].concat()),
        [frame(0x42, &bomb), frame(0, &bomb).repeat(1_000)].concat(),
        frame(0x42, &stored(&[7; 30_000])),
        frame(0xC2, &nothing(200_000)),
        [frame(0x42, &stored(b"x")), [&frame(0, &stored(b"x"))[..], &ping].concat().repeat(20_000)].concat(),
        frame(0xC1, &[&stored(b"\xE4\xBD")[..], &[0]].concat()),
        // A reference beyond the start of the window (RFC 7692 7.2.3.2).
        frame(0xC1, &[0xF2, 0x00, 0x11, 0x00, 0x00]),
    ]
}

#[tokio::test]
async fn attacks_do_not_affect_others() {
    let (before, behind) = attacks();
    all_at_once(false, &before, &behind).await;
}

#[tokio::test]
async fn compressed_attacks_do_not_affect_others() {
    all_at_once(true, &[], &compressed_attacks()).await;
}

/// Each attacker stays, shuts down or resets the connection. The server survives, and other clients are not
/// affected.
async fn all_at_once(deflate: bool, before: &[Vec<u8>], behind: &[Vec<u8>]) {
    let server = Server::start(&arguments(deflate));
    let mut friends = Friends::join(&server).await;
    let mut staying = Vec::new();
    for path in ["", "/-/echo", "/attacked"] {
        for bytes in if path.is_empty() { before } else { behind } {
            for goes in ["stays", "ends", "resets"] {
                let mut stream = if path.is_empty() { raw(&server).await } else { open(&server, path).await };
                // The server may not accept everything.
                let _ = tokio::time::timeout(Duration::from_millis(100), stream.write_all(bytes)).await;
                match goes {
                    "resets" => stream.set_zero_linger().expect("set"),
                    "ends" => drop(stream.shutdown().await),
                    _ => {}
                }
                if goes != "resets" {
                    staying.push(stream);
                }
            }
            friends.talk().await;
        }
    }
    sleep(Duration::from_millis(100)).await;
    friends.talk().await;
    is_calm(&server);
    drop(staying);
    friends.talk().await;
    Friends::join(&server).await.talk().await;
    is_calm(&server);
}
