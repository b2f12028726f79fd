//! What holds for any input: encoding and decoding are inverse, text is UTF-8, the outbox is a queue.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/frames.rs"]
mod frames;
#[path = "support/receiver.rs"]
mod receiver;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::Buf;
use frames::decode;
use longwire_proto::{
    CloseFrame, Config, Connection, Deflate, DeflateParameters, Kind, Message, Outbox, Role, SharedFrame,
    Utf8State, mask, unmask_text,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use receiver::{Entry, Receiver, Seen, connection};

/// Something that an end sends.
#[derive(Clone, Debug)]
enum Operation {
    Send(Kind, usize),
    Shared(Kind, usize),
    Parts(Kind, Vec<usize>),
    Ping(usize),
}

/// Sizes around every threshold: of the forms of the length, of copying, of sharing, of frames.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..200usize,
        4 => select(&[125, 126, 127, 1023, 1024, 1025, 2040, 2044, 2048, 4096, 8191, 8192, 8193][..]),
        2 => select(&[16_384, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537][..]),
        1 => 60_000..300_000usize,
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    select(&[Kind::Text, Kind::Binary][..])
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        4 => (kinds(), sizes()).prop_map(|(kind, size)| Operation::Send(kind, size)),
        2 => (kinds(), sizes()).prop_map(|(kind, size)| Operation::Shared(kind, size)),
        2 => (kinds(), vec(sizes(), 1..5)).prop_map(|(kind, sizes)| Operation::Parts(kind, sizes)),
        2 => (0..=125usize).prop_map(Operation::Ping),
    ];
    vec(operation, 1..12)
}

fn roles() -> impl Strategy<Value = Role> {
    select(&[Role::Server, Role::Client][..])
}

/// A sender that compresses or does not, and what was agreed on then.
fn deflates() -> impl Strategy<Value = Option<(Deflate, DeflateParameters)>> {
    let deflate = (1..=9u8, select(&[0usize, 1, 256][..]), select(&[None, Some(0), Some(1 << 20)][..]))
        .prop_map(|(level, threshold, budget)| {
            let deflate = Deflate::new().level(level).threshold(threshold);
            budget.map_or_else(|| deflate.clone(), |budget| deflate.clone().send_context_takeover(budget))
        });
    let parameters =
        (any::<[bool; 2]>(), 8..=15u8, 8..=15u8).prop_map(|(takeover, server, client)| DeflateParameters {
            server_no_context_takeover: takeover[0],
            client_no_context_takeover: takeover[1],
            server_max_window_bits: server,
            client_max_window_bits: client,
        });
    prop_oneof![1 => Just(None), 2 => (deflate, parameters).prop_map(Some)]
}

fn frame_sizes() -> impl Strategy<Value = usize> {
    select(&[997, 4096, 40_000, 262_144, usize::MAX][..])
}

/// `size` bytes of this kind; text has characters of one to four bytes.
fn payload(kind: Kind, size: usize) -> Vec<u8> {
    match kind {
        Kind::Binary => (0..size).map(|i| (i * 31 / 8) as u8).collect(),
        Kind::Text => {
            let mut text = "a你好é👋🏽 ".repeat(size / 18 + 1);
            while text.len() > size {
                text.pop();
            }
            [text.as_bytes(), &b"......."[..size - text.len()]].concat()
        }
    }
}

fn message(kind: Kind, size: usize) -> Message {
    let payload = payload(kind, size);
    match kind {
        Kind::Binary => payload.into(),
        Kind::Text => String::from_utf8(payload).unwrap().into(),
    }
}

/// Does it, and says what the other end is to see: a message or a Ping.
fn send(operation: &Operation, end: &mut Connection, out: &mut Outbox) -> Seen {
    match operation {
        Operation::Send(kind, size) => {
            end.send(message(*kind, *size), out).unwrap();
            Seen::message(*kind, payload(*kind, *size))
        }
        Operation::Shared(kind, size) => {
            end.send_shared(&SharedFrame::new(message(*kind, *size)), out).unwrap();
            Seen::message(*kind, payload(*kind, *size))
        }
        Operation::Parts(kind, sizes) => {
            // Text is cut wherever the sizes say, within characters too.
            let whole = payload(*kind, sizes.iter().sum());
            let mut rest = &whole[..];
            for (i, size) in sizes.iter().enumerate() {
                let (part, behind) = rest.split_at(*size);
                end.send_part(*kind, part.to_vec().into(), i + 1 == sizes.len(), out).unwrap();
                rest = behind;
            }
            Seen::message(*kind, whole)
        }
        Operation::Ping(size) => {
            end.ping(&vec![b'p'; *size], out).unwrap();
            Seen::Ping(vec![b'p'; *size])
        }
    }
}

