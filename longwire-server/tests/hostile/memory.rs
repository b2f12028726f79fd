//! Memory use for peers that do not read, do not send, or choose long names.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::deflated::{TAIL, stored, zeros};
use crate::process::{PROBE, Server, TIMEOUT, receive};
use crate::{Friends, arguments, compressed, digits, frame, is_calm, memory, message, open, raw};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// SECURITY.md: the queue of a slow consumer is bounded. A subscriber that does not read is disconnected with
/// 1013.
#[tokio::test]
async fn slow_consumers_have_a_bounded_queue() {
    for deflate in [false, true] {
        slow_consumers(deflate).await;
    }
}

async fn slow_consumers(deflate: bool) {
    const SLOW: usize = 10;
    let server = Server::start(&arguments(deflate));
    let mut friends = Friends::join(&server).await;
    let mut speaker = server.join("/flood").await;
    let mut quick = server.join("/flood").await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(open(&server, "/flood").await);
    }
    speaker.send(PROBE).await.expect("sent");
    let (before, _) = memory(&server);
    let said = digits(60 * KIB);
    // With compression, it takes more messages to fill the queues, and each takes longer; but the slow
    // consumers are dropped before the end.
    let rounds = if deflate { 250 } else { 400 };
    let began = Instant::now();
    for _ in 0..rounds {
        speaker.send(said.clone()).await.expect("sent");
        assert_eq!(receive(&mut quick).await.into_bytes().len(), 60 * KIB);
    }
    let (_, most) = memory(&server);
    let held = most.saturating_sub(before);
    // Each message is stored once for all of them, and each may lag by 1 MiB.
    assert!(held < 20 * MIB, "{held} B for {SLOW}");
    friends.talk().await;
    for mut stream in slow {
        // The answer to the Close frame at the end of the queue.
        let answered = stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xF0]).await;
        let mut came = Vec::new();
        let read = timeout(TIMEOUT, stream.read_to_end(&mut came)).await.expect("in time");
        // On a very busy machine, a client may exceed the 5 s of the closing handshake and be dropped.
        if read.is_err() && began.elapsed() > Duration::from_secs(4) {
            continue;
        }
        read.and(answered).expect("a clean end");
        assert!(came.ends_with(b"\x03\xF5slow consumer"), "not closed with 1013");
        assert!(came.len() < rounds * said.len() / if deflate { 2 } else { 1 }, "it got everything");
    }
    is_calm(&server);
}

/// SECURITY.md: the queue of a slow client is bounded. The server stops reading from a client that does not
/// read its echoes.
#[tokio::test]
async fn unread_echoes_have_a_bounded_queue() {
    const COUNT: usize = 10;
    let rows =
        [false, true].into_iter().flat_map(|deflate| [200, 15_000, 60_000].map(|size| (deflate, size)));
    for (deflate, size) in rows {
        let server = Server::start(&arguments(deflate));
        let mut friends = Friends::join(&server).await;
        let (before, _) = memory(&server);
        let mut attackers = JoinSet::new();
        for _ in 0..COUNT {
            let mut stream = open(&server, "/-/echo").await;
            let said = if deflate { compressed(&digits(size)) } else { message(&digits(size)) };
            let flood = said.repeat(MIB / size);
            attackers.spawn(async move {
                // Until the server stops reading.
                while let Ok(written) = timeout(Duration::from_millis(500), stream.write_all(&flood)).await {
                    written.expect("the connection stays");
                }
                stream
            });
        }
        let attackers = attackers.join_all().await;
        let (_, most) = memory(&server);
        let each = most.saturating_sub(before) / COUNT;
        // Four times the maximum queue of 1 MiB, plus a share of the buffers of two threads.
        assert!(each < 6 * MIB, "{size}, compressed: {deflate}: {each} B each");
        friends.talk().await;
        drop(attackers);
        is_calm(&server);
    }
}

/// A pending opening handshake or an idle connection costs little; the channel name is the largest part.
#[tokio::test]
async fn idle_connections_are_cheap() {
    const COUNT: usize = 1_000;
    let long = format!("/{}", "x".repeat(250));
    let rows =
        [("no request", "", 6 * KIB), ("idle", "/idle", 6 * KIB), ("idle on a long name", &long, 8 * KIB)];
    let server = Server::start(&[]);
    let mut friends = Friends::join(&server).await;
    for (name, path, most) in rows {
        let (before, _) = memory(&server);
        let mut crowd = Vec::new();
        for number in 0..COUNT {
            crowd.push(match path {
                "" => raw(&server).await,
                path => open(&server, &format!("{path}{number}")).await,
            });
            if number % 100 == 0 {
                friends.talk().await;
            }
        }
        let (now, _) = memory(&server);
        let each = now.saturating_sub(before) / COUNT;
        assert!(each < most, "{name}: {each} B each");
        // Keep the connections, so that the next row does not reuse their memory.
        std::mem::forget(crowd);
    }
    friends.talk().await;
    is_calm(&server);
}

/// SECURITY.md: an unfinished compressed message holds the inflater's tables, its window as far as it is
/// filled, and the received data. A decompression bomb holds at most the largest message.
#[tokio::test]
async fn compressed_messages_hold_little() {
    const COUNT: usize = 500;
    let server = Server::start(&arguments(true));
    let mut friends = Friends::join(&server).await;
    let (before, _) = memory(&server);
    let mut crowd = Vec::new();
    for number in 0..COUNT {
        for path in ["/-/echo", "/crowd"] {
            let mut stream = open(&server, path).await;
            stream.write_all(&frame(0x42, &stored(&digits(2 * KIB)))).await.expect("written");
            crowd.push(stream);
        }
        if number % 100 == 0 {
            friends.talk().await;
        }
    }
    let (now, _) = memory(&server);
    let each = now.saturating_sub(before) / crowd.len();
    // As much as an idle connection; the message and the window may be twice as large.
    assert!(each < (6 + 12 + 4 * 2) * KIB, "{each} B each");

    let (before, _) = memory(&server);
    let bomb = [&zeros(10 * MIB)[..], &TAIL].concat();
    let bombs = [frame(0xC2, &bomb), [frame(0x42, &bomb), frame(0, &bomb)].concat()];
    for bomb in bombs.iter().cycle().take(100) {
        for path in ["/-/echo", "/crowd"] {
            let mut stream = open(&server, path).await;
            let _ = stream.write_all(bomb).await;
            let mut came = Vec::new();
            let _ = timeout(TIMEOUT, stream.read_to_end(&mut came)).await.expect("it is closed");
            assert_eq!(came.get(2..4), Some(&1009u16.to_be_bytes()[..]), "{path}");
        }
    }
    let (_, most) = memory(&server);
    let held = most.saturating_sub(before);
    // Buffers that two threads keep.
    assert!(held < 9 * MIB, "{held} B");
    friends.talk().await;
    drop(crowd);
    is_calm(&server);
}
