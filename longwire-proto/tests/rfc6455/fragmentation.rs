//! 5.4, fragmentation: what may follow what, and what may stand between.

use std::time::Instant;

use longwire_proto::{CloseFrame, Config, Kind, Outbox, ProtocolError, SendError, SharedFrame};

use crate::frames::{Frame, binary, close, continuation, decode, ping, pong, text};
use crate::receiver::{Seen, connection, drain};
use crate::row::{BOTH, Row, row};

fn says(text: &str) -> Seen {
    Seen::Text(text.into())
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("two fragments", [text("你").more(), continuation("好")]).seen([says("你好")]),
        row("many fragments", [text("你").more(), continuation("好").more(), continuation("👋")])
            .seen([says("你好👋")]),
        row("binary fragments", [binary([0xFF]).more(), continuation([0xFE])])
            .seen([Seen::Binary(vec![0xFF, 0xFE])]),
        row("empty first", [text("").more(), continuation("好")]).seen([says("好")]),
        row("empty last", [text("好").more(), continuation("")]).seen([says("好")]),
        row("all empty", [text("").more(), continuation("").more(), continuation("")]).seen([says("")]),
        row("all empty, binary", [binary("").more(), continuation("")]).seen([Seen::Binary(Vec::new())]),
        row("a large one behind a small one", [binary([1; 5000]).more(), continuation([1; 20_000])])
            .seen([Seen::Binary(vec![1; 25_000])]),
        row("two messages", [text("一").more(), continuation("二"), binary("三").more(), continuation("四")])
            .seen([says("一二"), Seen::Binary("三四".into())]),
        row("not ended", [text("你").more()]).in_message(),
        row("not ended by a continuation", [binary("你").more(), continuation("好").more()]).in_message(),
        // 5.4: control frames may be injected in the middle of a fragmented message
        row("Ping between", [text("你").more(), ping("在吗"), continuation("好")])
            .seen([Seen::Ping("在吗".into()), says("你好")])
            .replies([pong("在吗")]),
        row(
            "Pings and Pongs between",
            [text("你").more(), ping("1"), pong("2"), continuation("").more(), ping(""), continuation("好")],
        )
        .seen([Seen::Ping("1".into()), Seen::Pong("2".into()), Seen::Ping(Vec::new()), says("你好")])
        .replies([pong("1"), pong("")]),
        row("a Ping inside a character", [text(b"\xe4\xbd").more(), ping("?"), continuation(b"\xa0")])
            .seen([Seen::Ping("?".into()), says("你")])
            .replies([pong("?")]),
        row("Close inside a message", [text("你").more(), close(1001, "走了")])
            .seen([Seen::Close(Some((1001, "走了".into())))])
            .replies([close(1001, "走了")])
            .closes(),
        row("a continuation of nothing", [continuation("好")])
            .fails(ProtocolError::UnexpectedContinuation, 1002),
        row("an unfinished continuation of nothing", [continuation("").more()])
            .fails(ProtocolError::UnexpectedContinuation, 1002),
        row("a continuation of a whole message", [text("好"), continuation("好")])
            .seen([says("好")])
            .fails(ProtocolError::UnexpectedContinuation, 1002),
        row("a continuation of an ended message", [text("你").more(), continuation("好"), continuation("")])
            .seen([says("你好")])
            .fails(ProtocolError::UnexpectedContinuation, 1002),
        row("a continuation after a Ping", [ping(""), continuation("")])
            .seen([Seen::Ping(Vec::new())])
            .replies([pong("")])
            .fails(ProtocolError::UnexpectedContinuation, 1002),
        row("text inside text", [text("你").more(), text("好")])
            .fails(ProtocolError::ExpectedContinuation, 1002),
        row("binary inside text", [text("你").more(), binary("好")])
            .fails(ProtocolError::ExpectedContinuation, 1002),
        row("text inside binary", [binary("").more(), continuation("").more(), text("")])
            .fails(ProtocolError::ExpectedContinuation, 1002),
        row("text inside text, behind a Pong", [text("你").more(), pong(""), text("好").more()])
            .seen([Seen::Pong(Vec::new())])
            .fails(ProtocolError::ExpectedContinuation, 1002),
    ]
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// A frame as it is sent: FIN, opcode, and bytes of payload.
type Shape = (bool, u8, usize);

fn shape(bytes: &[u8]) -> Vec<Shape> {
    decode(bytes).into_iter().map(|frame| (frame.fin, frame.opcode, frame.payload.len())).collect()
}

