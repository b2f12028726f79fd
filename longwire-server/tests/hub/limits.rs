//! Each limit of the hub, reached and exceeded.

use longwire_server::hub::{
    ChannelOptions, History, Hub, HubError, InvalidName, Keys, Limits, MESSAGE_COST, PublishOptions,
    PublishReceipt, Recovery,
};

use super::{at, hub, hub_within, name, publish, seconds, texts};

fn keeping(history: History) -> Hub {
    hub(ChannelOptions { history, ..ChannelOptions::default() })
}

fn kept(hub: &Hub, now: u64) -> usize {
    hub.history(&name("room"), None, 1000, at(now)).expect("a page").messages.len()
}

fn keyed(hub: &Hub, key: &str, now: u64) -> PublishReceipt {
    let how = PublishOptions { from: None, key: Some(key), now: at(now) };
    hub.publish(&name("room"), "text".into(), how, &mut |_| ()).expect("published")
}

#[test]
fn a_history_is_bounded_in_messages_bytes_and_age() {
    let room = name("room");
    let wide = History { messages: 100, bytes: 1000, age: seconds(100) };
    let hub = keeping(History { messages: 3, ..wide });
    for (n, keeps) in [1, 2, 3, 3].into_iter().enumerate() {
        publish(&hub, &room, &n.to_string(), at(0));
        assert_eq!(kept(&hub, 0), keeps);
    }
    let hub = keeping(History { bytes: 9, ..wide });
    for (text, keeps) in [("1234", 1), ("12345", 2), ("1", 2), ("123456789", 1), ("", 2), ("1234567890", 0)] {
        publish(&hub, &room, text, at(0));
        assert_eq!(kept(&hub, 0), keeps, "{text}");
    }
    let hub = keeping(wide);
    publish(&hub, &room, "old", at(0));
    publish(&hub, &room, "new", at(1));
    assert_eq!((kept(&hub, 99_999), kept(&hub, 100_000), kept(&hub, 100_001)), (2, 1, 0));
}

#[test]
fn the_latest_messages_are_limited() {
    let limits = Limits { replay_messages: 4, replay_bytes: 7, ..Limits::default() };
    let history = History { messages: 5, bytes: 1000, age: seconds(100) };
    let (hub, room) =
        (hub_within(limits, ChannelOptions { history, ..ChannelOptions::default() }), name("room"));
    assert_eq!(hub.latest(&room, 9, at(0)).expect("a page").position, None);
    for text in ["一", "二", "3", "4", "5", "6"] {
        publish(&hub, &room, text, at(0));
    }
    let latest = |limit| {
        let page = hub.latest(&room, limit, at(0)).expect("a page");
        assert!(page.recovered);
        (texts(&page.messages).concat(), page.more)
    };
    assert_eq!(latest(0), (String::new(), false));
    assert_eq!(latest(2), ("56".into(), false));
    assert_eq!(latest(4), ("3456".into(), false));
    // Five are kept, and a page has four.
    assert_eq!(latest(5), ("二345".into(), true));
    assert_eq!(latest(9), ("二345".into(), true));
    publish(&hub, &room, "1234567", at(0));
    assert_eq!(latest(1), ("1234567".into(), false));
    assert_eq!(latest(2), ("6".into(), true));
}

