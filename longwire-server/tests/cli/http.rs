//! Responses to plain HTTP, and to an upgrade where there is no channel.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use longwire::{Client, ConnectError};

use crate::process::{Server, TIMEOUT};

/// Sends a request and returns the header, with lower-case names, and the body of the response.
fn exchange(server: &Server, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes");
    // The server has closed already, so errors are expected here.
    let _ = stream.shutdown(Shutdown::Both);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"));
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    (format!("{status}\r\n{}\r\n", headers.to_ascii_lowercase()), body.to_owned())
}

pub(crate) fn get(server: &Server, method: &str, path: &str) -> (String, String) {
    exchange(server, &format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", server.port))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

#[test]
fn the_server_is_healthy() {
    let server = Server::start(&[]);
    let (head, body) = get(&server, "GET", "/-/healthy");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "ok\n");
    assert_eq!(header(&head, "connection"), Some("close"));
}

#[test]
fn the_page_runs_only_its_own_script() {
    let server = Server::start(&[]);
    let (head, body) = get(&server, "GET", "/");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(header(&head, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&head, "referrer-policy"), Some("no-referrer"));
    assert_eq!(header(&head, "content-length"), Some(&*body.len().to_string()));
    assert!(body.starts_with("<!doctype html>") && body.ends_with("</html>\n"));

    let policy = header(&head, "content-security-policy").expect("a policy");
    let nonce = policy
        .split_once("script-src 'nonce-")
        .and_then(|(_, rest)| rest.split_once('\''))
        .expect("a nonce")
        .0;
    assert_eq!(nonce.len(), 32);
    assert!(
        policy.contains("default-src 'none'") && policy.contains("connect-src 'self' ws: wss:"),
        "{policy}"
    );
    assert_eq!(body.matches(&format!(" nonce=\"{nonce}\">")).count(), 2);
    assert!(!body.contains("{nonce}"));
    // Nothing is loaded from elsewhere, and data cannot become markup.
    for foreign in
        ["src=", "@import", "url(", "innerHTML", "insertAdjacentHTML", "outerHTML", "document.write"]
    {
        assert!(!body.contains(foreign), "{foreign}");
    }

    let (again, _) = get(&server, "GET", "/?twice");
    assert_ne!(header(&again, "content-security-policy"), Some(policy));
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start(&[]);
    let (get_head, page) = get(&server, "GET", "/");
    let (head, body) = get(&server, "HEAD", "/");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "");
    assert_eq!(header(&head, "content-length"), header(&get_head, "content-length"));
    assert_eq!(header(&head, "content-length"), Some(&*page.len().to_string()));
}

#[test]
fn other_methods_are_not_allowed() {
    let server = Server::start(&[]);
    for (path, allow) in [("/", "get, head, options"), ("/-/healthy", "get, head")] {
        for request in [
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"),
            format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ] {
            let (head, _) = exchange(&server, &request);
            assert!(head.starts_with("HTTP/1.1 405 "), "{request}: {head}");
            assert_eq!(header(&head, "allow"), Some(allow));
        }
    }
}

#[test]
fn an_unread_body_does_not_lose_the_response() {
    let server = Server::start(&[]);
    let body = "x".repeat(3_000_000);
    for _ in 0..10 {
        let request =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (head, _) = exchange(&server, &request);
        assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    }
}

/// HAProxy sends health checks without a Host header.
#[test]
fn health_checks_need_no_host() {
    let server = Server::start(&[]);
    for (path, status) in [("/-/healthy", "200"), ("/-/ready", "200"), ("/-/metrics", "403"), ("/", "403")] {
        let (head, _) = exchange(&server, &format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert!(head.contains(&format!(" {status} ")), "{path}: {head}");
    }
}

#[test]
fn unknown_paths_are_not_found() {
    let server = Server::start(&[]);
    for path in ["/-/echo", "/-/nothing", "/-/healthy/"] {
        let (head, body) = get(&server, "GET", path);
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
        assert!(body.contains(path), "{body}");
    }
}

#[tokio::test]
async fn an_upgrade_without_a_channel_is_rejected() {
    let server = Server::start(&[]);
    for path in ["/-/", "/-/nothing", "/-/healthy", "/-/echo/"] {
        let refused = Client::new().connect(server.url(path)).await.expect_err("refused");
        let ConnectError::Refused(response) = refused else { panic!("{path}: {refused}") };
        assert_eq!(response.status, 404);
        assert_eq!(response.body.trim_end(), format!("no WebSocket endpoint at {path}"));
    }
}

#[test]
fn a_request_sent_byte_by_byte_is_answered() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("connected");
    stream.set_nodelay(true).expect("set");
    for byte in b"GET /-/healthy HTTP/1.1\r\nConnection: close\r\nHost: 127.0.0.1\r\n\r\n" {
        stream.write_all(&[*byte]).expect("written");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
}
