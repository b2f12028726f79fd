//! Messages published over any transport arrive over all others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longwire::{Message, WebSocket};
use serde_json::{Value, json};

use crate::client::Connection;
use crate::in_time;
use crate::server::{Server, Session};

const CHANNEL: &str = "rooms/一";
const PATH: &str = "/rooms/%E4%B8%80";

/// One subscriber per transport.
struct Subscribers {
    raw: WebSocket,
    session: Session,
    stream: Connection,
    events: Connection,
    /// The position of the polling client.
    position: String,
}

/// Returns a payload as its JSON field.
fn payload(message: &Message) -> (&'static str, String) {
    match message.as_text() {
        Some(text) => ("data", text.to_owned()),
        None => ("base64", STANDARD.encode(message.as_bytes())),
    }
}

impl Subscribers {
    async fn new(server: &Server) -> Self {
        let mut session = server.session().await;
        session.subscribe(CHANNEL).await;
        let mut stream = server.events(PATH, &[]).await;
        let open = stream.next().await;
        assert_eq!(open.kind, "open");
        assert_eq!(open.json(), json!({"position": open.id}));
        let mut events = server.events("/-/events?channel=rooms/%E4%B8%80", &[]).await;
        let subscribed = events.next().await;
        assert_eq!((&*subscribed.kind, &*subscribed.id), ("", ""));
        assert_eq!(subscribed.json(), json!({"type": "subscribed", "channel": CHANNEL, "position": open.id}));
        let polled = server.get(PATH).await.good();
        assert_eq!(polled, json!({"position": open.id, "messages": []}));
        Self { raw: server.raw(PATH).await, session, stream, events, position: open.id }
    }

    /// Checks that each subscriber receives this message over its transport.
    async fn receive(&mut self, server: &Server, message: &Message) {
        let heard = in_time(self.raw.recv()).await.expect("open").expect("open");
        assert_eq!(heard, *message);

        let polled = server.get(&format!("{PATH}?after={}&wait=25", self.position)).await.good();
        let many = format!("/-/events?wait=25&channel=rooms/%E4%B8%80&after={}", self.position);
        let many = server.get(&many).await.good();
        let (key, value) = payload(message);
        let position = polled["position"].as_str().expect("a position").to_owned();
        assert_eq!(
            polled,
            json!({
                "position": position,
                "recovered": true,
                "messages": [{"position": position, key: value}],
            })
        );
        let told = json!({"type": "message", "channel": CHANNEL, "position": position, key: value});
        let first =
            json!({"type": "subscribed", "channel": CHANNEL, "position": position, "recovered": true});
        assert_eq!(many, json!({"events": [first, told]}));
        assert_eq!(self.session.receive().await, told);
        assert_eq!(self.events.next().await.json(), told);
        let event = self.stream.next().await;
        let kind = if message.as_text().is_some() { "" } else { "binary" };
        assert_eq!((&*event.id, &*event.kind, event.data), (&*position, kind, value));
        self.position = position;
    }
}

#[tokio::test]
async fn messages_pass_between_all_transports() {
    let server = Server::start("");
    let mut subscribers = Subscribers::new(&server).await;
    let mut raw = server.raw(PATH).await;
    let mut session = server.session().await;
    for message in [
        Message::from("你好 👋"),
        Message::from(vec![0_u8, 1, 2, 255]),
        Message::from(""),
        Message::from("\"\\\u{1}\u{2028}"),
    ] {
        raw.send(message.clone()).await.expect("sent");
        subscribers.receive(&server, &message).await;
        // A raw publisher does not receive its own message, but all others below.
        let (key, value) = payload(&message);
        session.publish(json!({"type": "publish", "id": 7, "channel": CHANNEL, key: value})).await;
        let answer = session.receive().await;
        subscribers.receive(&server, &message).await;
        assert_eq!(answer, json!({"type": "ok", "id": 7, "position": subscribers.position}));

        let kind = if message.as_text().is_some() { "text/plain" } else { "application/octet-stream" };
        let answer = server.ask("POST", PATH, &[("Content-Type", kind)], message.as_bytes()).await.good();
        subscribers.receive(&server, &message).await;
        assert_eq!(answer, json!({"position": subscribers.position}));

        let batch = json!({"messages": [{"channel": CHANNEL, key: value}]});
        let answer = server.post("/-/publish", &batch).await.good();
        subscribers.receive(&server, &message).await;
        assert_eq!(answer, json!({"results": [{"position": subscribers.position}]}));

        server.publish(CHANNEL, message.clone());
        subscribers.receive(&server, &message).await;

        for _ in 0..4 {
            let heard = in_time(raw.recv()).await.expect("open").expect("open");
            assert_eq!(heard.as_bytes(), message.as_bytes());
        }
    }
    let page: Value = server.post("/-/history", &json!({"channel": CHANNEL})).await.good();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(20));
    assert_eq!(
        (&page["position"], &page["recovered"], &page["more"]),
        (&json!(subscribers.position), &json!(true), &json!(false))
    );
}

#[tokio::test]
async fn messages_name_the_publisher() {
    let server = Server::start(&crate::access::rules());
    let token = crate::access::token("ann", 3600);
    let bearer = format!("Bearer {token}");
    let mut stream = server.events(&format!("/-/events?channel=open.a&token={token}"), &[]).await;
    stream.next().await;
    let answer = server.ask("POST", "/open.a", &[("Authorization", &bearer)], b"x").await.good();
    let told = json!({"type": "message", "channel": "open.a", "position": answer["position"], "base64": "eA==", "user": "ann"});
    assert_eq!(stream.next().await.json(), told);
    let path =
        format!("/open.a?after={}0", answer["position"].as_str().expect("a position").trim_end_matches('1'));
    let polled = server.ask("GET", &path, &[("Authorization", &bearer)], b"").await.good();
    assert_eq!(polled["messages"][0]["user"], "ann");
}