#[test]
fn keys_are_bounded_in_number_and_age() {
    let keys = Keys { count: 2, window: seconds(10) };
    let hub = hub(ChannelOptions { keys, ..ChannelOptions::default() });
    let first = keyed(&hub, "a", 0);
    assert!(!first.duplicate);
    keyed(&hub, "b", 5000);
    assert_eq!(keyed(&hub, "a", 9999), PublishReceipt { duplicate: true, ..first });
    assert!(!keyed(&hub, "a", 10_000).duplicate);
    assert!(keyed(&hub, "b", 10_000).duplicate);
    assert!(!keyed(&hub, "c", 10_000).duplicate);
    // The third has replaced another one.
    assert!(keyed(&hub, "a", 10_000).duplicate);
    assert!(!keyed(&hub, "b", 10_000).duplicate);

    let refuse = |key: &str| {
        let how = PublishOptions { from: None, key: Some(key), now: at(0) };
        match hub.publish(&name("room"), "".into(), how, &mut |_| panic!("delivered")) {
            Err(HubError::Key(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refuse(""), InvalidName::Empty);
    assert_eq!(refuse(&"k".repeat(256)), InvalidName::TooLong(256));
    assert_eq!(refuse("a\0"), InvalidName::Control(1));
    assert!(!keyed(&hub, &"k".repeat(255), 10_000).duplicate);
}

#[test]
fn keys_are_bounded_over_all_channels() {
    let hub = hub_within(Limits { keys: 2, ..Limits::default() }, ChannelOptions::default());
    let (room, window) = (name("other"), ChannelOptions::default().keys.window);
    keyed(&hub, "a", 0);
    keyed(&hub, "b", 1);
    let how = |now| PublishOptions { from: None, key: Some("c"), now };
    let refused = hub.publish(&room, "text".into(), how(at(2)), &mut |_| panic!("delivered"));
    assert!(matches!(refused, Err(HubError::TooManyKeys(2))), "{refused:?}");
    // Known keys are still known, and messages without a key are accepted.
    assert!(keyed(&hub, "a", 2).duplicate);
    publish(&hub, &room, "text", at(2));
    // Expired keys make room for new ones.
    (0..256).for_each(|_| hub.tick(at(0).after(window)).expect("upkeep"));
    hub.publish(&room, "text".into(), how(at(0).after(window)), &mut |_| ()).expect("published");
}

#[test]
fn a_replay_is_bounded_in_messages_and_bytes() {
    let limits = Limits { replay_messages: 3, replay_bytes: 20, ..Limits::default() };
    let (hub, room) = (hub_within(limits, ChannelOptions::default()), name("room"));
    let (_it, mut start) =
        hub.subscribe(&room, None, None, at(0), |first| first.position).expect("subscribed");
    let missed = |after| {
        let (_it, recovery) =
            hub.subscribe(&room, None, Some(after), at(0), |first| first.recovery).expect("subscribed");
        match recovery {
            Recovery::Complete(messages) => Some(messages.len()),
            _ => None,
        }
    };
    for _ in 0..3 {
        publish(&hub, &room, "1", at(0));
    }
    assert_eq!(missed(start), Some(3));
    publish(&hub, &room, "1", at(0));
    assert_eq!(missed(start), None);
    let page = hub.history(&room, Some(start), 1000, at(0)).expect("a page");
    assert_eq!((page.messages.len(), page.more, page.recovered), (3, true, true));

    start.offset = 4;
    publish(&hub, &room, &"x".repeat(10), at(0));
    publish(&hub, &room, &"x".repeat(10), at(0));
    assert_eq!(missed(start), Some(2));
    publish(&hub, &room, "1", at(0));
    assert_eq!(missed(start), None);
}

#[test]
fn the_least_recently_used_histories_are_evicted() {
    let cost = |text: &str| text.len() + MESSAGE_COST;
    let budget = 10 * cost("1234");
    let hub = hub_within(Limits { history_memory: budget, ..Limits::default() }, ChannelOptions::default());
    let rooms: Vec<_> = (0..10).map(|n| name(&format!("room {n}"))).collect();
    let first: Vec<_> = (0..10).map(|n| publish(&hub, &rooms[n], "1234", at(n as u64))).collect();
    assert_eq!(hub.history_memory(), budget);
    let count =
        |hub: &Hub, n: usize, now| hub.history(&rooms[n], None, 9, at(now)).expect("a page").messages.len();
    // Reading counts as use. The limit is reached, but nothing is evicted.
    assert_eq!(count(&hub, 0, 10), 1);
    let (_it, recovery) =
        hub.subscribe(&rooms[1], None, Some(first[1]), at(11), |first| first.recovery).expect("subscribed");
    assert_eq!(recovery, Recovery::Complete(Vec::new()));
    publish(&hub, &rooms[9], "", at(12));
    assert!(hub.history_memory() <= budget);
    // Evicting one would reach the limit, but a margin is kept.
    let left: Vec<_> = (0..10).map(|n| count(&hub, n, 13)).collect();
    assert_eq!(left, [1, 1, 0, 0, 1, 1, 1, 1, 1, 2]);

    // Gaps are reported: nothing was missed after the latest message, and earlier ones are lost.
    let recovered = |offset| {
        let after = longwire_server::hub::Position { offset, ..first[2] };
        hub.history(&rooms[2], Some(after), 9, at(13)).expect("a page").recovered
    };
    assert!(recovered(1) && !recovered(0));
    assert_eq!(publish(&hub, &rooms[2], "again", at(14)).offset, 2);
}

#[test]
fn channels_are_bounded_and_dropped_when_empty() {
    let limits = Limits { channels: 2, ..Limits::default() };
    let history = History { messages: 9, bytes: 9, age: seconds(90) };
    let options = ChannelOptions { history, ..ChannelOptions::default() };
    let hub = hub_within(limits, options);
    let (kept, held) = (name("kept"), name("held"));
    let position = publish(&hub, &kept, "text", at(0));
    let (subscription, ()) = hub.subscribe(&held, None, None, at(0), drop).expect("subscribed");
    assert_eq!(hub.history(&name("third"), None, 9, at(0)).expect("a page").position, None);
    let refused =
        hub.publish(&name("third"), "".into(), PublishOptions::at(at(0)), &mut |_| panic!("delivered"));
    assert!(matches!(refused, Err(HubError::TooManyChannels(2))), "{refused:?}");
    let refused = hub.subscribe(&name("third"), None, None, at(0), |_| panic!("seated"));
    assert!(matches!(refused, Err(HubError::TooManyChannels(2))), "{refused:?}");

    // Each round checks every channel.
    let round = |now| (0..256).for_each(|_| hub.tick(at(now)).expect("upkeep"));
    round(89_999);
    assert_eq!(hub.channels(), 2);
    assert!(hub.history(&kept, Some(position), 9, at(89_999)).expect("a page").recovered);
    // It has expired, but was used recently.
    round(90_000);
    assert_eq!((hub.channels(), hub.history_memory()), (2, 0));
    round(89_999 + 59_999);
    assert_eq!(hub.channels(), 2);
    round(89_999 + 60_000);
    assert_eq!(hub.channels(), 1);
    assert!(!hub.history(&kept, Some(position), 9, at(150_000)).expect("a page").recovered);

    drop(subscription);
    hub.take_presence_changes(at(150_000), &mut |_, _| ());
    round(300_000);
    assert_eq!(hub.channels(), 1, "its presence was not told of yet");
    hub.take_presence_changes(at(300_000), &mut |_, change| assert_eq!(change.counts.connections, 0));
    round(300_000);
    assert_eq!(hub.channels(), 0);
    assert_ne!(publish(&hub, &kept, "text", at(300_000)).epoch, position.epoch);
}

#[test]
fn a_panicking_callback_leaves_the_hub_consistent() {
    let (hub, room) = (hub(ChannelOptions::default()), name("room"));
    let panics = |act: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err();
    assert!(panics(&|| {
        let _ = hub.publish(&room, "one".into(), PublishOptions::at(at(0)), &mut |_| panic!("on purpose"));
    }));
    assert!(panics(&|| {
        let _ = hub.subscribe(&room, None, None, at(0), |_| panic!("on purpose"));
    }));
    assert_eq!(publish(&hub, &room, "two", at(0)).offset, 2);
    assert_eq!(hub.history_memory(), 2 * (3 + MESSAGE_COST));
    assert_eq!(texts(&hub.history(&room, None, 9, at(0)).expect("a page").messages), ["one", "two"]);
    hub.take_presence_changes(at(0), &mut |_, _| ());
    hub.take_presence_changes(at(1000), &mut |_, _| panic!("nobody is there, and nobody was told of"));
    assert_eq!(hub.presence(&room), None);
}

#[test]
fn a_channels_time_does_not_go_back() {
    let hub = keeping(History { messages: 9, bytes: 99, age: seconds(10) });
    publish(&hub, &name("room"), "later", at(20_000));
    publish(&hub, &name("room"), "earlier", at(0));
    let page = hub.history(&name("room"), None, 9, at(5)).expect("a page");
    assert_eq!(page.messages.iter().map(|published| published.at).collect::<Vec<_>>(), [at(20_000); 2]);
}
