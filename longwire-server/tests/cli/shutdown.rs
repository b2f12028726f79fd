//! Shutdown of the server by signals.

use std::time::{Duration, Instant};

use longwire::{CloseCode, Side};

use crate::process::{ClientProcess, PROBE, Server, TIMEOUT};

#[tokio::test]
async fn a_signal_closes_everyone_with_1001_and_ends_with_0() {
    for name in ["INT", "TERM"] {
        let mut server = Server::start(&[]);
        let mut member = server.join("/").await;
        let mut echo = server.connect("/-/echo").await;
        let mut client = ClientProcess::join(&server, "/", &[]).await;

        server.signal(name);
        for socket in [&mut member, &mut echo] {
            while let Some(message) =
                tokio::time::timeout(TIMEOUT, socket.recv()).await.expect("in time").expect("clean")
            {
                assert_eq!(message.as_text(), Some(PROBE));
            }
            let closed = socket.closed().expect("closed");
            let frame = closed.frame.as_ref().expect("a code");
            assert_eq!(
                (closed.by, frame.code, &*frame.reason),
                (Side::Peer, CloseCode::GOING_AWAY, "the server is shutting down")
            );
        }
        assert_eq!(client.ended(), (Some(0), vec![]));
        assert_eq!(server.ended().code(), Some(0), "{name}");
        assert_eq!(server.stderr.rest(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn waiting_for_a_silent_client_is_bounded() {
    let mut server = Server::start(&[]);
    // This client is never polled again, so it does not answer the Close frame.
    let _silent = server.connect("/").await;
    // This one never sends a request.
    let _mute = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
    server.signal("INT");
    let began = Instant::now();
    assert_eq!(server.ended().code(), Some(0));
    assert!(
        began.elapsed() > Duration::from_secs(2) && began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_exits_immediately() {
    let mut server = Server::start(&[]);
    let _silent = server.connect("/").await;
    server.signal("INT");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.child.try_wait().expect("a child").is_none(), "it waits for the closing handshake");
    let began = Instant::now();
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn without_clients_it_exits_immediately() {
    let mut server = Server::start(&[]);
    let began = Instant::now();
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_drain_spreads_the_close_frames_with_1012() {
    let mut server = Server::start(&["--drain", "2", "--restarts", "--threads", "1"]);
    let mut members = Vec::new();
    for _ in 0..20 {
        members.push(server.join("/房间").await);
    }
    server.signal("TERM");
    let began = Instant::now();
    let mut ends = Vec::new();
    for mut member in members {
        ends.push(tokio::spawn(async move {
            while tokio::time::timeout(TIMEOUT, member.recv())
                .await
                .expect("in time")
                .expect("clean")
                .is_some()
            {}
            let frame = member.closed().and_then(|closed| closed.frame.clone()).expect("a code");
            (began.elapsed(), frame.code)
        }));
    }
    let mut times = Vec::new();
    for end in ends {
        let (time, code) = end.await.expect("a task");
        assert_eq!(code, CloseCode::RESTART);
        times.push(time);
    }
    times.sort();
    // Neither all at once nor all at the end.
    assert!(times[19] - times[0] > Duration::from_millis(1200), "{times:?}");
    assert!(times[10] < times[19] - Duration::from_millis(300), "{times:?}");
    let refused = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await;
    assert!(refused.is_err(), "it accepts no more");
    assert_eq!(server.ended().code(), Some(0));
}
