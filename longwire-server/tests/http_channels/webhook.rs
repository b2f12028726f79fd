//! A webhook that decides over HTTP.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::Server;

/// Starts a webhook that allows channels whose name begins with `yes`, and returns its URL.
async fn backend() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            tokio::spawn(async move {
                let mut read = Vec::new();
                let question: Value = loop {
                    assert!(stream.read_buf(&mut read).await.expect("read") > 0, "a whole question");
                    let head = read.windows(4).position(|end| end == b"\r\n\r\n");
                    if let Some(question) = head.and_then(|end| serde_json::from_slice(&read[end + 4..]).ok())
                    {
                        break question;
                    }
                };
                let allow = question["channel"].as_str().is_some_and(|name| name.starts_with("yes"));
                let body = json!({"allow": allow}).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.expect("answered");
            });
        }
    });
    url
}

#[tokio::test]
async fn the_webhook_decides_undecided_requests() {
    let url = backend().await;
    let server = Server::start(&format!(
        "[access.webhook]\nurl = \"{url}\"\nconnect = false\nsubscribe = true\npublish = true\n[access.anonymous]\nsubscribe = [\"open\"]\n"
    ));
    let mut stream = server.events("/yes/一".replace('一', "%E4%B8%80").as_str(), &[]).await;
    stream.next().await;
    let posted = server
        .ask("POST", "/yes/%E4%B8%80", &[("Content-Type", "text/plain")], "可以".as_bytes())
        .await
        .good();
    let event = stream.next().await;
    assert_eq!((json!(event.id), &*event.data), (posted["position"].clone(), "可以"));
    server.get("/yes").await.good();
    for (method, path) in [("GET", "/no"), ("POST", "/no"), ("POST", "/open")] {
        assert_eq!(
            server.ask(method, path, &[], b"x").await.refusal(),
            (403, "forbidden".into()),
            "{method} {path}"
        );
    }
    let events = server.get("/-/events?channel=yes&channel=no&channel=open").await.good();
    let told: Vec<_> =
        events["events"].as_array().expect("events").iter().map(|event| &event["type"]).collect();
    assert_eq!(told, ["subscribed", "error", "subscribed"]);
    let batch = json!({"messages": [{"channel": "no", "data": "x"}, {"channel": "yes", "data": "y"}]});
    let results = server.post("/-/publish", &batch).await.good();
    assert_eq!(results["results"][0]["error"]["code"], "forbidden");
    assert!(results["results"][1]["position"].is_string());
    assert_eq!(
        server.post("/-/history", &json!({"channel": "no"})).await.refusal(),
        (403, "forbidden".into())
    );
    let page = server.post("/-/history", &json!({"channel": "yes"})).await.good();
    assert_eq!(page["messages"][0]["data"], "y");
}

/// Limits apply before the webhook is asked.
#[tokio::test]
async fn limits_apply_before_the_webhook() {
    let url = backend().await;
    let server = Server::start(&format!(
        "max_message = \"8\"\n[access.webhook]\nurl = \"{url}\"\nconnect = false\nsubscribe = true\npublish = true\n\
         [access.anonymous]\nsubscribe = [\"open\"]\n[[channel]]\npattern = \"yes/slow\"\nrate = \"1/h\"\n"
    ));
    let text = [("Content-Type", "text/plain")];
    server.ask("POST", "/yes/a", &text, b"12345678").await.good();
    assert_eq!(server.ask("POST", "/yes/a", &text, b"123456789").await.refusal().0, 413);
    server.ask("POST", "/yes/slow", &text, b"1").await.good();
    assert_eq!(server.ask("POST", "/yes/slow", &text, b"2").await.refusal().0, 429);
    // A raw connection is closed for the same reason.
    for (path, said, code) in [("/yes/a", "123456789", 1009), ("/yes/slow", "3", 1008)] {
        let mut raw = server.raw(path).await;
        raw.send(said).await.expect("sent");
        while crate::in_time(raw.recv()).await.expect("a clean end").is_some() {}
        let closed = raw.closed().and_then(|closed| closed.frame.clone()).expect("a code");
        assert_eq!(u16::from(closed.code), code, "{path}");
    }
}
