//! Futures polled a few times and dropped, on a stream that waits and cuts where it likes: what is
//! written is whole frames, and no message is lost or doubled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use longwire::{CloseCode, Config, Error, Kind, Message, Side, WebSocket};
use longwire_proto::frame::OpCode;
use support::frames::{Frame, close, frame, messages, text, whole_frames};
use support::wire::Wire;
use support::{duplex, end_on, poll_times, soon};

/// What the peer sends: small, fragmented with control frames within, and large messages.
fn script(by_client: bool) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut bytes = Vec::new();
    let mut sent = Vec::new();
    for round in 0..3 {
        for i in 0..6 {
            let payload = format!("{round}-{i} 你好👋");
            bytes.extend(text(by_client, &payload));
            sent.push(payload.into_bytes());
        }
        bytes.extend(frame(by_client, true, OpCode::Ping, format!("中 {round}")));
        bytes.extend(text(by_client, ""));
        sent.push(Vec::new());
        let long = format!("{round} {}", "一段🧵".repeat(700)).into_bytes();
        let pieces: Vec<_> = long.chunks(999).collect();
        for (i, piece) in pieces.iter().enumerate() {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            bytes.extend(frame(by_client, i + 1 == pieces.len(), opcode, piece));
            bytes.extend(frame(by_client, true, OpCode::Ping, format!("里 {round} {i}")));
        }
        sent.push(long);
        let large: Vec<u8> = (0..90_000u32).map(|i| (i % 251) as u8 ^ round).collect();
        bytes.extend(frame(by_client, true, OpCode::Binary, &large));
        sent.push(large);
    }
    (bytes, sent)
}

/// Calls in random order, each polled so many times and then dropped.
struct Caller {
    random: u64,
    polls: usize,
    received: Vec<Vec<u8>>,
    /// A message taken in parts is under way.
    partial: Option<Vec<u8>>,
    /// By number: messages that were to be sent, and whether the call said that they are.
    tried: Vec<bool>,
    /// The same of Pings.
    pinged: Vec<bool>,
}

impl Caller {
    fn new(seed: u64, polls: usize) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { random, polls, received: Vec::new(), partial: None, tried: Vec::new(), pinged: Vec::new() }
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn receive(&mut self, ws: &mut WebSocket<Wire>) {
        if self.partial.is_some() || self.random(3) == 0 {
            if let Some(part) = poll_times(ws.recv_part(), self.polls) {
                let part = part.unwrap().unwrap();
                assert_eq!(part.first, self.partial.is_none());
                let message = self.partial.get_or_insert_default();
                message.extend_from_slice(&part.payload);
                if part.last {
                    self.received.extend(self.partial.take());
                }
            }
        } else if let Some(message) = poll_times(ws.recv(), self.polls) {
            self.received.push(message.unwrap().unwrap().as_bytes().to_vec());
        }
    }

    /// The text of the message with this number; some are large enough to be queued without copying.
    fn numbered(number: usize) -> String {
        let padding = match number % 7 {
            0 => 50_000,
            1 => 3_000,
            _ => number % 40,
        };
        format!("{number} {}", "发".repeat(padding))
    }

    fn send(&mut self, ws: &mut WebSocket<Wire>) {
        let polls = self.polls;
        match self.random(6) {
            0 => drop(poll_times(ws.flush(), polls).map(Result::unwrap)),
            1 => {
                let payload = format!("ping {}", self.pinged.len());
                let done = poll_times(ws.ping(payload), polls);
                self.pinged.push(done.map(Result::unwrap).is_some());
            }
            2 | 3 => {
                let done = poll_times(ws.send(Self::numbered(self.tried.len())), polls);
                self.tried.push(done.map(Result::unwrap).is_some());
            }
            _ => {
                let done = poll_times(ws.feed(Self::numbered(self.tried.len())), polls);
                self.tried.push(done.map(Result::unwrap).is_some());
            }
        }
    }

