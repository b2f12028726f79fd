//! Many threads: no gaps, no duplicates, in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use longwire_server::hub::{
    ChannelName, ChannelOptions, History, Hub, Limits, Position, PublishOptions, Published, Recovery,
};
use longwire_server::store::{Store, Sync};

use super::{at, hub, name, seconds};

const CHANNELS: usize = 3;
const PUBLISHERS: usize = 4;
const MESSAGES: usize = 1500;

/// The messages delivered to a subscriber.
type Sink = Arc<Mutex<Vec<Published>>>;

/// The subscribers of each channel; a server would use its event loops.
#[derive(Default)]
struct Sinks([Mutex<Vec<Sink>>; CHANNELS]);

impl Sinks {
    fn of(&self, channel: usize) -> MutexGuard<'_, Vec<Sink>> {
        self.0[channel].lock().expect("sinks")
    }
}

fn options() -> ChannelOptions {
    let history = History { messages: 500, bytes: 1 << 20, age: seconds(1000) };
    ChannelOptions { history, ..ChannelOptions::default() }
}

/// Publishes every other message with a key, and twice.
fn publisher(hub: &Hub, sinks: &Sinks, publisher: usize) -> usize {
    let mut duplicates = 0;
    for n in 0..MESSAGES {
        let channel = (n + publisher) % CHANNELS;
        let key = format!("{publisher}/{n}");
        let key = n.is_multiple_of(2).then_some(key.as_str());
        let mut first = None;
        for _ in 0..1 + usize::from(key.is_some()) {
            let how = PublishOptions { from: None, key, now: at(n as u64) };
            let receipt = hub
                .publish(&room(channel), format!("{publisher} {n} 你好").into(), how, &mut |published| {
                    for sink in sinks.of(channel).iter() {
                        sink.lock().expect("a sink").push(published.clone());
                    }
                })
                .expect("published");
            assert_eq!(*first.get_or_insert(receipt.position), receipt.position);
            duplicates += usize::from(receipt.duplicate);
        }
    }
    duplicates
}

fn room(channel: usize) -> ChannelName {
    name(&format!("room {channel}"))
}

/// Subscribes repeatedly, and resumes from the last position. Returns the number of reported losses.
fn subscriber(hub: &Hub, sinks: &Sinks, channel: usize, done: &AtomicBool) -> (usize, u64) {
    let mut seen: Option<Position> = None;
    let (mut lost, mut count) = (0, 0);
    for round in 0.. {
        let last_round = done.load(Ordering::Acquire);
        let sink = Arc::new(Mutex::new(Vec::new()));
        let (subscription, first) = hub
            .subscribe(&room(channel), None, seen, at(0), |first| {
                sinks.of(channel).push(sink.clone());
                first
            })
            .expect("subscribed");
        let mut offset = first.position.offset;
        match first.recovery {
            Recovery::New => assert!(seen.is_none()),
            Recovery::Complete(messages) => {
                let mut expected = seen.expect("a position").offset;
                for published in messages {
                    expected += 1;
                    assert_eq!(published.position.offset, expected);
                    count += 1;
                }
                assert_eq!(expected, offset, "a gap between what was missed and what is to come");
            }
            Recovery::Lost => lost += 1,
        }
        for _ in 0..round % 5 {
            thread::yield_now();
        }
        // Remove the sink first: later messages are missed and recovered.
        sinks.of(channel).retain(|other| !Arc::ptr_eq(other, &sink));
        drop(subscription);
        let mut position = first.position;
        for published in sink.lock().expect("a sink").drain(..) {
            offset += 1;
            assert_eq!(published.position.offset, offset);
            position = published.position;
            count += 1;
        }
        seen = Some(position);
        if last_round {
            break;
        }
    }
    (lost, count)
}

fn race(hub: &Hub) {
    let (sinks, done) = (Sinks::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let subscribers: Vec<_> = (0..2 * CHANNELS)
            .map(|n| {
                let (hub, sinks, done) = (hub, &sinks, &done);
                scope.spawn(move || subscriber(hub, sinks, n % CHANNELS, done))
            })
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|n| {
                let (hub, sinks) = (hub, &sinks);
                scope.spawn(move || publisher(hub, sinks, n))
            })
            .collect();
        for publisher in publishers {
            assert_eq!(publisher.join().expect("a publisher"), MESSAGES / 2);
        }
        done.store(true, Ordering::Release);
        for subscriber in subscribers {
            let (_lost, count) = subscriber.join().expect("a subscriber");
            assert!(count > 0, "it has seen nothing");
        }
    });
    let total: u64 = (0..CHANNELS)
        .map(|n| hub.history(&room(n), None, 1, at(0)).expect("a page").position.expect("a head").offset)
        .sum();
    assert_eq!(total, (PUBLISHERS * MESSAGES) as u64);
}

#[test]
fn reconnecting_subscribers_miss_nothing() {
    race(&hub(options()));
}

#[test]
fn subscribers_of_a_store_with_evicted_histories_miss_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path(), Sync::Os).expect("a store");
    let options = Arc::new(options());
    let limits = Limits { history_memory: 60_000, ..Limits::default() };
    race(&Hub::with_store(limits, store, move |_| options.clone()));
}
