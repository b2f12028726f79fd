//! What compression makes an end and its thread hold (RFC 7692): nothing between messages unless a context is
//! taken over, no more than the limits however a message is made, and what the documentation says where it is more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/receiver.rs"]
mod receiver;

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use counting::Account;
use frames::{Frame, binary, continuation, encode};
use longwire_proto::{
    Assembler, CloseCode, Config, Connection, Deflate, DeflateParameters, Incoming, Outbox, ProtocolError,
    Role,
};
use receiver::connection;

const RSV1: u8 = 0x40;
const SYNC: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
const MIB: usize = 1 << 20;
const LIMIT: usize = MIB / 4;

const TAKEOVER: DeflateParameters = DeflateParameters {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

const NO_TAKEOVER: DeflateParameters =
    DeflateParameters { server_no_context_takeover: true, client_no_context_takeover: true, ..TAKEOVER };

const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// An end with what a driver lends it: of these only the connection stays when it is idle.
struct End {
    connection: Connection,
    assembler: Assembler,
    out: Outbox,
    input: BytesMut,
    messages: usize,
}

impl End {
    fn new(role: Role, config: &Config, parameters: DeflateParameters) -> Self {
        Self {
            connection: connection(role, config, Instant::now()).with_deflate(parameters),
            assembler: Assembler::default(),
            out: Outbox::new(),
            input: BytesMut::with_capacity(64 * 1024),
            messages: 0,
        }
    }

    /// Takes these bytes in reads of up to 64 KiB.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        for piece in bytes.chunks(60 * 1024) {
            self.input.extend_from_slice(piece);
            let (connection, out) = (&mut self.connection, &mut self.out);
            while let Some(incoming) = self.assembler.receive(connection, &mut self.input, out)? {
                self.messages += usize::from(matches!(incoming, Incoming::Data(_)));
            }
        }
        Ok(())
    }

    /// Takes them in parts; the largest one.
    fn feed_parts(&mut self, bytes: &[u8]) -> Result<usize, ProtocolError> {
        let mut largest = 0;
        for piece in bytes.chunks(60 * 1024) {
            self.input.extend_from_slice(piece);
            let (connection, out) = (&mut self.connection, &mut self.out);
            while let Some(incoming) = self.assembler.receive_part(connection, &mut self.input, out)? {
                if let Incoming::Data(part) = incoming {
                    largest = largest.max(part.payload.len());
                }
            }
        }
        Ok(largest)
    }
}

fn peak(work: impl FnOnce()) -> usize {
    let account = Account::of_this_thread();
    let before = account.rewind();
    work();
    usize::try_from(account.peak() - before).unwrap()
}

fn zlib(payload: &[u8]) -> Vec<u8> {
    let mut zlib = zlib_rs::Deflate::new(9, false, 15);
    let mut out = vec![0; payload.len() + payload.len() / 100 + 100];
    zlib.compress(payload, &mut out, zlib_rs::DeflateFlush::SyncFlush).unwrap();
    out.truncate(usize::try_from(zlib.total_out()).unwrap() - 4);
    out
}

fn deflated(payload: impl AsRef<[u8]>) -> Frame {
    binary(payload).rsv(RSV1)
}

/// A text that does not repeat itself soon.
fn words(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut text = Vec::new();
    while text.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend(format!("消息 {} ", state >> 16).as_bytes());
    }
    text.truncate(size);
    text
}

