//! 10.4, limits: each is reached exactly and then exceeded by one.

use std::time::Duration;

use longwire_proto::{Config, ProtocolError, Role};

use crate::frames::{Frame, binary, close, continuation, encode, ping, pong, text};
use crate::receiver::{Entry, Receiver, Seen};
use crate::row::{BOTH, Row, row};

/// The entries that put messages together.
const JOINING: &[Entry] = &[Entry::Assembler, Entry::Landing];

/// The entries that do not: messages of any size pass through them in parts.
const IN_PARTS: &[Entry] = &[Entry::Connection, Entry::Parts];

pub(crate) fn rows() -> Vec<Row> {
    let too_big = |limit| ProtocolError::MessageTooBig { limit };
    let too_many = |limit| ProtocolError::TooManyFragments { limit };
    let flood = |limit| ProtocolError::TooManyControlFrames { limit };
    let six = |config: Config| config.max_message(6);
    let three = |config: Config| config.max_small_fragments(3);
    let two = |config: Config| config.max_control_run(2);
    let said = |text: &str| Seen::Text(text.into());
    let pinged = || Seen::Ping("?".into());
    vec![
        // The trailing frames of good rows are over these limits, so such rows end inside a frame.
        row("6 of 6", [text("你好"), text("").cut(1)]).config(six).seen([said("你好")]).in_frame(),
        row("7 of 6", [text("你好!")]).config(six).through(JOINING).fails(too_big(6), 1009),
        row("7 of 6 in parts", [text("你好!"), text("").cut(1)])
            .config(six)
            .through(IN_PARTS)
            .seen([said("你好!")])
            .in_frame(),
        row(
            "6 of 6 in fragments",
            [text("你").more(), continuation("好").more(), continuation(""), ping("").cut(1)],
        )
        .config(six)
        .seen([said("你好")])
        .in_frame(),
        row("7 of 6 in fragments", [text("你").more(), continuation("好").more(), continuation("!")])
            .config(six)
            .through(JOINING)
            .fails(too_big(6), 1009),
        row("7 of 6, announced", [text("你").more(), continuation("好!").cut(2 + 4)])
            .config(six)
            .through(JOINING)
            .received_by(&[Role::Server])
            .fails(too_big(6), 1009),
        row("7 of 6, announced", [text("你").more(), continuation("好!").cut(2)])
            .config(six)
            .through(JOINING)
            .received_by(&[Role::Client])
            .fails(too_big(6), 1009),
        row("1 of 0", [binary("!")])
            .config(|config| config.max_message(0))
            .through(JOINING)
            .fails(too_big(0), 1009),
        row("0 of 0", [binary(""), binary("").more(), continuation(""), ping("").cut(1)])
            .config(|config| config.max_message(0))
            .seen([Seen::Binary(Vec::new()), Seen::Binary(Vec::new())])
            .in_frame(),
        row("2^62 claimed", [binary("").length64(1 << 62)])
            .through(JOINING)
            .received_by(&[Role::Server])
            .fails(too_big(1024 * 1024), 1009),
        row("2^63 - 1 claimed", [binary("").length64((1 << 63) - 1)])
            .through(JOINING)
            .received_by(&[Role::Client])
            .fails(too_big(64 * 1024 * 1024), 1009),
        row(
            "all that can be claimed, twice",
            [binary("!").more(), continuation("").length64(i64::MAX as u64)],
        )
        .config(|config| config.max_message(1 << 40))
        .through(JOINING)
        .fails(too_big(1 << 40), 1009),
        row("2^62 claimed, in parts", [binary("").length64(1 << 62), text("payload"), ping("payload")])
            .through(IN_PARTS)
            .in_frame(),
        row("3 fragments of 3", [text("").more(), continuation("").more(), continuation("好")])
            .config(three)
            .seen([said("好")]),
        row(
            "4 fragments of 3",
            [text("").more(), continuation("").more(), continuation("").more(), continuation("")],
        )
        .config(three)
        .fails(too_many(3), 1008),
        row(
            "3 fragments of 3, each time, with control frames between",
            [
                text("").more(),
                continuation("").more(),
                ping("?"),
                continuation(""),
                binary("").more(),
                ping("?"),
                continuation("").more(),
                continuation(""),
            ],
        )
        .config(three)
        .seen([pinged(), said(""), pinged(), Seen::Binary(Vec::new())])
        .replies([pong("?"), pong("?")]),
        row(
            "larger ones pay for themselves",
            [binary([7; 32]).more()].into_iter().chain((0..9).map(|_| continuation([7; 32]).more())).chain([
                continuation([7; 31]).more(),
                continuation("").more(),
                continuation("!"),
            ]),
        )
        .config(three)
        .seen([Seen::Binary([vec![7; 351], vec![b'!']].concat())]),
        row(
            "4 small ones among them",
            [
                binary([7; 32]).more(),
                continuation([7; 31]).more(),
                continuation([7; 32]).more(),
                continuation("").more(),
                continuation("").more(),
                continuation([7; 32]).more(),
                continuation([7; 31]),
            ],
        )
        .config(three)
        .fails(too_many(3), 1008),
        row("2 fragments of 1", [binary("1").more(), continuation("2")])
            .config(|config| config.max_small_fragments(1))
            .fails(too_many(1), 1008),
        row(
            "2 control frames of 2",
            [ping("?"), ping("?"), text("好"), ping("?"), pong("!"), text("").more()],
        )
        .config(two)
        .seen([pinged(), pinged(), said("好"), pinged(), Seen::Pong("!".into())])
        .replies([pong("?"), pong("?"), pong("?")])
        .in_message(),
        row("3 control frames of 2", [ping("?"), pong("!"), ping("3")])
            .config(two)
            .seen([pinged(), Seen::Pong("!".into())])
            .replies([pong("?")])
            .fails(flood(2), 1008),
        row("a Close frame is one of them", [ping("?"), ping("?"), close(1000, "")])
            .config(two)
            .seen([pinged(), pinged()])
            .replies([pong("?"), pong("?")])
            .fails(flood(2), 1008),
        row(
            "empty fragments are between them",
            [text("").more(), ping("?"), ping("?"), continuation("").more(), ping("?")],
        )
        .config(two)
        .seen([pinged(), pinged(), pinged()])
        .replies([pong("?"), pong("?"), pong("?")])
        .in_message(),
    ]
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// The default limits of both roles, exactly at the bound and one byte beyond, in one frame and in two.
#[test]
fn the_largest_message_by_default() {
    for (role, config, limit) in
        [(Role::Server, Config::server(), 1024 * 1024), (Role::Client, Config::client(), 64 * 1024 * 1024)]
    {
        assert_eq!(config.max_message, limit);
        for entry in [Entry::Assembler, Entry::Landing] {
            let payload = vec![b'a'; limit + 1];
            let mut receiver = Receiver::new(entry, role, &config);
            encode(&[text(&payload[..limit])], role)
                .chunks(256 * 1024)
                .for_each(|piece| receiver.feed(piece));
            assert!(matches!(&receiver.seen[..], [Seen::Text(text)] if text.len() == limit));
            receiver.seen.clear();
            // One byte beyond fails as soon as it is announced.
            let two = [text(&payload[..9]).more(), continuation(&payload[9..]).cut(14)];
            receiver.feed(&encode(&two, role));
            assert_eq!(receiver.error, Some(ProtocolError::MessageTooBig { limit }));
        }
    }
}

#[test]
fn the_most_fragments_by_default() {
    for &role in BOTH {
        for entry in Entry::ALL {
            let mut receiver = Receiver::new(entry, role, &Config::server());
            let more: Vec<Frame> =
                (0..16_384).map(|i| if i == 0 { text("").more() } else { continuation("").more() }).collect();
            encode(&more, role).chunks(900).for_each(|piece| receiver.feed(piece));
            assert_eq!(receiver.error, None);
            receiver.feed(&encode(&[continuation("好")], role));
            assert_eq!(receiver.error, Some(ProtocolError::TooManyFragments { limit: 16_384 }));
        }
    }
}

/// A run is ended by a data frame, by 100 ms of silence, and by nothing shorter.
/// Autobahn 9.3.1 and 9.4.1: the limit is on fragments that do not pay for themselves by their payload.
#[test]
fn four_mebibytes_in_fragments_of_64_bytes_pass_by_default() {
    for &role in BOTH {
        let config = Config::server().max_message(4 * 1024 * 1024);
        let mut receiver = Receiver::new(Entry::Assembler, role, &config);
        let piece = [0xA5; 64];
        receiver.feed(&encode(&[binary(piece).more()], role));
        let more = encode(&vec![continuation(piece).more(); 1000], role);
        for _ in 0..65 {
            receiver.feed(&more);
        }
        let rest = 65_536 - 65_001 - 1;
        receiver.feed(&encode(&vec![continuation(piece).more(); rest], role));
        receiver.feed(&encode(&[continuation(piece)], role));
        assert_eq!(receiver.error, None);
        assert!(matches!(&receiver.seen[..], [Seen::Binary(bytes)] if bytes.len() == 4 * 1024 * 1024));
    }
}

#[test]
fn the_longest_run_of_control_frames_by_default() {
    for &role in BOTH {
        let mut receiver = Receiver::new(Entry::Connection, role, &Config::server());
        let run = encode(&vec![pong(""); 10_000], role);
        let feed = |receiver: &mut Receiver| run.chunks(1000).for_each(|piece| receiver.feed(piece));
        feed(&mut receiver);
        receiver.feed(&encode(&[binary("")], role));
        feed(&mut receiver);
        receiver.wait(Duration::from_millis(100));
        feed(&mut receiver);
        assert_eq!(receiver.seen.len(), 30_001);
        assert_eq!(receiver.error, None);
        receiver.wait(Duration::from_millis(99));
        receiver.feed(&encode(&[pong("")], role));
        assert_eq!(receiver.error, Some(ProtocolError::TooManyControlFrames { limit: 10_000 }));
    }
}

/// The silence before a keepalive Ping ends a run too, however soon after the Ping its Pong comes.
#[test]
fn silence_that_was_ended_by_our_ping_ends_a_run() {
    for &role in BOTH {
        let mut receiver = Receiver::new(Entry::Connection, role, &Config::server().max_control_run(2));
        receiver.feed(&encode(&[pong("1"), pong("2")], role));
        receiver.wait(Duration::from_secs(20));
        receiver.connection.handle_timeout(&mut receiver.out, receiver.now).unwrap();
        receiver.wait(Duration::from_millis(1));
        receiver.feed(&encode(&[pong("3"), pong("4")], role));
        assert_eq!(receiver.error, None);
        receiver.feed(&encode(&[pong("5")], role));
        assert_eq!(receiver.error, Some(ProtocolError::TooManyControlFrames { limit: 2 }));
    }
}

/// The largest limit that can be named is a limit too.
#[test]
fn the_largest_limit_of_control_frames_is_one() {
    let config = Config::server().max_control_run(u16::MAX);
    let mut receiver = Receiver::new(Entry::Connection, Role::Server, &config);
    let run = encode(&vec![pong(""); usize::from(u16::MAX)], Role::Server);
    run.chunks(1000).for_each(|piece| receiver.feed(piece));
    assert_eq!(receiver.error, None);
    receiver.feed(&encode(&[pong("")], Role::Server));
    assert_eq!(receiver.error, Some(ProtocolError::TooManyControlFrames { limit: u16::MAX }));
}

/// Beyond `max_message` the rest of a message that is taken in parts is none of the limit's.
#[test]
fn a_message_over_the_limit_is_taken_in_parts() {
    for &role in BOTH {
        let mut receiver = Receiver::new(Entry::Parts, role, &Config::server().max_message(10));
        let payload = "长".repeat(100_000);
        encode(&[text(&payload), text("好")], role).chunks(7000).for_each(|piece| receiver.feed(piece));
        assert_eq!(receiver.seen, [Seen::Text(payload), Seen::Text("好".into())]);
    }
}

/// What a driver lets wait before it stops queueing is its own to keep; the number is here.
#[test]
fn the_write_buffer_is_named() {
    assert_eq!(Config::server().write_buffer.get(), 1024 * 1024);
    assert_eq!(Config::client().write_buffer.get(), 1024 * 1024);
    assert_eq!(Config::server().write_buffer(7).write_buffer.get(), 7);
}

#[test]
#[should_panic(expected = "Config::write_buffer must not be 0")]
fn a_write_buffer_of_nothing_is_refused() {
    let _ = Config::server().write_buffer(0);
}

#[test]
#[should_panic(expected = "Config::frame_size must not be 0")]
fn frames_of_nothing_are_refused() {
    let _ = Config::server().frame_size(0);
}
