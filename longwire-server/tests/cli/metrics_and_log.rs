//! The metrics and the log of a running server.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::get;
use crate::process::{Server, TIMEOUT, run};

/// Waits until a metric has the expected value.
fn sample(server: &Server, series: &str, expected: u64) {
    let began = Instant::now();
    loop {
        let (head, body) = get(server, "GET", "/-/metrics");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let line = body.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        let line = line.unwrap_or_else(|| panic!("no {series} in {body}"));
        if line.ends_with(&format!(" {expected}")) {
            return;
        }
        assert!(began.elapsed() < TIMEOUT, "{line} instead of {expected}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn metrics() {
    let server = Server::start(&[]);
    let mut ws = server.connect("/-/echo").await;
    ws.send("你好 👋").await.expect("sent");
    ws.recv().await.expect("open").expect("open");
    sample(&server, "longwire_connections_open", 1);
    sample(&server, r#"longwire_messages_total{direction="received",kind="text"}"#, 1);
    sample(&server, r#"longwire_payload_bytes_total{direction="sent",kind="text"}"#, 11);
    ws.close(4001, "再见").await.expect("closed");
    sample(&server, r#"longwire_connections_ended_total{cause="closed_by_peer",code="4xxx"}"#, 1);
    sample(&server, "longwire_connections_open", 0);
    assert!(longwire::connect(server.url("/-/nothing")).await.is_err());
    sample(&server, r#"longwire_handshakes_failed_total{reason="404"}"#, 1);

    let (head, body) = get(&server, "HEAD", "/-/metrics");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}{body}");
    assert!(get(&server, "POST", "/-/metrics").0.starts_with("HTTP/1.1 405 "));
}

/// Returns the next log event with this message and field value.
fn event(server: &Server, message: &str, field: &str, value: &Value) -> Value {
    loop {
        let line = server.stderr.next();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(event["target"], "longwire", "{event}");
        let fields = &event["fields"];
        if fields["message"] == message && fields[field] == *value {
            return event;
        }
    }
}

#[tokio::test]
async fn a_log_of_json() {
    let mut server = Server::start(&["--log", "json", "--log-level", "debug"]);
    event(&server, "listening", "address", &format!("127.0.0.1:{}", server.port).into());
    let mut ws = server.connect("/聊天?token=s3cret").await;
    let opened = event(&server, "opened", "path", &"/%E8%81%8A%E5%A4%A9".into());
    ws.send("s3cret").await.expect("sent");
    ws.close(1000, "s3cret").await.expect("closed");
    let ended = event(&server, "ended", "id", &opened["fields"]["id"]);
    assert_eq!((&ended["level"], &ended["fields"]["cause"]), (&"INFO".into(), &"closed_by_peer".into()));
    assert_eq!(ended["fields"]["code"], 1000);

    let mut broken = TcpStream::connect(("127.0.0.1", server.port)).expect("connected");
    let request = "GET /b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    broken.write_all(&[request.as_bytes(), &[0x81, 0]].concat()).expect("written");
    drop(broken);
    let ended = event(&server, "ended", "cause", &"not_masked".into());
    assert_eq!((&ended["level"], &ended["fields"]["code"]), (&"WARN".into(), &1002.into()));

    assert!(longwire::connect(server.url("/-/nothing")).await.is_err());
    let refused = event(&server, "not opened", "status", &404.into());
    assert_eq!(refused["level"], "INFO");
    assert!(!refused.to_string().contains("s3cret"));

    let mut last = server.connect("/last").await;
    event(&server, "opened", "path", &"/last".into());
    server.signal("TERM");
    assert!(last.recv().await.expect("closed").is_none());
    assert!(server.ended().success());
    let rest = server.stderr.rest();
    let ended: Vec<_> = rest.iter().filter(|line| line.contains("\"ended\"")).collect();
    assert!(ended.len() == 1 && ended[0].contains("closed_by_us") && ended[0].contains("1001"), "{rest:?}");
}

#[tokio::test]
async fn a_log_of_text_and_its_levels() {
    for (arguments, ends) in
        [(&["--log", "text"][..], 1), (&["--log", "text", "--log-level", "warn"], 0), (&[], 0)]
    {
        let mut server = Server::start(arguments);
        server.connect("/a").await.close(1000, "").await.expect("closed");
        sample(&server, "longwire_connections_open", 0);
        sample(&server, "longwire_connections_opened_total", 1);
        server.signal("INT");
        assert!(server.ended().success());
        let lines = server.stderr.rest();
        assert_eq!(lines.iter().filter(|line| line.contains("closed_by_peer")).count(), ends, "{lines:?}");
        assert!(ends > 0 || lines.is_empty(), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains('\x1b')), "{lines:?}");
    }
}

#[test]
fn contradicting_log_options() {
    for arguments in [&["serve", "--log", "xml"][..], &["serve", "--log-level", "info"]] {
        let (status, _, said) = run(arguments);
        assert_eq!(status, Some(2), "{said:?}");
    }
}
