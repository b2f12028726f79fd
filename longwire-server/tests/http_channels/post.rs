//! Publishing by POST.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::server::Server;

#[tokio::test]
async fn the_content_type_determines_text() {
    let server = Server::start("");
    let mut stream = server.events("/-/events?channel=a", &[]).await;
    stream.next().await;
    for (kind, body, expected) in [
        (Some("text/plain; charset=utf-8"), "你好 👋".as_bytes(), Some(json!({"data": "你好 👋"}))),
        (Some("application/json"), br#"{"a":1}"#, Some(json!({"data": "{\"a\":1}"}))),
        (Some("application/x-www-form-urlencoded"), b"a=b", Some(json!({"data": "a=b"}))),
        (Some("image/png"), b"\x89PNG", Some(json!({"base64": "iVBORw=="}))),
        (None, b"x", Some(json!({"base64": "eA=="}))),
        (Some("text/plain"), b"", Some(json!({"data": ""}))),
        (Some("text/plain"), b"\xff", None),
        (Some("application/json"), b"\xed\xa0\x80", None),
    ] {
        let headers: Vec<_> = kind.map(|kind| ("Content-Type", kind)).into_iter().collect();
        let answer = server.ask("POST", "/a", &headers, body).await;
        let Some(expected) = expected else {
            assert_eq!(answer.refusal(), (400, "bad_request".into()), "{kind:?}");
            continue;
        };
        let (position, mut event) = (answer.good()["position"].clone(), stream.next().await.json());
        assert_eq!(event["position"], position);
        for field in ["type", "channel", "position"] {
            event.as_object_mut().expect("an object").remove(field);
        }
        assert_eq!(event, expected, "{kind:?}");
    }
    let coded = server.ask("POST", "/a", &[("Content-Encoding", "gzip")], b"x").await;
    assert_eq!(coded.head.status, 415);
    server.ask("POST", "/a", &[("Content-Encoding", "identity")], b"x").await.good();
}

#[tokio::test]
async fn a_key_publishes_once() {
    let server = Server::start("");
    let key = "k".repeat(64);
    let headers = [("Idempotency-Key", &*key)];
    let first = server.ask("POST", "/a", &headers, b"x").await.good();
    assert_eq!(first.get("duplicate"), None);
    let again = server.ask("POST", "/a", &headers, b"x").await.good();
    assert_eq!(again, json!({"position": first["position"], "duplicate": true}));
    // The same key over another endpoint.
    let batch = json!({"messages": [{"channel": "a", "data": "x", "key": key}, {"channel": "b", "data": "x", "key": key}]});
    let results = server.post("/-/publish", &batch).await.good();
    assert_eq!((&results["results"][0], &results["results"][1]["duplicate"]), (&again, &Value::Null));
    for bad in ["k".repeat(65), String::new()] {
        let refused = server.ask("POST", "/a", &[("Idempotency-Key", &bad)], b"x").await;
        assert_eq!(refused.refusal(), (400, "bad_request".into()), "{bad}");
    }
}

#[tokio::test]
async fn a_body_is_bounded_by_the_largest_message() {
    let server = Server::start("max_message = \"4K\"\n[[channel]]\npattern = \"small\"\nmax_message = 10\n");
    server.ask("POST", "/small", &[], &[b'x'; 10]).await.good();
    server.ask("POST", "/a", &[], &[b'x'; 4096]).await.good();
    for (path, size) in [("/small", 11), ("/a", 4097)] {
        // It is rejected by its declared length, before the body arrives.
        let mut connection = server.connection().await;
        connection.send("POST", path, &[("Content-Length", &size.to_string())], b"").await;
        assert_eq!(crate::in_time(connection.answer()).await.refusal(), (413, "too_large".into()), "{path}");
        // Without a declared length, it is rejected as soon as it is too large.
        let mut connection = server.connection().await;
        connection.send("POST", path, &[("Transfer-Encoding", "chunked"), ("Content-Length", "")], b"").await;
        drop(connection);
        let mut connection = server.connection().await;
        connection
            .write(
                format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        connection.write(format!("{size:x}\r\n").as_bytes()).await;
        connection.write(&vec![b'x'; size]).await;
        assert_eq!(crate::in_time(connection.answer()).await.refusal(), (413, "too_large".into()), "{path}");
    }
    // Chunks within the limit are joined.
    let mut connection = server.connection().await;
    connection.write(b"POST /small HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\xe4\xbd\xa0\xe5\r\n").await;
    connection.write(b"2\r\n\xa5\xbd\r\n0\r\n\r\n").await;
    let position = connection.answer().await.good()["position"].clone();
    let page = server.post("/-/history", &json!({"channel": "small"})).await.good();
    assert_eq!((&page["messages"][1]["data"], &page["messages"][1]["position"]), (&json!("你好"), &position));
}

#[tokio::test]
async fn a_batch_has_a_result_per_message() {
    let server =
        Server::start("max_message = \"4K\"\n[[channel]]\npattern = \"quiet\"\npublish = \"nobody\"\n");
    let batch = json!({"messages": [
        {"channel": "rooms/一", "data": "你好"},
        {"channel": "quiet", "data": "x"},
        {"channel": "-/x", "data": "x"},
        {"channel": "rooms/一", "base64": "AAEC"},
        {"channel": "rooms/一", "base64": "!"},
        {"channel": "rooms/一"},
        {"channel": "rooms/一", "data": "x", "base64": "AAEC"},
        {"data": "x"},
        {"channel": "rooms/一", "data": "x".repeat(4097)},
        {"channel": "rooms/一", "data": "x".repeat(4096)},
    ]});
    let results = server.post("/-/publish", &batch).await.good();
    let outcomes: Vec<_> = results["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|one| {
            one["error"]["code"]
                .as_str()
                .or_else(|| one["position"].as_str().and_then(|position| position.rsplit('-').next()))
                .expect("an outcome")
                .to_owned()
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "1",
            "forbidden",
            "bad_channel",
            "2",
            "bad_request",
            "bad_request",
            "bad_request",
            "bad_request",
            "too_large",
            "3"
        ]
    );
    for bad in ["", "[]", "{}", "{\"messages\":1}", "\u{feff}{\"messages\":[]}"] {
        let refused = server.ask("POST", "/-/publish", &[], bad.as_bytes()).await;
        assert_eq!(refused.refusal(), (400, "bad_request".into()), "{bad}");
    }
    let of = |count| json!({"messages": vec![json!({"channel": "a", "data": ""}); count]});
    assert_eq!(
        server.post("/-/publish", &of(1000)).await.good()["results"].as_array().map(Vec::len),
        Some(1000)
    );
    assert_eq!(server.post("/-/publish", &of(1001)).await.refusal(), (400, "too_many".into()));
    assert_eq!(server.post("/-/publish", &of(0)).await.good(), json!({"results": []}));
    // 16 times the largest message, and one byte more.
    let padded = |length: usize| {
        let text = of(1).to_string();
        text.clone() + &" ".repeat(length - text.len())
    };
    server.ask("POST", "/-/publish", &[], padded(16 * 4096).as_bytes()).await.good();
    let refused = server.ask("POST", "/-/publish", &[], padded(16 * 4096 + 1).as_bytes()).await;
    assert_eq!(refused.refusal(), (413, "too_large".into()));
}

#[tokio::test]
async fn history_is_returned_in_pages() {
    let server = Server::start("");
    let positions: Vec<_> =
        (0..5).map(|number| server.publish("rooms/一", &*format!("{number} 👋"))).collect();
    let page = server.post("/-/history", &json!({"channel": "rooms/一", "limit": 2})).await.good();
    assert_eq!(
        (&page["recovered"], &page["more"], &page["position"]),
        (&json!(true), &json!(true), &json!(positions[4]))
    );
    assert_eq!(
        (&page["messages"][1]["position"], &page["messages"][1]["data"]),
        (&json!(positions[1]), &json!("1 👋"))
    );
    assert!(page["messages"][0]["time"].as_u64() > Some(1_700_000_000_000));
    let page = server
        .post("/-/history", &json!({"channel": "rooms/一", "after": positions[1], "limit": 1000}))
        .await
        .good();
    assert_eq!((page["messages"].as_array().map(Vec::len), &page["more"]), (Some(3), &json!(false)));
    for (body, code) in [
        (json!({}), "bad_request"),
        (json!({"channel": "a", "limit": 0}), "bad_request"),
        (json!({"channel": "a", "limit": 1001}), "bad_request"),
        (json!({"channel": "a", "after": "x"}), "bad_position"),
        (json!({"channel": "a//b"}), "bad_channel"),
    ] {
        assert_eq!(server.post("/-/history", &body).await.refusal(), (400, code.into()), "{body}");
    }
    // 4096 bytes, and one more.
    let padded = |length: usize| format!("{:length$}", json!({"channel": "a"}).to_string());
    server.ask("POST", "/-/presence", &[], padded(4096).as_bytes()).await.good();
    let refused = server.ask("POST", "/-/presence", &[], padded(4097).as_bytes()).await;
    assert_eq!(refused.refusal(), (413, "too_large".into()));
}

#[tokio::test]
async fn an_incomplete_body_publishes_nothing() {
    let server = Server::start("");
    let mut connection = server.connection().await;
    connection.send("POST", "/a", &[("Content-Length", "10")], b"half").await;
    connection.stream.shutdown().await.expect("shut");
    connection.ends().await;
    assert!(server.get("/a").await.good()["position"].as_str().expect("a position").ends_with("-0"));
}
