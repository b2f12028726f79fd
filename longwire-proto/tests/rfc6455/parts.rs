//! 5.4, messages whole and in parts: a reader may change between the two, within a message too.

use std::time::Instant;

use bytes::BytesMut;
use longwire_proto::{Assembler, Config, Connection, Incoming, Kind, Message, Outbox, Part, Role};

use crate::frames::{Frame, binary, continuation, encode, ping, text};
use crate::receiver::{Seen, connection};
use crate::row::BOTH;

struct Reader {
    connection: Connection,
    assembler: Assembler,
    input: BytesMut,
    out: Outbox,
}

impl Reader {
    fn new(role: Role) -> Self {
        let config = Config::server().max_message(10_000);
        let connection = connection(role, &config, Instant::now());
        let (assembler, input, out) = (Assembler::default(), BytesMut::new(), Outbox::new());
        Self { connection, assembler, input, out }
    }

    fn arrives(&mut self, frames: &[Frame]) {
        self.input.extend(encode(frames, self.connection.role()));
    }

    fn whole(&mut self) -> Option<Seen> {
        let incoming = self.assembler.receive(&mut self.connection, &mut self.input, &mut self.out).unwrap();
        incoming.map(Seen::incoming)
    }

    fn part(&mut self) -> Option<(Vec<u8>, bool, bool)> {
        let part = self.assembler.receive_part(&mut self.connection, &mut self.input, &mut self.out).unwrap();
        match part? {
            Incoming::Data(Part { payload, first, last, .. }) => Some((payload.to_vec(), first, last)),
            other => panic!("{other:?} is no part"),
        }
    }
}

fn part(payload: &str, first: bool, last: bool) -> Option<(Vec<u8>, bool, bool)> {
    Some((payload.into(), first, last))
}

#[test]
fn parts_take_up_what_was_put_together() {
    for &role in BOTH {
        let mut reader = Reader::new(role);
        reader.arrives(&[text("你").more(), continuation("好").more()]);
        assert_eq!(reader.whole(), None);
        assert!(!reader.assembler.is_idle());
        assert_eq!(reader.part(), part("你好", true, false), "without further input");
        assert_eq!(reader.part(), None);
        reader.arrives(&[continuation("世").more(), continuation("界"), text("👋")]);
        assert_eq!(reader.part(), part("世", false, false));
        assert_eq!(reader.part(), part("界", false, true));
        assert!(reader.assembler.is_idle());
        assert_eq!(reader.part(), part("👋", true, true));
    }
}

#[test]
fn what_was_put_together_may_be_empty() {
    for &role in BOTH {
        let mut reader = Reader::new(role);
        reader.arrives(&[binary("").more()]);
        assert_eq!(reader.whole(), None);
        reader.arrives(&[continuation("好")]);
        assert_eq!(reader.part(), part("", true, false));
        assert_eq!(reader.part(), part("好", false, true));
    }
}

/// A message whose beginning was taken in parts is not wanted whole: its rest is passed over, whatever
/// its size, and the next message is whole again.
#[test]
fn the_rest_of_a_message_begun_in_parts_is_passed_over() {
    for &role in BOTH {
        let mut reader = Reader::new(role);
        reader.arrives(&[text("你").more()]);
        assert_eq!(reader.part(), part("你", true, false));
        assert!(!reader.assembler.is_idle());
        let rest = [continuation([b'a'; 9_000]).more(), ping(""), continuation([b'a'; 9_000])];
        reader.arrives(&[&rest[..], &[text("好")]].concat());
        assert_eq!(reader.whole(), Some(Seen::Ping(Vec::new())));
        assert_eq!(reader.whole(), Some(Seen::Text("好".into())));
        assert!(reader.assembler.is_idle());
        // The limit holds again.
        let over = encode(&[text([b'a'; 10_001])], role);
        reader.input.extend(over);
        let result = reader.assembler.receive(&mut reader.connection, &mut reader.input, &mut reader.out);
        assert!(result.is_err());
    }
}

/// The same when the beginning was put together first, and then taken as a part.
#[test]
fn the_rest_is_passed_over_also_when_its_beginning_was_put_together() {
    for &role in BOTH {
        let mut reader = Reader::new(role);
        reader.arrives(&[text("你").more()]);
        assert_eq!(reader.whole(), None);
        assert_eq!(reader.part(), part("你", true, false));
        reader.arrives(&[continuation("好").more(), continuation("世界"), text("👋")]);
        assert_eq!(reader.whole(), Some(Seen::Text("👋".into())));
        assert!(reader.assembler.is_idle());
    }
}

