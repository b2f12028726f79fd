//! `longwire serve` behind reverse proxies, and with a connection limit.

use longwire::{Client, ConnectError};

use crate::process::Server;

/// Returns the status of an opening handshake with these headers; 101 if accepted.
async fn status(server: &Server, headers: &[(&str, &str)]) -> u16 {
    let mut client = Client::new();
    for (name, value) in headers {
        client = client.header(*name, *value);
    }
    match client.connect(server.url("/")).await {
        Ok(_) => 101,
        Err(ConnectError::Refused(response)) => response.status.as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn origins_of_the_host_forwarded_by_a_trusted_proxy() {
    let x = [("Origin", "https://chat.example"), ("X-Forwarded-Host", "chat.example")];
    let rfc =
        [("Origin", "https://chat.example"), ("Forwarded", "for=203.0.113.7;proto=https;host=chat.example")];
    let plain = Server::start(&[]);
    assert_eq!((status(&plain, &x).await, status(&plain, &rfc).await), (403, 403));
    let elsewhere = Server::start(&["--trust-proxy", "10.0.0.0/8"]);
    assert_eq!((status(&elsewhere, &x).await, status(&elsewhere, &rfc).await), (403, 403));
    let trusting = Server::start(&["--trust-proxy", "10.0.0.0/8", "--trust-proxy", "127.0.0.0/8"]);
    assert_eq!((status(&trusting, &x).await, status(&trusting, &rfc).await), (101, 403));
    // Another origin behind the same proxy.
    let other = [("Origin", "https://evil.example"), ("X-Forwarded-Host", "chat.example")];
    assert_eq!(status(&trusting, &other).await, 403);
    let trusting = Server::start(&["--trust-proxy", "127.0.0.1", "--forwarded"]);
    assert_eq!((status(&trusting, &x).await, status(&trusting, &rfc).await), (403, 101));
    assert_eq!(status(&trusting, &[("Forwarded", "for=\"")]).await, 400);
}

#[test]
fn invalid_networks_are_reported() {
    for (arguments, wanted) in [
        (&["--trust-proxy", "example.org"][..], "not an address or network"),
        (&["--trust-proxy", "10.0.0.0/33"], "not an address or network"),
        (&["--forwarded"], "--trust-proxy"),
        (&["--max-connections", "0"], "0"),
    ] {
        let (code, _, lines) = crate::process::run(&[&["serve"], arguments].concat());
        assert!(code == Some(2) && lines.join("\n").contains(wanted), "{arguments:?}: {lines:?}");
    }
}

#[tokio::test]
async fn connections_are_limited() {
    let server = Server::start(&["--max-connections", "2"]);
    let (one, mut two) = (server.connect("/").await, server.connect("/-/echo").await);
    assert_eq!(status(&server, &[]).await, 503);
    drop(one);
    let began = std::time::Instant::now();
    while status(&server, &[]).await != 101 {
        assert!(began.elapsed() < crate::process::TIMEOUT);
    }
    two.send("还在").await.expect("sent");
    assert_eq!(crate::process::receive(&mut two).await.as_text(), Some("还在"));
}

/// A page can set X-Forwarded-Host with `fetch`, but not Host.
#[test]
fn a_rebound_page_cannot_impersonate_a_proxy() {
    use std::io::{Read, Write};

    let server = Server::start(&["--trust-proxy", "127.0.0.1"]);
    for (host, status) in [("evil.example", "403"), ("localhost", "200")] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("connected");
        let request = format!(
            "POST /room HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {host}\r\nContent-Length: 2\r\n\
             Connection: close\r\n\r\nhi"
        );
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}
