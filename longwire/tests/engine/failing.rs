//! Callbacks that panic: only their connection ends.

use longwire::engine::SlowConsumer;
use longwire::{Config, Error};
use longwire_proto::frame::OpCode;

use crate::host::{Host, House, wait_for};
use crate::raw::{Raw, request};
use crate::support::frames::{frame, text};

fn panics(path: &str) -> bool {
    path == "/panic"
}

#[test]
fn in_any_callback() {
    let host = |callback: usize| {
        let mut host = Host::echo();
        match callback {
            0 => host.on_opened = Box::new(|_, state, _| assert!(!panics(&state.path))),
            1 => {
                host.on_message = Box::new(|conn, state, message| {
                    assert!(!panics(&state.path));
                    conn.send(message).unwrap();
                });
            }
            2 => host.on_ping = Box::new(|_, state| assert!(!panics(&state.path))),
            _ => {
                host.on_message = Box::new(|conn, _, message| match message.as_text() {
                    Some("fill") => while conn.send(vec![0; 1000]).is_ok() {},
                    _ => conn.send(message).unwrap(),
                });
                host.on_drained = Box::new(|_, state| assert!(!panics(&state.path)));
            }
        }
        host
    };
    for callback in 0..4 {
        let house = House::of(host(callback), Config::server().write_buffer(1000));
        let mut other = Raw::open(house.address(), "/other");
        let mut raw = Raw::open(house.address(), "/panic");
        match callback {
            0 => {}
            1 => raw.text("x"),
            2 => raw.send(frame(true, true, OpCode::Ping, "x")),
            _ => raw.text("fill"),
        }
        assert_eq!(raw.close_frame(), (1011, String::new()), "{callback}");
        drop(raw);
        assert!(matches!(house.log.closed("/panic"), Err(Error::Panicked)));
        other.text("还在");
        assert_eq!(other.next_text(), "还在");
    }
}

/// Half a message that was received before does not become part of another connection's message.
#[test]
fn within_a_message() {
    let host = Host { on_ping: Box::new(|_, state| assert!(!panics(&state.path))), ..Host::echo() };
    let house = House::new(host);
    let mut other = Raw::open(house.address(), "/other");
    let mut raw = Raw::open(house.address(), "/panic");
    raw.send([frame(true, false, OpCode::Text, "秘密"), frame(true, true, OpCode::Ping, "")].concat());
    assert!(raw.frame().unwrap().is(OpCode::Pong, ""));
    assert_eq!(raw.close_frame().0, 1011);
    other.send(
        [frame(true, false, OpCode::Text, "我"), frame(true, true, OpCode::Continuation, "的")].concat(),
    );
    assert_eq!(other.next_text(), "我的");
}

/// The policy for slow consumers is called when a topic gets its first subscriber.
#[test]
fn in_the_policy() {
    let house = House::with(Host::new(), |engine| {
        engine.threads(1).slow_consumers_of(|topic| {
            assert_ne!(topic, "panic");
            SlowConsumer::close(1000)
        })
    });
    let mut other = Raw::open(house.address(), "/other");
    let mut raw = Raw::open(house.address(), "/inside");
    raw.text("sub panic");
    assert_eq!(raw.close_frame().0, 1011);
    let mut raw = Raw::open(house.address(), "/outside");
    house.handle().conn(house.log.opened("/outside")).subscribe("panic").unwrap();
    assert_eq!(raw.close_frame().0, 1011);
    other.text("sub 好");
    assert_eq!(other.next_text(), "true");
}

/// Many panics leave no connection and no descriptor behind.
#[test]
fn very_often() {
    let house = House::new(Host::new());
    let mut other = Raw::open(house.address(), "/other");
    for number in 0..200 {
        let mut raw = Raw::connect(house.address());
        raw.send([request(&format!("/{number}"), "").into_bytes(), text(true, "panic")].concat());
        assert!(raw.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(raw.close_frame().0, 1011);
    }
    wait_for(|| (house.handle().counters().open == 1).then_some(()), || "they stay".into());
    other.text("send 好");
    assert_eq!(other.next_text(), "好");
}
