//! Slow consumers: each policy, beside a subscriber that keeps up.

use std::time::Duration;

use longwire::engine::SlowConsumer;
use longwire::{Acceptor, Config, Error, Snapshot};

use crate::host::{Host, House};
use crate::raw::Raw;

/// Bytes of a message: a few hundred messages fill all sockets.
const SIZE: usize = 64 * 1024;

/// More than the system buffers for a peer that reads nothing.
const MANY: usize = 600;

const AGE: Duration = Duration::from_millis(200);

fn house(policy: SlowConsumer) -> House {
    let config = Config::server().close_timeout(Duration::from_millis(500)).ping_after(None);
    House::with(Host::new(), |engine| {
        engine.threads(1).slow_consumers(policy).acceptor(Acceptor::new().config(config))
    })
}

fn message(number: usize) -> String {
    let mut text = format!("{number} ");
    text.extend(std::iter::repeat_n('x', SIZE - text.len()));
    text
}

fn number(text: &str) -> usize {
    let (number, rest) = text.split_once(' ').unwrap();
    assert_eq!(number.len() + 1 + rest.len(), SIZE);
    number.parse().unwrap()
}

/// Publishes until the counters meet a condition. Returns how many messages that took. `good` gets all of them; the
/// other subscriber reads nothing.
fn publish(house: &House, good: &mut Raw, keys: Option<usize>, enough: impl Fn(&Snapshot) -> bool) -> usize {
    for at in 0..MANY {
        match keys {
            Some(keys) => {
                house.handle().publish_latest("甲", &(at % keys).to_string(), message(at)).unwrap();
            }
            None => house.handle().publish("甲", message(at)).unwrap(),
        }
        assert_eq!(number(&good.next_text()), at, "who keeps up misses nothing");
        if enough(&house.handle().counters()) {
            return at + 1;
        }
    }
    MANY
}

fn pair(house: &House) -> (Raw, Raw) {
    let [slow, good] = ["/slow", "/good"].map(|path| {
        let mut raw = Raw::open(house.address(), path);
        raw.text("sub 甲");
        assert_eq!(raw.next_text(), "true");
        raw
    });
    (slow, good)
}

fn never(_: &Snapshot) -> bool {
    false
}

/// What the slow consumer gets in the end, up to a message that is sent to it alone.
fn heard(house: &House, slow: &mut Raw) -> Vec<usize> {
    house.handle().conn(house.log.opened("/slow")).send("末").unwrap();
    let heard: Vec<_> = slow.texts_until("末").iter().map(|text| number(text)).collect();
    assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
    heard
}

#[test]
fn closed() {
    for policy in [SlowConsumer::close(4 * SIZE), SlowConsumer::close(1000 * SIZE).max_age(AGE)] {
        let house = house(policy);
        let (mut slow, mut good) = pair(&house);
        publish(&house, &mut good, None, never);
        assert!(matches!(house.log.closed("/slow"), Err(Error::SlowConsumer)));
        let counters = house.counters(|counters| counters.slow_consumers == 1);
        assert_eq!((counters.open, counters.dropped, counters.replaced), (1, 0, 0));
        // It gets the first messages, and then no more.
        let rest = slow.rest();
        assert!(rest.len() > SIZE && rest.len() < MANY * SIZE);
        publish(&house, &mut good, None, |_| true);
    }
}

#[test]
fn who_reads_in_time_is_told_why() {
    let config = Config::server().close_timeout(Duration::from_secs(60)).ping_after(None);
    let house = House::with(Host::new(), |engine| {
        let acceptor = Acceptor::new().config(config);
        engine.threads(1).slow_consumers(SlowConsumer::close(4 * SIZE)).acceptor(acceptor)
    });
    let (mut slow, mut good) = pair(&house);
    publish(&house, &mut good, None, never);
    assert_eq!(slow.close_frame(), (1013, "slow consumer".into()));
    drop(slow);
    assert!(matches!(house.log.closed("/slow"), Err(Error::SlowConsumer)));
}

#[test]
fn the_oldest_dropped() {
    let house = house(SlowConsumer::drop_oldest(4 * SIZE));
    let (mut slow, mut good) = pair(&house);
    let count = publish(&house, &mut good, None, |counters| counters.dropped >= 20);
    let counters = house.handle().counters();
    assert!(counters.dropped >= 20 && counters.replaced == 0 && counters.open == 2, "{counters:?}");
    let heard = heard(&house, &mut slow);
    assert_eq!(heard.len() as u64 + counters.dropped, count as u64);
    assert_eq!(heard.last(), Some(&(count - 1)), "the latest is there");
    // From then on it keeps up.
    house.handle().publish("甲", message(7)).unwrap();
    assert_eq!((number(&slow.next_text()), number(&good.next_text())), (7, 7));
}

