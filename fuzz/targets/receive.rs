//! Arbitrary bytes in arbitrary pieces, through every entry and to both roles: what is received and
//! answered is what the reference model of `longwire-proto` says, and nothing else.
//!
//! An input is the role (odd: client), which may come with permessage-deflate (2) and what was agreed on it
//! (times 4: see `Agreed::of`), where filler goes and how much of it, the number of pieces, their sizes, and the bytes.

#![no_main]

mod agreed;
#[path = "../../longwire-proto/tests/support/frames.rs"]
mod frames;
#[path = "../../longwire-proto/tests/support/inflate.rs"]
mod inflate;
#[path = "../../longwire-proto/tests/support/receiver.rs"]
mod receiver;
#[path = "../../longwire-proto/tests/support/reference.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;
use longwire_proto::{Cause, Config, Role};

use agreed::{Agreed, other};
use receiver::{Entry, Receiver, Seen};
use reference::{Limits, Meaning, Outcome};

const MAX_MESSAGE: usize = 24_000;
const LIMITS: Limits = Limits { small_fragments: 5, control_run: 4, message: None };

/// Filler stands for the payload of frames so large that their payload lands in a buffer of its own.
const FILLER: [usize; 4] = [0, 4_500, 17_000, 25_000];

/// No input comes in more pieces than about this.
const MAX_PIECES: usize = 100;

fuzz_target!(|data: &[u8]| {
    let [settings, at, filler, count, rest @ ..] = data else { return };
    let role = if settings % 2 == 0 { Role::Server } else { Role::Client };
    let deflate = (settings & 2 != 0).then(|| Agreed::of(settings >> 2));
    let (sizes, bytes) = rest.split_at((usize::from(*count) % 16).min(rest.len()));
    let (before, behind) = bytes.split_at(usize::from(*at).min(bytes.len()));
    let filler = vec![b'x'; FILLER[usize::from(*filler) % FILLER.len()]];
    let bytes = [before, &filler, behind].concat();

    let least = bytes.len() / MAX_PIECES;
    let mut sizes: Vec<usize> = sizes.iter().map(|&size| size_of_piece(size).max(least)).collect();
    if sizes.is_empty() {
        sizes.push(bytes.len());
    }
    for joins in [false, true] {
        let message = joins.then_some(MAX_MESSAGE as u64);
        let window = deflate.map(Agreed::window);
        let expected = reference::read(&bytes, role == Role::Server, Limits { message, ..LIMITS }, window);
        for entry in Entry::ALL.into_iter().filter(|entry| is_joining(*entry) == joins) {
            compare(entry, receiver(entry, role, deflate), &bytes, &sizes, expected.clone());
        }
    }
});

/// Whether messages are put together, and so bounded.
const fn is_joining(entry: Entry) -> bool {
    matches!(entry, Entry::Assembler | Entry::Landing)
}

/// Small ones each by itself, then up to 12,000 bytes.
fn size_of_piece(size: u8) -> usize {
    if size < 200 { usize::from(size) + 1 } else { (usize::from(size) - 199) * 214 }
}

fn receiver(entry: Entry, role: Role, deflate: Option<Agreed>) -> Receiver {
    let config = Config::server()
        .max_message(MAX_MESSAGE)
        .max_small_fragments(LIMITS.small_fragments as u32)
        .max_control_run(LIMITS.control_run as u16);
    let mut end = Receiver::new(entry, role, &config);
    if let Some(agreed) = deflate {
        end.connection = end.connection.with_deflate(agreed.parameters(other(role)));
    }
    end
}

/// Feeds `bytes` in pieces of these sizes, in turn, and compares with what the model says.
fn compare(entry: Entry, mut end: Receiver, bytes: &[u8], sizes: &[usize], mut expected: Meaning) {
    let role = end.connection.role();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at((*size).min(rest.len()));
        if piece.is_empty() {
            break;
        }
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
    let mut seen = expected.seen.clone();
    if entry != Entry::Connection {
        seen = seen.into_iter().map(Seen::assembled).collect();
    }
    assert_eq!(end.seen, seen, "{entry:?} {role:?}");
    if !is_joining(entry) {
        let partial = end.joined.take().map(|joined| joined.1).unwrap_or_default();
        assert!(expected.partial.starts_with(&partial), "no byte that is not part of the message");
        assert!(outcome != Outcome::Open || partial == expected.partial, "all that came");
    }
    assert_eq!(replies(&mut end, role), expected.replies, "{entry:?} {role:?}");

    // RFC 6455 7.1.5: TCP that ends in the middle is 1006.
    end.connection.read_eof(&end.out, end.now);
    let clean = end.connection.cause() != Some(Cause::Eof);
    assert_eq!(clean, outcome != Outcome::Open);
    assert!(end.connection.is_done() && end.connection.remaining() == 0);
    assert!(end.replies().is_empty(), "the end of TCP is not answered");
}

/// Opcode and payload of what was answered; of the Close frame of a failure only the code.
fn replies(end: &mut Receiver, role: Role) -> Vec<(u8, Vec<u8>)> {
    let failed = end.error.is_some();
    let code_only = |mut sent: frames::Sent| {
        assert!(sent.fin && sent.key.is_some() == (role == Role::Client));
        if sent.opcode == 0x8 && failed {
            sent.payload.truncate(2);
        }
        (sent.opcode, sent.payload)
    };
    frames::decode(&end.replies()).into_iter().map(code_only).collect()
}
