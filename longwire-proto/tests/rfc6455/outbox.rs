//! What waits to be written: order, gathering, and control frames that pass large messages (5.4, 5.5).

use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, Bytes};
use longwire_proto::{Config, Connection, Outbox, Role, SharedFrame};

use crate::frames::{decode, encode, ping};
use crate::receiver::{connection, drain};
use crate::row::BOTH;

fn opcodes(bytes: &[u8]) -> Vec<u8> {
    decode(bytes).into_iter().map(|frame| frame.opcode).collect()
}

fn end(role: Role) -> (Connection, Outbox) {
    (connection(role, &Config::server(), Instant::now()), Outbox::new())
}

/// A Ping or Pong passes large messages that wait, but cuts no frame that is under way.
fn control_frames_pass(role: Role) {
    for under_way in [0, 1, 10, 100_000, 150_000] {
        let (mut end, mut out) = end(role);
        for i in 0..3 {
            end.send(vec![i; 100_000].into(), &mut out).unwrap();
        }
        let mut sent = out.copy_to_bytes(under_way).to_vec();
        end.ping(b"1", &mut out).unwrap();
        end.receive(&mut ping("2").encode(role, [7; 4]), &mut Vec::new(), &mut out).unwrap();
        end.ping(b"3", &mut out).unwrap();
        sent.extend(drain(&mut out));
        let (data, control): (Vec<_>, Vec<_>) =
            decode(&sent).into_iter().enumerate().partition(|(_, frame)| frame.opcode == 2);
        let payloads: Vec<_> = control.iter().map(|(_, frame)| &frame.payload[..]).collect();
        assert_eq!(payloads, [b"1", b"2", b"3"], "in their order");
        assert!(data.iter().map(|(_, frame)| frame.payload[0]).eq(0..3), "in their order");
        let expected = if under_way <= 100_000 { 1 } else { 2 };
        assert_eq!(control[0].0, expected, "behind the frame under way at byte {under_way}");
    }
}

#[test]
fn control_frames_of_a_server_pass_large_messages_between_frames() {
    control_frames_pass(Role::Server);
}

/// A client's large message must not hold back the Pong that a server waits for.
#[test]
fn control_frames_of_a_client_pass_large_messages_between_frames() {
    control_frames_pass(Role::Client);
}

/// A shared frame has the bytes of the message itself; a client masks it for itself.
#[test]
fn shared_frames_are_the_message() {
    for size in [0, 1, 125, 126, 2000, 2044, 2045, 2048, 5000, 65_536, 256 * 1024, 600_000] {
        let shared = SharedFrame::new(Bytes::from(vec![9; size]));
        assert_eq!(shared.message().len(), size);
        let (mut server, mut out) = end(Role::Server);
        server.send(shared.message().clone(), &mut out).unwrap();
        let message = drain(&mut out);
        for _ in 0..3 {
            server.send_shared(&shared, &mut out).unwrap();
        }
        assert_eq!(drain(&mut out), message.repeat(3), "{size}");

        let (mut client, mut out) = end(Role::Client);
        client.send_shared(&shared, &mut out).unwrap();
        let frames = decode(&drain(&mut out));
        assert!(frames.iter().all(|frame| frame.key.is_some()));
        assert_eq!(frames.iter().map(|frame| frame.payload.len()).sum::<usize>(), size);
    }
}

/// One vectored write takes all that was queued, and as little as any number of slices allows.
#[test]
fn writes_gather() {
    for &role in BOTH {
        let (mut end, mut out) = end(role);
        for size in [10, 50_000, 10, 10, 90_000, 10] {
            end.send(vec![1; size].into(), &mut out).unwrap();
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let count = out.chunks_vectored(&mut slices);
        let gathered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(gathered.len(), out.remaining());
        assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        assert_eq!(out.chunks_vectored(&mut []), 0);
        let mut one = [IoSlice::new(&[])];
        assert_eq!(out.chunks_vectored(&mut one), 1);
        assert!(gathered.starts_with(&one[0]));
        assert_eq!(opcodes(&gathered), [2; 6]);
        assert_eq!(drain(&mut out), gathered);
        assert_eq!(out.chunks_vectored(&mut [IoSlice::new(&[])]), 0);
        assert_eq!(out.chunk(), b"");
    }
}

#[test]
#[should_panic(expected = "advanced beyond the end")]
fn advancing_beyond_the_end_panics() {
    let (mut server, mut out) = end(Role::Server);
    server.send("好".into(), &mut out).unwrap();
    out.advance(6);
}

/// Pongs keep their order with what else is queued, and do not wait for an outbox that is never empty.
#[test]
fn pongs_leave_while_messages_keep_coming() {
    let (mut server, mut out) = end(Role::Server);
    let mut sent = Vec::new();
    for i in 0..400u32 {
        server.send(vec![0; 40_000].into(), &mut out).unwrap();
        let mut input = encode(&[ping(i.to_be_bytes())], Role::Server);
        server.receive(&mut input, &mut Vec::new(), &mut out).unwrap();
        while out.remaining() > 60_000 {
            let step = out.chunk().len().min(3333);
            sent.extend_from_slice(&out.chunk()[..step]);
            out.advance(step);
        }
    }
    sent.extend(drain(&mut out));
    let numbers: Vec<u32> = decode(&sent)
        .iter()
        .filter(|frame| frame.opcode == 0xA)
        .map(|frame| u32::from_be_bytes(frame.payload[..].try_into().unwrap()))
        .collect();
    assert!(numbers.iter().copied().eq(0..400));
}