/// Messages of more than 2 MiB, in every shape that DEFLATE has for it, in about a thousandth of the bytes
/// where it can.
fn bombs() -> Vec<(&'static str, Vec<Frame>)> {
    let zeros = zlib(&vec![0; 2 * MIB + 1]);
    let flushed = [&zlib(&[0; LIMIT])[..], &SYNC].concat();
    // One literal, then matches of 258 bytes: 12 bits for 8 of them in fixed codes.
    let fixed = {
        let mut zlib = zlib_rs::Deflate::new_with_config(zlib_rs::DeflateConfig {
            window_bits: -15,
            strategy: zlib_rs::Strategy::Fixed,
            ..zlib_rs::DeflateConfig::new(9)
        });
        let mut out = vec![0; MIB];
        zlib.compress(&vec![b'x'; 2 * MIB + 1], &mut out, zlib_rs::DeflateFlush::SyncFlush).unwrap();
        out.truncate(usize::try_from(zlib.total_out()).unwrap() - 4);
        out
    };
    let stored = {
        let block = [&[0x00, 0xFF, 0xFF, 0x00, 0x00][..], &[7; 65_535]].concat();
        [block.repeat(33), vec![0]].concat()
    };
    let many_blocks = [flushed.repeat(9), vec![0]].concat();
    let fragments = {
        let first = [deflated(&flushed).more()];
        let more = std::iter::repeat_n(continuation(&flushed).more(), 9);
        first.into_iter().chain(more).chain([continuation([0])]).collect()
    };
    let byte_by_byte = {
        let bytes = &zeros;
        let mut frames: Vec<Frame> = bytes.chunks(2).map(|piece| continuation(piece).more()).collect();
        frames[0] = deflated(&bytes[..2]).more();
        frames.push(continuation([]));
        frames
    };
    vec![
        ("zeros", vec![deflated(&zeros)]),
        ("fixed codes", vec![deflated(fixed)]),
        ("stored blocks", vec![deflated(stored)]),
        ("many blocks", vec![deflated(many_blocks)]),
        ("fragments", fragments),
        ("two bytes a fragment", byte_by_byte),
    ]
}

#[test]
fn no_bomb_takes_more_than_the_message_limit() {
    for (name, frames) in bombs() {
        for role in ROLES {
            let config = Config::server().max_message(LIMIT).max_small_fragments(u32::MAX);
            let bytes = encode(&frames, role);
            for parameters in [TAKEOVER, NO_TAKEOVER] {
                let mut end = End::new(role, &config, parameters);
                let mut result = Ok(());
                let peak = peak(|| result = end.feed(&bytes));
                assert_eq!(result, Err(ProtocolError::MessageTooBig { limit: LIMIT }), "{name}");
                assert_eq!(result.unwrap_err().close_code(), CloseCode::TOO_BIG);
                assert!(peak <= 3 * LIMIT + 128 * 1024, "{name}: {peak}");
            }
        }
    }
}

/// In parts there is no limit: each is bounded, and nothing piles up.
#[test]
fn parts_of_a_bomb_are_small() {
    for (name, frames) in bombs() {
        let bytes = encode(&frames, Role::Server);
        let config = Config::server().max_message(1).max_small_fragments(u32::MAX);
        let mut end = End::new(Role::Server, &config, NO_TAKEOVER);
        let mut largest = 0;
        let peak = peak(|| largest = end.feed_parts(&bytes).unwrap());
        assert!(largest <= 64 * 1024 + 257, "{name}: {largest}");
        assert!(peak <= 512 * 1024, "{name}: {peak}");
    }
}

#[test]
fn blocks_that_make_nothing_take_nothing() {
    for role in ROLES {
        let mut end = End::new(role, &Config::server(), NO_TAKEOVER);
        let blocks = encode(&[deflated([0x00, 0x00, 0x00, 0xFF, 0xFF].repeat(100_000)).more()], role);
        let peak = peak(|| end.feed(&blocks).unwrap());
        assert!(peak <= 64 * 1024, "{peak}");
        end.feed(&encode(&[continuation([0])], role)).unwrap();
        assert_eq!(end.messages, 1);
    }
}

