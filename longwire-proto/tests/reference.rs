//! Arbitrary bytes, in arbitrary pieces, through every entry and to both roles: what is received and
//! answered is what the reference model says, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/frames.rs"]
mod frames;
#[path = "support/inflate.rs"]
mod inflate;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/reference.rs"]
mod reference;

use frames::{Frame, close, continuation, decode, encode, frame};
use inflate::Window;
use longwire_proto::{Config, DeflateParameters, Role};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use receiver::{Entry, Receiver, Seen};
use reference::{Limits, Outcome, read};

const MAX_MESSAGE: usize = 24_000;
const LIMITS: Limits = Limits { small_fragments: 5, control_run: 4, message: None };

fn config() -> Config {
    Config::server().max_message(MAX_MESSAGE).max_small_fragments(5).max_control_run(4)
}

/// Both ends take over or do not, with windows of this many bits.
fn agreed(bits: u8, takeover: bool) -> DeflateParameters {
    DeflateParameters {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
    }
}

/// Feeds `bytes` in pieces of these sizes, in turn, and compares with the model.
fn compare(bytes: &[u8], role: Role, deflate: Option<(u8, bool)>, sizes: &[usize]) {
    for entry in Entry::ALL {
        let joins = matches!(entry, Entry::Assembler | Entry::Landing);
        let message = joins.then_some(MAX_MESSAGE as u64);
        let window = deflate.map(|(bits, takeover)| Window::new(bits, takeover));
        let mut expected = read(bytes, role == Role::Server, Limits { message, ..LIMITS }, window);

        let mut end = Receiver::new(entry, role, &config());
        if let Some((bits, takeover)) = deflate {
            end.connection = end.connection.with_deflate(agreed(bits, takeover));
        }
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            end.feed(piece);
            rest = behind;
        }

        let outcome = match end.error {
            Some(error) => {
                expected.or_failed_with(error.close_code().into());
                Outcome::Failed(error.close_code().into())
            }
            None if end.connection.is_done() => Outcome::Closed,
            None => Outcome::Open,
        };
        assert_eq!(outcome, expected.outcome, "{entry:?} {role:?}");
        let seen = match entry {
            Entry::Connection => expected.seen,
            _ => expected.seen.into_iter().map(Seen::assembled).collect(),
        };
        assert_eq!(end.seen, seen, "{entry:?} {role:?}");
        if !joins {
            let partial = end.joined.take().map(|joined| joined.1).unwrap_or_default();
            assert!(expected.partial.starts_with(&partial), "no byte that is not part of the message");
            assert!(outcome != Outcome::Open || partial == expected.partial, "all that came");
        }
        let replies: Vec<_> = decode(&end.replies())
            .into_iter()
            .map(|mut sent| {
                assert!(sent.fin);
                assert_eq!(sent.key.is_some(), role == Role::Client);
                if sent.opcode == 0x8 && end.error.is_some() {
                    sent.payload.truncate(2);
                }
                (sent.opcode, sent.payload)
            })
            .collect();
        assert_eq!(replies, expected.replies, "{entry:?} {role:?}");
    }
}

fn roles() -> impl Strategy<Value = Role> {
    select(&[Role::Server, Role::Client][..])
}

/// With permessage-deflate, or without.
fn deflates() -> impl Strategy<Value = Option<(u8, bool)>> {
    prop_oneof![1 => Just(None), 2 => (8..=15u8, any::<bool>()).prop_map(Some)]
}

/// Sizes of pieces: single bytes, a few, or everything.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![usize::MAX]),
        Just(vec![1]),
        vec(1..9usize, 1..6),
        vec(prop_oneof![1..200usize, 3000..30_000usize], 1..6),
    ]
}

/// Text whole, cut within a character, or spoilt.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-z你好世界👋é]{0,12}".prop_map(String::into_bytes);
    prop_oneof![
        8 => text.clone(),
        2 => (text.clone(), 0..4usize).prop_map(|(mut text, cut)| { text.truncate(text.len().saturating_sub(cut)); text }),
        1 => (text, vec(any::<u8>(), 1..4)).prop_map(|(text, bad)| [text, bad].concat()),
        1 => vec(any::<u8>(), 0..300),
        1 => (select(&[120, 125, 126, 200, 5_000, 12_000, 20_000, 24_000, 24_001][..])).prop_map(|n| vec![b'x'; n]),
    ]
}

/// What zlib makes of a payload (RFC 7692 7.2.1), and rarely not quite.
fn compressed(payload: &[u8], level: i32, fault: u8) -> Vec<u8> {
    let mut zlib = zlib_rs::Deflate::new(level, false, 15);
    let mut bytes = vec![0; payload.len() + payload.len() / 100 + 100];
    zlib.compress(payload, &mut bytes, zlib_rs::DeflateFlush::SyncFlush).unwrap();
    bytes.truncate(usize::try_from(zlib.total_out()).unwrap() - 4);
    let at = bytes.len() / 2;
    match fault {
        0 => bytes[at] ^= 1 << (payload.len() % 8),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, 0x55),
        // BFINAL
        3 => bytes[0] |= 1,
        _ => {}
    }
    bytes
}

