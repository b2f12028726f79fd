//! Causes that are probably permanent, but also occur while a server restarts; and requests that are computed for each
//! attempt.

use std::io::ErrorKind::TimedOut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longwire::http::StatusCode;
use longwire::reconnect::{Backoff, Cause, Event, GaveUp, Reconnect, Retry};
use longwire::{Acceptor, Client, ConnectError, Refusal};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::network::Meets::{Answer, Error, Server};
use crate::network::{Network, brief, event, open};
use crate::support::soon;

const SECOND: Duration = Duration::from_secs(1);

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// A gateway answers so while its server restarts.
#[tokio::test(start_paused = true)]
async fn a_rejection_after_a_connection_is_retried() {
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        for code in [1001, 1012] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").leak();
            let (network, mut servers) =
                Network::new([Server, Answer(answer), Error(TimedOut), Answer(answer), Server]);
            let mut feed = network.plan().start();
            open(&mut feed).await;
            let mut server = servers.next().await;
            tokio::spawn(async move { server.close(code, "重启").await });
            assert_eq!(open(&mut feed).await.opened, 1, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn patience_is_limited() {
    let (network, mut servers) = Network::new([vec![Server], vec![Answer(NOT_FOUND); 100]].concat());
    let mut feed = network.plan().patience(SECOND, 100 * SECOND).start();
    open(&mut feed).await;
    drop(servers.next().await);
    assert!(brief(&event(&mut feed).await).starts_with("lost"));
    let (mut first, mut lost) = (None, 0);
    let why = loop {
        match event(&mut feed).await {
            Event::Connecting(_) => {}
            Event::Lost { .. } => {
                first.get_or_insert_with(Instant::now);
                lost += 1;
            }
            Event::GivenUp { why, .. } => break why,
            other => panic!("{other:?}"),
        }
    };
    // The waits are 1, 2, 4, 8, 16, 30, 30 and 30 s; the next failure is later than 100 s after the first.
    assert_eq!((why, lost), (GaveUp::Permanent, 8));
    assert!(first.unwrap().elapsed() >= 100 * SECOND);
}

/// Another connection begins the time anew.
#[tokio::test(start_paused = true)]
async fn a_connection_resets_the_patience() {
    let script = [Server, Answer(NOT_FOUND), Server, Answer(NOT_FOUND), Server];
    let (network, mut servers) = Network::new(script);
    let mut feed = network.plan().patience(SECOND, 10 * SECOND).start();
    for opened in 0..3 {
        assert_eq!(open(&mut feed).await.opened, opened);
        let server = servers.next().await;
        tokio::time::sleep(20 * SECOND).await;
        drop(server);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_before_a_connection_is_permanent() {
    let (network, _servers) = Network::new([Error(TimedOut), Answer(NOT_FOUND), Server]);
    let mut feed = network.plan().start();
    event(&mut feed).await;
    assert!(matches!(event(&mut feed).await, Event::Lost { .. }));
    event(&mut feed).await;
    assert!(matches!(event(&mut feed).await, Event::GivenUp { why: GaveUp::Permanent, .. }));
}

/// The token may have expired a moment ago. One that is wrong for a minute is wrong.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_rejected_is_computed_again() {
    let (network, _servers) = Network::new([Answer(UNAUTHORIZED), Answer(UNAUTHORIZED), Server]);
    assert_eq!(open(&mut network.plan().start()).await.number, 3);

    let (network, _servers) = Network::new(vec![Answer(UNAUTHORIZED); 100]);
    let mut feed = network.plan().start();
    let begun = Instant::now();
    loop {
        match event(&mut feed).await {
            Event::Connecting(_) | Event::Lost { .. } => {}
            Event::GivenUp { why: GaveUp::Permanent, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(begun.elapsed() >= 60 * SECOND && begun.elapsed() < 120 * SECOND, "{:?}", begun.elapsed());
}

/// A certificate that is replaced, or a gateway that starts.
#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn tls_faults_are_retried_for_a_limited_time() {
    use longwire::TlsError;
    let attempts = Arc::new(AtomicU32::new(0));
    let made = Arc::clone(&attempts);
    let failing = Reconnect::<DuplexStream>::with(move |_| {
        let fault = match made.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => TlsError::UnknownIssuer,
            1 => TlsError::NotValidYet,
            _ => TlsError::Certificate("它坏了".into()),
        };
        std::future::ready(Err(ConnectError::Tls(fault)))
    });
    let mut feed = failing.backoff(Backoff::new().no_jitter()).start();
    let begun = Instant::now();
    while !matches!(event(&mut feed).await, Event::GivenUp { why: GaveUp::Permanent, .. }) {}
    let (attempts, elapsed) = (attempts.load(Ordering::Relaxed), begun.elapsed());
    assert!(attempts > 5 && elapsed >= 60 * SECOND && elapsed < 120 * SECOND, "{attempts} in {elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_application_are_retried() {
    #[derive(Debug)]
    struct NoToken;
    impl std::fmt::Display for NoToken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("没有令牌")
        }
    }
    impl std::error::Error for NoToken {}

    let failing = || Reconnect::<DuplexStream>::with(async |_| Err(NoToken));
    let mut feed = failing().start();
    event(&mut feed).await;
    match event(&mut feed).await {
        Event::Lost { cause: Cause::Application(error), .. } => {
            assert!(error.downcast_ref::<NoToken>().is_some());
        }
        other => panic!("{other:?}"),
    }
    // Unless the application says otherwise.
    let plan = failing().retry_when(|cause| match cause {
        Cause::Application(_) => Retry::Never,
        other => other.retry(),
    });
    let mut feed = plan.start();
    event(&mut feed).await;
    assert_eq!(
        brief(&event(&mut feed).await),
        "given up Permanent: the application could not prepare the attempt: 没有令牌"
    );
}

/// A server that accepts only the third token.
async fn server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let acceptor = Acceptor::new().on_request(|request, _| match request.headers().get("authorization") {
        Some(token) if token == "Bearer 3" => Ok(()),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "令牌过期了")),
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut ws) = acceptor.accept(stream).await {
                tokio::spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
            }
        }
    });
    url
}

#[tokio::test]
async fn a_request_that_is_computed_for_each_attempt() {
    let url = server().await;
    // The client's own token is replaced.
    let plan = || {
        Reconnect::new(Client::new().bearer_auth("0"), &url).backoff(Backoff::new().initial(SECOND / 1000))
    };
    let tokens = || {
        let count = Arc::new(AtomicU32::new(0));
        move || count.fetch_add(1, Ordering::Relaxed) + 1
    };
    let (next, other) = (tokens(), Arc::new(tokens()));
    let plans = [
        plan().header_with("Authorization", move || format!("Bearer {}", next())),
        plan().prepare(move |client, _| {
            let other = Arc::clone(&other);
            async move {
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(client.bearer_auth(other().to_string()))
            }
        }),
    ];
    for plan in plans {
        let mut feed = plan.start();
        loop {
            match soon(feed.next()).await.unwrap() {
                Event::Open(attempt) => break assert_eq!(attempt.number, 3),
                Event::Connecting(_) => {}
                Event::Lost { cause: Cause::Connect(ConnectError::Refused(response)), .. } => {
                    assert_eq!(response.status, 401);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Without that it stays wrong.
    let mut feed = plan().start();
    soon(feed.next()).await;
    assert!(matches!(soon(feed.next()).await, Some(Event::GivenUp { why: GaveUp::Permanent, .. })));
}
