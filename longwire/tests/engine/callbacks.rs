//! Which callbacks are called, and in which order.

use longwire::SendError;
use longwire_proto::frame::OpCode;

use crate::host::{Host, House, Told, closed};
use crate::raw::Raw;
use crate::support::frames::{close, frame, text};

#[test]
fn in_order_and_closed_once() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    for number in 0..20 {
        let path = format!("/{number}");
        let mut raw = Raw::open(house.address(), &path);
        raw.send(frame(true, true, OpCode::Ping, "脉搏"));
        raw.send(frame(true, true, OpCode::Pong, "没人问"));
        raw.texts(["send 一", "ping 在吗"]);
        assert!(raw.frame().unwrap().is(OpCode::Pong, "脉搏"));
        // A Ping overtakes the messages that wait.
        let (one, two) = (raw.frame().unwrap(), raw.frame().unwrap());
        assert!(one.is(OpCode::Text, "一") && two.is(OpCode::Ping, "在吗"));
        raw.send(frame(true, true, OpCode::Pong, "在吗"));
        raw.close();
        house.log.closed(&path).unwrap();
        let order = ["request", "opened", "ping", "pong", "message", "message", "pong", "closed"];
        assert_eq!(house.log.names(&path), order);
        let told = house.log.of(&path);
        assert!(matches!(&told[2], Told::Ping(payload) if payload == "脉搏".as_bytes()));
        assert!(matches!(&told[3], Told::Pong(payload) if payload == "没人问".as_bytes()));
        assert!(matches!(&told[4], Told::Message(text) if text == "send 一".as_bytes()));
        assert!(matches!(&told[6], Told::Pong(payload) if payload == "在吗".as_bytes()));
        let (Told::Opened(opened), Told::Closed(gone, _)) = (&told[1], &told[7]) else { panic!("{told:?}") };
        assert_eq!(opened, gone);
    }
    house.counters(|counters| counters.open == 0);
}

#[test]
fn nothing_comes_behind_a_close() {
    let house = House::new(Host::new());
    let mut raw = Raw::open(house.address(), "/a");
    raw.texts(["send 一", "close 3000 够了", "send 二", "sub 三"]);
    assert_eq!(raw.next_text(), "一");
    assert_eq!(raw.answer_close(), (3000, "够了".into()));
    assert_eq!(closed(house.log.closed("/a")), (longwire::Side::Us, Some((3000, "够了".into()))));
    assert_eq!(house.log.names("/a"), ["request", "opened", "message", "message", "closed"]);
    let mut raw = Raw::open(house.address(), "/b");
    raw.send([close(true, 1000, ""), text(true, "send 二")].concat());
    raw.rest();
    house.log.closed("/b").unwrap();
    assert_eq!(house.log.names("/b"), ["request", "opened", "closed"]);
}

/// `drained` is called once for everything that waited, and not if nothing did.
#[test]
fn drained_when_all_that_waited_has_gone() {
    let house = House::new(Host::new());
    let mut raw = Raw::open(house.address(), "/");
    for _ in 0..3 {
        raw.text("send 一");
        raw.next_text();
    }
    raw.settle();
    assert!(!house.log.names("/").contains(&"drained"));
    // Far more than the sockets' buffers hold.
    for round in 1..3 {
        raw.text("flood 20 1000000");
        house
            .log
            .wait("/", |told| told.iter().filter(|told| told.name() == "unsent").nth(round - 1).map(drop));
        let mut count = 0;
        raw.text("send 末");
        while raw.frame().unwrap().opcode != OpCode::Text {
            count += 1;
        }
        assert!(count >= 4, "1 MB in frames of 256 KiB: {count}");
        house.log.wait("/", |told| {
            let drained = told.iter().filter(|told| told.name() == "drained").count();
            assert!(drained <= round, "{drained}");
            (drained == round).then_some(())
        });
    }
}

/// After `Full` the application gets `drained`, even if the socket took everything at once.
#[test]
fn drained_after_full_whatever_the_socket_takes() {
    let host = Host { on_drained: Box::new(|conn, _| conn.send("续").unwrap()), ..Host::new() };
    let house = House::of(host, longwire::Config::server().write_buffer(1000));
    let mut raw = Raw::open(house.address(), "/");
    raw.text("flood 3 700");
    for _ in 0..2 {
        assert_eq!(raw.message().1.len(), 700);
    }
    assert_eq!(raw.next_text(), "续");
    assert_eq!(house.log.names("/"), ["request", "opened", "message", "unsent", "drained"]);
    assert!(
        matches!(&house.log.of("/")[3], Told::Unsent(error) if error == &format!("{:?}", SendError::Full))
    );
}

/// An application that refills the buffer in `drained` does not keep the loop to itself.
#[test]
fn drained_again_and_again_leaves_others_their_turn() {
    let fill =
        |conn: &mut longwire::engine::Conn<'_>, _: &mut _| while conn.send(vec![0; 100_000]).is_ok() {};
    let host = Host { on_drained: Box::new(fill), ..Host::new() };
    let house = House::new(host);
    let mut greedy = Raw::open(house.address(), "/greedy");
    let mut other = Raw::open(house.address(), "/other");
    greedy.text("flood 100 100000");
    let mut taken = 0;
    for _ in 0..50 {
        other.settle();
        taken += greedy.message().1.len();
    }
    assert_eq!(taken, 5_000_000);
}
