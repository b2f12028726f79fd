//! Reaching connections through `ConnHandle` and `Handle`, from any thread and at any time.

use std::thread;

use longwire::{Bytes, Config, Message, SendError, SharedFrame};

use crate::host::{Host, House, held};
use crate::raw::Raw;
use crate::support::frames::text;

#[test]
fn from_many_threads() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut raws: Vec<_> = (0..4).map(|number| Raw::open(house.address(), &format!("/{number}"))).collect();
    let threads: Vec<_> = (0..4)
        .map(|name| {
            let handle = house.handle();
            let ids: Vec<_> = (0..4).map(|number| house.log.opened(&format!("/{number}"))).collect();
            thread::spawn(move || {
                for number in 0..300 {
                    for &id in &ids {
                        let text = format!("{name} {number}");
                        match number % 2 {
                            0 => handle.conn(id).send(text).unwrap(),
                            _ => handle.conn(id).send(SharedFrame::new(text)).unwrap(),
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for raw in &mut raws {
        let mut next = [0; 4];
        for _ in 0..4 * 300 {
            let text = raw.next_text();
            let (name, number) = text.split_once(' ').unwrap();
            let next = &mut next[name.parse::<usize>().unwrap()];
            assert_eq!(number, next.to_string());
            *next += 1;
        }
    }
}

#[test]
fn subscribing_and_closing() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut raw = Raw::open(house.address(), "/");
    let peer = house.handle().conn(house.log.opened("/"));
    peer.subscribe("甲").unwrap();
    peer.send("先").unwrap();
    assert_eq!(raw.next_text(), "先");
    house.handle().publish("甲", "一").unwrap();
    assert_eq!(raw.next_text(), "一");
    peer.unsubscribe("甲").unwrap();
    peer.send("再").unwrap();
    assert_eq!(raw.next_text(), "再");
    house.handle().publish("甲", "二").unwrap();
    assert!(matches!(peer.close(1006, ""), Err(SendError::InvalidCloseCode(_))));
    peer.send("末").unwrap();
    peer.close(4000, "够了").unwrap();
    peer.close(4001, "still").unwrap();
    peer.send("never").unwrap();
    assert_eq!(raw.next_text(), "末");
    assert_eq!(raw.answer_close(), (4000, "够了".into()));
    house.log.closed("/").unwrap();
}

#[test]
fn one_that_is_gone_is_not_the_one_that_came_after() {
    let house = House::new(Host::new());
    let raw = Raw::open(house.address(), "/old");
    let old = house.handle().conn(house.log.opened("/old"));
    raw.close();
    house.log.closed("/old").unwrap();
    let mut raw = Raw::open(house.address(), "/new");
    let new = house.log.opened("/new");
    assert_ne!(old.id(), new);
    let place = |id: longwire::engine::Id| id.to_string().split('-').nth(1).unwrap().to_owned();
    assert_eq!(place(old.id()), place(new), "the place is used again");
    old.send("没有").unwrap();
    old.subscribe("甲").unwrap();
    old.close(4000, "").unwrap();
    house.handle().publish("甲", "也没有").unwrap();
    house.handle().conn(new).send("有").unwrap();
    assert_eq!(raw.next_text(), "有");
    raw.settle();
}

#[test]
fn after_the_end() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let _raw = Raw::open(house.address(), "/");
    let House { running, log, .. } = house;
    let handle = running.handle();
    let peer = handle.conn(log.opened("/"));
    drop(running);
    let closing = |said| matches!(said, Err(SendError::Closed));
    assert!(closing(peer.send("x")) && closing(peer.subscribe("x")) && closing(peer.unsubscribe("x")));
    assert!(closing(peer.close(1000, "")) && closing(handle.publish("x", "x")));
    handle.stop();
    handle.shutdown(longwire::Shutdown::default());
    assert_eq!(handle.counters().opened, 1);
}

/// The mailbox of a loop is bounded, and everything that it accepted arrives.
#[test]
fn a_loop_that_is_held_up() {
    const MEBIBYTE: usize = 1024 * 1024;
    let (host, hold) = held(Host::new());
    let house = House::of(host, Config::server().write_buffer(1024 * MEBIBYTE));
    let mut holder = Raw::open(house.address(), "/holder");
    let mut raw = Raw::open(house.address(), "/");
    let peer = house.handle().conn(house.log.opened("/"));
    hold.hold(&house, "/holder", &mut holder);
    let bytes = Bytes::from(vec![0; MEBIBYTE]);
    let mut taken = 0;
    while peer.send(Message::Binary(bytes.clone())).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 63, "64 MiB, and what the messages cost besides");
    assert!(matches!(house.handle().publish("甲", bytes), Err(SendError::Full)));
    peer.send("").unwrap();
    peer.subscribe("甲").unwrap();
    hold.let_go();
    for _ in 0..taken {
        assert_eq!(raw.message().1.len(), MEBIBYTE);
    }
    assert_eq!(raw.next_text(), "");
    house.handle().publish("甲", "好").unwrap();
    assert_eq!(raw.next_text(), "好");
}

/// Messages that do not fit into the write buffer are dropped and counted.
#[test]
fn one_that_is_full() {
    let house = House::of(Host::new(), Config::server().write_buffer(100_000).ping_after(None));
    let mut raw = Raw::open(house.address(), "/");
    let peer = house.handle().conn(house.log.opened("/"));
    let mut sent = 0;
    while house.handle().counters().dropped == 0 {
        peer.send(vec![0; 50_000]).unwrap();
        sent += 1;
        house.counters(|counters| counters.sent.messages() + counters.dropped == sent);
    }
    for _ in 1..sent {
        assert_eq!(raw.message().1.len(), 50_000);
    }
    house.log.wait("/", |told| told.iter().any(|told| told.name() == "drained").then_some(()));
    peer.send("好").unwrap();
    assert_eq!(raw.next_text(), "好");
    assert_eq!(house.handle().counters().dropped, 1);
}

#[test]
fn counters_add_up() {
    let house = House::with(Host::echo(), |engine| engine.threads(2));
    let mut raws: Vec<_> = (0..30).map(|number| Raw::open(house.address(), &format!("/{number}"))).collect();
    for raw in &mut raws {
        for number in 0..10 {
            raw.text(&number.to_string());
            assert_eq!(raw.next_text(), number.to_string());
        }
    }
    for (number, mut raw) in raws.into_iter().enumerate() {
        match number % 5 {
            0 => raw.close(),
            1 => drop(raw),
            2 => raw.reset(),
            3 => {
                raw.send(text(false, "not masked"));
                assert_eq!(raw.close_frame().0, 1002);
            }
            _ => std::mem::forget(raw),
        }
    }
    let counters = house.counters(|counters| counters.open == 6);
    assert_eq!((counters.opened, counters.closed, counters.lost, counters.protocol_errors), (30, 6, 12, 6));
    assert_eq!((counters.received.messages(), counters.sent.messages()), (300, 300));
    assert_eq!((counters.received.payload_bytes(), counters.dropped, counters.timeouts), (300, 0, 0));
    // 101s, echoes of three bytes, Close frames.
    assert!(counters.sent.wire_bytes > 30 * 129 + 300 * 3);
}