/// Frames that are mostly good and mostly in a good order.
fn frame_runs() -> impl Strategy<Value = Vec<Frame>> {
    let good = prop_oneof![
        6 => (select(&[1u8, 2][..]), payloads()).prop_map(|(opcode, payload)| vec![frame(opcode, payload)]),
        6 => (select(&[1u8, 2][..]), vec(payloads(), 2..5), any::<bool>()).prop_map(|(opcode, payloads, ping)| {
            let last = payloads.len() - 1;
            let mut frames = Vec::new();
            for (i, payload) in payloads.into_iter().enumerate() {
                let next = if i == 0 { frame(opcode, payload) } else { continuation(payload) };
                frames.push(if i < last { next.more() } else { next });
                if ping {
                    frames.push(frame(0x9, [i as u8]));
                }
            }
            frames
        }),
        6 => (select(&[1u8, 2][..]), payloads(), 0..10i32, vec(any::<prop::sample::Index>(), 0..3), 0..20u8).prop_map(
            |(opcode, payload, level, cuts, fault)| {
                let bytes = compressed(&payload, level, fault);
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
                cuts.extend([0, bytes.len()]);
                cuts.sort_unstable();
                let last = cuts.len() - 2;
                let fragment = |(i, cut): (usize, &[usize])| {
                    let next = frame(if i == 0 { opcode | 0x40 } else { 0 }, &bytes[cut[0]..cut[1]]);
                    if i < last { next.more() } else { next }
                };
                cuts.windows(2).enumerate().map(fragment).collect()
            }
        ),
        3 => (select(&[9u8, 10][..]), vec(any::<u8>(), 0..126)).prop_map(|(opcode, payload)| vec![frame(opcode, payload)]),
        1 => (prop_oneof![Just(1000u16), 990..1020u16, 2990..5010u16], "[a好]{0,5}")
            .prop_map(|(code, reason)| vec![close(code, reason)]),
        1 => payloads().prop_map(|payload| vec![frame(0x8, payload)]),
    ];
    let odd = (0..16u8, payloads(), 0..12u8).prop_map(|(opcode, payload, fault)| {
        let frame = frame(opcode, payload);
        vec![match fault {
            0 => frame.rsv(0x40),
            1 => frame.mask_inverted(),
            2 => frame.more(),
            3 => frame.length16(100),
            4 => frame.length64(1 << 63),
            5 => frame.length64(1 << 62),
            6 => frame.length64(300),
            7 => frame.cut(5),
            8 => frame.more().rsv(0x10),
            _ => frame,
        }]
    });
    vec(prop_oneof![12 => good, 1 => odd], 0..10).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_mean_what_the_model_says(
        frames in frame_runs(),
        role in roles(),
        deflate in deflates(),
        sizes in pieces(),
    ) {
        compare(&encode(&frames, role), role, deflate, &sizes);
    }

    #[test]
    fn bytes_mean_what_the_model_says(
        bytes in vec(any::<u8>(), 0..300),
        role in roles(),
        deflate in deflates(),
        sizes in pieces(),
    ) {
        compare(&bytes, role, deflate, &sizes);
    }

    /// A valid stream with a few bytes changed, left out or put in.
    #[test]
    fn spoilt_frames_mean_what_the_model_says(
        frames in frame_runs(),
        faults in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
        role in roles(),
        deflate in deflates(),
        sizes in pieces(),
    ) {
        let mut bytes = encode(&frames, role);
        for (at, byte, fault) in faults {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                match fault {
                    0 => bytes[at] ^= byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
        }
        compare(&bytes, role, deflate, &sizes);
    }

    /// The headers themselves: every first two bytes with lengths around each bound.
    #[test]
    fn headers_mean_what_the_model_says(
        first in any::<u8>(),
        second in any::<u8>(),
        length in prop_oneof![0..300u64, 65_000..66_000u64, any::<u64>()],
        under_way in any::<bool>(),
        role in roles(),
        deflate in deflates(),
        sizes in pieces(),
    ) {
        let mut bytes = encode(&[frame(0x2, "好").more()], role);
        bytes.truncate(if under_way { bytes.len() } else { 0 });
        bytes.extend([first, second]);
        match second & 0x7F {
            126 => bytes.extend((length as u16).to_be_bytes()),
            127 => bytes.extend(length.to_be_bytes()),
            _ => {}
        }
        bytes.extend([0x20; 200]);
        compare(&bytes, role, deflate, &sizes);
    }
}
