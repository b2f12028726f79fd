//! One channel as an event stream.

use longwire::Message;
use serde_json::json;

use crate::client::{Connection, Event};
use crate::server::Server;
use crate::wait_until;

fn event(id: &str, data: &str) -> Event {
    Event { id: id.into(), data: data.into(), ..Event::default() }
}

#[tokio::test]
async fn a_reconnecting_client_gets_each_message_once() {
    let server = Server::start("");
    let mut stream = server.events("/quotes.EUR", &[]).await;
    let open = stream.next().await;
    let first = server.publish("quotes.EUR", "一");
    assert_eq!(stream.next().await, event(&first, "一"));
    drop(stream);
    let missed: Vec<_> =
        ["二", "三 🌊"].into_iter().map(|text| (server.publish("quotes.EUR", text), text)).collect();
    // The position from Last-Event-ID, from the URL, and Last-Event-ID taking precedence.
    for (path, headers) in [
        ("/quotes.EUR".to_owned(), vec![("Last-Event-ID", &*first)]),
        (format!("/quotes.EUR?after={first}"), vec![]),
        (format!("/quotes.EUR?after={first}"), vec![("Last-Event-ID", "")]),
        (format!("/quotes.EUR?after={}", open.id), vec![("Last-Event-ID", &*first)]),
    ] {
        let mut again = server.events(&path, &headers).await;
        let open = again.next().await;
        assert_eq!((&*open.id, &*open.kind), (&*first, "open"), "{path} {headers:?}");
        assert_eq!(open.json(), json!({"position": first, "recovered": true}));
        for (position, text) in &missed {
            assert_eq!(again.next().await, event(position, text));
        }
        let live = server.publish("live", "");
        let mut other = server.events(&format!("/live?after={live}"), &[]).await;
        assert_eq!(other.next().await.json()["recovered"], true);
    }
    // A client that has received no message yet resumes at the opening position.
    let mut again = server.events("/quotes.EUR", &[("Last-Event-ID", &open.id)]).await;
    assert_eq!(again.next().await.id, open.id);
    assert_eq!(again.next().await, event(&first, "一"));
}

#[tokio::test]
async fn failed_resumption_is_reported() {
    let server = Server::start("[[channel]]\npattern = \"short\"\nhistory = { messages = 2 }\n");
    let first = server.publish("short", "1");
    let second = server.publish("short", "2");
    server.publish("short", "3");
    let last = server.publish("short", "4");
    // Everything after the second message is kept, but not after the first one.
    let mut stream = server.events(&format!("/short?after={second}"), &[]).await;
    assert_eq!(stream.next().await.json(), json!({"position": second, "recovered": true}));
    for lost in [first.as_str(), "000000000000-3", "ffffffffffff-18446744073709551615"] {
        let mut stream = server.events("/short", &[("Last-Event-ID", lost)]).await;
        let open = stream.next().await;
        assert_eq!(
            (open.json(), &*open.id),
            (json!({"position": last, "recovered": false}), &*last),
            "{lost}"
        );
    }
    // A position after the latest one is invalid.
    let beyond = format!("{}9", last);
    let mut stream = server.events(&format!("/short?after={beyond}"), &[]).await;
    assert_eq!(stream.next().await.json()["recovered"], false);
    let new = server.publish("short", "5");
    assert_eq!(stream.next().await, event(&new, "5"));
    for bad in ["x", "a-1", "%"] {
        let answer = server
            .ask("GET", "/short", &[("Accept", "text/event-stream"), ("Last-Event-ID", bad)], b"")
            .await;
        assert_eq!(answer.refusal(), (400, "bad_position".into()), "{bad}");
    }
}