/// Whose rest was passed over in part has a gap: none of it is handed out behind that.
#[test]
fn a_message_with_a_gap_is_not_continued() {
    for &role in BOTH {
        let mut reader = Reader::new(role);
        reader.arrives(&[text("你").more(), continuation("好").more()]);
        assert_eq!(reader.part(), part("你", true, false));
        assert_eq!(reader.whole(), None, "passes over what is there");
        reader.arrives(&[continuation("世").more()]);
        assert_eq!(reader.part(), None);
        reader.arrives(&[continuation("界"), text("👋")]);
        assert_eq!(reader.part(), part("👋", true, true));
        assert!(reader.assembler.is_idle());
    }
}

/// Only the header was taken when the reader changes: the message is lost in neither direction.
#[test]
fn a_change_behind_the_header_loses_nothing() {
    for &role in BOTH {
        for whole_first in [false, true] {
            let mut reader = Reader::new(role);
            let bytes = encode(&[text("你好")], role);
            let header = bytes.len() - "你好".len();
            reader.input.extend_from_slice(&bytes[..header]);
            if whole_first {
                assert_eq!(reader.whole(), None);
                reader.input.extend_from_slice(&bytes[header..]);
                assert_eq!(reader.part(), part("你好", true, true));
            } else {
                assert_eq!(reader.part(), None);
                reader.input.extend_from_slice(&bytes[header..]);
                assert_eq!(reader.whole(), Some(Seen::Text("你好".into())));
            }
        }
    }
}

/// A header over the limit that was taken for a part does not get its message past the limit.
#[test]
fn a_change_behind_the_header_does_not_pass_the_limit() {
    for &role in BOTH {
        let mut reader = Reader::new(role);
        let bytes = encode(&[binary([7; 20_000])], role);
        reader.input.extend_from_slice(&bytes[..4 + if role == Role::Server { 4 } else { 0 }]);
        assert_eq!(reader.part(), None);
        reader.input.extend_from_slice(&bytes[100..200]);
        let result = reader.assembler.receive(&mut reader.connection, &mut reader.input, &mut reader.out);
        assert!(result.is_err(), "{result:?}");
    }
}

#[test]
fn a_reset_forgets_the_message_under_way() {
    let mut reader = Reader::new(Role::Server);
    reader.arrives(&[text("你").more()]);
    assert_eq!(reader.whole(), None);
    reader.assembler.reset();
    assert!(reader.assembler.is_idle());
}

/// What is received owns its bytes: the same buffer is read into again, and nothing changes.
#[test]
fn what_is_received_owns_its_bytes() {
    for &role in BOTH {
        for size in [0, 1, 1024, 1025, 9_000] {
            let mut reader = Reader::new(role);
            let payload = vec![b'a'; size];
            reader.arrives(&[text(&payload), binary(&payload)]);
            let mut kept = Vec::new();
            while let Some(Incoming::Data(message)) =
                reader.assembler.receive(&mut reader.connection, &mut reader.input, &mut reader.out).unwrap()
            {
                kept.push(message);
            }
            reader.input.reserve(1);
            reader.arrives(&[binary(vec![b'b'; 9_000])]);
            assert!(matches!(reader.whole(), Some(Seen::Binary(_))));
            assert_eq!(kept.iter().map(Message::kind).collect::<Vec<_>>(), [Kind::Text, Kind::Binary]);
            assert!(kept.iter().all(|message| message.as_bytes() == payload));
        }
    }
}

/// Pieces of a text that were validated, but not all given to the one assembler, make no message.
#[test]
fn text_that_lacks_a_piece_is_no_text() {
    let mut reader = Reader::new(Role::Server);
    let frames = [binary([0xE4]), binary([0xBD, 0xA0]), binary(*b"a")];
    let mut bytes: Vec<Vec<u8>> = frames.map(|frame| encode(&[frame], Role::Server)).into();
    // A text in three fragments, cut within its first character.
    (bytes[0][0], bytes[1][0], bytes[2][0]) = (0x01, 0x00, 0x80);
    reader.input.extend_from_slice(&bytes[0]);
    assert_eq!(reader.whole(), None);
    reader.connection.receive(&mut bytes[1], &mut Vec::new(), &mut reader.out).unwrap();
    reader.input.extend_from_slice(&bytes[2]);
    let result = reader.assembler.receive(&mut reader.connection, &mut reader.input, &mut reader.out);
    assert!(result.is_err(), "{result:?}");
}
