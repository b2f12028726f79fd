//! Messages as they pass: kinds, sizes, parts, order, limits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use longwire::{Bytes, Config, Error, Kind, Message, ProtocolError, SendError, SharedFrame};
use longwire_proto::frame::OpCode;
use support::frames::{frame, messages, text, whole_frames};
use support::wire::Wire;
use support::{duplex, end_on, pair, poll_times, server_on, soon, tcp_pair};

#[tokio::test]
async fn every_size_around_the_bounds_of_lengths_and_buffers() {
    let (mut client, mut server) = duplex(5_000, Config::client(), Config::server()).await;
    let bounds = [0, 1, 125, 126, 1_024, 1_025, 4_096, 16_384, 32_768, 65_535, 65_536, 262_144, 300_000];
    for size in bounds.into_iter().flat_map(|bound: usize| [bound.saturating_sub(1), bound, bound + 1]) {
        let binary: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
        let text: String = "字👋a".chars().cycle().take(size / 3).collect();
        for message in [Message::from(binary), Message::from(text)] {
            let echo = async {
                let received = server.recv().await.unwrap().unwrap();
                server.send(received).await.unwrap();
            };
            let (sent, ()) = soon(async {
                tokio::join!(
                    async {
                        client.send(message.clone()).await.unwrap();
                        client.recv().await
                    },
                    echo
                )
            })
            .await;
            assert!(sent.unwrap().unwrap() == message, "{size}");
        }
    }
}

#[tokio::test]
async fn text_and_binary_stay_what_they_are() {
    let (mut client, mut server) = pair().await;
    let all: [Message; 6] = [
        "你好，世界 👋🏽".into(),
        String::from("é").into(),
        "".into(),
        b"\xFF\x00".into(),
        vec![].into(),
        Bytes::from_static("二进制里的字".as_bytes()).into(),
    ];
    for message in &all {
        client.feed(message.clone()).await.unwrap();
    }
    client.flush().await.unwrap();
    for message in all {
        assert_eq!(soon(server.recv()).await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn a_message_of_64_mib() {
    const SIZE: usize = 64 * 1024 * 1024;
    let (mut client, mut server) = tcp_pair(Config::client(), Config::server().max_message(SIZE)).await;
    let mut payload = vec![0; SIZE];
    for (i, chunk) in payload.chunks_mut(1_000).enumerate() {
        chunk.fill(i as u8);
    }
    let payload = Bytes::from(payload);
    let sends = async {
        client.send(payload.clone()).await.unwrap();
        client.recv().await.unwrap().unwrap()
    };
    let echoes = async {
        let message = server.recv().await.unwrap().unwrap();
        server.send(message.clone()).await.unwrap();
        message
    };
    let (echoed, received) = tokio::join!(sends, echoes);
    assert!(received.as_bytes() == payload && echoed.as_bytes() == payload);
}

#[tokio::test]
async fn one_byte_over_the_limit_is_1009_in_one_frame_or_many() {
    for pieces in [1, 2, 10] {
        for over in [0, 1] {
            let wire = Wire::new();
            let mut ws = server_on(&wire, Config::server().max_message(10_000)).await;
            let payload = vec![3; 10_000 + over];
            let size = payload.len().div_ceil(pieces);
            for (i, piece) in payload.chunks(size).enumerate() {
                let opcode = if i == 0 { OpCode::Binary } else { OpCode::Continuation };
                wire.input(frame(true, i + 1 == pieces, opcode, piece));
            }
            wire.eof();
            let received = soon(ws.recv()).await;
            if over == 0 {
                assert_eq!(received.unwrap().unwrap().len(), 10_000);
                continue;
            }
            let Err(Error::Protocol(ProtocolError::MessageTooBig { limit: 10_000 })) = received else {
                panic!("{pieces} pieces: {received:?}");
            };
            assert_eq!(whole_frames(&wire.take_written())[0].close_code(), 1009);
        }
    }
}

#[tokio::test]
async fn a_message_too_big_is_refused_by_its_header() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    wire.input(&frame(true, true, OpCode::Binary, vec![0; 1024 * 1024 + 1])[..14]);
    wire.eof();
    let refused = poll_times(ws.recv(), 1).unwrap();
    assert!(matches!(refused, Err(Error::Protocol(ProtocolError::MessageTooBig { .. }))), "{refused:?}");
}

#[tokio::test]
async fn messages_before_a_bad_frame_are_delivered() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server()).await;
    let mut input = text(true, "好").repeat(3);
    input.extend(frame(true, true, OpCode::Text, [0xC0, 0x80]));
    input.extend(text(true, "不该看到"));
    wire.input(input);
    wire.eof();
    for _ in 0..3 {
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("好"));
    }
    assert!(matches!(ws.recv().await, Err(Error::Protocol(ProtocolError::InvalidUtf8))));
}

