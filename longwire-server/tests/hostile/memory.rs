//! What the process holds for peers that do not read, do not speak, or choose long names.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::{HERE, PATIENCE, Server, hear};
use crate::{Friends, is_calm, memory, message, open, raw};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// SECURITY.md: bytes that wait for a slow reader are bounded. Who does not read what others say is closed
/// with 1008.
#[tokio::test]
async fn slow_consumers_hold_a_bounded_backlog() {
    const SLOW: usize = 10;
    let server = Server::start(&["--max-message", "64K"]);
    let mut friends = Friends::join(&server).await;
    let mut speaker = server.join("/flood").await;
    let mut quick = server.join("/flood").await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(open(&server, "/flood").await);
    }
    speaker.send(HERE).await.expect("sent");
    let (before, _) = memory(&server);
    for _ in 0..400 {
        speaker.send(vec![5; 60 * KIB]).await.expect("sent");
        assert_eq!(hear(&mut quick).await.into_bytes().len(), 60 * KIB);
    }
    let (_, most) = memory(&server);
    let held = most.saturating_sub(before);
    // Each message is there once for all of them, and they may be behind by 1 MiB.
    assert!(held < 20 * MIB, "{held} B for {SLOW}");
    friends.talk().await;
    for mut stream in slow {
        // The answer to the Close frame that is at the end of what waits.
        stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xF0]).await.expect("written");
        let mut came = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("in time").expect("a clean end");
        assert!(came.ends_with(b"\x03\xF0slow consumer"), "not closed with 1008");
        assert!(came.len() < 400 * 60 * KIB, "it got everything");
    }
    is_calm(&server);
}

/// SECURITY.md: bytes that wait for a slow reader are bounded: the server stops reading from who does not
/// read its echoes.
#[tokio::test]
async fn echoes_that_nobody_reads_hold_a_bounded_backlog() {
    const COUNT: usize = 10;
    for size in [200, 15_000, 60_000] {
        let server = Server::start(&["--max-message", "64K", "--threads", "2"]);
        let mut friends = Friends::join(&server).await;
        let (before, _) = memory(&server);
        let mut attackers = JoinSet::new();
        for _ in 0..COUNT {
            let mut stream = open(&server, "/-/echo").await;
            let flood = message(&vec![7; size]).repeat(MIB / size);
            attackers.spawn(async move {
                // Until nothing is taken any more.
                while timeout(Duration::from_millis(500), stream.write_all(&flood)).await.is_ok() {}
                stream
            });
        }
        let attackers = attackers.join_all().await;
        let (_, most) = memory(&server);
        let each = most.saturating_sub(before) / COUNT;
        // Four times the 1 MiB that may wait, and its part of what two threads keep.
        assert!(each < 6 * MIB, "{size}: {each} B each");
        friends.talk().await;
        drop(attackers);
        is_calm(&server);
    }
}

/// An opening handshake that waits, and a connection that is idle, cost little; the name of its channel is
/// what is largest about it.
#[tokio::test]
async fn a_crowd_that_says_nothing_is_cheap() {
    const COUNT: usize = 1_000;
    let long = format!("/{}", "x".repeat(1_000));
    let rows =
        [("no request", "", 6 * KIB), ("idle", "/idle", 6 * KIB), ("idle on a long name", &long, 10 * KIB)];
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
        // The next row would else find that memory free.
        std::mem::forget(crowd);
    }
    friends.talk().await;
    is_calm(&server);
}
