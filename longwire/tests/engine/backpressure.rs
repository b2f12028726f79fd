//! Peers that do not read: what waits for them is bounded, and nothing of it is lost.

use std::io::Write;
use std::time::Duration;

use longwire::engine::ConnHandle;
use longwire::{Acceptor, Config, Error};
use longwire_proto::frame::OpCode;

use crate::host::{Host, House};
use crate::raw::Raw;
use crate::support::frames::{frame, text};

const LIMIT: usize = 64 * 1024;

fn house() -> House {
    let config = Config::server().write_buffer(LIMIT).ping_after(None).max_message(4 * 1024 * 1024);
    House::with(Host::echo(), |engine| engine.threads(1).acceptor(Acceptor::new().config(config)))
}

/// Writes `bytes` repeatedly until the socket takes no more. Returns how many bytes it took.
fn stuff(raw: &mut Raw, bytes: &[u8]) -> usize {
    raw.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0;
    while let Ok(count) = raw.stream.write(&bytes[written % bytes.len()..]) {
        written += count;
        assert!(written < 1024 * 1024 * 1024, "it reads on and on");
    }
    raw.stream.set_write_timeout(None).unwrap();
    written
}

/// Sends messages of 50,000 bytes to a peer that does not read until there is no room. Returns how many fit.
fn fill(house: &House, peer: &ConnHandle) -> u64 {
    let mut sent = 0;
    // Repeatedly, because the system finds more room for a while.
    while house.handle().counters().dropped < 20 {
        peer.send(vec![7; 50_000]).unwrap();
        sent += 1;
        house.counters(|counters| counters.sent.messages() + counters.dropped == sent);
        std::thread::sleep(Duration::from_millis(5 * house.handle().counters().dropped));
    }
    house.handle().counters().sent.messages()
}

/// A peer that was not read from has lost nothing once it reads.
#[test]
fn echoes_are_neither_lost_nor_moved() {
    for size in [10, 3_000, 50_000, 1_000_000] {
        let house = house();
        let mut raw = Raw::open(house.address(), "/");
        let mut other = Raw::open(house.address(), "/other");
        // Each message is different, and together they fill all buffers.
        let payload = move |number: usize| {
            let mut payload = format!("{number} ").into_bytes();
            payload.resize(size.max(payload.len()), b'x');
            payload
        };
        let count = (80 * 1024 * 1024) / (size + 8);
        let count = count.min(400_000);
        let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
        let sends = std::thread::spawn(move || {
            let mut gathered = Vec::new();
            for number in 0..count {
                gathered.extend(frame(true, true, OpCode::Binary, payload(number)));
                if gathered.len() > 100_000 {
                    writer.send(std::mem::take(&mut gathered));
                }
            }
            writer.send(gathered);
        });
        // Others are served, and no more waits than the limit and a message.
        for _ in 0..20 {
            other.text("还在");
            assert_eq!(other.next_text(), "还在");
            std::thread::sleep(Duration::from_millis(10));
        }
        for number in 0..count {
            let (_, echoed) = raw.message();
            assert!(echoed == payload(number), "{size}, {number}");
        }
        sends.join().unwrap();
        // Only now: the engine does not wait for a peer that ends TCP without a Close frame.
        raw.end();
        assert!(matches!(house.log.closed("/"), Err(Error::Eof)));
        assert!(!house.log.names("/").contains(&"unsent"), "each answer has had room");
    }
}

/// The engine stops reading once the buffers of the system and its own are full.
#[test]
fn reading_stops() {
    let house = house();
    let mut raw = Raw::open(house.address(), "/");
    let written = stuff(&mut raw, &text(true, &"x".repeat(100)).repeat(1000));
    let received = house.handle().counters().received.payload_bytes() as usize;
    let sent = house.handle().counters().sent.wire_bytes as usize;
    assert!(received < written + 1, "{received} of {written}");
    // The answers that wait are bounded by the limit and what one read has brought.
    assert!(received < sent + LIMIT + 1000, "{received} received, {sent} sent");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(house.handle().counters().received.payload_bytes() as usize, received);
}

/// The rest of a large message is read once its answer has room.
#[test]
fn half_a_large_message_waits_for_room() {
    let house = house();
    let mut raw = Raw::open(house.address(), "/");
    let payload: Vec<u8> = (0..2_000_000).map(|at| (at % 251) as u8).collect();
    let rest = frame(true, true, OpCode::Continuation, &payload[50_000..]);
    raw.send(frame(true, false, OpCode::Binary, &payload[..50_000]));
    raw.settle();
    raw.send(&rest[..20_000]);
    // Meanwhile others send it so much that there is none.
    let peer = house.handle().conn(house.log.opened("/"));
    let filled = fill(&house, &peer);
    let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
    let sends = std::thread::spawn(move || {
        writer.send(&rest[20_000..]);
    });
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..filled {
        assert_eq!(raw.message().1.len(), 50_000);
    }
    assert!(raw.message().1 == payload);
    sends.join().unwrap();
    raw.end();
    assert!(matches!(house.log.closed("/"), Err(Error::Eof)));
    assert!(!house.log.names("/").contains(&"unsent"), "the answer has had room");
}

/// `send` returns `Full`, and nothing that was queued before is lost.
#[test]
fn send_says_full() {
    let config = Config::server().write_buffer(LIMIT).ping_after(None);
    let house = House::of(Host::new(), config);
    let mut raw = Raw::open(house.address(), "/");
    raw.text("flood 100 1000");
    house.log.wait("/", |told| told.iter().any(|told| told.name() == "unsent").then_some(()));
    let fits = LIMIT.div_ceil(1004);
    for _ in 0..fits {
        assert_eq!(raw.message().1.len(), 1000);
    }
    raw.text("send 末");
    assert_eq!(raw.next_text(), "末", "and no more than fits");
}

/// Pongs for a peer that does not read are bounded.
#[test]
fn pings_without_end() {
    let house = house();
    let mut raw = Raw::open(house.address(), "/");
    let bytes = [frame(true, true, OpCode::Ping, [7; 125]), text(true, "x")].concat().repeat(500);
    let written = stuff(&mut raw, &bytes);
    assert!(written > 0);
    let mut other = Raw::open(house.address(), "/other");
    other.text("还在");
    assert_eq!(other.next_text(), "还在");
}

/// Messages that wait when the peer closes are written before the Close frame.
#[test]
fn a_close_behind_much() {
    let house = house();
    let mut raw = Raw::open(house.address(), "/");
    let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
    let sends = std::thread::spawn(move || {
        for _ in 0..200 {
            writer.send(frame(true, true, OpCode::Binary, [0; 100_000]));
        }
        writer.send(frame(true, true, OpCode::Close, [0x03, 0xE8]));
    });
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..200 {
        assert_eq!(raw.message().1.len(), 100_000);
    }
    assert_eq!(raw.close_frame().0, 1000);
    sends.join().unwrap();
    house.log.closed("/").unwrap();
}

/// Input that came while there was no room is read later, though no event reports it again.
#[test]
fn what_came_meanwhile_is_read_later() {
    let house = house();
    let mut raw = Raw::open(house.address(), "/");
    let filled = fill(&house, &house.handle().conn(house.log.opened("/")));
    raw.text("在吗");
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..filled {
        assert_eq!(raw.message().1.len(), 50_000);
    }
    assert_eq!(raw.next_text(), "在吗");
}
