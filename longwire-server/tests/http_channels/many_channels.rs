//! Several channels in one request.

use serde_json::{Value, json};

use crate::server::Server;
use crate::wait_until;

#[tokio::test]
async fn each_channel_starts_with_its_position_or_error() {
    let server = Server::start("");
    let a = server.publish("a", "1");
    server.publish("a", "2");
    let head = server.publish("a", "三");
    let path = format!(
        "/-/events?channel=a&after={a}&channel=-/x&channel=b%20c&after=nonsense&channel=rooms/%E4%B8%80&channel=a&channel=b+c&channel=gone&after=000000000000-1"
    );
    let mut stream = server.events(&path, &[]).await;
    let mut events = Vec::new();
    for _ in 0..9 {
        events.push(stream.next().await.json());
    }
    assert_eq!(events[0], json!({"type": "subscribed", "channel": "a", "position": head, "recovered": true}));
    let errors: Vec<_> = [1, 2, 4]
        .into_iter()
        .map(|at| (events[at]["channel"].as_str(), events[at]["code"].as_str(), events[at]["type"].as_str()))
        .collect();
    assert_eq!(
        errors,
        [
            (Some("-/x"), Some("bad_channel"), Some("error")),
            (Some("b c"), Some("bad_position"), Some("error")),
            (Some("a"), Some("already_subscribed"), Some("error")),
        ]
    );
    assert_eq!((&events[3]["channel"], &events[5]["channel"]), (&json!("rooms/一"), &json!("b c")));
    assert_eq!((&events[6]["type"], &events[6]["recovered"]), (&json!("subscribed"), &json!(false)));
    assert_eq!((&events[7]["data"], &events[8]["data"]), (&json!("2"), &json!("三")));
    // Each channel keeps its order, whatever happens in between.
    for number in 0..20 {
        server.publish(if number % 2 == 0 { "rooms/一" } else { "b c" }, &*number.to_string());
    }
    let (mut even, mut odd) = (0, 1);
    for _ in 0..20 {
        let message = stream.next().await.json();
        let next = if message["channel"] == "b c" { &mut odd } else { &mut even };
        assert_eq!(message["data"], next.to_string());
        *next += 2;
    }
}

#[tokio::test]
async fn channels_are_bounded() {
    let server = Server::start("");
    let all = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("channel=c{number}")).collect();
        format!("/-/events?{}", names.join("&"))
    };
    let mut stream = server.events(&all(100), &[]).await;
    for number in 0..100 {
        assert_eq!(stream.next().await.json()["channel"], format!("c{number}"));
    }
    for number in [99, 0, 50] {
        server.publish(&format!("c{number}"), "在");
        assert_eq!(stream.next().await.json()["channel"], format!("c{number}"));
    }
    assert_eq!(server.get(&all(101)).await.refusal(), (400, "too_many".into()));
    assert_eq!(server.get("/-/events").await.refusal(), (400, "bad_request".into()));
    assert_eq!(server.get("/-/events?after=x&channel=a").await.refusal(), (400, "bad_request".into()));
}

#[tokio::test]
async fn a_poll_of_many_channels_waits_for_a_message() {
    let server = Server::start("");
    let (a, b) = (server.publish("a", "1"), server.publish("b", "1"));
    let path = format!("/-/events?wait=60&channel=a&after={a}&channel=b&after={b}");
    let mut poll = server.connection().await;
    poll.send("GET", &path, &[], b"").await;
    let head = server.publish("b", "二");
    let events = poll.answer().await.good();
    let subscribed = |channel: &str, position: &str| json!({"type": "subscribed", "channel": channel, "position": position, "recovered": true});
    let events: &Value = &events["events"];
    assert_eq!(events[0], subscribed("a", &a));
    assert_eq!(events[2], json!({"type": "message", "channel": "b", "position": head, "data": "二"}));
    // A rejected channel is reported next to the others; if it is the only one, there is nothing to wait for.
    let events = server.get("/-/events?wait=60&channel=-/x").await.good();
    assert_eq!(events["events"][0]["code"], "bad_channel");
    let events = server.get("/-/events?wait=60&channel=a&after=000000000000-1").await.good();
    assert_eq!(
        events["events"],
        json!([{"type": "subscribed", "channel": "a", "position": a, "recovered": false}])
    );
    // A polling client is not a member, but may query the members.
    let events = server.get("/-/events?channel=a&presence=1").await.good();
    assert_eq!(events["events"][0]["presence"], json!({"count": 0}));
}

#[tokio::test]
async fn presence_changes_are_reported() {
    let server = Server::start(&crate::access::rules());
    let path = |user: &str| {
        format!("/-/events?channel=open.a&presence=1&token={}", crate::access::token(user, 3600))
    };
    let mut ann = server.events(&path("ann"), &[]).await;
    let subscribed = ann.next().await.json();
    assert_eq!(subscribed["presence"]["count"], 0);
    let change = ann.next().await.json();
    assert_eq!(change, json!({"type": "presence", "channel": "open.a", "count": 1, "joined": ["ann"]}));
    let mut bob = server.events(&path("bob"), &[]).await;
    assert_eq!(bob.next().await.json()["presence"]["count"], 1);
    for stream in [&mut ann, &mut bob] {
        assert_eq!(
            stream.next().await.json(),
            json!({"type": "presence", "channel": "open.a", "count": 2, "joined": ["bob"]})
        );
    }
    let bearer = format!("Bearer {}", crate::access::token("ann", 3600));
    let headers = [("Authorization", &*bearer)];
    let present = server.ask("POST", "/-/presence", &headers, br#"{"channel":"open.a"}"#).await.good();
    assert_eq!(present["count"], 2);
    let polled = server.ask("GET", "/-/events?channel=open.a&presence=1", &headers, b"").await.good();
    assert_eq!(polled["events"][0]["presence"], present);
    drop(bob);
    assert_eq!(
        ann.next().await.json(),
        json!({"type": "presence", "channel": "open.a", "count": 1, "left": ["bob"]})
    );
    drop(ann);
    wait_until(|| server.present("open.a") == 0).await;
}
