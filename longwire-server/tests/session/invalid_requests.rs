//! Invalid requests, and requests beyond the limits.

use longwire::Message;
use serde_json::json;

use crate::server::{Server, config};

#[tokio::test]
async fn each_error_has_its_code_and_the_session_continues() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    let long = "长".repeat(86);
    for (text, code) in [
        ("", "bad_request"),
        ("null", "bad_request"),
        ("[1]", "bad_request"),
        ("{\"id\":1}", "bad_request"),
        ("{\"type\":\"ping\"}", "bad_request"),
        ("{\"type\":\"ping\",\"id\":-1}", "bad_request"),
        ("{\"type\":\"ping\",\"id\":9007199254740993}", "bad_request"),
        ("{\"type\":\"fly\",\"id\":1}", "bad_request"),
        ("{\"type\":\"subscribe\",\"id\":1}", "bad_request"),
        ("{\"type\":\"subscribe\",\"id\":1,\"channel\":7}", "bad_request"),
        ("{\"type\":\"subscribe\",\"id\":1,\"channel\":\"\"}", "bad_channel"),
        ("{\"type\":\"subscribe\",\"id\":1,\"channel\":\"a//b\"}", "bad_channel"),
        ("{\"type\":\"subscribe\",\"id\":1,\"channel\":\"-/x\"}", "bad_channel"),
        ("{\"type\":\"subscribe\",\"id\":1,\"channel\":\"a\\u0000\"}", "bad_channel"),
        (&format!("{{\"type\":\"subscribe\",\"id\":1,\"channel\":\"{long}\"}}"), "bad_channel"),
        ("{\"type\":\"subscribe\",\"id\":1,\"channel\":\"a\",\"after\":\"1\"}", "bad_position"),
        ("{\"type\":\"publish\",\"id\":1,\"channel\":\"a\"}", "bad_request"),
        (
            "{\"type\":\"publish\",\"id\":1,\"channel\":\"a\",\"data\":\"1\",\"base64\":\"AA==\"}",
            "bad_request",
        ),
        ("{\"type\":\"publish\",\"id\":1,\"channel\":\"a\",\"base64\":\"A\"}", "bad_request"),
        ("{\"type\":\"publish\",\"id\":1,\"channel\":\"a\",\"data\":\"1\",\"key\":\"\"}", "bad_request"),
        ("{\"type\":\"history\",\"id\":1,\"channel\":\"a\",\"limit\":0}", "bad_request"),
        ("{\"type\":\"history\",\"id\":1,\"channel\":\"a\",\"limit\":1001}", "bad_request"),
        ("{\"type\":\"unsubscribe\",\"id\":1,\"channel\":\"a\"}", "not_subscribed"),
        ("{\"type\":\"token\",\"id\":1}", "bad_request"),
    ] {
        ann.socket.send(text).await.unwrap();
        let answer = ann.next().await;
        assert_eq!((answer["type"].as_str(), answer["code"].as_str()), (Some("error"), Some(code)), "{text}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
    }
    // Unknown fields are ignored.
    assert_eq!(ann.request_reply(json!({"type": "ping", "新": "东西"})).await["type"], "ok");
    ann.socket.send(Message::from(vec![1, 2, 3])).await.unwrap();
    assert_eq!(ann.closed_with().await.0, 1003);
}

#[tokio::test]
async fn a_connection_has_at_most_a_thousand_channels() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    for number in 0..1000 {
        ann.send(json!({"type": "subscribe", "id": number, "channel": format!("c{number}")})).await;
    }
    for _ in 0..1000 {
        assert_eq!(ann.next().await["type"], "ok");
    }
    assert_eq!(ann.request_reply(json!({"type": "subscribe", "channel": "更多"})).await["code"], "too_many");
    ann.request_reply(json!({"type": "unsubscribe", "channel": "c0"})).await;
    assert_eq!(ann.request_reply(json!({"type": "subscribe", "channel": "更多"})).await["type"], "ok");
}

/// Pages are built when they can be sent. A client that requests many and reads none uses little memory and
/// is disconnected; other clients of its event loop miss nothing.
#[tokio::test]
async fn a_client_that_does_not_read_replies_affects_nobody() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    let mut bob = server.session("").await;
    ann.request_reply(json!({"type": "subscribe", "channel": "一"})).await;
    for _ in 0..100 {
        bob.request_reply(json!({"type": "publish", "channel": "大", "data": "大".repeat(1700)})).await;
    }
    let mut floods = Vec::new();
    for _ in 0..4 {
        let mut flood = server.session("").await;
        for id in 0..1000 {
            let request = json!({"type": "history", "id": id, "channel": "大", "limit": 1000});
            flood.socket.feed(request.to_string()).await.unwrap();
        }
        flood.socket.flush().await.unwrap();
        floods.push(flood);
    }
    for offset in 1..=50 {
        bob.request_reply(json!({"type": "publish", "channel": "一", "data": "在吗 👋"})).await;
        assert_eq!(crate::server::at(&ann.event().await), offset);
    }
    for mut flood in floods {
        assert_eq!(flood.closed_with().await.0, 1013);
    }
}
