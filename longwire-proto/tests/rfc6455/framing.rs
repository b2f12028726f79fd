//! 5.2, base framing protocol: reserved bits, opcodes, and the length in each of its three forms.

use longwire_proto::{Kind, ProtocolError};

use crate::frames::{Frame, binary, close_empty, continuation, decode, encode, frame, ping, pong, text};
use crate::receiver::{Entry, Receiver, Seen, connection, drain};
use crate::row::{BOTH, Row, row};

/// Lengths at which the form of the length changes (RFC 6455 5.2).
pub(crate) const LENGTHS: &[usize] = &[0, 1, 125, 126, 127, 65_535, 65_536, 65_537];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("Hello, as in 5.7", [text("Hello")]).seen([Seen::Text("Hello".into())]),
        row("a prefix of a header", [text("Hello").cut(1)]).in_frame(),
        row("a header without its payload", [text("你好").cut(2)]).in_frame(),
        row("half a 16-bit length", [text([b'a'; 200]).cut(3)]).in_frame(),
        row("half a 64-bit length", [binary([0; 70_000]).cut(7)]).in_frame(),
        // 5.2: "the most significant bit MUST be 0"
        row("64-bit length of 2^63", [binary("").length64(1 << 63)])
            .fails(ProtocolError::LengthTooLarge, 1002),
        row("64-bit length of all ones", [text("").length64(u64::MAX)])
            .fails(ProtocolError::LengthTooLarge, 1002),
    ];

    // 5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values"
    for bits in [0x40, 0x20, 0x10, 0x60, 0x50, 0x30, 0x70] {
        for good in [text("好"), binary("好"), ping("好"), pong("好"), close_empty()] {
            rows.push(
                row(format!("reserved bits {bits:#x} on {good:?}"), [good.rsv(bits)])
                    .fails(ProtocolError::ReservedBits, 1002),
            );
        }
        rows.push(
            row(
                format!("reserved bits {bits:#x} on a continuation"),
                [text("好").more(), continuation("").rsv(bits)],
            )
            .fails(ProtocolError::ReservedBits, 1002),
        );
    }

    // 5.2: "If an unknown opcode is received, the receiving endpoint MUST Fail"
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let error = ProtocolError::ReservedOpcode(opcode);
        rows.push(row(format!("opcode {opcode:#x}"), [frame(opcode, "")]).fails(error, 1002));
        rows.push(row(format!("opcode {opcode:#x}, payload"), [frame(opcode, "好")]).fails(error, 1002));
        rows.push(
            row(format!("opcode {opcode:#x} inside a message"), [text("好").more(), frame(opcode, "")])
                .fails(error, 1002),
        );
    }

    // 5.2: "the minimal number of bytes MUST be used to encode the length"
    for length in [0, 1, 124, 125] {
        rows.push(
            row(format!("{length} in 16 bits"), [binary(vec![1; length]).length16(length as u16)])
                .fails(ProtocolError::LengthNotMinimal, 1002),
        );
    }
    for length in [0, 125, 126, 127, 65_535] {
        rows.push(
            row(format!("{length} in 64 bits"), [binary(vec![1; length]).length64(length as u64)])
                .fails(ProtocolError::LengthNotMinimal, 1002),
        );
    }
    for &length in LENGTHS.iter().filter(|&&length| length < 1000) {
        rows.push(
            row(format!("text of {length}"), [text(vec![b'a'; length])])
                .seen([Seen::Text("a".repeat(length))]),
        );
    }
    rows
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// Which of several broken rules is named does not hang on how the bytes are cut: it is the first of
/// them in the order of the bytes.
#[test]
fn of_several_broken_rules_the_same_is_named_however_the_bytes_are_cut() {
    let table: &[(Frame, ProtocolError)] = &[
        (ping("").length16(5), ProtocolError::ControlTooLong),
        (ping("").length64(5), ProtocolError::ControlTooLong),
        (ping("").length64(1 << 63), ProtocolError::ControlTooLong),
        (text("").rsv(0x40).length16(5), ProtocolError::ReservedBits),
        (binary("").rsv(0x10).length64(u64::MAX), ProtocolError::ReservedBits),
        (continuation("").length16(5), ProtocolError::UnexpectedContinuation),
        (ping("").more().length16(5), ProtocolError::ControlTooLong),
        (frame(0xB, "").rsv(0x70).more(), ProtocolError::ReservedOpcode(0xB)),
    ];
    for (frame, error) in table {
        for &role in BOTH {
            for size in [usize::MAX, 1, 2, 3, 4] {
                let mut receiver = Receiver::new(Entry::Connection, role, &longwire_proto::Config::server());
                for piece in encode(std::slice::from_ref(frame), role).chunks(size) {
                    receiver.feed(piece);
                }
                assert_eq!(receiver.error, Some(*error), "{frame:?} to {role:?} in pieces of {size}");
            }
        }
    }
}

/// A header is refused by its first two bytes when they break a rule, not when the rest has come.
#[test]
fn rules_of_the_first_two_bytes_are_kept_at_the_second() {
    let table = [
        (text("好").rsv(0x40), ProtocolError::ReservedBits),
        (frame(0x3, "好"), ProtocolError::ReservedOpcode(3)),
        (ping([0; 126]), ProtocolError::ControlTooLong),
        (ping("好").more(), ProtocolError::ControlFragmented),
        (continuation("好"), ProtocolError::UnexpectedContinuation),
    ];
    for (frame, error) in table {
        for &role in BOTH {
            let mut receiver = Receiver::new(Entry::Connection, role, &longwire_proto::Config::server());
            receiver.feed(&encode(&[frame.clone().cut(2)], role));
            assert_eq!(receiver.error, Some(error), "{frame:?} to {role:?}");
        }
    }
}

/// Messages of every length arrive, through every entry, in pieces of several sizes.
#[test]
fn lengths_are_read_in_all_three_forms() {
    for &length in LENGTHS {
        let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        for &role in BOTH {
            for entry in Entry::ALL {
                for size in [usize::MAX, 4096, 1000] {
                    let mut receiver = Receiver::new(entry, role, &longwire_proto::Config::server());
                    encode(&[binary(&payload)], role).chunks(size).for_each(|piece| receiver.feed(piece));
                    assert_eq!(receiver.seen, [Seen::Binary(payload.clone())], "{length} {role:?} {entry:?}");
                }
            }
        }
    }
}

/// 5.2: the shortest form is sent, whether the payload is copied, shared or masked.
#[test]
fn lengths_are_written_in_their_shortest_form() {
    for &length in LENGTHS {
        for &role in BOTH {
            let config = longwire_proto::Config::server();
            let payload = vec![7; length];
            let shared = longwire_proto::SharedFrame::new(payload.clone());
            let mut end = connection(role, &config, std::time::Instant::now());
            let mut out = longwire_proto::Outbox::new();
            end.send(payload.clone().into(), &mut out).unwrap();
            end.send_part(Kind::Binary, payload.clone().into(), true, &mut out).unwrap();
            end.send_shared(&shared, &mut out).unwrap();
            let frames = decode(&drain(&mut out));
            let extended = [0, 2, 8][usize::from(length > 125) + usize::from(length > 65_535)];
            let mask = if role == longwire_proto::Role::Client { 4 } else { 0 };
            assert_eq!(frames.len(), 3);
            for frame in frames {
                assert_eq!(frame.header, 2 + extended + mask, "{length} by {role:?}");
                assert_eq!((frame.fin, frame.opcode, frame.payload), (true, 0x2, payload.clone()));
            }
        }
    }
}
