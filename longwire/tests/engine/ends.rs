//! How connections end: which cause is reported, and what the peer sees.

use std::time::Duration;

use longwire::{Config, Error, ProtocolError, Side};
use longwire_proto::frame::OpCode;

use crate::host::{Host, House, closed};
use crate::raw::Raw;
use crate::support::frames::{close, frame, text};

#[test]
fn the_peers_close() {
    let house = House::new(Host::new());
    let cases = [
        (close(true, 1000, ""), Some((1000, ""))),
        (close(true, 4999, "走了"), Some((4999, "走了"))),
        (frame(true, true, OpCode::Close, ""), None),
    ];
    for (number, (bytes, expected)) in cases.into_iter().enumerate() {
        let path = format!("/{number}");
        let mut raw = Raw::open(house.address(), &path);
        raw.send(bytes);
        let (code, reason) = raw.close_frame();
        assert_eq!((code, reason.as_str()), expected.unwrap_or((1005, "")));
        let frame = expected.map(|(code, reason)| (code, reason.to_owned()));
        assert_eq!(closed(house.log.closed(&path)), (Side::Peer, frame));
    }
    assert_eq!(house.counters(|counters| counters.closed == 3).lost, 0);
}

#[test]
fn our_close() {
    let house = House::new(Host::new());
    let mut raw = Raw::open(house.address(), "/a");
    raw.text("close 1012 重启");
    assert_eq!(raw.answer_close(), (1012, "重启".into()));
    assert_eq!(closed(house.log.closed("/a")), (Side::Us, Some((1012, "重启".into()))));
    let mut raw = Raw::open(house.address(), "/b");
    raw.text("close 1006 never");
    raw.text("send 好");
    assert_eq!(raw.next_text(), "好", "what may not be sent closes nothing");
    // Both ends close at once: each end counts the Close frame that it saw first.
    raw.send([text(true, "close 1001 "), close(true, 1000, "")].concat());
    assert_eq!(raw.close_frame().0, 1001);
    assert_eq!(closed(house.log.closed("/b")), (Side::Us, Some((1001, String::new()))));
}

#[test]
fn broken_rules() {
    let house = House::of(Host::new(), Config::server().max_message(1000).max_small_fragments(3));
    let fragment = |opcode| frame(true, false, opcode, "x");
    let fragments =
        [OpCode::Text, OpCode::Continuation, OpCode::Continuation, OpCode::Continuation].map(fragment);
    let cases = [
        (text(false, "not masked"), 1002, ProtocolError::NotMasked),
        (fragment(OpCode::Continuation), 1002, ProtocolError::UnexpectedContinuation),
        (frame(true, true, OpCode::Text, [0xFF]), 1007, ProtocolError::InvalidUtf8),
        (frame(true, true, OpCode::Binary, [0; 1001]), 1009, ProtocolError::MessageTooBig { limit: 1000 }),
        (fragments.concat(), 1008, ProtocolError::TooManyFragments { limit: 3 }),
    ];
    let count = cases.len() as u64;
    for (number, (bytes, code, expected)) in cases.into_iter().enumerate() {
        let path = format!("/{number}");
        let mut raw = Raw::open(house.address(), &path);
        raw.send(bytes);
        // Input that still arrives does not keep the peer from reading the Close frame.
        raw.send(text(true, "panic").repeat(1000));
        assert_eq!(raw.close_frame().0, code, "{expected:?}");
        drop(raw);
        let error = house.log.closed(&path).unwrap_err();
        assert!(matches!(error, Error::Protocol(error) if error == expected), "{error:?}, {expected:?}");
        assert!(!house.log.names(&path).contains(&"message"));
    }
    assert_eq!(house.counters(|counters| counters.protocol_errors == count).closed, 0);
}

#[test]
fn without_a_close() {
    let house = House::new(Host::new());
    let mut raw = Raw::open(house.address(), "/eof");
    raw.send(&text(true, "send 一半")[..5]);
    raw.end();
    assert!(matches!(house.log.closed("/eof"), Err(Error::Eof)));
    assert!(raw.rest().is_empty());
    let raw = Raw::open(house.address(), "/reset");
    raw.reset();
    let error = house.log.closed("/reset").unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    assert_eq!(house.counters(|counters| counters.lost == 2).closed, 0);
}

/// Messages in front of the end of TCP are processed and answered first.
#[test]
fn the_last_words_are_heard() {
    let house = House::new(Host::new());
    let mut raw = Raw::open(house.address(), "/");
    raw.texts((0..5000).map(|_| "send 好"));
    raw.end();
    for _ in 0..5000 {
        assert_eq!(raw.next_text(), "好");
    }
    assert!(matches!(house.log.closed("/"), Err(Error::Eof)));
}

fn quick() -> Config {
    Config::server().ping_after(None).close_timeout(Duration::from_millis(200))
}

#[test]
fn silence() {
    let config = quick().ping_after(Some(Duration::from_millis(100)));
    let house = House::of(Host::new(), config.pong_timeout(Duration::from_millis(150)));
    let mut raw = Raw::open(house.address(), "/");
    for _ in 0..3 {
        let ping = raw.frame().unwrap();
        assert_eq!(ping.opcode, OpCode::Ping);
        raw.send(frame(true, true, OpCode::Pong, ping.payload));
    }
    assert_eq!(raw.close_frame(), (1011, "ping timeout".into()));
    assert!(matches!(house.log.closed("/"), Err(Error::PingTimeout)));
    assert_eq!(house.counters(|counters| counters.timeouts == 1).open, 0);
}