#[tokio::test]
async fn messages_in_parts() {
    let (mut client, mut server) = pair().await;
    let text = "分成很多段的文字👋";
    for (i, byte) in text.bytes().enumerate() {
        client.send_part((Kind::Text, vec![byte], i + 1 == text.len())).await.unwrap();
    }
    client.send_part((Kind::Binary, "", false)).await.unwrap();
    client.ping("在中间").await.unwrap();
    client.send_part((Kind::Binary, "", true)).await.unwrap();
    assert_eq!(soon(server.recv()).await.unwrap().unwrap().as_text(), Some(text));
    assert_eq!(soon(server.recv()).await.unwrap().unwrap(), Message::from(vec![]));

    client.send_part((Kind::Text, "甲", false)).await.unwrap();
    client.send_part((Kind::Text, "乙", true)).await.unwrap();
    let mut parts = Vec::new();
    for _ in 0..2 {
        parts.push(soon(server.recv_part()).await.unwrap().unwrap());
    }
    let seen: Vec<_> =
        parts.iter().map(|part| (part.kind, &part.payload[..], part.first, part.last)).collect();
    let expected = [(Kind::Text, "甲".as_bytes(), true, false), (Kind::Text, "乙".as_bytes(), false, true)];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused_and_the_message_goes_on() {
    let (mut client, mut server) = pair().await;
    client.send_part((Kind::Text, &b"\xE4\xBD"[..], false)).await.unwrap();
    let kind = client.send_part((Kind::Binary, "x", true)).await;
    assert!(matches!(kind, Err(SendError::KindChanged)));
    let utf8 = client.send_part((Kind::Text, "x", true)).await;
    assert!(matches!(utf8, Err(SendError::InvalidUtf8)));
    for refused in [client.send("x").await, client.feed("x").await, client.feed(SharedFrame::new("x")).await]
    {
        assert!(matches!(refused, Err(SendError::MessageUnderWay)));
    }
    let long = client.ping([0; 126]).await;
    assert!(matches!(long, Err(SendError::ControlTooLong)));
    client.send_part((Kind::Text, &b"\xA0"[..], true)).await.unwrap();
    client.send("之后").await.unwrap();
    for expected in ["你", "之后"] {
        assert_eq!(soon(server.recv()).await.unwrap().unwrap().as_text(), Some(expected));
    }
}

#[tokio::test]
async fn recv_skips_the_rest_of_a_message_begun_in_parts() {
    for is_client in [false, true] {
        for (size, limit) in [(10, 1_000), (60_000, 1_000_000), (60_000, 1_000)] {
            let wire = Wire::new();
            let config = if is_client { Config::client() } else { Config::server() }.max_message(limit);
            let mut ws = if is_client {
                support::client_on(&wire, config).await
            } else {
                server_on(&wire, config).await
            };
            wire.input(frame(!is_client, false, OpCode::Text, "头".repeat(size)));
            let part = poll_times(ws.recv_part(), 1).unwrap().unwrap().unwrap();
            assert!(part.first && !part.last);
            // Over the limit, but nothing of it is kept.
            for _ in 0..5 {
                wire.input(frame(!is_client, false, OpCode::Continuation, "跳".repeat(size)));
                wire.input(frame(!is_client, true, OpCode::Ping, "也要答"));
            }
            assert!(poll_times(ws.recv(), 3).is_none());
            wire.input(frame(!is_client, true, OpCode::Continuation, "尾"));
            wire.input(text(!is_client, "下一条 👋"));
            assert_eq!(poll_times(ws.recv(), 1).unwrap().unwrap().unwrap().as_text(), Some("下一条 👋"));
            // And the limit holds again.
            wire.input(frame(!is_client, false, OpCode::Binary, vec![0; limit]));
            wire.input(frame(!is_client, true, OpCode::Continuation, [0]));
            wire.eof();
            let error = poll_times(ws.recv(), 5).unwrap().unwrap_err();
            assert!(matches!(error, Error::Protocol(ProtocolError::MessageTooBig { .. })), "{error}");
            let frames = whole_frames(&wire.take_written());
            assert_eq!(frames.iter().filter(|frame| frame.is(OpCode::Pong, "也要答")).count(), 5);
        }
    }
}

/// What `recv` has put together when it is dropped is not lost for `recv_part`.
#[tokio::test]
async fn recv_part_goes_on_where_recv_was_dropped() {
    for size in [10, 10_000, 100_000] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, false).await;
        let payload: Vec<u8> = (0..size).map(|i| (i % 241) as u8).collect();
        let bytes = frame(true, true, OpCode::Binary, &payload);
        let (one, two) = bytes.split_at(bytes.len() - 3);
        wire.input(one);
        assert!(poll_times(ws.recv(), 4).is_none());
        wire.input(two);
        let mut received = Vec::new();
        loop {
            let part = poll_times(ws.recv_part(), 1).unwrap().unwrap().unwrap();
            assert_eq!(part.first, received.is_empty());
            received.extend_from_slice(&part.payload);
            if part.last {
                break;
            }
        }
        assert_eq!(received, payload);
    }
}

