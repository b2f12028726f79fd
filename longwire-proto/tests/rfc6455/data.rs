//! 5.6 and 8.1, data frames and text: text is UTF-8, and fails at the first byte that is not.

use std::time::Instant;

use longwire_proto::{Config, Kind, Outbox, ProtocolError, Role, SendError, Utf8Bytes};

use crate::frames::{binary, close, continuation, decode, encode, text};
use crate::receiver::{Entry, Receiver, Seen, connection, drain};
use crate::row::{BOTH, Row, row};

const VALID: &[&[u8]] = &[
    b"",
    b"\0",
    b"\x7f",
    b"\xc2\x80",
    b"\xdf\xbf",
    b"\xe0\xa0\x80",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    b"\xef\xbf\xbf",
    b"\xf0\x90\x80\x80",
    b"\xf4\x8f\xbf\xbf",
    "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
    "κόσμε".as_bytes(),
    "你好，世界".as_bytes(),
    "👋🏽 👨‍👩‍👧‍👦 🇨🇳".as_bytes(),
];

/// Bytes that are not UTF-8, and after how many of them it is certain.
const INVALID: &[(&[u8], usize)] = &[
    (b"\x80", 1),
    (b"\xbf", 1),
    (b"\xc0", 1),
    (b"\xc1\xbf", 1),
    (b"\xc2\x41", 2),
    (b"\xc2\xc2", 2),
    (b"\xe0\x9f\xbf", 2),
    (b"\xe4\xbd\x41", 3),
    (b"\xed\xa0\x80", 2),
    (b"\xed\xbf\xbf", 2),
    (b"\xf0\x8f\xbf\xbf", 2),
    (b"\xf0\x90\x80\xc0", 4),
    (b"\xf4\x90\x80\x80", 2),
    (b"\xf5\x80\x80\x80", 1),
    (b"\xf8\x88\x80\x80\x80", 1),
    (b"\xfe", 1),
    (b"\xff", 1),
];

/// Characters that have begun and may still become whole.
const BEGUN: &[&[u8]] = &[b"\xc2", b"\xe0", b"\xe4\xbd", b"\xed\x9f", b"\xf0\x9f", b"\xf4\x8f\xbf"];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let bad = || ProtocolError::InvalidUtf8;
    for &valid in VALID {
        let seen = || [Seen::Text(String::from_utf8(valid.to_vec()).unwrap())];
        rows.push(row(format!("valid {valid:x?}"), [text(valid)]).seen(seen()));
        for cut in 0..=valid.len() {
            let fragments = [text(&valid[..cut]).more(), continuation(&valid[cut..])];
            rows.push(row(format!("valid {valid:x?} in fragments"), fragments).seen(seen()));
        }
    }
    for &(invalid, _) in INVALID {
        rows.push(row(format!("invalid {invalid:x?}"), [text(invalid)]).fails(bad(), 1007));
        let behind = [b"a".repeat(3000).as_slice(), invalid, b"z"].concat();
        rows.push(row(format!("invalid {invalid:x?} far behind"), [text(behind)]).fails(bad(), 1007));
        for cut in 0..=invalid.len() {
            let fragments = [text(&invalid[..cut]).more(), continuation(&invalid[cut..])];
            rows.push(row(format!("invalid {invalid:x?} in fragments"), fragments).fails(bad(), 1007));
        }
        // 5.6: binary is arbitrary
        rows.push(
            row(format!("binary {invalid:x?}"), [binary(invalid)]).seen([Seen::Binary(invalid.into())]),
        );
        // 5.5.1, 8.1: the reason of a Close frame is text
        rows.push(row(format!("reason {invalid:x?}"), [close(1000, invalid)]).fails(bad(), 1007));
    }
    for &begun in BEGUN {
        let name = format!("begun {begun:x?}");
        rows.push(row(&*name, [text(begun)]).fails(bad(), 1007));
        rows.push(row(&*name, [text(begun).more()]).in_message());
        rows.push(row(&*name, [text(begun).more(), continuation("")]).fails(bad(), 1007));
        rows.push(row(&*name, [text(begun).more(), continuation("a")]).fails(bad(), 1007));
        rows.push(row(&*name, [text(begun).more(), continuation("").more()]).in_message());
        rows.push(row(&*name, [close(1000, begun)]).fails(bad(), 1007));
    }
    // What was begun in one message is no part of the next.
    rows.push(row("text after binary", [binary(b"\xe4"), text("好"), binary(b"\x80"), text("👋")]).seen([
        Seen::Binary(vec![0xE4]),
        Seen::Text("好".into()),
        Seen::Binary(vec![0x80]),
        Seen::Text("👋".into()),
    ]));
    rows
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// The connection fails at the first byte that cannot become valid, within a frame too: everything
/// before it is accepted, and the frame claims to be much longer.
#[test]
fn fails_at_the_first_bad_byte_of_a_long_frame() {
    for &(invalid, certain) in INVALID {
        for &role in BOTH {
            for entry in Entry::ALL {
                for before in ["", "好", &"前面 ".repeat(3000)] {
                    let payload = [before.as_bytes(), invalid, &[b'z'; 70_000]].concat();
                    let frame = text(&payload);
                    let header = frame.clone().encode(role, [7; 4]).len() - payload.len();
                    let bytes = frame.encode(role, [7; 4]);
                    let good = header + before.len() + certain - 1;
                    let mut receiver = Receiver::new(entry, role, &Config::server());
                    receiver.feed(&bytes[..header + before.len()]);
                    for byte in &bytes[header + before.len()..good] {
                        receiver.feed(&[*byte]);
                    }
                    assert_eq!(receiver.error, None, "{invalid:x?} {role:?} {entry:?}");
                    receiver.feed(&bytes[good..=good]);
                    assert_eq!(receiver.error, Some(ProtocolError::InvalidUtf8), "{invalid:x?} {entry:?}");
                }
            }
        }
    }
}

