//! Messages of every size and in any number of frames are echoed unchanged.

use std::thread;

use longwire::{Acceptor, Config};
use longwire_proto::frame::{Header, OpCode};

use crate::host::{Host, House};
use crate::raw::Raw;
use crate::support::frames::{frame, text};

/// Bytes that each differ from the next.
fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 251 + 7) as u8).collect()
}

/// Writes while it reads: a peer that only writes would not be read from for ever.
fn send_beside(raw: &Raw, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut writer = Raw { stream: raw.stream.try_clone().unwrap(), read: Vec::new() };
    thread::spawn(move || writer.send(bytes))
}

#[test]
fn sizes_around_every_boundary() {
    let boundaries = [0, 125, 4 * 1024, 8 * 1024, 16 * 1024, 64 * 1024, 128 * 1024, 256 * 1024, 1024 * 1024];
    for threads in [1, 2] {
        let acceptor = Acceptor::new().config(Config::server().max_message(2 * 1024 * 1024));
        let house = House::with(Host::echo(), |engine| engine.threads(threads).acceptor(acceptor));
        let mut raw = Raw::open(house.address(), "/");
        for boundary in boundaries {
            for size in [boundary - boundary.min(2), boundary, boundary + 1, boundary + 300] {
                let payload = payload(size);
                let sends = send_beside(&raw, frame(true, true, OpCode::Binary, &payload));
                assert!(raw.message() == (OpCode::Binary, payload), "{size}");
                sends.join().unwrap();
            }
        }
    }
}

#[test]
fn text_is_text() {
    let house = House::new(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    for message in ["", "a", "你好，世界", "👋🏽👨‍👩‍👧‍👦", "\u{0}\u{10FFFF}é"] {
        for count in [1, 40, 1000, 30_000] {
            let message = message.repeat(count);
            let sends = send_beside(&raw, text(true, &message));
            assert!(raw.next_text() == message);
            sends.join().unwrap();
        }
    }
}

#[test]
fn fragments_with_control_frames_between() {
    let house = House::new(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    let bytes = [
        frame(true, false, OpCode::Text, &"你".as_bytes()[..1]),
        frame(true, true, OpCode::Ping, "一"),
        frame(true, false, OpCode::Continuation, &"你".as_bytes()[1..]),
        frame(true, false, OpCode::Continuation, ""),
        frame(true, true, OpCode::Pong, "没人问"),
        frame(true, true, OpCode::Ping, ""),
        frame(true, true, OpCode::Continuation, "好"),
        frame(true, false, OpCode::Binary, ""),
        frame(true, true, OpCode::Continuation, ""),
    ]
    .concat();
    for size in [bytes.len(), 1, 3, 7] {
        for piece in bytes.chunks(size) {
            raw.send(piece);
        }
        assert!(raw.frame().unwrap().is(OpCode::Pong, "一"));
        assert!(raw.frame().unwrap().is(OpCode::Pong, ""));
        assert_eq!(raw.next_text(), "你好");
        assert_eq!(raw.message(), (OpCode::Binary, Vec::new()));
    }
}

#[test]
fn large_fragments_with_control_frames_between() {
    let house = House::new(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    let whole = payload(900_000);
    let mut bytes = Vec::new();
    for (number, piece) in whole.chunks(123_457).enumerate() {
        let opcode = if number == 0 { OpCode::Binary } else { OpCode::Continuation };
        bytes.extend(frame(true, false, opcode, piece));
        bytes.extend(frame(true, true, OpCode::Ping, number.to_string()));
    }
    bytes.extend(frame(true, true, OpCode::Continuation, ""));
    bytes.extend(text(true, "末"));
    for _ in 0..3 {
        let sends = send_beside(&raw, bytes.clone());
        for number in 0..8 {
            assert!(raw.frame().unwrap().is(OpCode::Pong, number.to_string()));
        }
        assert!(raw.message() == (OpCode::Binary, whole.clone()));
        assert_eq!(raw.next_text(), "末");
        sends.join().unwrap();
    }
}

#[test]
fn one_byte_at_a_time() {
    let house = House::new(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    for size in [0, 1, 125, 126, 700] {
        let payload = payload(size);
        for byte in frame(true, true, OpCode::Binary, &payload) {
            raw.send([byte]);
        }
        assert_eq!(raw.message(), (OpCode::Binary, payload));
    }
}

#[test]
fn thousands_in_one_segment() {
    let house = House::new(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    for count in [1_000, 20_000, 100_000] {
        let bytes = (0..count).flat_map(|number| text(true, &number.to_string())).collect();
        let sends = send_beside(&raw, bytes);
        for number in 0..count {
            assert_eq!(raw.next_text(), number.to_string());
        }
        sends.join().unwrap();
    }
    assert_eq!(house.counters(|counters| counters.sent.messages() == 121_000).received.messages(), 121_000);
}

/// A large message is read into its own buffer, and frames behind it in the same read are not lost.
#[test]
fn frames_behind_a_large_one() {
    let house = House::new(Host::echo());
    let mut raw = Raw::open(house.address(), "/");
    for size in [20_000, 100_000, 200_000, 500_000, 1024 * 1024] {
        for behind in [1, 100, 5_000] {
            let large = payload(size);
            let mut bytes = frame(true, true, OpCode::Binary, &large);
            bytes.extend((0..behind).flat_map(|number: usize| text(true, &number.to_string())));
            bytes.extend(frame(true, true, OpCode::Ping, "?"));
            bytes.extend(frame(true, true, OpCode::Binary, &large));
            // A part of it first, so that the rest is read into its own buffer.
            raw.send(&bytes[..10_000]);
            let sends = send_beside(&raw, bytes[10_000..].to_vec());
            let (mut number, mut ponged, mut joined) = (0, false, Vec::new());
            while joined.len() < 2 * size || number < behind || !ponged {
                let next = raw.frame().unwrap();
                match next.opcode {
                    OpCode::Pong => ponged = true,
                    OpCode::Text => {
                        assert!(joined.len() == size && next.payload == number.to_string().into_bytes());
                        number += 1;
                    }
                    _ => joined.extend_from_slice(&next.payload),
                }
            }
            assert!(joined[..size] == large && joined[size..] == large, "{size}, {behind}");
            sends.join().unwrap();
        }
    }
}

/// Half a message of one connection does not become the beginning of another connection's.
#[test]
fn what_is_half_received_when_a_connection_ends_is_nobody_elses() {
    let house = House::new(Host::echo());
    let mut other = Raw::open(house.address(), "/");
    for end in [frame(true, true, OpCode::Close, [0x03, 0xE8]), frame(true, true, OpCode::Text, "坏")] {
        let mut raw = Raw::open(house.address(), "/");
        raw.send([frame(true, false, OpCode::Text, "秘密"), end].concat());
        raw.rest();
        other.send(frame(true, false, OpCode::Text, "我"));
        other.send(frame(true, true, OpCode::Continuation, "的"));
        assert_eq!(other.next_text(), "我的");
    }
}

#[test]
fn the_largest_message_and_one_byte_more() {
    let house = House::of(Host::echo(), Config::server().max_message(100_000));
    let mut raw = Raw::open(house.address(), "/");
    let largest = payload(100_000);
    raw.send(frame(true, true, OpCode::Binary, &largest));
    assert!(raw.message() == (OpCode::Binary, largest));
    let header =
        Header { fin: true, rsv: 0, opcode: OpCode::Binary, mask: Some([1, 2, 3, 4]), length: 100_001 };
    raw.send(header.encode().to_vec());
    assert_eq!(raw.close_frame().0, 1009);
}