#[test]
fn the_latest_of_each_key_kept() {
    const KEYS: usize = 3;
    let house = house(SlowConsumer::keep_latest(10 * SIZE));
    let (mut slow, mut good) = pair(&house);
    let count = publish(&house, &mut good, Some(KEYS), |counters| counters.replaced >= 20);
    let counters = house.handle().counters();
    assert!(counters.replaced >= 20 && counters.open == 2, "{counters:?}");
    house.handle().conn(house.log.opened("/slow")).send("末").unwrap();
    let heard: Vec<_> = slow.texts_until("末").iter().map(|text| number(text)).collect();
    assert_eq!(heard.len() as u64 + counters.replaced + counters.dropped, count as u64);
    for key in 0..KEYS {
        let mine: Vec<_> = heard.iter().filter(|number| **number % KEYS == key).collect();
        assert!(mine.is_sorted(), "{heard:?}");
        let latest = (0..count).rev().find(|number| number % KEYS == key);
        assert_eq!(mine.last().copied(), latest.as_ref());
    }
}

#[test]
fn what_is_too_old_dropped() {
    for (policy, keys) in [
        (SlowConsumer::drop_oldest(1000 * SIZE).max_age(AGE), None),
        (SlowConsumer::keep_latest(1000 * SIZE).max_age(AGE), Some(1000)),
    ] {
        let house = house(policy);
        let (mut slow, mut good) = pair(&house);
        let count = publish(&house, &mut good, keys, never);
        // Everything that waits becomes too old.
        let mut dropped = 0;
        while dropped == 0 || house.handle().counters().dropped > dropped {
            dropped = house.handle().counters().dropped;
            std::thread::sleep(2 * AGE);
        }
        let heard = heard(&house, &mut slow);
        assert_eq!(heard.len() as u64 + dropped, count as u64);
        house.handle().publish("甲", message(7)).unwrap();
        assert_eq!((number(&slow.next_text()), number(&good.next_text())), (7, 7));
        assert_eq!(house.handle().counters().open, 2);
    }
}

/// Messages that were sent to one connection alone are never dropped, and keep their place.
#[test]
fn what_is_sent_to_it_alone_stays() {
    let config = Config::server().ping_after(None).write_buffer(1024 * 1024 * 1024);
    let house = House::with(Host::new(), |engine| {
        let acceptor = Acceptor::new().config(config);
        engine.threads(1).slow_consumers(SlowConsumer::drop_oldest(4 * SIZE)).acceptor(acceptor)
    });
    let (mut slow, mut good) = pair(&house);
    let peer = house.handle().conn(house.log.opened("/slow"));
    for at in 0..MANY {
        house.handle().publish("甲", message(at)).unwrap();
        peer.send(at.to_string()).unwrap();
        assert_eq!(number(&good.next_text()), at);
    }
    // The last message is one that was sent to it alone.
    let (mut direct, mut published) = (0, 0);
    while direct < MANY {
        let text = slow.next_text();
        if text.len() == SIZE {
            assert!(number(&text) >= direct, "behind what was sent before it");
            published += 1;
        } else {
            assert_eq!(text, direct.to_string());
            direct += 1;
        }
    }
    let dropped = house.handle().counters().dropped;
    assert!(dropped > 20);
    assert_eq!(published, MANY as u64 - dropped);
}

/// Our Close frame comes behind everything that waits.
#[test]
fn all_that_waits_goes_before_a_close() {
    let config = Config::server().ping_after(None).close_timeout(Duration::from_secs(60));
    let house = House::with(Host::new(), |engine| {
        let acceptor = Acceptor::new().config(config);
        engine.threads(1).slow_consumers(SlowConsumer::close(2000 * SIZE)).acceptor(acceptor)
    });
    let (mut slow, mut good) = pair(&house);
    let count = publish(&house, &mut good, None, never);
    house.handle().conn(house.log.opened("/slow")).close(1001, "再见").unwrap();
    house.handle().publish("甲", message(0)).unwrap();
    for at in 0..count {
        assert_eq!(number(&slow.next_text()), at);
    }
    assert_eq!(slow.answer_close(), (1001, "再见".into()));
    house.log.closed("/slow").unwrap();
}

/// The engine notices that a peer is gone however much waits for it.
#[test]
fn who_goes_while_more_waits_than_is_read_for() {
    let config = Config::server().ping_after(None).write_buffer(SIZE);
    let house = House::with(Host::new(), |engine| {
        let acceptor = Acceptor::new().config(config);
        engine.threads(1).slow_consumers(SlowConsumer::close(2000 * SIZE)).acceptor(acceptor)
    });
    let (mut slow, mut good) = pair(&house);
    publish(&house, &mut good, None, never);
    // Then it is no longer read from.
    slow.text("send 好");
    slow.text("send 好");
    good.settle();
    slow.reset();
    let error = house.log.closed("/slow").unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
}