/// What a connection holds itself after `work`, besides what its thread keeps for all. Messages of less than
/// 32 KiB leave nothing in the thread's pool of large buffers.
fn held_after(end: &mut End, work: impl Fn(&mut End)) -> usize {
    let account = Account::of_this_thread();
    // The thread gets what it keeps.
    let mut first = End::new(end.connection.role(), end.connection.config(), NO_TAKEOVER);
    first.feed(&encode(&[deflated(zlib(&words(SIZE)))], first.connection.role())).unwrap();
    first.connection.send(words(SIZE).into(), &mut first.out).unwrap();
    drop(first);
    let before = account.live();
    let input = std::mem::take(&mut end.input);
    work(end);
    end.out = Outbox::new();
    end.input = input;
    usize::try_from(account.live() - before).unwrap()
}

const SIZE: usize = 30_000;

#[test]
fn without_takeover_nothing_is_kept() {
    let config = Config::server().deflate(Deflate::new());
    for role in ROLES {
        let mut end = End::new(role, &config, NO_TAKEOVER);
        let bytes = encode(&[deflated(zlib(&words(10_000))), deflated(zlib(&words(1000)))], role);
        let held = held_after(&mut end, |end| {
            end.feed(&bytes).unwrap();
            end.connection.send(words(SIZE).into(), &mut end.out).unwrap();
        });
        assert_eq!((held, end.messages), (0, 2));
    }
}

/// As much as has come, and 40 KiB at most: a quarter more than the window.
#[test]
fn a_peer_that_takes_over_makes_us_keep_its_window() {
    for role in ROLES {
        for bits in 8..=15 {
            let parameters =
                DeflateParameters { server_max_window_bits: bits, client_max_window_bits: bits, ..TAKEOVER };
            for (size, messages) in [(1000, 1), (10_000, 1), (SIZE, 10)] {
                let mut end = End::new(role, &Config::server(), parameters);
                let stored = |piece: &[u8]| {
                    let length = u16::try_from(piece.len()).unwrap();
                    [&[0x00][..], &length.to_le_bytes(), &(!length).to_le_bytes(), piece, &[0]].concat()
                };
                let bytes = encode(&vec![deflated(stored(&words(size))); messages], role);
                let held = held_after(&mut end, |end| end.feed(&bytes).unwrap());
                assert!(held <= (5 << bits) / 4 + 128, "{held} with {bits} bits");
                assert!(held <= 2 * size * messages + 128, "{held} after {size} bytes");
                assert!(held >= size.min(1 << bits), "{held} cannot be all of it");
            }
        }
    }
}

/// A connection that has failed or was closed keeps no context.
#[test]
fn nothing_is_kept_behind_the_end() {
    let config = Config::server().deflate(Deflate::new().send_context_takeover(BUDGET));
    for role in ROLES {
        for ends in [&encode(&[deflated([0xFF; 9])], role), &encode(&[frames::close(1000, "再见")], role)] {
            let mut end = End::new(role, &config, TAKEOVER);
            let bytes =
                encode(&[deflated(zlib(&words(10_000))), deflated(zlib(&words(10_000))).more()], role);
            let held = held_after(&mut end, |end| {
                end.feed(&bytes).unwrap();
                end.connection.send(words(10_000).into(), &mut end.out).unwrap();
                let _ = end.feed(ends);
                assert!(end.connection.is_done());
                end.assembler.reset();
            });
            // The cause, and what the end of TCP needs.
            assert!(held <= 192, "{held} {role:?}");
        }
    }
}

const KIB: usize = 1024;

/// What is promised of an inflater, and of a window of 32 KiB.
const INFLATER: usize = 12 * KIB;
const WINDOW: usize = 40 * KIB;

/// What an end is otherwise, with its configuration.
const END: usize = 2 * KIB;

/// Inflaters that a thread keeps.
const KEPT: usize = 8;

/// Blocks that are stored, with these bytes.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let block = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap();
        [&[0x00][..], &length.to_le_bytes(), &(!length).to_le_bytes(), piece].concat()
    };
    bytes.chunks(10 * KIB).map(block).collect::<Vec<_>>().concat()
}

