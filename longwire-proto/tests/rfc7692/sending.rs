//! RFC 7692 sections 6.1 and 7.2.1: messages as they are sent, and both of our ends together.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use longwire_proto::{
    Compress, Config, Connection, Deflate, DeflateParameters, Kind, Message, Outbox, Role, SharedFrame,
};

use crate::receiver::{Entry, Receiver, Seen, connection};
use crate::receiving::{NO_TAKEOVER, TAKEOVER};

/// Opcodes of messages, with FIN, and RSV1 for the compressed one.
const PLAIN_TEXT: u8 = 0x81;
const COMPRESSED_TEXT: u8 = 0xC1;

fn other(role: Role) -> Role {
    if role == Role::Server { Role::Client } else { Role::Server }
}

fn config(role: Role, deflate: Deflate) -> Config {
    match role {
        Role::Server => Config::server().max_message(64 << 20).deflate(deflate),
        Role::Client => Config::client().deflate(deflate),
    }
}

/// An end of this role that compresses so.
fn sender(role: Role, deflate: Deflate, parameters: DeflateParameters) -> Connection {
    connection(role, &config(role, deflate), Instant::now()).with_deflate(parameters)
}

/// The end that receives from `role`.
fn receiver(role: Role, parameters: DeflateParameters) -> Receiver {
    let mut receiver = Receiver::new(Entry::Assembler, other(role), &config(other(role), Deflate::new()));
    receiver.connection = receiver.connection.with_deflate(parameters);
    receiver
}

fn drain(out: &mut Outbox) -> Vec<u8> {
    out.copy_to_bytes(out.remaining()).to_vec()
}

fn json(size: usize) -> String {
    let ticks =
        (0..).map(|i| format!("{{\"symbol\":\"银行 🏦\",\"bid\":{}.{},\"seq\":{i}}},", i * 7 % 900, i % 100));
    let mut text = String::new();
    for tick in ticks {
        if text.len() >= size {
            break;
        }
        text += &tick;
    }
    while text.len() > size {
        text.pop();
    }
    text
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn samples() -> Vec<Message> {
    let texts = [0, 1, 100, 256, 1000, 70_000, 300_000].map(|size| Message::from(json(size)));
    let binaries = [0, 5, 255, 300, 5000, 100_000].map(|size| Message::from(noise(size)));
    texts.into_iter().chain(binaries).chain([Message::from(vec![0; 500_000])]).collect()
}

fn seen(message: &Message) -> Seen {
    match message {
        Message::Text(text) => Seen::Text(text.to_string()),
        Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
    }
}

fn all_parameters() -> Vec<DeflateParameters> {
    let mut all = Vec::new();
    for bits in 8..=15 {
        for (server, client) in [(false, false), (true, false), (false, true), (true, true)] {
            all.push(DeflateParameters {
                server_no_context_takeover: server,
                client_no_context_takeover: client,
                server_max_window_bits: bits,
                client_max_window_bits: 23 - bits,
            });
        }
    }
    all
}

#[test]
fn both_ends_together_under_every_parameter() {
    let samples = samples();
    for parameters in all_parameters() {
        for role in [Role::Server, Role::Client] {
            let deflate = Deflate::new().send_context_takeover(1 << 20);
            let mut sender = sender(role, deflate, parameters);
            let mut receiver = receiver(role, parameters);
            let mut out = Outbox::new();
            for message in &samples {
                sender.send(message.clone(), &mut out).unwrap();
                receiver.feed(&drain(&mut out));
                assert!(
                    receiver.seen.pop() == Some(seen(message)),
                    "{parameters:?} {role:?} {}",
                    message.len()
                );
            }
            assert_eq!(receiver.error, None);
        }
    }
}

#[test]
fn the_threshold_and_the_callers_word_decide() {
    let first = |size: usize, compress: Compress, parameters: Option<DeflateParameters>| {
        let mut server = connection(Role::Server, &config(Role::Server, Deflate::new()), Instant::now());
        if let Some(parameters) = parameters {
            server = server.with_deflate(parameters);
        }
        let mut out = Outbox::new();
        server.send_with(Message::from("x".repeat(size)), compress, &mut out).unwrap();
        drain(&mut out)[0]
    };
    for (size, compress, expected) in [
        (255, Compress::Auto, PLAIN_TEXT),
        (256, Compress::Auto, COMPRESSED_TEXT),
        (255, Compress::Always, COMPRESSED_TEXT),
        (256, Compress::Never, PLAIN_TEXT),
    ] {
        assert_eq!(first(size, compress, Some(NO_TAKEOVER)), expected, "{size} {compress:?}");
        assert_eq!(first(size, compress, None), PLAIN_TEXT, "nothing was agreed on");
    }
    // Not when it would grow.
    assert_eq!(first(0, Compress::Always, Some(NO_TAKEOVER)), PLAIN_TEXT);
    assert_eq!(first(1, Compress::Always, Some(NO_TAKEOVER)), PLAIN_TEXT);
}

#[test]
fn only_the_first_of_several_frames_says_that_the_message_is_compressed() {
    let message =
        Message::from(noise(3000).iter().map(|byte| char::from(b'a' + byte % 16)).collect::<String>());
    for role in [Role::Server, Role::Client] {
        let config = config(role, Deflate::new()).frame_size(500);
        let mut sender = connection(role, &config, Instant::now()).with_deflate(NO_TAKEOVER);
        let mut out = Outbox::new();
        sender.send(message.clone(), &mut out).unwrap();
        let wire = drain(&mut out);
        let mut firsts = Vec::new();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (header, size) = longwire_proto::frame::Header::decode(rest).unwrap().unwrap();
            firsts.push(rest[0]);
            rest = &rest[size + usize::try_from(header.length).unwrap()..];
        }
        assert!(firsts.len() > 2, "{firsts:x?}");
        assert_eq!(firsts[0], 0x41);
        assert!(firsts[1..firsts.len() - 1].iter().all(|&first| first == 0x00), "{firsts:x?}");
        assert_eq!(firsts.last(), Some(&0x80));
        let mut receiver = receiver(role, NO_TAKEOVER);
        receiver.feed(&wire);
        assert!(receiver.seen == [seen(&message)]);
    }
}