/// The next Ping comes after `ping_after`, though the deadline for the last Pong was much later.
#[test]
fn pings_come_again_before_the_last_would_have_been_given_up() {
    let config = quick().ping_after(Some(Duration::from_millis(100)));
    let house = House::of(Host::new(), config.pong_timeout(Duration::from_secs(3600)));
    let mut raw = Raw::open(house.address(), "/");
    for _ in 0..3 {
        let ping = raw.frame().unwrap();
        assert_eq!(ping.opcode, OpCode::Ping);
        raw.send(frame(true, true, OpCode::Pong, ping.payload));
    }
}

#[test]
fn a_close_that_nobody_answers() {
    let house = House::of(Host::new(), quick());
    let mut raw = Raw::open(house.address(), "/");
    raw.text("close 1000 再见");
    // Other bytes are no answer, however many.
    let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
    let chatter = std::thread::spawn(move || {
        let bytes = text(true, "panic");
        while std::io::Write::write_all(&mut writer.stream, &bytes).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(matches!(house.log.closed("/"), Err(Error::CloseTimeout)));
    assert!(raw.rest().starts_with(&close(false, 1000, "再见")));
    chatter.join().unwrap();
}

#[test]
fn a_peer_that_takes_nothing() {
    let house = House::of(
        Host::new(),
        quick().write_timeout(Duration::from_millis(200)).write_buffer(64 * 1024 * 1024),
    );
    let mut raw = Raw::open(house.address(), "/");
    raw.text("flood 200 100000");
    assert!(matches!(house.log.closed("/"), Err(Error::WriteTimeout)));
    // Also if the peer keeps sending.
    let mut raw = Raw::open(house.address(), "/talks");
    raw.text("flood 200 100000");
    while std::io::Write::write_all(&mut raw.stream, &frame(true, true, OpCode::Ping, "")).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(house.log.closed("/talks"), Err(Error::WriteTimeout)));
}

#[test]
fn a_message_that_does_not_come_to_its_end() {
    let house = House::of(Host::new(), quick().message_timeout(Some(Duration::from_millis(200))));
    let beginnings = [
        frame(true, true, OpCode::Text, "send 一半")[..8].to_vec(),
        frame(true, false, OpCode::Text, "send"),
        frame(true, true, OpCode::Binary, [0; 500])[..3].to_vec(),
        frame(true, true, OpCode::Ping, "send")[..7].to_vec(),
        frame(true, true, OpCode::Binary, [0; 100_000])[..50_000].to_vec(),
    ];
    for (number, beginning) in beginnings.into_iter().enumerate() {
        let path = format!("/{number}");
        let mut raw = Raw::open(house.address(), &path);
        raw.text("send 好");
        assert_eq!(raw.next_text(), "好");
        raw.send(beginning);
        assert_eq!(raw.close_frame(), (1008, "message timeout".into()));
        drop(raw);
        assert!(matches!(house.log.closed(&path), Err(Error::MessageTimeout)));
    }
    assert_eq!(house.counters(|counters| counters.timeouts == 5).lost, 0);
}

/// The peer answers Pings, which are no messages.
#[test]
fn a_peer_that_sends_no_message() {
    let config = quick().ping_after(Some(Duration::from_millis(50))).pong_timeout(Duration::from_secs(60));
    let house = House::of(Host::new(), config.read_timeout(Some(Duration::from_millis(300))));
    let mut raw = Raw::open(house.address(), "/");
    raw.text("send 你好");
    assert_eq!(raw.next_text(), "你好");
    let reason = loop {
        let received = raw.frame().unwrap();
        match received.opcode {
            OpCode::Ping => raw.send(frame(true, true, OpCode::Pong, received.payload)),
            OpCode::Close => break (received.close_code(), received.payload),
            opcode => panic!("{opcode:?}"),
        }
    };
    assert_eq!((reason.0, &reason.1[2..]), (1008, &b"read timeout"[..]));
    assert!(matches!(house.log.closed("/"), Err(Error::ReadTimeout)));
}

/// A peer that does not read our Close frame has not closed cleanly.
#[test]
fn a_close_whose_answer_is_not_taken() {
    let house = House::of(Host::new(), quick().write_buffer(64 * 1024 * 1024));
    let mut raw = Raw::open(house.address(), "/");
    raw.send([text(true, "flood 500 100000"), close(true, 1000, "")].concat());
    assert!(matches!(house.log.closed("/"), Err(Error::CloseTimeout)));
    assert_eq!(house.counters(|counters| counters.open == 0).timeouts, 1);
}

/// A peer that broke a rule and does not end TCP is dropped after the close timeout.
#[test]
fn who_was_failed_is_not_waited_for() {
    let house = House::of(Host::new(), quick());
    let mut raw = Raw::open(house.address(), "/");
    raw.send(text(false, "not masked"));
    assert!(matches!(house.log.closed("/"), Err(Error::Protocol(_))));
    assert_eq!(raw.close_frame().0, 1002);
}

#[test]
fn the_engine_was_stopped() {
    let house = House::with(Host::new(), |engine| engine.threads(2));
    let mut raws: Vec<_> = (0..10).map(|number| Raw::open(house.address(), &format!("/{number}"))).collect();
    house.handle().stop();
    for (number, raw) in raws.iter_mut().enumerate() {
        let error = house.log.closed(&format!("/{number}")).unwrap_err();
        assert!(
            matches!(&error, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionAborted),
            "{error:?}"
        );
        assert!(raw.rest().is_empty());
    }
    let House { running, .. } = house;
    let handle = running.handle();
    running.wait().unwrap();
    assert_eq!((handle.counters().open, handle.counters().lost), (0, 10));
}