/// Ends that have received so much of a compressed message, block by block, and taken it away in parts.
fn unfinished(count: usize, role: Role, parameters: DeflateParameters, size: usize) -> Vec<End> {
    let mut ends: Vec<End> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut end = End::new(role, &Config::server(), parameters);
        let mut frames = vec![deflated([]).more()];
        frames.extend(words(size).chunks(10 * KIB).map(|piece| continuation(stored(piece)).more()));
        end.feed_parts(&encode(&frames, role)).unwrap();
        end.input = BytesMut::new();
        ends.push(end);
    }
    ends
}

/// What `work` leaves behind in bytes, and what it makes.
fn held_by<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let account = Account::of_this_thread();
    let before = account.live();
    let made = work();
    (usize::try_from(account.live() - before).unwrap_or(0), made)
}

/// A thousand connections with a compressed message half received: the tables of an inflater each, the window as
/// far as it is filled, and what has come. When they go, what a thread keeps is left.
#[test]
fn messages_that_are_never_finished_hold_little() {
    for role in ROLES {
        for parameters in [TAKEOVER, NO_TAKEOVER] {
            for (size, window) in [(0, 0), (2 * KIB, 4 * KIB), (10 * KIB, 20 * KIB), (80 * KIB, WINDOW)] {
                let (left, ()) = held_by(|| {
                    let (held, _ends) = held_by(|| unfinished(1000, role, parameters, size));
                    let each = held / 1000;
                    assert!(each <= INFLATER + window + END, "{each} with {size}");
                    assert!(size < WINDOW || each >= WINDOW, "{each}: the window is not reached");
                });
                assert!(left <= KEPT * INFLATER, "{left} is more than a thread keeps");
            }
            let bytes = encode(&[deflated(zlib(&words(2000))).more()], role);
            let whole = |_| {
                let mut end = End::new(role, &Config::server(), parameters);
                end.feed(&bytes).unwrap();
                end.input = BytesMut::new();
                end
            };
            let (held, _ends) = held_by(|| (0..1000).map(whole).collect::<Vec<_>>());
            let each = held / 1000;
            assert!(each <= INFLATER + 4000 + 4000 + END, "{each} with what has come");
        }
    }
}

/// A thread lends its inflaters to all connections, and no window with them.
#[test]
fn no_window_passes_to_another_connection() {
    for role in ROLES {
        for parameters in [NO_TAKEOVER, TAKEOVER] {
            let (held, ()) = held_by(|| {
                let (held, mut ends) = held_by(|| unfinished(KEPT, role, parameters, 80 * KIB));
                assert!(held >= KEPT * WINDOW, "{held}: the windows are not reached");
                for end in &mut ends {
                    end.feed_parts(&encode(&[continuation([0])], role)).unwrap();
                    end.input = BytesMut::new();
                }
                if parameters == TAKEOVER {
                    let (more, ()) = held_by(|| {
                        ends.iter_mut().for_each(|end| {
                            end.feed_parts(&encode(&[deflated([0])], role)).unwrap();
                            end.input = BytesMut::new();
                        })
                    });
                    assert_eq!(more, 0);
                }
            });
            assert!(held <= KEPT * INFLATER, "{parameters:?}: {held} kept");
            for parameters in [TAKEOVER, NO_TAKEOVER] {
                let (more, _ends) = held_by(|| unfinished(KEPT, role, parameters, 1));
                assert!(held + more <= KEPT * (INFLATER + END), "{held} and {more}");
            }
        }
    }
}

/// A message that comes whole and is not referred to is not copied into a window.
#[test]
fn a_whole_message_without_takeover_needs_no_window() {
    for role in ROLES {
        let bytes = encode(&[deflated(zlib(&words(SIZE)))], role);
        let [without, with] = [NO_TAKEOVER, TAKEOVER].map(|parameters| {
            // The thread gets an inflater.
            End::new(role, &Config::server(), parameters)
                .feed(&encode(&[deflated(zlib(b"x"))], role))
                .unwrap();
            let mut end = End::new(role, &Config::server(), parameters);
            peak(|| end.feed(&bytes).unwrap())
        });
        assert!(without + SIZE * 9 / 10 <= with, "{without} and {with}");
    }
}