#[tokio::test]
async fn parts_are_not_bounded_by_the_message_limit() {
    let wire = Wire::new();
    let mut ws = server_on(&wire, Config::server().max_message(100)).await;
    wire.input(frame(true, true, OpCode::Binary, vec![1; 500_000]));
    let mut size = 0;
    loop {
        let part = poll_times(ws.recv_part(), 1).unwrap().unwrap().unwrap();
        size += part.payload.len();
        if part.last {
            break;
        }
    }
    assert_eq!(size, 500_000);
}

#[tokio::test]
async fn messages_that_are_kept_stay_what_they_were() {
    let (mut client, mut server) = duplex(200_000, Config::client(), Config::server()).await;
    let mut kept = Vec::new();
    for i in 0..200usize {
        let text = format!("{i} {}", "留".repeat(i * 17 % 2_000));
        client.feed(text.as_str()).await.unwrap();
        client.flush().await.unwrap();
        kept.push((text, soon(server.recv()).await.unwrap().unwrap()));
    }
    for (text, message) in kept {
        assert_eq!(message.as_text(), Some(&*text));
    }
}

/// A message larger than a frame leaves in fragments.
#[tokio::test]
async fn long_messages_leave_in_fragments() {
    for is_client in [false, true] {
        let wire = Wire::new();
        let mut ws = end_on(&wire, is_client).await;
        let text = "长".repeat(300_000);
        ws.send(text.as_str()).await.unwrap();
        ws.feed(SharedFrame::new(text.as_str())).await.unwrap();
        ws.flush().await.unwrap();
        let frames = whole_frames(&wire.take_written());
        assert_eq!(frames.len(), 8);
        assert!(frames.iter().all(|frame| frame.payload.len() <= 256 * 1024 && frame.masked == is_client));
        assert!(
            messages(&frames)
                .iter()
                .all(|(opcode, payload)| { *opcode == OpCode::Text && payload == text.as_bytes() })
        );
    }
}
