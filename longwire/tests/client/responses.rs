//! Responses to the opening handshake: the one that opens, the one that does not, and how large they may be.

use std::time::Duration;

use longwire::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use longwire::{Client, ConnectError, HandshakeError, HeadLimits, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::servers::{echo_server, talk};
use crate::support::{accept_of, read_head, response, soon};

type Opened = Result<(WebSocket<DuplexStream>, Response<()>), ConnectError>;

/// Connects to a server whose response is `answer` of the good one; and the request.
async fn exchange(client: &Client, answer: impl Fn(String) -> Vec<u8>) -> (Opened, String) {
    let (near, mut far) = tokio::io::duplex(200_000);
    let serving = async {
        let head = read_head(&mut far).await;
        far.write_all(&answer(response(&accept_of(&head)))).await.unwrap();
        head
    };
    soon(async { tokio::join!(client.handshake_with_response("ws://茶.example/", near), serving) }).await
}

/// The good response with more headers.
fn with(lines: &str) -> impl Fn(String) -> Vec<u8> {
    move |good| good.replacen("\r\n", &format!("\r\n{lines}"), 1).into_bytes()
}

#[tokio::test]
async fn the_response_that_opens_is_returned() {
    let client = Client::new().subprotocols(["chat.v2", "chat.v1"]);
    let lines = "Set-Cookie: a=一\r\nSet-Cookie: b=二\r\nSec-WebSocket-Protocol: chat.v1\r\n";
    let (opened, _) = exchange(&client, with(lines)).await;
    let (ws, response) = opened.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let cookies = response.headers().get_all(header::SET_COOKIE).iter().map(HeaderValue::as_bytes);
    assert_eq!(cookies.collect::<Vec<_>>(), ["a=一".as_bytes(), "b=二".as_bytes()]);
    assert_eq!(ws.subprotocol(), Some("chat.v1"));

    let url = format!("ws://{}/", echo_server().await);
    let (mut ws, response) = soon(Client::new().connect_with_response(url)).await.unwrap();
    assert_eq!(response.headers()[header::UPGRADE], "websocket");
    talk(&mut ws).await;
}

#[tokio::test]
async fn many_headers_and_large_ones() {
    let many = |count: usize| "X-Policy: 策略\r\n".repeat(count);
    let large = |size: usize| format!("Content-Security-Policy: {}\r\n", "x".repeat(size));
    // The good response has three headers of its own.
    for lines in [many(70), many(253), large(17_000), large(65_000)] {
        exchange(&Client::new(), with(&lines)).await.0.unwrap();
    }
    let more = Client::new().response_limits(HeadLimits { headers: 300, bytes: 100_000 });
    for lines in [many(254), large(66_000)] {
        exchange(&more, with(&lines)).await.0.unwrap();
    }
    let error = async |client: &Client, lines: &str| match exchange(client, with(lines)).await.0 {
        Err(ConnectError::Handshake(HandshakeError::Head(error))) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let client = Client::new();
    assert!(error(&client, &many(254)).await.contains("more than 256 header lines"));
    assert!(error(&client, &large(66_000)).await.contains("the limit of 65536 bytes"));
    let fewer = Client::new().response_limits(HeadLimits { headers: 9, ..HeadLimits::RESPONSE });
    assert!(error(&fewer, &many(7)).await.contains("more than 9 header lines"));
}

#[tokio::test]
async fn a_body_in_chunks_is_read_like_one_with_a_length() {
    let text = "请先登录 🔑";
    let (front, back) = text.split_at(6);
    let bodies = [
        format!("Content-Length: {}\r\n\r\n{text}", text.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{front}\r\n{:X};ext=\"a\"\r\n{back}\r\n0\r\n\r\n",
            front.len(),
            back.len()
        ),
    ];
    for body in bodies {
        let answer = |_| format!("HTTP/1.1 401 Unauthorized\r\n{body}").into_bytes();
        match exchange(&Client::new(), answer).await.0 {
            Err(ConnectError::Refused(response)) => assert_eq!(response.body, text, "{body}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_user_agent() {
    let request = async |client: &Client| exchange(client, String::into_bytes).await.1;
    let own = concat!("User-Agent: longwire/", env!("CARGO_PKG_VERSION"), "\r\n");
    assert!(request(&Client::new()).await.contains(own));
    let head = request(&Client::new().header("user-agent", "行情/2")).await;
    assert!(head.contains("User-Agent: 行情/2\r\n") && head.matches("User-Agent").count() == 1, "{head}");
}

#[tokio::test]
async fn headers_replace_those_of_the_same_name() {
    let mut headers = HeaderMap::new();
    headers.append(header::ORIGIN, HeaderValue::from_static("https://b.example"));
    headers.append("x-token", HeaderValue::from_bytes(b"\xff").unwrap());
    headers.append("x-list", HeaderValue::from_static("1"));
    headers.append("x-list", HeaderValue::from_static("2"));
    let client = Client::new().header("Origin", "https://a.example").header("X-Other", HeaderValue::from(7));
    let client = client.headers(headers);
    let (near, mut far) = tokio::io::duplex(1000);
    let mut head = vec![0; 1000];
    let asking = tokio::time::timeout(Duration::from_secs(5), client.handshake("ws://a/", near));
    let length = tokio::select! {
        _ = asking => panic!("nothing answers"),
        read = far.read(&mut head) => read.unwrap(),
    };
    let head = String::from_utf8_lossy(&head[..length]);
    for line in ["Origin: https://b.example", "X-Token: \u{fffd}", "X-List: 1", "X-List: 2", "X-Other: 7"] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
    }
    assert!(!head.contains("a.example"), "{head}");
    // Like each header alone.
    let reserved = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("x"))]);
    let (near, _far) = tokio::io::duplex(1000);
    let refused = Client::new().headers(reserved).handshake("ws://a/", near).await;
    assert!(matches!(refused, Err(ConnectError::Invalid(_))), "{refused:?}");
}
