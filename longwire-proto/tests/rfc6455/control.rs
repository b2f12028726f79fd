//! 5.5, control frames: at most 125 bytes, never in fragments; a Ping is answered by its Pong.

use std::time::Instant;

use longwire_proto::{Config, Outbox, ProtocolError, SendError};

use crate::frames::{binary, close, close_empty, decode, encode, frame, ping, pong, text};
use crate::receiver::{Entry, Receiver, Seen, connection, drain};
use crate::row::{BOTH, Row, row};

pub(crate) fn rows() -> Vec<Row> {
    let longest = [0xFE; 125];
    let mut rows = vec![
        row("Ping", [ping("")]).seen([Seen::Ping(Vec::new())]).replies([pong("")]),
        row("Ping with payload", [ping("在吗 👋")])
            .seen([Seen::Ping("在吗 👋".into())])
            .replies([pong("在吗 👋")]),
        row("Ping of 125 bytes that are no text", [ping(longest)])
            .seen([Seen::Ping(longest.into())])
            .replies([pong(longest)]),
        row("Pong unasked", [pong("好")]).seen([Seen::Pong("好".into())]),
        row("Pong of 125 bytes", [pong(longest)]).seen([Seen::Pong(longest.into())]),
        row("Pings in a row", [ping("1"), ping("2"), pong("3"), ping("4")])
            .seen([
                Seen::Ping("1".into()),
                Seen::Ping("2".into()),
                Seen::Pong("3".into()),
                Seen::Ping("4".into()),
            ])
            .replies([pong("1"), pong("2"), pong("4")]),
        row("Ping between messages", [text("你"), ping("?"), binary("好")])
            .seen([Seen::Text("你".into()), Seen::Ping("?".into()), Seen::Binary("好".into())])
            .replies([pong("?")]),
        row("half a Ping", [ping("在吗").cut(7)]).in_frame(),
    ];
    for opcode in [0x8, 0x9, 0xA] {
        // 5.5: "All control frames MUST have a payload length of 125 bytes or less"
        for length in [126, 127, 65_535, 65_536, 70_000] {
            rows.push(
                row(format!("opcode {opcode:#x} of {length}"), [frame(opcode, vec![b'1'; length])])
                    .fails(ProtocolError::ControlTooLong, 1002),
            );
        }
        rows.push(
            row(format!("opcode {opcode:#x} that claims 2^62"), [frame(opcode, "").length64(1 << 62)])
                .fails(ProtocolError::ControlTooLong, 1002),
        );
        // 5.5: "and MUST NOT be fragmented"
        let fragmented = ProtocolError::ControlFragmented;
        rows.push(row(format!("begun {opcode:#x}"), [frame(opcode, "").more()]).fails(fragmented, 1002));
        rows.push(
            row(format!("begun {opcode:#x} in a message"), [text("好").more(), frame(opcode, "12").more()])
                .fails(fragmented, 1002),
        );
    }
    rows
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// A Ping is sent with up to 125 bytes; a longer one is refused and nothing is queued.
#[test]
fn the_longest_ping_that_is_sent() {
    for &role in BOTH {
        let mut end = connection(role, &Config::server(), Instant::now());
        let mut out = Outbox::new();
        assert_eq!(end.ping(&[7; 126], &mut out), Err(SendError::ControlTooLong));
        assert!(out.is_empty());
        end.ping(&[7; 125], &mut out).unwrap();
        end.ping(b"", &mut out).unwrap();
        let frames = decode(&drain(&mut out));
        let frames: Vec<_> = frames.iter().map(|frame| (frame.opcode, frame.payload.len())).collect();
        assert_eq!(frames, [(9, 125), (9, 0)]);
    }
}

/// 5.5.3: of Pongs that cannot be written the latest may stand for all. They never take more than
/// 16 KiB, and the last Ping is answered in the end.
#[test]
fn pongs_that_wait_are_bounded() {
    for &role in BOTH {
        let mut receiver = Receiver::new(Entry::Connection, role, &Config::server());
        let mut longest = 0;
        for i in 0..9_999u32 {
            receiver.feed(&encode(&[ping(i.to_be_bytes())], role));
            longest = longest.max(bytes::Buf::remaining(&receiver.out));
        }
        assert!((16_000..=16 * 1024).contains(&longest), "{longest}");
        let frames = decode(&receiver.replies());
        assert!(frames.iter().all(|frame| frame.opcode == 0xA && frame.fin));
        let numbers: Vec<u32> =
            frames.iter().map(|frame| u32::from_be_bytes(frame.payload[..].try_into().unwrap())).collect();
        let (last, first) = numbers.split_last().unwrap();
        assert_eq!(*last, 9_998, "the latest");
        assert!(first.iter().copied().eq(0..first.len() as u32), "those that found room, in order");

        receiver.feed(&encode(&[text("好"), ping("再来")], role));
        assert_eq!(decode(&receiver.replies())[0].payload, "再来".as_bytes(), "there is room again");
    }
}

/// Nor do they when a peer takes a byte now and then: only Pongs that were written make room.
#[test]
fn pongs_that_wait_are_bounded_however_slowly_they_leave() {
    for &role in BOTH {
        let mut receiver = Receiver::new(Entry::Connection, role, &Config::server());
        receiver.connection.send(vec![1; 100_000].into(), &mut receiver.out).unwrap();
        for _ in 0..9_000 {
            bytes::Buf::advance(&mut receiver.out, 1);
            receiver.feed(&encode(&[ping([7; 100])], role));
        }
        let message = 100_014 - 9_000;
        let pongs = bytes::Buf::remaining(&receiver.out) - message;
        assert!(pongs <= 16 * 1024, "{pongs} bytes of Pongs wait");
    }
}

/// A Pong that found no room is not sent behind a Close frame (5.5.1).
#[test]
fn a_pong_that_found_no_room_never_follows_a_close_frame() {
    for &role in BOTH {
        for peer_closes in [false, true] {
            let mut receiver = Receiver::new(Entry::Connection, role, &Config::server());
            for _ in 0..500 {
                receiver.feed(&encode(&[ping([0x55; 125])], role));
            }
            if peer_closes {
                receiver.feed(&encode(&[close_empty()], role));
            } else {
                let frame = longwire_proto::CloseFrame::new(1000, "");
                receiver.connection.close(&frame, &mut receiver.out, receiver.now).unwrap();
            }
            let frames = decode(&receiver.replies());
            assert!(frames.len() > 100);
            assert_eq!(frames.iter().position(|frame| frame.opcode == 8), Some(frames.len() - 1));
            receiver.feed(&encode(&[ping("?")], role));
            assert!(receiver.out.is_empty());
        }
    }
}

/// 5.5.2: none is sent after our own Close frame, though the Ping is reported.
#[test]
fn a_ping_after_our_close_frame_is_not_answered() {
    for &role in BOTH {
        let mut receiver = Receiver::new(Entry::Connection, role, &Config::server());
        let frame = longwire_proto::CloseFrame::new(1000, "再见");
        receiver.connection.close(&frame, &mut receiver.out, receiver.now).unwrap();
        receiver.replies();
        receiver.feed(&encode(&[ping("在吗"), text("还有"), close(1000, "")], role));
        let seen =
            [Seen::Ping("在吗".into()), Seen::Text("还有".into()), Seen::Close(Some((1000, String::new())))];
        assert_eq!(receiver.seen, seen);
        assert!(receiver.out.is_empty());
    }
}
