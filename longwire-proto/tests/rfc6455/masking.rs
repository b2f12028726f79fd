//! 5.1 and 5.3, masking: a client masks every frame, a server none.

use std::collections::HashSet;
use std::time::Instant;

use longwire_proto::{CloseFrame, Config, Connection, Kind, Outbox, ProtocolError, Role, SharedFrame};

use crate::frames::{Frame, binary, close, continuation, decode, ping, pong, text};
use crate::receiver::{Entry, Receiver, Seen, connection, drain};
use crate::row::{BOTH, CLIENT, Row, SERVER, row};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for good in [text("好"), binary("好"), text(""), ping("好"), pong(""), close(1000, "好")] {
        // 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
        rows.push(
            row(format!("not masked: {good:?}"), [good.clone().mask_inverted()])
                .received_by(SERVER)
                .fails(ProtocolError::NotMasked, 1002),
        );
        // 5.1: "A client MUST close a connection if it detects a masked frame."
        rows.push(
            row(format!("masked: {good:?}"), [good.mask_inverted()])
                .received_by(CLIENT)
                .fails(ProtocolError::Masked, 1002),
        );
    }
    let mixed = |name: &str| row(name, [text("好").more(), continuation("好").mask_inverted()]);
    rows.push(mixed("not masked amid a message").received_by(SERVER).fails(ProtocolError::NotMasked, 1002));
    rows.push(mixed("masked amid a message").received_by(CLIENT).fails(ProtocolError::Masked, 1002));
    rows
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// The examples of 5.7, byte for byte.
#[test]
fn the_examples_of_the_rfc() {
    let hello = || Seen::Text("Hello".into());
    let table: &[(Role, &[u8], Seen)] = &[
        (Role::Client, b"\x81\x05\x48\x65\x6c\x6c\x6f", hello()),
        (Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", hello()),
        (Role::Client, b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", hello()),
        (Role::Client, b"\x89\x05\x48\x65\x6c\x6c\x6f", Seen::Ping("Hello".into())),
        (Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Seen::Pong("Hello".into())),
    ];
    for (role, bytes, seen) in table {
        for size in [usize::MAX, 1] {
            let mut receiver = Receiver::new(Entry::Connection, *role, &Config::server());
            bytes.chunks(size).for_each(|piece| receiver.feed(piece));
            assert_eq!(receiver.seen, std::slice::from_ref(seen));
        }
    }
}

/// 5.3: `j = i MOD 4`, whatever the key and wherever the payload is cut.
#[test]
fn any_key_and_any_cut_give_the_payload() {
    let message = "你好，世界 👋🏽 mask";
    for key in [[0; 4], [0xFF; 4], [1, 2, 3, 4], [0x80, 0, 0x7F, 0xC0], [0, 0, 0, 1]] {
        let bytes = text(message).encode(Role::Server, key);
        for cut in 0..bytes.len() {
            for entry in Entry::ALL {
                let mut receiver = Receiver::new(entry, Role::Server, &Config::server());
                receiver.feed(&bytes[..cut]);
                receiver.feed(&bytes[cut..]);
                assert_eq!(receiver.seen, [Seen::Text(message.into())], "{key:?} cut at {cut}");
            }
        }
    }
}

fn everything(role: Role, seed: [u8; 32]) -> Vec<u8> {
    let config = std::sync::Arc::new(Config::server().frame_size(40_000));
    let now = Instant::now();
    let mut end = match role {
        Role::Server => Connection::server(config, now),
        Role::Client => Connection::client(config, seed, now),
    };
    let mut out = Outbox::new();
    for size in [0, 1, 1000, 40_000, 200_000] {
        end.send(vec![1; size].into(), &mut out).unwrap();
        end.send_shared(&SharedFrame::new(vec![2; size]), &mut out).unwrap();
        end.ping(b"ping", &mut out).unwrap();
        end.send_part(Kind::Text, "好".into(), false, &mut out).unwrap();
        end.send_part(Kind::Text, "好".into(), true, &mut out).unwrap();
        let mut ping = ping("好").encode(role, [9; 4]);
        end.receive(&mut ping, &mut Vec::new(), &mut out).unwrap();
    }
    end.close(&CloseFrame::new(1000, "再见"), &mut out, now).unwrap();
    drain(&mut out)
}

#[test]
fn a_client_masks_every_frame_and_a_server_none() {
    assert!(decode(&everything(Role::Client, [1; 32])).iter().all(|frame| frame.key.is_some()));
    assert!(decode(&everything(Role::Server, [1; 32])).iter().all(|frame| frame.key.is_none()));
}

/// 5.3: "the masking key needs to be unpredictable": fresh for each frame, another for each seed.
#[test]
fn masks_differ_from_frame_to_frame_and_seed_to_seed() {
    let keys = |seed| -> Vec<[u8; 4]> {
        decode(&everything(Role::Client, seed)).into_iter().filter_map(|frame| frame.key).collect()
    };
    let (ours, others) = (keys([1; 32]), keys([2; 32]));
    assert!(ours.len() > 35);
    assert_eq!(ours.iter().chain(&others).collect::<HashSet<_>>().len(), ours.len() + others.len());
    assert_eq!(ours, keys([1; 32]), "the seed alone decides");
}

/// A frame that is sent is not changed by the mask in the caller's hands.
#[test]
fn masking_leaves_the_shared_payload_as_it_was() {
    let payload = bytes::Bytes::from(vec![5; 300_000]);
    for &role in BOTH {
        let mut end = connection(role, &Config::server(), Instant::now());
        let mut out = Outbox::new();
        end.send(payload.clone().into(), &mut out).unwrap();
        drain(&mut out);
        assert!(payload.iter().all(|&byte| byte == 5));
    }
}

/// A wrong mask is seen in the second byte of a header.
#[test]
fn a_wrong_mask_is_refused_at_the_second_byte() {
    for &role in BOTH {
        let bytes = |frame: Frame| frame.mask_inverted().cut(2).encode(role, [1; 4]);
        for frame in [text("好"), ping("好"), binary([0; 300]), binary([0; 70_000])] {
            let mut receiver = Receiver::new(Entry::Connection, role, &Config::server());
            receiver.feed(&bytes(frame));
            let error = if role == Role::Server { ProtocolError::NotMasked } else { ProtocolError::Masked };
            assert_eq!(receiver.error, Some(error));
        }
    }
}