/// `Config::frame_size`: exactly that many bytes are one frame, one more are two.
#[test]
fn a_message_is_sent_in_frames_of_the_configured_size() {
    let table: &[(usize, usize, &[Shape])] = &[
        (10, 0, &[(true, 2, 0)]),
        (10, 10, &[(true, 2, 10)]),
        (10, 11, &[(false, 2, 10), (true, 0, 1)]),
        (10, 20, &[(false, 2, 10), (true, 0, 10)]),
        (10, 21, &[(false, 2, 10), (false, 0, 10), (true, 0, 1)]),
        (1, 3, &[(false, 2, 1), (false, 0, 1), (true, 0, 1)]),
        (40_000, 80_001, &[(false, 2, 40_000), (false, 0, 40_000), (true, 0, 1)]),
        (usize::MAX, 700_000, &[(true, 2, 700_000)]),
    ];
    for &(frame_size, length, expected) in table {
        for &role in BOTH {
            let config = Config::server().frame_size(frame_size);
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut end = connection(role, &config, Instant::now());
            let mut out = Outbox::new();
            end.send(payload.clone().into(), &mut out).unwrap();
            let message = drain(&mut out);
            assert_eq!(shape(&message), expected, "{frame_size} {length} {role:?}");
            let joined: Vec<u8> = decode(&message).into_iter().flat_map(|frame| frame.payload).collect();
            assert_eq!(joined, payload);

            end.send_part(Kind::Binary, payload.clone().into(), true, &mut out).unwrap();
            assert_eq!(shape(&drain(&mut out)), expected, "in one part");
            if length > 0 {
                end.send_part(Kind::Binary, payload.into(), false, &mut out).unwrap();
                end.send_part(Kind::Binary, "".into(), true, &mut out).unwrap();
                let mut unended = expected.to_vec();
                unended.last_mut().unwrap().0 = false;
                unended.push((true, 0, 0));
                assert_eq!(shape(&drain(&mut out)), unended, "in a part that does not end it");
            }
        }
    }
    let default = Config::server();
    for (length, frames) in [(256 * 1024, 1), (256 * 1024 + 1, 2)] {
        for &role in BOTH {
            let mut end = connection(role, &default, Instant::now());
            let mut out = Outbox::new();
            end.send(vec![0; length].into(), &mut out).unwrap();
            assert_eq!(decode(&drain(&mut out)).len(), frames);
            end.send_shared(&SharedFrame::new(vec![0; length]), &mut out).unwrap();
            assert_eq!(decode(&drain(&mut out)).len(), frames);
        }
    }
}

#[test]
fn parts_are_sent_as_the_fragments_of_one_message() {
    for &role in BOTH {
        let mut end = connection(role, &Config::server(), Instant::now());
        let mut out = Outbox::new();
        // Text may be cut within a character.
        end.send_part(Kind::Text, (&b"\xe4\xbd"[..]).into(), false, &mut out).unwrap();
        end.send_part(Kind::Text, "".into(), false, &mut out).unwrap();
        end.ping(b"?", &mut out).unwrap();
        end.send_part(Kind::Text, (&b"\xa0"[..]).into(), true, &mut out).unwrap();
        end.send_part(Kind::Binary, "".into(), true, &mut out).unwrap();
        let expected = [(false, 1, 2), (false, 0, 0), (true, 9, 1), (true, 0, 1), (true, 2, 0)];
        assert_eq!(shape(&drain(&mut out)), expected);
    }
}

/// 5.4: fragments of one message are not interleaved with another's. Refused, and nothing is queued.
#[test]
fn nothing_but_its_next_part_may_follow_the_part_of_a_message() {
    for &role in BOTH {
        let now = Instant::now();
        let mut end = connection(role, &Config::server(), now);
        let mut out = Outbox::new();
        end.send_part(Kind::Text, "你".into(), false, &mut out).unwrap();
        let waiting = shape(&drain(&mut out));
        assert_eq!(waiting, [(false, 1, 3)]);

        let shared = SharedFrame::new("好");
        assert_eq!(end.send("好".into(), &mut out), Err(SendError::MessageUnderWay));
        assert_eq!(end.send_shared(&shared, &mut out), Err(SendError::MessageUnderWay));
        let part = end.send_part(Kind::Binary, "好".into(), true, &mut out);
        assert_eq!(part, Err(SendError::KindChanged));
        assert!(out.is_empty());

        end.send_part(Kind::Text, "好".into(), true, &mut out).unwrap();
        end.send("好".into(), &mut out).unwrap();
        end.send_shared(&shared, &mut out).unwrap();
        assert_eq!(shape(&drain(&mut out)), [(true, 0, 3), (true, 1, 3), (true, 1, 3)]);

        // 5.5.1: a Close frame may stand inside a message; nothing follows it.
        end.send_part(Kind::Binary, "你".into(), false, &mut out).unwrap();
        end.close(&CloseFrame::new(1001, ""), &mut out, now).unwrap();
        let part = end.send_part(Kind::Binary, "好".into(), true, &mut out);
        assert_eq!(part, Err(SendError::Closing));
        assert_eq!(shape(&drain(&mut out)), [(false, 2, 3), (true, 8, 2)]);
    }
}

/// Fragments need not be cut as the frames of the sender were: the joined message is the same.
#[test]
fn a_message_cut_into_fragments_anywhere_is_the_same() {
    let message = "你好，世界 👋🏽".as_bytes();
    for first in 0..=message.len() {
        for second in first..=message.len() {
            let frames: [Frame; 3] = [
                text(&message[..first]).more(),
                continuation(&message[first..second]).more(),
                continuation(&message[second..]),
            ];
            for &role in BOTH {
                let mut receiver = crate::receiver::Receiver::new(
                    crate::receiver::Entry::Assembler,
                    role,
                    &Config::server(),
                );
                receiver.feed(&crate::frames::encode(&frames, role));
                assert_eq!(receiver.seen, [says("你好，世界 👋🏽")], "{first} {second}");
            }
        }
    }
}