/// Text that lands in the message's own buffer is validated there.
#[test]
fn text_that_lands_is_validated() {
    for &role in BOTH {
        let good = "交易 📈 ".repeat(20_000);
        let mut bad = good.clone().into_bytes();
        *bad.last_mut().unwrap() = 0xC0;
        for (payload, error) in [(good.as_bytes(), None), (&bad, Some(ProtocolError::InvalidUtf8))] {
            let mut receiver = Receiver::new(Entry::Landing, role, &Config::server());
            encode(&[text(payload)], role).chunks(5000).for_each(|piece| receiver.feed(piece));
            assert!(receiver.landings > 10);
            assert_eq!(receiver.error, error);
            assert_eq!(receiver.seen.len(), usize::from(error.is_none()));
        }
    }
}

/// Both kinds reach the wire as what they are, and the parts of a text must be text together.
#[test]
fn what_is_sent_as_text_is_utf8() {
    for &role in BOTH {
        for &(invalid, certain) in INVALID {
            let mut end = connection(role, &Config::server(), Instant::now());
            let mut out = Outbox::new();
            let mut send = |bytes: &[u8], last| {
                let result = end.send_part(Kind::Text, bytes.to_vec().into(), last, &mut out);
                (result, drain(&mut out).is_empty())
            };
            let refused = (Err(SendError::InvalidUtf8), true);
            assert_eq!(send(invalid, false), refused);
            // Refused at the bad byte. What was good before it stands, and the message can go on.
            let (good, bad) = invalid.split_at(certain - 1);
            assert_eq!(send(good, false), (Ok(()), false));
            assert_eq!(send(bad, false), refused);
            assert_eq!(send(bad, true), refused);
            assert_eq!(send(b"", false), (Ok(()), false));
            end.ping(b"", &mut out).unwrap();
        }
    }
    for &begun in BEGUN {
        let mut end = connection(Role::Server, &Config::server(), Instant::now());
        let mut out = Outbox::new();
        let part = end.send_part(Kind::Text, begun.to_vec().into(), true, &mut out);
        assert_eq!(part, Err(SendError::InvalidUtf8), "ended within a character");
        end.send_part(Kind::Text, begun.to_vec().into(), false, &mut out).unwrap();
        assert_eq!(end.send_part(Kind::Text, "".into(), true, &mut out), Err(SendError::InvalidUtf8));
        assert_eq!(decode(&drain(&mut out)).len(), 1);
    }
    for &(invalid, _) in INVALID {
        assert!(Utf8Bytes::try_from(invalid.to_vec()).is_err());
    }
    for &valid in VALID {
        assert_eq!(Utf8Bytes::try_from(valid.to_vec()).unwrap().as_bytes(), valid);
    }
}