/// Writes up to `count` bytes as a driver does: the first chunk, or several gathered.
fn write(out: &mut Outbox, count: usize, slices: usize) -> Vec<u8> {
    let bytes = if slices < 2 {
        out.chunk()[..count.min(out.chunk().len())].to_vec()
    } else {
        let mut all = vec![IoSlice::new(&[]); slices];
        let filled = out.chunks_vectored(&mut all);
        assert_eq!(&*all[0], out.chunk());
        all[..filled].iter().flat_map(|slice| slice.iter().copied()).take(count).collect()
    };
    out.advance(bytes.len());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// What one role sends, the other receives, whatever the sizes, the fragments, and the pieces that
    /// the bytes are written and read in.
    #[test]
    fn what_is_sent_is_received(
        operations in operations(),
        role in roles(),
        frame_size in frame_sizes(),
        deflate in deflates(),
        entry in select(&Entry::ALL[..]),
        pieces in vec((prop_oneof![1..100usize, 1000..100_000usize], 1..5usize), 1..6),
    ) {
        let mut config = Config::server().frame_size(frame_size);
        if let Some((deflate, _)) = &deflate {
            config = config.deflate(deflate.clone());
        }
        let mut sender = connection(role, &config, Instant::now());
        let mut out = Outbox::new();
        let to = if role == Role::Server { Role::Client } else { Role::Server };
        let config = Config::server().max_message(2 * 1024 * 1024).max_small_fragments(100_000);
        let mut receiver = Receiver::new(entry, to, &config);
        if let Some((_, parameters)) = deflate {
            sender = sender.with_deflate(parameters);
            receiver.connection = receiver.connection.with_deflate(parameters);
        }
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        let mut pieces = pieces.iter().cycle();
        for operation in &operations {
            expected.push(send(operation, &mut sender, &mut out));
            for _ in 0..3 {
                let (count, slices) = *pieces.next().unwrap();
                let bytes = write(&mut out, count, slices);
                receiver.feed(&bytes);
                wire.extend(bytes);
            }
        }
        sender.close(&CloseFrame::new(4000, "再见"), &mut out, Instant::now()).unwrap();
        while !out.is_empty() {
            let (count, slices) = *pieces.next().unwrap();
            let count = count.max(out.remaining() / 20);
            let bytes = write(&mut out, count, slices);
            prop_assert!(!bytes.is_empty());
            receiver.feed(&bytes);
            wire.extend(bytes);
        }
        prop_assert_eq!(receiver.error, None);
        prop_assert_eq!(receiver.seen.pop(), Some(Seen::Close(Some((4000, "再见".into())))));
        // Pings pass messages, but neither overtakes its own kind.
        if entry != Entry::Connection {
            expected = expected.into_iter().map(Seen::assembled).collect();
        }
        let is_ping = |seen: &Seen| matches!(seen, Seen::Ping(_));
        let split = |all: Vec<Seen>| -> (Vec<Seen>, Vec<Seen>) { all.into_iter().partition(is_ping) };
        prop_assert!(split(std::mem::take(&mut receiver.seen)) == split(expected), "{:?}", operations);

        let shared_frame = 256 * 1024;
        let longest = if role == Role::Server { frame_size.max(shared_frame) } else { frame_size };
        prop_assert!(deflate.is_some() || decode(&wire).iter().all(|frame| frame.payload.len() <= longest));
    }

    /// The outbox of a server that sends messages alone is a queue of bytes.
    #[test]
    fn the_outbox_is_a_queue_of_bytes(
        steps in vec((kinds(), sizes(), any::<bool>(), 0..200_000usize, 0..6usize), 1..40),
        frame_size in frame_sizes(),
    ) {
        let mut server = connection(Role::Server, &Config::server().frame_size(frame_size), Instant::now());
        let mut out = Outbox::new();
        let mut queue = VecDeque::new();
        for (kind, size, shared, count, slices) in steps {
            let bytes = payload(kind, size);
            if shared {
                server.send_shared(&SharedFrame::new(message(kind, size)), &mut out).unwrap();
            } else {
                server.send(message(kind, size), &mut out).unwrap();
            }
            let frame_size = if shared { 256 * 1024 } else { frame_size };
            let fragments = bytes.chunks(frame_size).count().max(1);
            for i in 0..fragments {
                let piece = bytes.chunks(frame_size).nth(i).unwrap_or_default();
                let opcode = if i > 0 { 0x0 } else if kind == Kind::Text { 0x1 } else { 0x2 };
                let frame = frames::frame(opcode, piece);
                let frame = if i + 1 < fragments { frame.more() } else { frame };
                queue.extend(frame.encode(Role::Client, [0; 4]));
            }
            prop_assert_eq!(out.remaining(), queue.len());
            let written = write(&mut out, count, slices);
            let expected: Vec<u8> = queue.drain(..written.len()).collect();
            prop_assert!(written == expected);
            prop_assert_eq!(out.remaining(), queue.len());
            prop_assert_eq!(out.is_empty(), queue.is_empty());
            prop_assert_eq!(out.has_remaining() && out.chunk().is_empty(), false);
        }
        prop_assert!(out.copy_to_bytes(out.remaining()) == Vec::from(queue));
    }
}

