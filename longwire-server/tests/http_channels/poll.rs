//! Long polling of one channel.

use serde_json::json;

use crate::server::Server;
use crate::wait_until;

#[tokio::test]
async fn available_messages_are_returned_at_once_and_later_ones_awaited() {
    let server = Server::start("");
    let begin = server.get("/a").await.good()["position"].as_str().expect("a position").to_owned();
    assert!(begin.ends_with("-0"));
    let first = server.publish("a", "一");
    // Without a position, it returns the current one without waiting.
    assert_eq!(server.get("/a?wait=60").await.good(), json!({"position": first, "messages": []}));
    let polled = server.get(&format!("/a?after={begin}&wait=60")).await.good();
    assert_eq!(
        polled,
        json!({"position": first, "recovered": true, "messages": [{"position": first, "data": "一"}]})
    );
    assert_eq!(
        server.get(&format!("/a?after={first}")).await.good(),
        json!({"position": first, "recovered": true, "messages": []})
    );
    let mut poll = server.connection().await;
    poll.send("GET", &format!("/a?after={first}&wait=60"), &[], b"").await;
    let second = server.publish("a", "二");
    let polled = poll.answer().await.good();
    assert_eq!(
        polled,
        json!({"position": second, "recovered": true, "messages": [{"position": second, "data": "二"}]})
    );
    // The same connection again: nothing is lost from position to position.
    let third = server.publish("a", "三");
    poll.send("GET", &format!("/a?after={second}&wait=60"), &[], b"").await;
    assert_eq!(poll.answer().await.good()["position"], third);
    let lost = server.get("/a?after=000000000000-7&wait=60").await.good();
    assert_eq!(lost, json!({"position": third, "recovered": false, "messages": []}));
}

#[tokio::test]
async fn a_response_has_the_size_of_a_replay_and_the_next_has_the_rest() {
    let server =
        Server::start("[[channel]]\npattern = \">\"\nhistory = { messages = 5000, bytes = \"64M\" }\n");
    let begin = server.get("/many").await.good()["position"].as_str().expect("a position").to_owned();
    for number in 0..1001 {
        server.publish("many", &*number.to_string());
    }
    let page = server.get(&format!("/many?after={begin}")).await.good();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1000));
    let after = page["position"].as_str().expect("a position");
    let rest = server.get(&format!("/many?after={after}")).await.good();
    assert_eq!(
        (&rest["messages"][0]["data"], rest["messages"].as_array().map(Vec::len)),
        (&json!("1000"), Some(1))
    );
    let begin = server.get("/large").await.good()["position"].as_str().expect("a position").to_owned();
    for _ in 0..3 {
        server.publish("large", &*"水".repeat(100_000));
    }
    // Two messages are the first to exceed 512 KiB.
    let page = server.get(&format!("/large?after={begin}")).await.good();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn invalid_polls_are_rejected() {
    let server = Server::start("");
    for (path, code) in [
        ("/a?after=x", "bad_position"),
        ("/a?wait=61", "bad_request"),
        ("/a?wait=-1", "bad_request"),
        ("/a?after=%ff", "bad_request"),
        ("/a//b", "bad_channel"),
        ("/a%00b", "bad_channel"),
        ("/%ff", "bad_channel"),
        ("/-", "bad_channel"),
        ("/a*", "bad_channel"),
    ] {
        assert_eq!(server.get(path).await.refusal(), (400, code.into()), "{path}");
    }
    let name = "a".repeat(255);
    server.get(&format!("/{name}")).await.good();
    assert_eq!(server.get(&format!("/{name}a")).await.refusal(), (400, "bad_channel".into()));
    let refused = server.ask("GET", "/a", &[("Accept", "text/html")], b"").await;
    assert_eq!(refused.refusal(), (406, "bad_request".into()));
    for (method, path, allowed) in [
        ("PUT", "/a", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/-/events", "GET, HEAD, OPTIONS"),
        ("POST", "/-/events", "GET, HEAD, OPTIONS"),
        ("GET", "/-/publish", "OPTIONS, POST"),
        ("GET", "/-/history", "OPTIONS, POST"),
        ("HEAD", "/-/presence", "OPTIONS, POST"),
    ] {
        let refused = server.ask(method, path, &[], b"").await;
        assert_eq!(
            (refused.head.status, refused.head.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
    }
    for (accept, kind) in [("*/*", "application/json"), ("text/event-stream", "text/event-stream")] {
        for path in ["/a", "/-/events?channel=a"] {
            let head = server.ask("HEAD", path, &[("Accept", accept)], b"").await.head;
            assert_eq!((head.status, head.header("content-type")), (200, Some(kind)), "{path}");
        }
        assert_eq!(server.ask("HEAD", "/a//b", &[("Accept", accept)], b"").await.head.status, 400);
        assert_eq!(server.ask("HEAD", "/-/events", &[("Accept", accept)], b"").await.head.status, 400);
    }
    // Other paths are handled by the rest of the server.
    assert_eq!(server.get("/-/healthy").await.body, "ok\n");
    assert_eq!(server.get("/-/nothing").await.head.status, 404);
}

#[tokio::test]
async fn a_disconnected_client_releases_its_permit() {
    let server = Server::start("[limits.address]\nconnections = 1\n");
    let position = server.publish("a", "x");
    let mut poll = server.connection().await;
    poll.send("GET", &format!("/a?after={position}&wait=60"), &[], b"").await;
    let (seats, refused) = (&server, std::cell::Cell::new(false));
    // A second connection is rejected as soon as the poll waits.
    crate::in_time(async {
        while !refused.get() {
            refused.set(seats.get("/a").await.head.status == 429);
        }
    })
    .await;
    drop(poll);
    crate::in_time(async { while seats.get("/a").await.head.status == 429 {} }).await;
    wait_until(|| server.present("a") == 0).await;
}
