//! Topics: which messages a subscriber gets, and in which order.

use std::collections::HashMap;

use longwire::engine::SlowConsumer;

use crate::host::{Host, House, wait_for};
use crate::raw::Raw;

#[test]
fn who_publishes_does_not_hear_itself() {
    let house = House::new(Host::new());
    let (mut a, mut b) = (Raw::open(house.address(), "/a"), Raw::open(house.address(), "/b"));
    a.text("sub 聊天");
    b.text("sub 聊天");
    assert_eq!((a.next_text(), b.next_text()), ("true".into(), "true".into()));
    a.texts(["pub 聊天 一", "pub 聊天 二", "send 三"]);
    assert_eq!(a.next_text(), "三");
    assert_eq!((b.next_text(), b.next_text()), ("一".into(), "二".into()));
    // A publisher need not be subscribed.
    a.texts(["unsub 聊天", "pub 聊天 四", "unsub 聊天", "pub 没人 五", "send 六"]);
    assert_eq!(a.texts_until("六"), ["true", "false"]);
    assert_eq!(b.next_text(), "四");
}

#[test]
fn subscribing_and_publishing_in_one_turn() {
    let house = House::new(Host::new());
    let (mut a, mut b) = (Raw::open(house.address(), "/a"), Raw::open(house.address(), "/b"));
    b.texts(["pub 甲 早", "sub 甲", "sub 甲", "send 末"]);
    assert_eq!(b.texts_until("末"), ["true", "false"]);
    a.texts(["pub 甲 一", "sub 甲", "pub 甲 二", "unsub 甲", "pub 甲 三", "sub 甲", "send 末"]);
    assert_eq!(a.texts_until("末"), ["true", "true", "true"]);
    house.handle().publish("甲", "外").unwrap();
    assert_eq!(a.next_text(), "外");
    for text in ["一", "二", "三", "外"] {
        assert_eq!(b.next_text(), text);
    }
    // A subscriber that leaves gets what was published before, and not what is published after.
    let peer = house.handle().conn(house.log.opened("/b"));
    house.handle().publish("甲", "前").unwrap();
    peer.unsubscribe("甲").unwrap();
    house.handle().publish("甲", "后").unwrap();
    peer.send("末").unwrap();
    assert_eq!(b.texts_until("末"), ["前"]);
}

#[test]
fn what_is_sent_and_what_is_published_keep_their_order() {
    let house = House::new(Host::new());
    let mut raw = Raw::open(house.address(), "/");
    raw.texts(["sub 甲", "sub 乙"]);
    assert_eq!((raw.next_text(), raw.next_text()), ("true".into(), "true".into()));
    let (handle, peer) = (house.handle(), house.handle().conn(house.log.opened("/")));
    for number in 0..3_000 {
        let text = number.to_string();
        match number % 3 {
            0 => peer.send(&text).unwrap(),
            1 => handle.publish("甲", text).unwrap(),
            _ => handle.publish("乙", text).unwrap(),
        }
    }
    for number in 0..3_000 {
        assert_eq!(raw.next_text(), number.to_string());
    }
}

#[test]
fn both_threads_are_reached() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut raws: Vec<_> = (0..20).map(|number| Raw::open(house.address(), &format!("/{number}"))).collect();
    let mut loops: HashMap<String, usize> = HashMap::new();
    for (number, raw) in raws.iter_mut().enumerate() {
        raw.text("sub 甲");
        assert_eq!(raw.next_text(), "true");
        let id = house.log.opened(&format!("/{number}")).to_string();
        *loops.entry(id.split('-').next().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(loops.len(), 2, "{loops:?}");
    for number in 0..100 {
        house.handle().publish("甲", number.to_string()).unwrap();
    }
    for raw in &mut raws {
        for number in 0..100 {
            assert_eq!(raw.next_text(), number.to_string());
        }
    }
    // Messages of one publisher reach all others in order.
    let (first, others) = raws.split_first_mut().unwrap();
    let commands: Vec<_> = (0..100).map(|number| format!("pub 甲 {number}")).collect();
    first.texts(commands.iter().map(String::as_str).chain(["send 末"]));
    assert_eq!(first.next_text(), "末");
    for raw in others {
        for number in 0..100 {
            assert_eq!(raw.next_text(), number.to_string());
        }
    }
}

/// Free places in a topic's list are closed up and used again, and nobody gets another one's messages.
#[test]
fn many_come_and_go() {
    let house = House::new(Host::new());
    let mut raws = Vec::new();
    let mut number = 0;
    for round in 0..4 {
        while raws.len() < 200 {
            let mut raw = Raw::open(house.address(), &format!("/{number}"));
            number += 1;
            raw.texts(["sub 甲 quietly", if number % 2 == 0 { "sub 双 quietly" } else { "sub 单 quietly" }]);
            raw.settle();
            raws.push((number % 2, raw));
        }
        for topic in ["双", "甲", "单"] {
            house.handle().publish(topic, format!("{topic}{round}")).unwrap();
        }
        for (odd, raw) in &mut raws {
            let texts = (raw.next_text(), raw.next_text());
            let all = format!("甲{round}");
            let expected =
                if *odd == 0 { (format!("双{round}"), all) } else { (all, format!("单{round}")) };
            assert_eq!(texts, expected);
        }
        let mut at = 0;
        raws.retain_mut(|(_, raw)| {
            at += 1;
            if at % 4 == round {
                raw.text("unsub 甲");
                raw.next_text();
            }
            at % 4 == 0 && round % 2 == 0
        });
        let left = raws.len() as u64;
        wait_for(|| (house.handle().counters().open == left).then_some(()), || "they stay".into());
        for (_, raw) in &mut raws {
            raw.texts(["sub 甲 quietly"]);
            raw.settle();
        }
    }
}

/// The policy is called when a topic gets its first subscriber, so a second call shows that the topic was removed.
#[test]
fn topics_vanish_with_their_last_subscriber() {
    let (sender, asked) = std::sync::mpsc::channel();
    let house = House::with(Host::new(), |engine| {
        engine.threads(1).slow_consumers_of(move |topic| {
            sender.send(topic.to_owned()).unwrap();
            SlowConsumer::close(1000)
        })
    });
    for number in 0..10 {
        let mut raws: Vec<_> =
            (0..3).map(|at| Raw::open(house.address(), &format!("/{number}-{at}"))).collect();
        for raw in &mut raws {
            raw.text("sub 甲");
            assert_eq!(raw.next_text(), "true");
        }
        assert_eq!((asked.recv().unwrap(), asked.try_recv().ok()), ("甲".to_owned(), None));
        raws[0].text("unsub 甲");
        raws[0].next_text();
        drop(raws);
        wait_for(|| (house.handle().counters().open == 0).then_some(()), || "they stay".into());
    }
}

/// More in one turn than is delivered at once.
#[test]
fn very_much_in_one_turn() {
    let patient = SlowConsumer::close(64 * 1024 * 1024);
    let house = House::with(Host::new(), |engine| engine.threads(1).slow_consumers(patient));
    let mut raw = Raw::open(house.address(), "/");
    raw.text("sub 甲");
    raw.next_text();
    for size in [0, 10, 100_000] {
        let text = "x".repeat(size);
        let count = if size > 1000 { 100 } else { 20_000 };
        let handle = house.handle();
        let publisher = std::thread::spawn(move || {
            for _ in 0..count {
                while handle.publish("甲", text.as_str()).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        for _ in 0..count {
            assert_eq!(raw.next_text().len(), size);
        }
        publisher.join().unwrap();
    }
}
