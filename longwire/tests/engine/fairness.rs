//! Each connection that has something gets a turn, and a turn is one read.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use longwire_proto::frame::OpCode;

use crate::host::{Host, House, held};
use crate::raw::Raw;
use crate::support::frames::frame;

/// Bytes that one read takes.
const READ: usize = 128 * 1024;

#[test]
fn who_always_has_data_waits_its_turn() {
    let flooded = Arc::new(AtomicUsize::new(0));
    let between = Arc::new(AtomicUsize::new(usize::MAX));
    let (of_flood, at_other) = (Arc::clone(&flooded), Arc::clone(&between));
    let on_message: Box<_> = Box::new(
        move |conn: &mut longwire::engine::Conn<'_>, _: &mut _, message: longwire::engine::MessageRef<'_>| {
            match message.as_text() {
                Some(text) => {
                    at_other.store(of_flood.load(SeqCst), SeqCst);
                    conn.send(text).unwrap();
                }
                None => drop(of_flood.fetch_add(message.len(), SeqCst)),
            }
        },
    );
    let (host, hold) = held(Host { on_message, ..Host::new() });
    let house = House::new(host);
    let mut holder = Raw::open(house.address(), "/holder");
    let mut flood = Raw::open(house.address(), "/flood");
    let mut other = Raw::open(house.address(), "/other");
    hold.hold(&house, "/holder", &mut holder);

    // Far more than a read, and all of it has arrived before the loop goes on.
    let message = frame(true, true, OpCode::Binary, [7; 1000]);
    flood.stream.set_nonblocking(true).unwrap();
    let flooding = message.repeat(64);
    let mut written = 0;
    while let Ok(count) = flood.stream.write(&flooding[written % message.len()..]) {
        written += count;
    }
    assert!(written > 8 * READ, "{written}");
    other.text("也轮到我");
    hold.let_go();
    assert_eq!(other.next_text(), "也轮到我");
    let between = between.load(SeqCst);
    assert!(between <= 2 * READ, "{between} bytes of a flood of {written} came first");
    // The flood goes on.
    house.counters(|counters| counters.received.payload_bytes() as usize > written / 2);
}