/// Half a character, a surrogate, an overlong form, and a character beyond the last.
const BAD: &[&[u8]] = &[b"\xe4\xbd", b"\xf0\x9f\x91", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"];

/// Bytes that are often text, sometimes nearly.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => "[a-zé你好👋🏽]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..3),
        1 => "[ -~]{0,300}".prop_map(String::into_bytes),
        1 => select(BAD).prop_map(Vec::from),
    ];
    prop_oneof![
        8 => vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
        1 => vec(any::<u8>(), 0..40),
        1 => (8_000..17_000usize, any::<bool>()).prop_map(|(size, bad)| {
            let mut text = payload(Kind::Text, size);
            if bad { text.push(0xFF); }
            text
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// `unmask_text` says what `str::from_utf8` says, in any pieces, at the first bad byte.
    #[test]
    fn text_is_what_the_standard_library_says(
        bytes in nearly_text(),
        key in any::<[u8; 4]>(),
        sizes in vec(prop_oneof![3 => 1..6usize, 1 => 100..9000usize], 1..6),
    ) {
        let mut masked: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        // How many bytes may come before no continuation is valid any more.
        let valid = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.error_len().is_none() => bytes.len(),
            Err(error) => {
                let from = error.valid_up_to();
                let is_bad = |end: &usize| {
                    std::str::from_utf8(&bytes[from..*end]).is_err_and(|error| error.error_len().is_some())
                };
                (from + 1..=bytes.len()).find(is_bad).unwrap() - 1
            }
        };
        let mut state = Utf8State::default();
        let mut at = 0;
        for size in sizes.iter().cycle() {
            let end = (at + size).min(bytes.len());
            let key = mask::advance(key, at);
            let result = unmask_text(&mut masked[at..end], key, &mut state);
            prop_assert_eq!(result.is_ok(), end <= valid, "{} to {} of {:x?}", at, end, bytes);
            if result.is_err() {
                return Ok(());
            }
            at = end;
            if at == bytes.len() {
                break;
            }
        }
        prop_assert_eq!(state.is_complete(), std::str::from_utf8(&bytes).is_ok());
        prop_assert_eq!(masked, bytes);
    }

    #[test]
    fn masking_twice_is_nothing(
        payload in vec(any::<u8>(), 0..400),
        key in any::<[u8; 4]>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(payload.len() + 1);
        let mut masked = payload.clone();
        mask::apply(&mut masked, key);
        prop_assert!(masked.iter().zip(&payload).zip(key.iter().cycle()).all(|((a, b), key)| a ^ b == *key));
        let (head, tail) = masked.split_at_mut(cut);
        mask::apply(head, key);
        mask::apply(tail, mask::advance(key, cut));
        prop_assert_eq!(masked, payload);
    }
}