/// SECURITY.md: what a thread keeps is a compressor of less than 0.4 MiB, 64 KiB of what it has made, and 8
/// inflaters, whatever it was used for.
#[test]
fn a_thread_keeps_little() {
    const COMPRESSOR: usize = 360 * KIB;
    const SCRATCH: usize = 64 * KIB;
    let mut state = 7u64;
    let mut noise = |size: usize| -> Vec<u8> {
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..size).map(next).collect()
    };
    // Four bytes in any order of a few: a match each, with nothing between them.
    let tokens = noise(256);
    let matches: Vec<u8> =
        noise(MIB / 4).iter().flat_map(|&at| tokens[usize::from(at & 63) * 4..][..4].to_vec()).collect();
    let words = words(MIB);
    // Its buffer doubles, from one to the other.
    let [small, most, large] = [16_000, 60_000, 70_000].map(&mut noise);
    let send = |message: &[u8], level: u8| {
        let config = Arc::new(Config::server().deflate(Deflate::new().level(level)));
        let mut end = Connection::server(config, Instant::now()).with_deflate(NO_TAKEOVER);
        end.send(message.to_vec().into(), &mut Outbox::new()).unwrap();
    };
    let (compressor, ()) = held_by(|| {
        for level in [1, 2, 6, 9] {
            [&words, &matches, &large].iter().for_each(|message| send(message, level));
        }
    });
    assert!((COMPRESSOR * 9 / 10..=COMPRESSOR).contains(&compressor), "{compressor}");
    let (scratch, ()) = held_by(|| [&small, &most].iter().for_each(|message| send(message, 1)));
    assert!((SCRATCH * 9 / 10..=SCRATCH).contains(&scratch), "{scratch}");
    let before = Account::of_this_thread().live();
    send(&large, 1);
    assert_eq!(usize::try_from(before - Account::of_this_thread().live()), Ok(scratch), "it is not kept");

    for count in [KEPT, 3 * KEPT] {
        let (inflaters, ()) = held_by(|| {
            unfinished(count, Role::Server, TAKEOVER, 80 * KIB);
        });
        let kept = if count == KEPT { KEPT } else { 0 };
        assert!(inflaters <= kept * INFLATER, "{inflaters} of {count}");
        assert!(inflaters >= kept * INFLATER * 9 / 10, "{inflaters} of {count}");
    }
}

const BUDGET: usize = MIB;

/// What connections hold to take their own context over is within the budget.
#[test]
fn the_budget_holds() {
    for level in [1, 6] {
        for bits in [8, 12, 15] {
            let parameters = DeflateParameters { server_max_window_bits: bits, ..TAKEOVER };
            let deflate = Deflate::new().level(level).send_context_takeover(BUDGET);
            let config = Arc::new(Config::server().deflate(deflate));
            let mut ends: Vec<Connection> = Vec::new();
            let account = Account::of_this_thread();
            let message = words(SIZE);
            let mut out = Outbox::new();
            // The thread gets its compressor.
            let mut first = Connection::server(Arc::clone(&config), Instant::now()).with_deflate(NO_TAKEOVER);
            first.send(message.clone().into(), &mut out).unwrap();
            drop(first);
            out = Outbox::new();
            let before = account.live();
            for _ in 0..40 {
                let mut end =
                    Connection::server(Arc::clone(&config), Instant::now()).with_deflate(parameters);
                end.send(message.clone().into(), &mut out).unwrap();
                out = Outbox::new();
                ends.push(end);
            }
            let own = ends.capacity() * size_of::<Connection>();
            let held = usize::try_from(account.live() - before).unwrap() - own;
            assert!(held <= BUDGET + 40 * 256, "level {level}, {bits} bits: {held}");
            assert!(
                bits < 15 || held >= BUDGET / 2,
                "level {level}, {bits} bits: {held} is far from the budget"
            );
        }
    }
}
