//! Memory use and speed of the hub. Run it manually, optimised:
//! `cargo nextest run --cargo-profile ci -p longwire-server --test hub --run-ignored only --no-capture benchmarks`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use longwire_server::hub::{ChannelOptions, Hub, Limits, Position, Presence, PublishOptions, Recovery, User};
use longwire_server::store::{Store, Sync};

use super::{at, hub, name};

const MILLION: usize = 1_000_000;

/// Returns the resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = status.split(' ').nth(1).expect("resident").parse().expect("pages");
    pages * 4096
}

fn weigh<T>(what: &str, make: impl FnOnce() -> T) -> T {
    let (before, begun) = (resident(), Instant::now());
    let made = make();
    let (bytes, took) = (resident().saturating_sub(before), begun.elapsed());
    println!("{what}: {} bytes each, {} ns each", bytes / MILLION, took.as_nanos() as usize / MILLION);
    made
}

/// Run each of these in its own process, because freed memory is reused.
fn channels(presence: Presence) {
    let hub = hub(ChannelOptions { presence, ..ChannelOptions::default() });
    let all = weigh(&format!("a channel with a subscriber, presence {presence:?}"), || {
        (0..MILLION)
            .map(|n| {
                let room = name(&format!("room {n:>10}"));
                hub.subscribe(&room, None, None, at(0), |_| ()).expect("subscribed").0
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(hub.channels(), MILLION);
    let begun = Instant::now();
    hub.take_presence_changes(at(0), &mut |_, _| ());
    hub.take_presence_changes(at(1000), &mut |_, _| ());
    println!("telling of a million channels: {:?}", begun.elapsed());
    let begun = Instant::now();
    (0..256).for_each(|_| hub.tick(at(2000)).expect("upkeep"));
    println!("a round over a million channels: {:?}", begun.elapsed());
    drop(all);
}

#[test]
#[ignore = "it measures"]
fn channels_without_presence() {
    channels(Presence::Off);
}

#[test]
#[ignore = "it measures"]
fn channels_with_presence() {
    channels(Presence::Members(1000));
}

fn subscribers(what: &str, user: impl Fn(usize) -> Option<User>) {
    let (hub, room) = (hub(ChannelOptions::default()), name("room"));
    let join = |n| hub.subscribe(&room, user(n), None, at(0), |_| ()).expect("subscribed").0;
    drop(weigh(what, || (0..MILLION).map(join).collect::<Vec<_>>()));
}

#[test]
#[ignore = "it measures"]
fn subscribers_without_a_name() {
    subscribers("a subscriber without a name", |_| None);
}

#[test]
#[ignore = "it measures"]
fn subscribers_who_are_users() {
    subscribers("a subscriber who is a user", |n| User::new(&format!("user{n:06}")).ok());
}

fn rates(what: &str, hub: &Hub) {
    let rooms: Vec<_> = (0..1000).map(|n| name(&format!("room {n}"))).collect();
    let text = longwire::Message::from("x".repeat(200));
    for (count, spread) in [(1, "one channel"), (rooms.len(), "1,000 channels")] {
        let begun = Instant::now();
        let messages = 300_000;
        for n in 0..messages {
            let now = at(n as u64 / 1000);
            let published =
                hub.publish(&rooms[n % count], text.clone(), PublishOptions::at(now), &mut |it| {
                    black_box(it);
                });
            published.expect("published");
        }
        println!("{what}: publish to {spread}: {:.0}/s", messages as f64 / begun.elapsed().as_secs_f64());
    }
    let head = hub.history(&rooms[0], None, 0, at(300)).expect("a page").position.expect("it is there");
    let after = Position { offset: head.offset - 100, ..head };
    let (begun, resumes) = (Instant::now(), 20_000);
    for _ in 0..resumes {
        let (_it, recovery) =
            hub.subscribe(&rooms[0], None, Some(after), at(300), |first| first.recovery).expect("subscribed");
        assert!(matches!(recovery, Recovery::Complete(missed) if missed.len() == 100));
    }
    println!("{what}: resume behind 100 messages: {:.0}/s", resumes as f64 / begun.elapsed().as_secs_f64());
}

#[test]
#[ignore = "it measures"]
fn speeds() {
    rates("in memory", &hub(ChannelOptions::default()));
    let directory = tempfile::tempdir().expect("a directory");
    let options = Arc::new(ChannelOptions::default());
    let open = |limits| {
        let (store, options) = (Store::open(directory.path(), Sync::Os).expect("a store"), options.clone());
        Hub::with_store(limits, store, move |_| options.clone())
    };
    rates("stored", &open(Limits::default()));
    let (hub, begun) = (open(Limits::default()), Instant::now());
    for n in 0..1000 {
        black_box(hub.history(&name(&format!("room {n}")), None, 1, at(300)).expect("a page"));
    }
    println!("loading 1,000 channels of 100 messages: {:?}", begun.elapsed());
}