#[tokio::test]
async fn a_channel_without_history_reaches_current_subscribers() {
    let server = Server::start("[[channel]]\npattern = \"off\"\nhistory = { messages = 0 }\n");
    let before = server.publish("off", "unheard");
    let mut stream = server.events("/off", &[]).await;
    assert_eq!(stream.next().await.id, before);
    // Larger than the history.
    let large = "大".repeat(400_000);
    for text in ["一", &*large, "", &*large, "二"] {
        let position = server.publish("off", text);
        assert_eq!(stream.next().await, event(&position, text));
    }
    let last = server.publish("off", "三");
    let mut poll = server.connection().await;
    poll.send("GET", &format!("/off?after={last}&wait=60"), &[], b"").await;
    server.publish("off", &*large);
    assert_eq!(poll.answer().await.good()["messages"][0]["data"], large);
    drop(stream);
    server.publish("off", "unheard");
    let lost = server.get(&format!("/off?after={before}")).await.good();
    assert_eq!(lost["recovered"], false);
}

#[tokio::test]
async fn lines_and_bytes_arrive_as_the_format_defines() {
    let server = Server::start("");
    let mut stream = server.events("/a", &[]).await;
    stream.next().await;
    for (text, arrives) in [
        ("a\nb", "a\nb"),
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("\n", "\n"),
        ("\n\nid: x\nevent: open\n", "\n\nid: x\nevent: open\n"),
        ("\r\n\r\ndata: x", "\n\ndata: x"),
        ("", ""),
        (" a  ", " a  "),
        (": a", ": a"),
        ("你好\u{2028}👋\u{85}", "你好\u{2028}👋\u{85}"),
    ] {
        let position = server.publish("a", text);
        assert_eq!(stream.next().await, event(&position, arrives), "{text:?}");
    }
    let position = server.publish("a", Message::from(vec![0_u8, 1, 2]));
    let binary = Event { kind: "binary".into(), ..event(&position, "AAEC") };
    assert_eq!(stream.next().await, binary);
}

#[tokio::test]
async fn a_slow_client_uses_little_memory_and_learns_about_gaps() {
    const TEXT: usize = 64 * 1024;
    let server =
        Server::start("[[channel]]\npattern = \"fast\"\nhistory = { messages = 8, bytes = \"16M\" }\n");
    let mut slow = Connection::narrow(server.port).await;
    slow.send("GET", "/fast", &[("Accept", "text/event-stream")], b"").await;
    assert_eq!(slow.head().await.status, 200);
    let open = slow.next().await;
    // Far more than the sockets can buffer.
    let text = "水".repeat(TEXT / 3);
    let mut last = String::new();
    for _ in 0..1000 {
        last = server.publish("fast", &*text);
        tokio::task::yield_now().await;
    }
    // The server keeps the history and the backlog of cursors, and nothing per client.
    assert!(server.realtime.hub().history_memory() < 16 << 20, "{}", server.realtime.hub().history_memory());
    let offset = |position: &str| {
        position.split_once('-').and_then(|(_, offset)| offset.parse::<u64>().ok()).expect("a position")
    };
    let (mut at, mut gaps, mut messages) = (offset(&open.id), 0, 0);
    while at < offset(&last) {
        let event = slow.next().await;
        if event.kind == "open" {
            assert_eq!(event.json(), json!({"position": event.id, "recovered": false}));
            assert!(offset(&event.id) > at);
            gaps += 1;
        } else {
            // No gap is unreported.
            assert_eq!((offset(&event.id), event.data.len()), (at + 1, text.len()));
            messages += 1;
        }
        at = offset(&event.id);
    }
    assert!(gaps >= 1 && messages < 900, "{gaps} {messages}");
    let next = server.publish("fast", "现在");
    assert_eq!(slow.next().await, event(&next, "现在"));
}

#[tokio::test]
async fn a_streaming_client_is_a_member_until_it_disconnects() {
    let server = Server::start("[limits.address]\nconnections = 3\n");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = server.events("/here", &[]).await;
        stream.next().await;
        streams.push(stream);
    }
    wait_until(|| server.present("here") == 3).await;
    let refused = server.get("/here").await;
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    assert!(refused.head.header("retry-after").is_some());
    // Without closing the streams properly.
    drop(streams);
    wait_until(|| server.present("here") == 0).await;
    server.get("/here").await.good();
}
