//! Lifetime and end of connections.

use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::server::Server;
use crate::{TIMEOUT, in_time, wait_until};

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let server = Server::start("");
    let mut connection = server.connection().await;
    for path in ["/a", "/-/healthy", "/", "/a?wait=61", "/-/nothing"] {
        connection.send("GET", path, &[], b"").await;
        in_time(connection.answer()).await;
    }
    connection.send("POST", "/a", &[], "你好".as_bytes()).await;
    in_time(connection.answer()).await.good();
    connection.send("GET", "/a", &[("Connection", "close")], b"").await;
    assert_eq!(in_time(connection.answer()).await.head.header("connection"), Some("close"));
    connection.ends().await;
}

#[tokio::test]
async fn polls_and_streams_outlast_the_header_timeout() {
    let server = Server::start("");
    let position = server.publish("a", "x");
    let mut poll = server.connection().await;
    poll.send("GET", &format!("/a?after={position}&wait=60"), &[], b"").await;
    let mut stream = server.events("/a", &[]).await;
    stream.next().await;
    tokio::time::sleep(Duration::from_secs(17)).await;
    assert!(stream.next_or_end().await.expect("a comment").comment);
    let next = server.publish("a", "还在");
    assert_eq!(poll.answer().await.good()["position"], next);
    assert_eq!(stream.next().await.data, "还在");
}

#[tokio::test]
async fn on_shutdown_streams_end_and_polls_are_answered() {
    let server = Server::start("");
    let position = server.publish("a", "x");
    let mut polls = Vec::new();
    for path in
        [format!("/a?after={position}&wait=60"), format!("/-/events?wait=60&channel=a&after={position}")]
    {
        let mut poll = server.connection().await;
        poll.send("GET", &path, &[], b"").await;
        polls.push(poll);
    }
    let mut streams = Vec::new();
    for path in ["/a", "/-/events?channel=a&channel=b"] {
        let mut stream = server.events(path, &[]).await;
        stream.next().await;
        streams.push(stream);
    }
    // An incomplete request, so that the others have started.
    let mut slow = server.connection().await;
    slow.send("POST", "/a", &[("Content-Length", "6")], b"x").await;
    server.get("/a").await.good();
    server.close.send(true).expect("served");
    for mut stream in streams {
        while stream.next_or_end().await.is_some() {}
        stream.ends().await;
    }
    for mut poll in polls {
        let answer = in_time(poll.answer()).await;
        answer.good();
        poll.ends().await;
    }
    slow.write(b"yyyyy").await;
    in_time(slow.answer()).await.good();
    slow.ends().await;
}

#[tokio::test]
async fn a_client_that_accepts_nothing_for_half_a_minute_is_dropped() {
    let server = Server::start("[limits.address]\nconnections = 1\n");
    let mut stuck = Connection::narrow(server.port).await;
    stuck.send("GET", "/a", &[("Accept", "text/event-stream")], b"").await;
    assert_eq!(in_time(stuck.head()).await.status, 200);
    wait_until(|| server.present("a") == 1).await;
    let began = Instant::now();
    let text = "水".repeat(300_000);
    // More than the sockets can buffer.
    while server.present("a") == 1 {
        server.publish("a", &*text);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(began.elapsed() < 2 * TIMEOUT);
    }
    assert!(began.elapsed() >= Duration::from_secs(29), "{:?}", began.elapsed());
    server.get("/a").await.good();
}
