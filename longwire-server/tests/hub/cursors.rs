//! Cursors: reading, waiting, and gaps.

use std::time::Duration;

use longwire_server::hub::{
    Batch, CURSOR_BACKLOG, ChannelOptions, Cursor, History, Limits, Position, PublishOptions,
};

use super::{at, hub, hub_within, name, publish, texts};

fn read(cursor: &mut Cursor, limit: usize, now: u64) -> Vec<String> {
    match cursor.read(limit, at(now)).expect("a batch") {
        Batch::Messages(messages) => texts(&messages).into_iter().map(str::to_owned).collect(),
        Batch::Nothing => Vec::new(),
        Batch::Gap(to) => vec![format!("gap to {}", to.offset)],
    }
}

#[tokio::test]
async fn it_is_woken_and_reads_in_batches() {
    let (hub, room) = (hub(ChannelOptions::default()), name("room"));
    let mut cursor = hub.cursor(&room, None, at(0)).expect("a cursor");
    assert_eq!(read(&mut cursor, 2, 0), [""; 0]);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        while all.len() < 5 {
            cursor.changed().await;
            let batch = read(&mut cursor, 2, 0);
            assert!((1..=2).contains(&batch.len()));
            all.extend(batch);
        }
        all
    });
    for n in 0..5 {
        publish(&hub, &room, &format!("第{n}"), at(0));
        tokio::task::yield_now().await;
    }
    let all = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("in time").expect("read");
    assert_eq!(all, ["第0", "第1", "第2", "第3", "第4"]);
}

#[tokio::test]
async fn waiting_ends_only_with_new_messages() {
    let (hub, room) = (hub(ChannelOptions::default()), name("room"));
    let mut cursor = hub.cursor(&room, None, at(0)).expect("a cursor");
    for text in ["one", "two"] {
        publish(&hub, &room, text, at(0));
    }
    assert_eq!(read(&mut cursor, 1, 0), ["one"]);
    cursor.changed().await;
    assert_eq!(read(&mut cursor, 1, 0), ["two"]);
    let waited = tokio::time::timeout(Duration::from_millis(20), cursor.changed()).await;
    assert!(waited.is_err(), "there is nothing");
}

#[test]
fn a_cursor_without_history_has_exactly_its_backlog() {
    let off = ChannelOptions { history: History::OFF, ..ChannelOptions::default() };
    let (hub, room) = (hub(off), name("room"));
    publish(&hub, &room, "unseen", at(0));
    let mut cursor = hub.cursor(&room, None, at(0)).expect("a cursor");
    for n in 0..CURSOR_BACKLOG.messages {
        publish(&hub, &room, &n.to_string(), at(0));
    }
    assert_eq!(read(&mut cursor, 1, 0), ["0"]);
    let mut late =
        hub.cursor(&room, Some(Position { offset: 1, ..cursor.position() }), at(0)).expect("a cursor");
    publish(&hub, &room, "one more", at(0));
    // Its next message, 1, is still kept; the one before is not.
    assert_eq!(read(&mut cursor, 1, 0), ["1"]);
    assert_eq!(read(&mut late, 1, 0), ["gap to 130"]);
    assert_eq!(read(&mut late, 1, 0), [""; 0]);

    let age = u64::try_from(CURSOR_BACKLOG.age.as_millis()).expect("small");
    assert_eq!(read(&mut cursor, 1, age - 1), ["2"]);
    assert_eq!(read(&mut cursor, 1, age), ["gap to 130"]);

    drop((cursor, late));
    publish(&hub, &room, "unseen", at(age));
    assert_eq!(hub.history(&room, None, 10, at(age)).expect("a page").messages, []);
}

#[test]
fn the_backlog_is_bounded_in_bytes() {
    let off = ChannelOptions { history: History::OFF, ..ChannelOptions::default() };
    let (hub, room) = (hub(off), name("room"));
    let mut cursor = hub.cursor(&room, None, at(0)).expect("a cursor");
    let mut late = hub.cursor(&room, None, at(0)).expect("a cursor");
    let most = "x".repeat(CURSOR_BACKLOG.bytes - 1);
    publish(&hub, &room, &most, at(0));
    publish(&hub, &room, "y", at(0));
    assert_eq!(read(&mut cursor, 9, 0), [&most, "y"]);
    publish(&hub, &room, "z", at(0));
    assert_eq!((read(&mut cursor, 9, 0), read(&mut late, 9, 0)), (vec!["z".into()], vec!["gap to 3".into()]));
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let limits = Limits { replay_bytes: 10, ..Limits::default() };
    let (hub, room) = (hub_within(limits, ChannelOptions::default()), name("room"));
    let mut cursor = hub.cursor(&room, None, at(0)).expect("a cursor");
    for text in ["12345", "12345", "1", "larger than all"] {
        publish(&hub, &room, text, at(0));
    }
    assert_eq!(read(&mut cursor, 9, 0), ["12345", "12345"]);
    assert_eq!(read(&mut cursor, 9, 0), ["1"]);
    assert_eq!(read(&mut cursor, 9, 0), ["larger than all"]);
    assert_eq!(read(&mut cursor, 9, 0), [""; 0]);
}

#[test]
fn a_cursor_keeps_its_channel() {
    let (hub, room) = (hub(ChannelOptions::default()), name("room"));
    let mut cursor = hub.cursor(&room, None, at(0)).expect("a cursor");
    for minute in 0..100 {
        hub.tick(at(minute * 60_000)).expect("upkeep");
    }
    hub.publish(&room, "你好".into(), PublishOptions::at(at(6_000_000)), &mut |_| ()).expect("published");
    assert_eq!(read(&mut cursor, 1, 6_000_000), ["你好"]);
    drop(cursor);
    for minute in 101..110 {
        for _ in 0..100 {
            hub.tick(at(minute * 60_000)).expect("upkeep");
        }
    }
    assert_eq!(hub.channels(), 0);
}
