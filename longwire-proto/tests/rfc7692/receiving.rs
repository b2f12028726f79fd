//! RFC 7692 sections 6 and 7.2.2: compressed messages as they are received, right and wrong.

use std::time::Instant;

use bytes::BytesMut;
use longwire_proto::{Assembler, Config, DeflateParameters, Incoming, Outbox, ProtocolError, Role};

use crate::frames::{Frame, binary, continuation, encode, ping, pong, text};
use crate::receiver::{Entry, Seen, connection};
use crate::row::{BOTH, Row, row};

const RSV1: u8 = 0x40;

/// "Hello" in a fixed block (RFC 7692 7.2.3.1), and again by reference to the first (7.2.3.2).
const HELLO: &[u8] = &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
const HELLO_AGAIN: &[u8] = &[0xF2, 0x00, 0x11, 0x00, 0x00];

/// Both ends take over, with windows of 32 KiB.
pub(crate) const TAKEOVER: DeflateParameters = DeflateParameters {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

/// Neither end does.
pub(crate) const NO_TAKEOVER: DeflateParameters =
    DeflateParameters { server_no_context_takeover: true, client_no_context_takeover: true, ..TAKEOVER };

fn deflated(name: &str, input: impl IntoIterator<Item = Frame>) -> Row {
    row(name, input).deflate(TAKEOVER)
}

fn hello() -> Seen {
    Seen::Text("Hello".into())
}

/// Raw DEFLATE by zlib, ended by a sync flush whose last four octets are left off (RFC 7692 7.2.1).
pub(crate) fn zlib(payload: &[u8], level: i32) -> Vec<u8> {
    let mut zlib = zlib_rs::Deflate::new(level, false, 15);
    let mut out = vec![0; payload.len() + payload.len() / 100 + 100];
    zlib.compress(payload, &mut out, zlib_rs::DeflateFlush::SyncFlush).unwrap();
    out.truncate(usize::try_from(zlib.total_out()).unwrap() - 4);
    out
}

/// One stored block (RFC 1951 3.2.4), not the last of its stream.
fn stored(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    [&[0x00][..], &length.to_le_bytes(), &(!length).to_le_bytes(), payload].concat()
}

pub(crate) fn rows() -> Vec<Row> {
    let chinese = "你好，世界 👋 ".repeat(40);
    let kilobytes = vec![b'x'; 100_000];
    vec![
        // The examples of RFC 7692 7.2.3.
        deflated("one fixed block", [text(HELLO).rsv(RSV1)]).seen([hello()]),
        deflated("in two fragments", [text(&HELLO[..3]).rsv(RSV1).more(), continuation(&HELLO[3..])])
            .seen([hello()]),
        deflated("with context takeover", [text(HELLO).rsv(RSV1), text(HELLO_AGAIN).rsv(RSV1)])
            .seen([hello(), hello()]),
        deflated(
            "a stored block",
            [text([0x00, 5, 0, 0xFA, 0xFF, b'H', b'e', b'l', b'l', b'o', 0x00]).rsv(RSV1)],
        )
        .seen([hello()]),
        deflated("BFINAL is set", [text([0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00]).rsv(RSV1)])
            .seen([hello()]),
        deflated(
            "two blocks",
            [text([0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00]).rsv(RSV1)],
        )
        .seen([hello()]),
        deflated("no payload", [text([0x00]).rsv(RSV1), binary([0x00]).rsv(RSV1)])
            .seen([Seen::Text(String::new()), Seen::Binary(vec![])]),
        // Section 6.1: each message says by itself whether it is compressed.
        deflated("compressed or not", [text("plain 朴素"), text(HELLO).rsv(RSV1), binary("plain")]).seen([
            Seen::Text("plain 朴素".into()),
            hello(),
            Seen::Binary(b"plain".into()),
        ]),
        deflated(
            "a plain message is not in the context",
            [text(HELLO).rsv(RSV1), text("between"), text(HELLO_AGAIN).rsv(RSV1)],
        )
        .seen([hello(), Seen::Text("between".into()), hello()]),
        deflated("fragments without payload", {
            let empty = || continuation([]).more();
            [text([]).rsv(RSV1).more(), empty(), continuation(HELLO).more(), empty(), continuation([])]
        })
        .seen([hello()]),
        deflated(
            "control frames between fragments are never compressed",
            [text(&HELLO[..1]).rsv(RSV1).more(), ping("乒"), continuation(&HELLO[1..])],
        )
        .seen([Seen::Ping("乒".into()), hello()])
        .replies([pong("乒")]),
        deflated("dynamic blocks and characters cut anywhere", {
            let bytes = zlib(chinese.as_bytes(), 9);
            let (one, two) = bytes.split_at(bytes.len() / 2);
            [text(one).rsv(RSV1).more(), continuation(two)]
        })
        .seen([Seen::Text(chinese)]),
        deflated("more than one step of inflating", [binary(zlib(&kilobytes, 6)).rsv(RSV1)])
            .seen([Seen::Binary(kilobytes.clone())]),
        deflated("stored blocks of every kind", {
            let bytes = [stored(b""), stored("你".as_bytes()), stored(b""), stored("好".as_bytes()), vec![0]]
                .concat();
            [text(bytes).rsv(RSV1)]
        })
        .seen([Seen::Text("你好".into())]),
        row("without takeover each message stands alone", [text(HELLO).rsv(RSV1), text(HELLO).rsv(RSV1)])
            .deflate(NO_TAKEOVER)
            .seen([hello(), hello()]),
        deflated("inside a message", [text(HELLO).rsv(RSV1).more()]).in_message(),
        deflated("inside a frame", [text(HELLO).rsv(RSV1).cut(8)]).in_frame(),
        // What is refused.
        row("RSV1 without permessage-deflate", [text(HELLO).rsv(RSV1)])
            .fails(ProtocolError::ReservedBits, 1002),
        deflated(
            "RSV1 on a continuation",
            [text(&HELLO[..3]).rsv(RSV1).more(), continuation(&HELLO[3..]).rsv(RSV1)],
        )
        .fails(ProtocolError::ReservedBits, 1002),
        deflated("RSV1 on a Ping", [ping("乒").rsv(RSV1)]).fails(ProtocolError::ReservedBits, 1002),
        deflated("RSV2", [text(HELLO).rsv(RSV1 | 0x20)]).fails(ProtocolError::ReservedBits, 1002),
        deflated("RSV3", [text(HELLO).rsv(0x10)]).fails(ProtocolError::ReservedBits, 1002),
        deflated("no stream", [text([0xFF; 8]).rsv(RSV1)]).fails(ProtocolError::InvalidDeflate, 1007),
        deflated("the stream ends within a block", [text(&HELLO[..4]).rsv(RSV1)])
            .fails(ProtocolError::InvalidDeflate, 1007),
        deflated("nothing at all", [text([]).rsv(RSV1)]).fails(ProtocolError::InvalidDeflate, 1007),
        row("reference to an earlier message without takeover", {
            [text(HELLO).rsv(RSV1), text(HELLO_AGAIN).rsv(RSV1)]
        })
        .deflate(NO_TAKEOVER)
        .seen([hello()])
        .fails(ProtocolError::InvalidDeflate, 1007),
        deflated("reference to before the first message", [text(HELLO_AGAIN).rsv(RSV1)])
            .fails(ProtocolError::InvalidDeflate, 1007),
        deflated("text that is no UTF-8", [text(zlib(b"\xe4\xbd\xff", 6)).rsv(RSV1)])
            .fails(ProtocolError::InvalidUtf8, 1007),
        deflated("text that ends within a character", [text(zlib(b"\xe4\xbd", 6)).rsv(RSV1)])
            .fails(ProtocolError::InvalidUtf8, 1007),
        deflated("as much as the limit", [binary(zlib(&kilobytes, 6)).rsv(RSV1)])
            .config(|config| config.max_message(100_000))
            .seen([Seen::Binary(kilobytes.clone())]),
        deflated("inflated beyond the limit", [binary(zlib(&kilobytes, 6)).rsv(RSV1)])
            .config(|config| config.max_message(99_999))
            .through(&[Entry::Assembler, Entry::Landing])
            .fails(ProtocolError::MessageTooBig { limit: 99_999 }, 1009),
        deflated("the fragments together beyond the limit", {
            let part = || zlib(&[b'y'; 600], 6);
            let sync = [0x00, 0x00, 0xFF, 0xFF];
            [binary([&part()[..], &sync].concat()).rsv(RSV1).more(), continuation(part())]
        })
        .config(|config| config.max_message(1199))
        .through(&[Entry::Assembler, Entry::Landing])
        .fails(ProtocolError::MessageTooBig { limit: 1199 }, 1009),
        deflated(
            "too many fragments",
            [text([]).rsv(RSV1).more(), continuation([]).more(), continuation(HELLO)],
        )
        .config(|config: Config| config.max_small_fragments(2))
        .fails(ProtocolError::TooManyFragments { limit: 2 }, 1008),
    ]
}

#[test]
fn table() {
    for row in rows() {
        row.run();
    }
}

#[test]
fn a_message_that_is_not_validly_compressed_is_named() {
    assert!(rows().iter().filter_map(Row::variant).any(|variant| variant == "InvalidDeflate"));
}

/// No call inflates much more than 256 KiB, whatever becomes of it: then others have their turn.
#[test]
fn a_call_that_inflates_much_pauses() {
    const KIB: usize = 1024;
    const SIZE: usize = 4096 * KIB;
    let now = Instant::now();
    let config = Config::server().max_message(SIZE);
    for &role in BOTH {
        for passed_over in [false, true] {
            let mut end = connection(role, &config, now).with_deflate(TAKEOVER);
            let (mut assembler, mut out) = (Assembler::default(), Outbox::new());
            let wire = [binary(zlib(&vec![0; SIZE], 9)).rsv(RSV1), text("后来")];
            let mut input = BytesMut::from(&encode(&wire, role)[..]);
            let mut inflated = 0;
            if passed_over {
                let part = assembler.receive_part(&mut end, &mut input, &mut out);
                assert!(matches!(part, Ok(Some(Incoming::Data(_)))), "{part:?}");
                inflated += assembler.take_inflated();
            }
            let mut pauses = 0;
            let message = loop {
                let incoming = assembler.receive(&mut end, &mut input, &mut out).unwrap();
                let now_inflated = assembler.take_inflated();
                assert!(now_inflated <= 320 * KIB, "{now_inflated} at once");
                inflated += now_inflated;
                match incoming {
                    Some(Incoming::Data(message)) => break message,
                    Some(Incoming::Progress) => pauses += 1,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!((inflated, message.len()), (SIZE, if passed_over { "后来".len() } else { SIZE }));
            assert!(pauses >= SIZE / (320 * KIB) - 1, "{pauses}");
        }
    }
}

/// The same where a message is taken in parts again, whose beginning was passed over.
#[test]
fn passing_over_in_parts_pauses_too() {
    let now = Instant::now();
    let mut end = connection(Role::Server, &Config::server(), now).with_deflate(TAKEOVER);
    let (mut assembler, mut out) = (Assembler::default(), Outbox::new());
    let wire = encode(&[binary(zlib(&vec![0; 4 << 20], 9)).rsv(RSV1), text("后来")], Role::Server);
    let mut input = BytesMut::from(&wire[..]);
    assembler.receive_part(&mut end, &mut input, &mut out).unwrap();
    assert!(matches!(assembler.receive(&mut end, &mut input, &mut out), Ok(Some(Incoming::Progress))));
    let mut pauses = 0;
    loop {
        assert!(assembler.take_inflated() <= 320 * 1024);
        match assembler.receive_part(&mut end, &mut input, &mut out).unwrap() {
            Some(Incoming::Progress) => pauses += 1,
            Some(Incoming::Data(part)) => break assert_eq!(part.payload, "后来"),
            other => panic!("{other:?}"),
        }
    }
    assert!(pauses >= 10, "{pauses}");
}