    /// What was written is what was called for: each message once at most, in order, and those that
    /// were said to be queued for certain.
    fn check(&self, frames: &[Frame]) {
        let sent = messages(frames);
        let mut numbers = Vec::new();
        for (opcode, payload) in &sent {
            let payload = std::str::from_utf8(payload).unwrap();
            let number: usize = payload.split(' ').next().unwrap().parse().unwrap();
            assert_eq!((*opcode, payload), (OpCode::Text, &*Self::numbered(number)));
            numbers.push(number);
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        for (number, _) in self.tried.iter().enumerate().filter(|(_, done)| **done) {
            assert!(numbers.contains(&number), "{number} was lost");
        }
        let pings: Vec<_> = frames.iter().filter(|frame| frame.opcode == OpCode::Ping).collect();
        let mut next = 0;
        for ping in pings {
            let number = String::from_utf8(ping.payload.clone()).unwrap()[5..].parse().unwrap();
            assert!(number >= next && self.pinged[next..number].iter().all(|done| !done));
            next = number + 1;
        }
        assert!(self.pinged[next..].iter().all(|done| !done), "a Ping was lost");
    }
}

#[tokio::test]
async fn any_call_dropped_after_any_number_of_polls() {
    for is_client in [false, true] {
        let (bytes, expected) = script(!is_client);
        for polls in 1..=6 {
            for seed in 0..6 {
                let wire = Wire::new();
                let mut ws = end_on(&wire, is_client).await;
                wire.chaos(Some(seed + 100 * polls as u64));
                wire.input(&bytes);
                let mut caller = Caller::new(seed + 7 * polls as u64, polls);
                while caller.received.len() < expected.len() {
                    // Chaos gives a stream of one call after the other its progress.
                    caller.receive(&mut ws);
                    if caller.tried.len() < 60 && caller.random(3) == 0 {
                        caller.send(&mut ws);
                    }
                }
                assert_eq!(caller.received.len(), expected.len());
                for (i, (received, expected)) in caller.received.iter().zip(&expected).enumerate() {
                    assert!(received == expected, "message {i}, {polls} polls, seed {seed}");
                }
                soon(ws.flush()).await.unwrap();
                let frames = whole_frames(&wire.take_written());
                caller.check(&frames);
                assert_pongs(&frames);
                assert!(frames.iter().all(|frame| frame.masked == is_client));
            }
        }
    }
}

/// Every Ping has its Pong, in order (none was held back: they are few).
fn assert_pongs(frames: &[Frame]) {
    let pongs: Vec<_> = frames.iter().filter(|frame| frame.opcode == OpCode::Pong).collect();
    let mut expected = Vec::new();
    for frame in whole_frames(&script(true).0) {
        if frame.opcode == OpCode::Ping {
            expected.push(frame.payload);
        }
    }
    assert!(pongs.iter().map(|pong| &pong.payload).eq(&expected));
}

/// A message in parts: a part whose call is dropped may be queued or not, and `buffered_amount` tells,
/// as nothing is written here meanwhile.
#[tokio::test]
async fn a_part_is_queued_whole_or_not_at_all() {
    for is_client in [false, true] {
        for polls in 1..=5 {
            let wire = Wire::new();
            let mut ws = end_on(&wire, is_client).await;
            wire.room(Some(1));
            let mut expected = Vec::new();
            for i in 0..40u8 {
                let piece = vec![i; if i % 9 == 0 { 40_000 } else { 10_000 }];
                let before = ws.buffered_amount();
                let done = poll_times(ws.send_part((Kind::Binary, piece.clone(), i == 39)), polls);
                assert!(done.is_none(), "nothing can be written");
                match ws.buffered_amount() {
                    after if after <= before => assert_eq!(after, before - usize::from(i == 0)),
                    after => {
                        assert!(after + 1 >= before + piece.len());
                        expected.extend(piece);
                    }
                }
            }
            wire.room(None);
            wire.chaos(Some(polls as u64));
            soon(ws.flush()).await.unwrap();
            assert_eq!(messages(&whole_frames(&wire.take_written())), [(OpCode::Binary, expected)]);
        }
    }
}

#[tokio::test]
async fn a_close_dropped_at_any_poll_is_sent_once_and_completes() {
    for is_client in [false, true] {
        for polls in 0..12 {
            for seed in 0..8 {
                let wire = Wire::new();
                let mut ws = end_on(&wire, is_client).await;
                wire.chaos(Some(seed));
                poll_times(ws.feed("先".repeat(2_000)), 1).unwrap().unwrap();
                wire.input(text(!is_client, "来不及了").repeat(20));
                let first = poll_times(ws.close(4000, "一"), polls).is_some();
                assert!(!first, "the peer has not answered");
                wire.input(close(!is_client, 4000, ""));
                wire.eof();
                let _ = poll_times(ws.close(4001, "二"), polls);
                let _ = poll_times(ws.recv(), polls);
                soon(ws.close(4002, "三")).await.unwrap();
                let frames = whole_frames(&wire.take_written());
                assert_eq!(messages(&frames).len(), 1);
                let closes: Vec<_> = frames
                    .iter()
                    .filter(|frame| frame.opcode == OpCode::Close)
                    .map(Frame::close_code)
                    .collect();
                assert_eq!(closes.len(), 1, "{closes:?}");
                assert_eq!(frames.last().unwrap().opcode, OpCode::Close);
                let by = ws.closed().unwrap().by;
                assert!(by == Side::Us || polls == 0);
            }
        }
    }
}

/// Without any waits of the stream's own, a call that is ready is ready at its first poll.
#[tokio::test]
async fn what_can_be_done_at_once_is_done_at_the_first_poll() {
    let wire = Wire::new();
    let mut ws = end_on(&wire, false).await;
    wire.input(text(true, "一"));
    poll_times(ws.send("二"), 1).unwrap().unwrap();
    poll_times(ws.ping("三"), 1).unwrap().unwrap();
    poll_times(ws.send_part((Kind::Text, "四", true)), 1).unwrap().unwrap();
    poll_times(ws.flush(), 1).unwrap().unwrap();
    assert_eq!(poll_times(ws.recv(), 1).unwrap().unwrap(), Some(Message::from("一")));
    wire.input(close(true, 1000, ""));
    assert_eq!(poll_times(ws.recv(), 1).unwrap().unwrap(), None);
}

/// Both ends in one `select!` each, where a timer that is always due drops whatever waits.
#[tokio::test]
async fn select_over_streams_in_memory() {
    const COUNT: usize = 50;
    async fn end<S>(mut ws: WebSocket<S>, by: Side) -> WebSocket<S>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let (mut sent, mut received) = (0, 0);
        let text = |i: usize| format!("{i} {}", "双向💬".repeat(i * 2));
        let mut turn = 0;
        while received < COUNT || sent < COUNT || ws.buffered_amount() > 0 {
            turn += 1;
            let send = async |ws: &mut WebSocket<S>| match turn % 3 {
                0 => ws.flush().await,
                _ if sent < COUNT => ws.feed(text(sent)).await,
                _ => ws.flush().await,
            };
            if turn % 2 == 0 {
                tokio::select! {
                    biased;
                    message = ws.recv() => {
                        assert_eq!(message.unwrap().unwrap().as_text(), Some(&*text(received)));
                        received += 1;
                    }
                    () = tokio::task::yield_now() => {}
                }
            } else {
                tokio::select! {
                    biased;
                    done = send(&mut ws) => {
                        done.unwrap();
                        sent += usize::from(turn % 3 != 0 && sent < COUNT);
                    }
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        assert_eq!((sent, received), (COUNT, COUNT));
        if by == Side::Us {
            ws.close(CloseCode::NORMAL, "齐了").await.unwrap();
        } else {
            assert_eq!(ws.recv().await.unwrap(), None);
        }
        assert_eq!(ws.closed().unwrap().by, by);
        ws
    }
    for size in [7, 100, 10_000] {
        let [client, server] = [Config::client(), Config::server()].map(|config| config.write_buffer(3_000));
        let (client, server) = duplex(size, client, server).await;
        let both = async { tokio::join!(end(client, Side::Us), end(server, Side::Peer)) };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    }
}

/// A receiver in a `select!` loop with a timer loses nothing, and what it feeds leaves.
#[tokio::test(start_paused = true)]
async fn recv_in_a_select_with_a_timer() {
    let (mut client, mut server) = duplex(16, Config::client(), Config::server()).await;
    let echo = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {}
                message = server.recv() => match message? {
                    Some(message) => server.feed(message).await?,
                    None => return Ok::<_, Error>(()),
                },
            }
        }
    });
    for i in 0..30 {
        let text = format!("{i} {}", "滴答".repeat(i * 3));
        client.send(text.as_str()).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap().as_text(), Some(&*text));
    }
    client.close(1000, "").await.unwrap();
    echo.await.unwrap().unwrap();
}