#[test]
fn parts_are_compressed_as_parts_and_arrive_at_once() {
    let text = json(2000);
    for parameters in [NO_TAKEOVER, TAKEOVER] {
        for role in [Role::Server, Role::Client] {
            let mut sender = sender(role, Deflate::new().send_context_takeover(1 << 20), parameters);
            let mut receiver = Receiver::new(Entry::Parts, other(role), &config(other(role), Deflate::new()));
            receiver.connection = receiver.connection.with_deflate(parameters);
            let mut out = Outbox::new();
            let (mut whole, mut on_the_wire) = (String::new(), 0);
            // Text may be cut within a character, and a part may be empty.
            for (at, part) in text.as_bytes().chunks(7).chain([&b""[..]]).enumerate() {
                sender.send_part(Kind::Text, Bytes::copy_from_slice(part), false, &mut out).unwrap();
                let wire = drain(&mut out);
                assert_eq!(wire[0], if at == 0 { 0x41 } else { 0x00 });
                on_the_wire += wire.len();
                receiver.feed(&wire);
                whole.push_str(&String::from_utf8_lossy(part));
                if !part.is_empty() {
                    let (_, joined) = receiver.joined.as_ref().unwrap();
                    assert_eq!(joined.len(), text.len().min(7 * (at + 1)), "all of it is there");
                }
            }
            sender.send_part(Kind::Text, Bytes::new(), true, &mut out).unwrap();
            receiver.feed(&drain(&mut out));
            assert_eq!(receiver.seen, [Seen::Text(text.clone())]);
            assert!(on_the_wire < 9 * text.len(), "{on_the_wire}");

            // The word that is said with the first part counts.
            sender.send_part_with(Kind::Text, "好".into(), false, Compress::Never, &mut out).unwrap();
            sender.send_part_with(Kind::Text, "了".into(), true, Compress::Always, &mut out).unwrap();
            let wire = drain(&mut out);
            assert_eq!(wire[0], 0x01);
            receiver.feed(&wire);
            assert_eq!(receiver.seen.pop(), Some(Seen::Text("好了".into())));
        }
    }
}

