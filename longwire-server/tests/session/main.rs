//! Sessions (`longwire.v1`, docs/protocol.md) and raw connections on the same channels, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod authorisation;
mod concurrency;
mod invalid_requests;
mod presence;
mod server;

use serde_json::{Value, json};

use server::{Server, at, config};

/// Uses names from paths, and the examples of the documentation.
#[tokio::test]
async fn messages_reach_all_in_order_and_replies_have_positions() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    let mut bob = server.session("").await;
    let mut raw = server.raw("/rooms/%E4%B8%80").await;
    let subscribed = ann.request_reply(json!({"type": "subscribe", "channel": "rooms/一"})).await;
    assert_eq!(subscribed["type"], "ok");
    assert_eq!(at(&subscribed), 0);
    assert!(subscribed.get("recovered").is_none());
    bob.request_reply(json!({"type": "subscribe", "channel": "rooms/一"})).await;

    let first = ann.request_reply(json!({"type": "publish", "channel": "rooms/一", "data": "你好 👋"})).await;
    assert_eq!((first["type"].as_str(), at(&first)), (Some("ok"), 1));
    let second = bob.request_reply(json!({"type": "publish", "channel": "rooms/一", "base64": "AAEC"})).await;
    assert_eq!(at(&second), 2);
    raw.send("原样 🎉").await.unwrap();

    for client in [&mut ann, &mut bob] {
        let mut received = Vec::new();
        for offset in 1..=3 {
            let message = client.event().await;
            assert_eq!((&message["type"], &message["channel"]), (&json!("message"), &json!("rooms/一")));
            assert_eq!(at(&message), offset);
            received.push(message);
        }
        assert_eq!(received[0]["data"], "你好 👋");
        assert_eq!(received[1]["base64"], "AAEC");
        assert_eq!(received[2]["data"], "原样 🎉");
        assert!(received.iter().all(|message| message.get("user").is_none()));
    }
    // A raw client receives the messages of others, but not its own.
    assert_eq!(server::receive(&mut raw).await, "你好 👋");
    assert_eq!(server::receive(&mut raw).await, longwire::Message::from(vec![0, 1, 2]));
    let last = ann.request_reply(json!({"type": "publish", "channel": "rooms/一", "data": "末"})).await;
    assert_eq!(at(&last), 4);
    assert_eq!(server::receive(&mut raw).await, "末");
}

#[tokio::test]
async fn a_reconnecting_client_gets_exactly_the_missed_messages() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    let begin = ann.request_reply(json!({"type": "subscribe", "channel": "一"})).await;
    for number in 1..=5 {
        ann.request_reply(json!({"type": "publish", "channel": "一", "data": number.to_string()})).await;
    }
    let mut bob = server.session("").await;
    let third = begin["position"].as_str().unwrap().replace("-0", "-3");
    let answer = bob.request_reply(json!({"type": "subscribe", "channel": "一", "after": third})).await;
    assert_eq!((at(&answer), &answer["recovered"]), (5, &json!(true)));
    assert_eq!(bob.event().await["data"], "4");
    assert_eq!(bob.event().await["data"], "5");
    ann.request_reply(json!({"type": "publish", "channel": "一", "data": "6"})).await;
    assert_eq!(bob.event().await["data"], "6");

    // Another epoch, a future position, and an invalid one.
    let mut eve = server.session("").await;
    let answer =
        eve.request_reply(json!({"type": "subscribe", "channel": "一", "after": "000000000000-3"})).await;
    assert_eq!((at(&answer), &answer["recovered"]), (6, &json!(false)));
    ann.request_reply(json!({"type": "publish", "channel": "一", "data": "7"})).await;
    assert_eq!(eve.event().await["data"], "7");
    let future = third.replace("-3", "-99");
    let mut dan = server.session("").await;
    let answer = dan.request_reply(json!({"type": "subscribe", "channel": "一", "after": future})).await;
    assert_eq!(answer["recovered"], false);
    let answer = dan.request_reply(json!({"type": "subscribe", "channel": "二", "after": "3"})).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("bad_position")));
}

#[tokio::test]
async fn history_is_returned_in_pages() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    for number in 1..=5 {
        ann.request_reply(json!({"type": "publish", "channel": "一", "data": number.to_string()})).await;
    }
    let page = ann.request_reply(json!({"type": "history", "channel": "一", "limit": 2})).await;
    let data = |page: &Value| -> Vec<String> {
        let messages = page["messages"].as_array().unwrap();
        messages.iter().map(|message| message["data"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (data(&page), &page["more"], &page["recovered"]),
        (vec!["1".into(), "2".into()], &json!(true), &json!(true))
    );
    assert!(page["messages"][0]["time"].as_u64().unwrap() > 1_600_000_000_000);
    let after = &page["messages"][1]["position"];
    let page = ann.request_reply(json!({"type": "history", "channel": "一", "after": after})).await;
    assert_eq!((data(&page).len(), &page["more"], at(&page)), (3, &json!(false), 5));
    let nothing = ann.request_reply(json!({"type": "history", "channel": "没有"})).await;
    assert_eq!((&nothing["type"], &nothing["messages"]), (&json!("ok"), &json!([])));
}

#[tokio::test]
async fn a_key_publishes_once() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    ann.request_reply(json!({"type": "subscribe", "channel": "一"})).await;
    let publish = json!({"type": "publish", "channel": "一", "data": "一次", "key": "9f2c"});
    let first = ann.request_reply(publish.clone()).await;
    let second = ann.request_reply(publish).await;
    assert_eq!((at(&first), first.get("duplicate")), (1, None));
    assert_eq!((at(&second), &second["duplicate"]), (1, &json!(true)));
    ann.request_reply(json!({"type": "publish", "channel": "一", "data": "二"})).await;
    assert_eq!(at(&ann.event().await), 1);
    assert_eq!(at(&ann.event().await), 2);
}

#[tokio::test]
async fn unsubscribing_is_immediate_and_pipelined() {
    let server = Server::start(config(""));
    let mut ann = server.session("").await;
    let mut bob = server.session("").await;
    // All requests at once; each is handled in its turn.
    for (id, kind) in [
        (1, "subscribe"),
        (2, "unsubscribe"),
        (3, "subscribe"),
        (4, "subscribe"),
        (5, "unsubscribe"),
        (6, "unsubscribe"),
    ] {
        ann.send(json!({"type": kind, "id": id, "channel": "一"})).await;
    }
    let mut answers: Vec<Value> = Vec::new();
    for _ in 0..6 {
        answers.push(ann.next().await);
    }
    answers.sort_by_key(|answer| answer["id"].as_u64());
    let codes: Vec<_> = answers.iter().map(|answer| answer["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(codes, ["ok", "ok", "ok", "already_subscribed", "ok", "not_subscribed"]);
    bob.request_reply(json!({"type": "publish", "channel": "一", "data": "没人"})).await;
    ann.request_reply(json!({"type": "subscribe", "channel": "一"})).await;
    bob.request_reply(json!({"type": "publish", "channel": "一", "data": "有人"})).await;
    assert_eq!(ann.event().await["data"], "有人");
}
