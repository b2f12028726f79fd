//! Opening handshakes: heads that are too long, have no end or dribble in, and answers that never come.

use std::time::Duration;

use futures_util::future::join_all;
use longwire::{AcceptError, ConnectError, HandshakeError};
use longwire_proto::handshake::HeadError;

use tokio::io::AsyncWriteExt;

use crate::attacker::Attacker;
use crate::support::{REQUEST, accept_of, read_head, response};
use crate::victim::{End, Setup, Target, each_target};

/// What a head that is refused may cost: itself, the block it is read into, and the answer.
const HEAD_PEAK: isize = 300_000;

/// What each of many may cost whose request is refused and followed by 100 KB: its task, and for some of them
/// the block that is read into.
const BEHIND_MAX: isize = 16_000;

/// What a connection holds that waits for a head, its task included, besides what has come of it. A client
/// keeps its request.
const fn waiting_most(target: Target) -> isize {
    match target {
        Target::Server | Target::Engine => 4_000,
        Target::Client => 8_000,
    }
}

/// Header lines in the middle of a head.
fn lines(count: usize) -> String {
    (0..count).map(|i| format!("X-{i}: 你好\r\n")).collect()
}

/// SECURITY.md: a head is bounded in bytes and lines.
#[tokio::test]
async fn a_server_refuses_a_head_that_floods() {
    let rest = REQUEST.split_once("\r\n").unwrap().1.strip_suffix("\r\n").unwrap();
    let rows = [
        ("65 headers", format!("GET / HTTP/1.1\r\n{rest}{}\r\n", lines(60)), "", 431),
        (
            "a header of 65 KiB",
            format!("GET / HTTP/1.1\r\nX: {}\r\n{rest}\r\n", "x".repeat(17 * 1024)),
            "",
            431,
        ),
        ("headers without end", format!("GET / HTTP/1.1\r\n{rest}"), "X: y\r\n", 431),
        ("a header without end", "GET / HTTP/1.1\r\nX: ".to_owned(), "xxxxxxxx", 431),
        ("a request line without end", "GET /".to_owned(), "aaaaaaaa", 414),
        ("binary without end", "\0".to_owned(), "\0\0\0\0", 400),
    ];
    for target in [Target::Server, Target::Engine] {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        let mut refused = 0;
        for (name, first, more, status) in &rows {
            // Four times, for what the thread keeps for all its connections is there after a while.
            for _ in 0..4 {
                let before = victim.rewind();
                let mut attacker = victim.attacker().await;
                let came = if more.is_empty() {
                    attacker.write(first).await.unwrap();
                    attacker.read_to_end().await
                } else {
                    attacker.flood_and_read(first, more.repeat(1_000)).await
                };
                let answer = String::from_utf8(came).unwrap();
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
                assert!(victim.peak() - before < HEAD_PEAK, "{name}: {} B", victim.peak() - before);
                refused += 1;
                if target == Target::Engine {
                    victim.has_refused(refused).await;
                    continue;
                }
                match attacker.leave().await {
                    End::Accept(AcceptError::Refused(refusal)) => {
                        assert_eq!(refusal.status(), *status, "{name}");
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
        friend.goes_on().await;
    }
}

/// What comes right behind a request that is refused is not kept, however many of them there are.
#[tokio::test]
async fn what_comes_behind_a_request_that_is_refused_is_not_kept() {
    const COUNT: usize = 100;
    for target in [Target::Server, Target::Engine] {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        let before = victim.rewind();
        let mut attackers = join_all((0..COUNT).map(|_| victim.attacker())).await;
        let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{}", "x".repeat(100_000));
        let answers = join_all(attackers.iter_mut().map(async |attacker| {
            attacker.write(&request).await.unwrap();
            attacker.stream.shutdown().await.unwrap();
            attacker.read_to_end().await
        }));
        assert!(answers.await.iter().all(|answer| answer.starts_with(b"HTTP/1.1 4")));
        let each = (victim.peak() - before) / COUNT as isize;
        assert!(each < BEHIND_MAX, "{target:?}: {each} B");
        friend.goes_on().await;
    }
}

/// Reads the request and answers with `first`, then `more` without end.
async fn answer(attacker: &mut Attacker, first: &str, more: &str) {
    let accept = accept_of(&read_head(&mut attacker.stream).await);
    let first = first.replace("ACCEPT", &accept);
    match more {
        "" => attacker.write(first).await.unwrap(),
        more => drop(attacker.flood_and_read(first, more.repeat(1_000)).await),
    }
}

/// SECURITY.md: a head is bounded in bytes and lines; interim responses end.
#[tokio::test]
async fn a_client_fails_on_a_head_that_floods() {
    let good = response("ACCEPT");
    let (status, rest) = good.split_once("\r\n").unwrap();
    let rest = rest.strip_suffix("\r\n").unwrap();
    let long = "x".repeat(65 * 1024);
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </样式.css>\r\n\r\n";
    let large_interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(16_000));
    type Expected = fn(&HandshakeError) -> bool;
    let many: Expected = |error| matches!(error, HandshakeError::Head(HeadError::TooManyHeaders { .. }));
    let too_long: Expected = |error| matches!(error, HandshakeError::Head(HeadError::TooLong { .. }));
    let start_line: Expected =
        |error| matches!(error, HandshakeError::Head(HeadError::StartLineTooLong { .. }));
    let no_http: Expected = |error| matches!(error, HandshakeError::Head(HeadError::FirstByte(0)));
    let interim_end: Expected = |error| matches!(error, HandshakeError::TooManyInterim);
    let rows = [
        ("257 headers", format!("{status}\r\n{rest}{}\r\n", lines(254)), "", many),
        ("a header of 65 KiB", format!("{status}\r\nX: {long}\r\n{rest}\r\n"), "", too_long),
        ("headers without end", format!("{status}\r\n"), "X: y\r\n", many),
        ("a header without end", format!("{status}\r\nX: "), "xxxxxxxx", too_long),
        ("a status line without end", "HTTP/1.1 101 ".to_owned(), "aaaaaaaa", start_line),
        ("binary without end", "\0".to_owned(), "\0\0\0\0", no_http),
        ("interim responses without end", String::new(), interim, interim_end),
        ("large interim responses without end", String::new(), &large_interim, interim_end),
    ];
    let victim = Setup::new(Target::Client).start();
    let friend = victim.friend().await;
    for (name, first, more, expected) in rows {
        for _ in 0..4 {
            let before = victim.rewind();
            let mut attacker = victim.attacker().await;
            answer(&mut attacker, &first, more).await;
            match attacker.end().await {
                End::Connect(ConnectError::Handshake(error)) if expected(&error) => {}
                other => panic!("{name}: {other:?}"),
            }
            assert!(victim.peak() - before < HEAD_PEAK, "{name}: {} B", victim.peak() - before);
        }
    }
    friend.goes_on().await;
}

/// The body of a refusal is kept up to 4 KiB, and not waited for.
#[tokio::test]
async fn a_client_reads_little_of_a_refusal_without_end() {
    let victim = Setup::new(Target::Client).start();
    let friend = victim.friend().await;
    let head = "HTTP/1.1 503 Busy\r\n";
    let rows = [
        ("no length", format!("{head}\r\n"), "满了 ", 4096),
        (
            "a length without end",
            format!("{head}Content-Length: 18446744073709551615\r\n\r\n"),
            "满了 ",
            4096,
        ),
        ("chunks without end", format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "5\r\nhello\r\n", 4096),
        ("a chunk size without end", format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "0000", 0),
        ("a chunk extension without end", format!("{head}Transfer-Encoding: chunked\r\n\r\n5;"), "xxxx", 0),
        ("a body that never comes", format!("{head}Content-Length: 100\r\n\r\n"), "", 0),
    ];
    for (name, first, more, expected) in rows {
        for _ in 0..2 {
            let before = victim.rewind();
            let mut attacker = victim.attacker().await;
            answer(&mut attacker, &first, more).await;
            match attacker.end().await {
                End::Connect(ConnectError::Refused(told)) => {
                    assert_eq!(told.status, 503, "{name}");
                    assert!(told.body.len() <= expected + 2, "{name}: {} B", told.body.len());
                    assert!(told.body.len() >= expected, "{name}: {} B", told.body.len());
                }
                other => panic!("{name}: {other:?}"),
            }
            assert!(victim.peak() - before < HEAD_PEAK, "{name}: {} B", victim.peak() - before);
        }
    }
    friend.goes_on().await;
}

/// SECURITY.md: an opening handshake ends. The deadline is for all of it: a byte now and then does not
/// move it.
#[tokio::test]
async fn a_head_that_dribbles_is_timed_out() {
    const PAUSE: Duration = Duration::from_millis(10);
    each_target(async |target| {
        let victim = Setup::new(target).handshake_timeout(Duration::from_millis(300)).start();
        let friend = victim.friend().await;
        let head = if target.is_server() { REQUEST.to_owned() } else { response("ACCEPT") };
        // Each of these is whole, and none is the answer.
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(8);
        let rows = ["", &head[..1], &head[..60], &head, &interim];
        let rows = if target.is_server() { &rows[..4] } else { &rows };
        join_all(rows.iter().map(async |dribbled| {
            let mut attacker = victim.attacker().await;
            // It goes on beyond the deadline, if it is let, and is silent then.
            let _ = attacker.dribble(dribbled, PAUSE).await;
            let came = attacker.read_to_end().await;
            if target.is_server() {
                let answer = String::from_utf8_lossy(&came);
                let expected = if dribbled.is_empty() { "" } else { "HTTP/1.1 408 " };
                assert!(answer.starts_with(expected), "{dribbled:?}: {answer}");
            }
            if target == Target::Engine {
                return;
            }
            match (target, attacker.leave().await) {
                (Target::Server, End::Accept(AcceptError::Timeout)) => {}
                (Target::Client, End::Connect(ConnectError::Timeout(longwire::Phase::Handshake))) => {}
                (_, other) => panic!("{dribbled:?}: {other:?}"),
            }
        }))
        .await;
        if target == Target::Engine {
            victim.has_refused(rows.len() as u64).await;
        }
        friend.goes_on().await;
    })
    .await;
}

/// SECURITY.md: a head is bounded; reading it reserves nothing.
#[tokio::test]
async fn heads_that_wait_hold_what_has_come() {
    const COUNT: usize = 100;
    each_target(async |target| {
        let victim = Setup::new(target).start();
        let friend = victim.friend().await;
        let start = match target.is_server() {
            true => "GET / HTTP/1.1\r\nX: ",
            false => "HTTP/1.1 101 Switching Protocols\r\nX: ",
        };
        let large = format!("{start}{}", "x".repeat(16_000));
        for (head, least) in [("", 0), (start, 0), (&*large, 16_000)] {
            let before = victim.live();
            let mut attackers = Vec::new();
            for _ in 0..COUNT {
                let mut attacker = victim.attacker().await;
                attacker.write(head).await.unwrap();
                attackers.push(attacker);
            }
            let most = 2 * least + waiting_most(target);
            // The friend may have given back a little since.
            let least = before + COUNT as isize * least - 10_000;
            let each = (victim.settled(|live| live >= least).await - before) / COUNT as isize;
            if target != Target::Engine {
                assert_eq!(victim.open_ones(), COUNT);
            }
            assert!(each < most, "{target:?}, {} B come: {each} B", head.len());
            drop(attackers);
            victim.is_deserted().await;
            // All but a block or two that the thread keeps.
            victim.settled(|live| live < before + 200_000).await;
        }
        friend.goes_on().await;
    })
    .await;
}
