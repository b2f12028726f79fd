//! When it connects again, after how long, and when no more.

use std::io::ErrorKind::{ConnectionRefused, TimedOut};
use std::time::Duration;

use longwire::reconnect::{Backoff, Cause, Event, GaveUp, Reconnect};
use longwire::{Client, Config};
use tokio::time::{Instant, sleep};

use crate::network::Meets::{Answer, Error, Server, Silence};
use crate::network::{Network, brief, event, open};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn it_waits_twice_as_long_after_each_failure_and_then_is_open() {
    let refused = "cannot connect: connection refused";
    let (network, _servers) = Network::new([Error(ConnectionRefused), Error(ConnectionRefused), Server]);
    let mut feed = network.plan().start();
    let began = Instant::now();
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(brief(&event(&mut feed).await));
    }
    let expected = [
        "connecting 1".into(),
        format!("lost 500 ms: {refused}"),
        "connecting 2".into(),
        format!("lost 1000 ms: {refused}"),
        "connecting 3".into(),
        "open 3 after 0".into(),
    ];
    assert_eq!(told, expected);
    let took = began.elapsed();
    assert!((1499..1520).contains(&took.as_millis()), "{took:?}");
}

/// Close codes through a whole connection: which ones come again, and after how long.
#[tokio::test(start_paused = true)]
async fn the_close_code_decides() {
    let rows = [
        (1000, None),
        (1001, Some(500)),
        (1003, None),
        (1008, None),
        (1009, Some(500)),
        (1011, Some(500)),
        (1012, Some(30_000)),
        (1013, Some(60_000)),
        (3000, None),
        (4000, Some(500)),
    ];
    for (code, wait) in rows {
        let (network, mut servers) = Network::new([Server]);
        let mut feed = network.plan().start();
        open(&mut feed).await;
        let mut server = servers.next().await;
        let closing = tokio::spawn(async move { server.close(code, "再见").await });
        let expected = match wait {
            Some(wait) => format!("lost {wait} ms: closed with {code}: 再见"),
            None => format!("given up Permanent: closed with {code}: 再见"),
        };
        assert_eq!(brief(&event(&mut feed).await), expected);
        if wait.is_none() {
            assert!(feed.next().await.is_none(), "nothing follows");
            assert!(feed.next().await.is_none(), "and it stays so");
        }
        closing.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_decides() {
    let rows = [
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Some(7500)),
        ("HTTP/1.1 429 Slow\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n", Some(300_500)),
        (
            "HTTP/1.1 503 Busy\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Retry-After: Sun, 06 Nov 1994 08:49:57 GMT\r\nContent-Length: 0\r\n\r\n",
            Some(20_500),
        ),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", Some(500)),
        // The plan computes each request: the next one may have a new token.
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Some(500)),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 404 Not Found\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        // Not HTTP, and HTTP that is no answer to the key.
        ("220 mail.example.com ESMTP\r\n\r\n", Some(500)),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: bm90IHlvdXJzIGF0IGFsbA==\r\n\r\n",
            Some(500),
        ),
    ];
    for (answer, wait) in rows {
        let (network, _servers) = Network::new([Answer(answer)]);
        let mut feed = network.plan().start();
        assert_eq!(brief(&event(&mut feed).await), "connecting 1");
        match (event(&mut feed).await, wait) {
            (Event::Lost { cause: Cause::Connect(_), retry_in }, Some(wait)) => {
                let wait = Duration::from_millis(wait);
                assert!(
                    retry_in <= wait && wait - retry_in < Duration::from_millis(1),
                    "{answer}: {retry_in:?}"
                );
            }
            (Event::GivenUp { why: GaveUp::Permanent, .. }, None) => {}
            (other, _) => panic!("{answer}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_invalid_url_is_permanent() {
    for mut feed in
        [Reconnect::new(Client::new(), "no url").start(), Reconnect::among(Client::new(), [""; 0]).start()]
    {
        assert!(matches!(feed.next().await, Some(Event::Connecting(_))));
        let given_up = feed.next().await;
        let permanent = matches!(given_up, Some(Event::GivenUp { why: GaveUp::Permanent, .. }));
        assert!(permanent, "{given_up:?}");
    }
}

#[tokio::test]
async fn several_urls_take_turns() {
    let mut ports = Vec::new();
    for _ in 0..2 {
        // Nobody listens there any more.
        ports.push(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    ports.push(listener.local_addr().unwrap().port());
    let urls = ports.iter().map(|port| format!("ws://127.0.0.1:{port}/"));
    let backoff = Backoff::new().initial(Duration::from_millis(1));
    let mut feed = Reconnect::among(Client::new(), urls).backoff(backoff).start();
    let accepting = tokio::spawn(async move { longwire::accept(listener.accept().await.unwrap().0).await });
    let attempt = loop {
        match crate::support::soon(feed.next()).await.unwrap() {
            Event::Open(attempt) => break attempt,
            Event::Connecting(_) | Event::Lost { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((attempt.number, attempt.opened), (3, 0));
    accepting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_application_decides_otherwise() {
    let (network, mut servers) = Network::new([Server, Error(TimedOut)]);
    let plan = network.plan().retry_when(|cause| match cause {
        Cause::Closed(closed) => closed.frame.as_ref().is_some_and(|frame| frame.code == 1000),
        _ => false,
    });
    let mut feed = plan.start();
    open(&mut feed).await;
    let mut server = servers.next().await;
    tokio::spawn(async move { server.close(1000, "").await });
    assert_eq!(brief(&event(&mut feed).await), "lost 500 ms: closed with 1000");
    assert_eq!(brief(&event(&mut feed).await), "connecting 2");
    assert_eq!(brief(&event(&mut feed).await), "given up Permanent: cannot connect: timed out");
}

/// A connection that was open for 30 s begins to count anew; one that was open for less does not.
#[tokio::test(start_paused = true)]
async fn a_stable_connection_is_a_new_beginning() {
    for (up, expected) in [
        (30 * SECOND - Duration::from_millis(2), ["lost 2000 ms", "connecting 4"]),
        (30 * SECOND, ["lost 500 ms", "connecting 1"]),
    ] {
        let (network, mut servers) = Network::new([Error(TimedOut), Error(TimedOut), Server]);
        let mut feed = network.plan().start();
        assert_eq!(open(&mut feed).await.number, 3);
        let server = servers.next().await;
        tokio::spawn(async move {
            sleep(up).await;
            drop(server);
        });
        let lost = brief(&event(&mut feed).await);
        assert!(lost.starts_with(expected[0]), "{up:?}: {lost}");
        assert_eq!(brief(&event(&mut feed).await), expected[1], "{up:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded() {
    for most in [0, 1, 3] {
        let (network, _servers) = Network::new([Error(TimedOut), Error(TimedOut), Error(TimedOut), Server]);
        let mut feed = network.plan().max_attempts(most).start();
        let mut attempts = 0;
        loop {
            match event(&mut feed).await {
                Event::Connecting(_) => attempts += 1,
                Event::Lost { .. } => {}
                Event::GivenUp { why, .. } => {
                    assert_eq!(why, GaveUp::Attempts);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(attempts, most.max(1));
    }
    // One more is enough.
    let (network, _servers) = Network::new([Error(TimedOut), Error(TimedOut), Error(TimedOut), Server]);
    let mut feed = network.plan().max_attempts(4).start();
    assert_eq!(open(&mut feed).await.number, 4);
}

/// A server that accepts and drops at once is not asked for ever.
#[tokio::test(start_paused = true)]
async fn connections_that_do_not_last_are_counted_as_attempts() {
    let (network, mut servers) = Network::new([Server, Server, Server]);
    let mut feed = network.plan().max_attempts(3).start();
    tokio::spawn(async move {
        loop {
            drop(servers.next().await);
        }
    });
    let (mut opened, mut waits) = (0, Vec::new());
    let why = loop {
        match event(&mut feed).await {
            Event::Connecting(_) => {}
            Event::Open(attempt) => {
                assert_eq!(attempt.opened, opened);
                opened += 1;
            }
            Event::Lost { retry_in, .. } => waits.push((retry_in + Duration::from_micros(1)).as_millis()),
            Event::GivenUp { why, .. } => break why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((why, opened, waits), (GaveUp::Attempts, 3, vec![500, 1000]));
}

#[tokio::test(start_paused = true)]
async fn time_is_bounded() {
    // Failures at 0 s, 0.5 s and 1.5 s; the next attempt would begin at 3.5 s.
    for (limit, attempts) in [(3499, 3), (3520, 4)] {
        let (network, _servers) = Network::new(vec![Error(TimedOut); 9]);
        let mut feed = network.plan().give_up_after(Duration::from_millis(limit)).start();
        let mut made = 0;
        let why = loop {
            match event(&mut feed).await {
                Event::Connecting(_) => made += 1,
                Event::GivenUp { why, .. } => break why,
                _ => {}
            }
        };
        assert_eq!((why, made), (GaveUp::Time, attempts), "{limit} ms");
    }
    // An attempt that is under way ends with the time, too.
    let (network, _servers) = Network::new([Silence]);
    let mut feed = network.plan().give_up_after(2 * SECOND).start();
    let began = Instant::now();
    event(&mut feed).await;
    let given_up = brief(&event(&mut feed).await);
    assert!(given_up.starts_with("given up Time: the connection was not ready in time"), "{given_up}");
    let took = began.elapsed();
    assert!(took >= 2 * SECOND && took < 2 * SECOND + Duration::from_millis(20), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up_in_its_time() {
    let (network, _servers) = Network::new([Silence, Server]);
    let mut feed = network.plan().open_timeout(3 * SECOND).start();
    let began = Instant::now();
    event(&mut feed).await;
    let lost = brief(&event(&mut feed).await);
    assert!(lost.starts_with("lost 500 ms: the connection was not ready in time"), "{lost}");
    let took = began.elapsed();
    assert!(took >= 3 * SECOND && took < 3 * SECOND + Duration::from_millis(20), "{took:?}");
    assert_eq!(open(&mut feed).await.number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_lost_after_ping_and_patience() {
    let config = Config::client().ping_after(Some(5 * SECOND)).pong_timeout(2 * SECOND);
    let (network, mut servers) = Network::with([Server, Server], config, 64 * 1024);
    let mut feed = network.plan().start();
    open(&mut feed).await;
    // It is kept, and answers nothing.
    let _silent = servers.next().await;
    let began = Instant::now();
    let lost = brief(&event(&mut feed).await);
    assert!(lost.starts_with("lost 500 ms: "), "{lost}");
    let took = began.elapsed();
    assert!(took >= 7 * SECOND && took < 7 * SECOND + Duration::from_millis(20), "{took:?}");
    assert_eq!(open(&mut feed).await.opened, 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_can_be_cut_short() {
    let (network, _servers) = Network::new([Error(TimedOut), Error(TimedOut), Server]);
    let backoff = Backoff::new().initial(60 * SECOND).max(60 * SECOND).no_jitter();
    let mut feed = network.plan().backoff(backoff).start();
    let began = Instant::now();
    event(&mut feed).await;
    // Too early, it is no credit for later.
    feed.retry_now();
    assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
    let sender = feed.sender();
    tokio::spawn(async move {
        sleep(SECOND).await;
        sender.retry_now();
    });
    assert_eq!(brief(&event(&mut feed).await), "connecting 2");
    let took = began.elapsed();
    assert!(took >= SECOND && took < SECOND + Duration::from_millis(20), "{took:?}");
    assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
    // Also before it is polled again.
    feed.retry_now();
    assert_eq!(open(&mut feed).await.number, 3);
    assert!(began.elapsed() < 2 * SECOND);
}

/// The waits of the system's own randomness lie where they must, and are not all the same.
#[tokio::test(start_paused = true)]
async fn the_jitter_of_the_library_is_random() {
    let mut waits = Vec::new();
    for _ in 0..50 {
        let refusing = async |_| Err(longwire::ConnectError::from(std::io::Error::from(ConnectionRefused)));
        let mut feed = Reconnect::<tokio::io::DuplexStream>::with(refusing).start();
        event(&mut feed).await;
        let Event::Lost { retry_in, .. } = event(&mut feed).await else { panic!("lost") };
        assert!(retry_in < Duration::from_millis(500), "{retry_in:?}");
        waits.push(retry_in);
    }
    waits.sort();
    assert!(waits[0] < Duration::from_millis(250) && waits[49] > Duration::from_millis(250), "{waits:?}");
    waits.dedup();
    assert!(waits.len() > 40, "{waits:?}");
}