#[test]
fn takeover_makes_what_was_said_before_cheap() {
    let message = Message::from(json(1000));
    let sizes = |deflate: Deflate, parameters| {
        let mut server = sender(Role::Server, deflate, parameters);
        let mut out = Outbox::new();
        [(); 2].map(|()| {
            server.send(message.clone(), &mut out).unwrap();
            drain(&mut out).len()
        })
    };
    let [first, again] = sizes(Deflate::new().send_context_takeover(1 << 20), TAKEOVER);
    assert!(first < 700 && again < 60, "{first} {again}");
    for (deflate, parameters) in [
        (Deflate::new(), TAKEOVER),
        (Deflate::new().send_context_takeover(1 << 20), NO_TAKEOVER),
        (Deflate::new().send_context_takeover(100), TAKEOVER),
    ] {
        let [first, again] = sizes(deflate, parameters);
        assert_eq!(first, again);
    }
}

#[test]
fn the_budget_is_shared_and_given_back() {
    let message = || Message::from(json(1000));
    let deflate = Deflate::new().send_context_takeover(100 * 1024);
    let mut out = Outbox::new();
    let mut takes_over = |server: &mut Connection| {
        server.send(message(), &mut out).unwrap();
        let first = drain(&mut out).len();
        server.send(message(), &mut out).unwrap();
        drain(&mut out).len() < first
    };
    let mut one = sender(Role::Server, deflate.clone(), TAKEOVER);
    let mut two = sender(Role::Server, deflate, TAKEOVER);
    assert!(takes_over(&mut one));
    assert!(!takes_over(&mut two), "the budget has room for one");
    drop(one);
    assert!(takes_over(&mut two), "the first has given its share back");
}

#[test]
fn a_shared_frame_is_compressed_once_for_each_window() {
    let message = Message::from(json(3000));
    let frame = SharedFrame::new(message.clone());
    let config = Arc::new(config(Role::Server, Deflate::new().send_context_takeover(1 << 20)));
    for bits in [15, 15, 9, 8, 15] {
        for parameters in [TAKEOVER, NO_TAKEOVER] {
            let parameters = DeflateParameters { server_max_window_bits: bits, ..parameters };
            let mut server = Connection::server(Arc::clone(&config), Instant::now()).with_deflate(parameters);
            let mut receiver = receiver(Role::Server, parameters);
            let mut out = Outbox::new();
            // Between messages that take over: it stands by itself, and they refer to what came after it.
            for round in 0..3 {
                server.send(message.clone(), &mut out).unwrap();
                server.send_shared(&frame, &mut out).unwrap();
                server.send(message.clone(), &mut out).unwrap();
                receiver.feed(&drain(&mut out));
                assert_eq!(receiver.seen.len(), 3 * (round + 1), "{:?}", receiver.error);
            }
            assert!(receiver.seen.iter().all(|one| *one == seen(&message)));
        }
    }
    // The very same bytes go to all.
    let wire = [(); 2].map(|()| {
        let mut server = Connection::server(Arc::clone(&config), Instant::now()).with_deflate(NO_TAKEOVER);
        let mut out = Outbox::new();
        server.send_shared(&frame, &mut out).unwrap();
        drain(&mut out)
    });
    assert_eq!(wire[0], wire[1]);
    assert_eq!(wire[0][0], COMPRESSED_TEXT);
    // To those that have not agreed on it, or whose threshold it does not reach, as it is.
    for (threshold, parameters) in [(256, None), (3001, Some(NO_TAKEOVER))] {
        let config = Config::server().deflate(Deflate::new().threshold(threshold));
        let mut server = Connection::server(Arc::new(config), Instant::now());
        if let Some(parameters) = parameters {
            server = server.with_deflate(parameters);
        }
        let mut out = Outbox::new();
        server.send_shared(&frame, &mut out).unwrap();
        assert_eq!(drain(&mut out)[0], PLAIN_TEXT);
    }
    assert_eq!(frame.message(), message);
}
