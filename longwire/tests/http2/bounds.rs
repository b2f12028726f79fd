//! What a connection holds at most, and that each stream waits for itself alone.

use bytes::Bytes;
use longwire::{Client, Config, ConnectError, Http2, Http2Error, Message};

use crate::raw::{RawServer, data};
use crate::support::soon;

/// Sends until the window of a stream is used up; how much that was.
async fn fill(send: &mut h2::SendStream<Bytes>) -> usize {
    let mut sent = 0;
    loop {
        send.reserve_capacity(16 * 1024);
        let room = std::future::poll_fn(|cx| match send.poll_capacity(cx) {
            std::task::Poll::Pending => std::task::Poll::Ready(None),
            ready => ready,
        });
        match room.await {
            Some(Ok(room)) if room > 0 => {
                send.send_data(Bytes::from(vec![0; room]), false).unwrap();
                sent += room;
                // Room is told of in another turn.
                tokio::task::yield_now().await;
            }
            Some(Ok(_)) => {}
            _ => return sent,
        }
    }
}

/// The window of a stream is what it may hold unread; the connection's is that of all streams together, so that a
/// full one leaves the others theirs.
#[tokio::test]
async fn what_nobody_reads_is_bounded_and_stalls_nobody_else() {
    for (window, expected) in [(0, 1024), (1024, 1024), (70_000, 70_000)] {
        let (connection, mut server) =
            RawServer::start(Http2::new().stream_window(window).max_streams(3)).await;
        let client = Client::new();
        let (unread, (mut full, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
        let (other, (mut also, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
        let (third, (mut free, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
        assert_eq!(fill(&mut full).await, expected);
        assert_eq!(fill(&mut also).await, expected);
        free.send_data(Bytes::from_static(b"\x82\x02ok"), false).unwrap();
        assert_eq!(soon(third.unwrap().recv()).await.unwrap(), Some(Message::from(b"ok".to_vec())));
        drop((unread, other));
    }
}

#[tokio::test]
async fn as_many_streams_as_may_be() {
    for (streams, most) in [(0, 1), (1, 1), (3, 3), (127, 127), (1000, 127)] {
        let (connection, mut server) =
            RawServer::start(Http2::new().max_streams(streams).stream_window(1 << 30)).await;
        let client = Client::new();
        let mut open = Vec::new();
        for _ in 0..most {
            let (ws, accepted) = tokio::join!(connection.open(&client, "/"), server.accept());
            open.push((ws.unwrap(), accepted));
        }
        let error = connection.open(&client, "/").await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Http2(Http2Error::Full { streams }) if streams == most),
            "{error:?}"
        );
    }
}

/// A server that does not read its socket: beside what the WebSocket itself holds, 64 KiB wait for it, and what
/// the socket has taken.
#[tokio::test]
async fn what_the_server_does_not_take_is_bounded() {
    const SOCKET: usize = 16 * 1024;
    const MESSAGE: usize = 1 << 20;
    let (near, far) = tokio::io::duplex(SOCKET);
    let (told, opened) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(async move {
        let mut connection = h2::server::Builder::new()
            .enable_connect_protocol()
            .initial_window_size(8 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake::<_, Bytes>(far)
            .await
            .unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let send = respond.send_response(http::Response::new(()), false).unwrap();
        // The answer goes out; then nothing is read any more.
        let more = tokio::time::timeout(std::time::Duration::from_millis(100), connection.accept());
        assert!(more.await.is_err());
        told.send(()).unwrap();
        std::future::pending::<()>().await;
        drop((request, send, connection));
    });
    let connection = soon(Http2::new().handshake("ws://localhost", near)).await.unwrap();
    let config = Config::client().no_deflate().write_timeout(std::time::Duration::from_millis(300));
    let mut ws = soon(connection.open(&Client::new().config(config), "/")).await.unwrap();
    soon(opened).await.unwrap();
    let mut waits = std::pin::pin!(tokio::time::sleep(std::time::Duration::from_millis(100)));
    {
        let mut send = std::pin::pin!(ws.send(vec![7; MESSAGE]));
        tokio::select! {
            sent = &mut send => panic!("{sent:?}"),
            () = &mut waits => {}
        }
    }
    let taken = MESSAGE - ws.buffered_amount();
    // Beside the stream's 64 KiB: the socket's, and a frame on its way there.
    assert!((64 * 1024..=64 * 1024 + SOCKET + 2 * 16 * 1024).contains(&taken), "{taken}");
    assert!(matches!(
        soon(ws.flush()).await,
        Err(longwire::SendError::Failed(longwire::Error::WriteTimeout))
    ));
    server.abort();
}

/// What is read is given back to the window, of the stream and of the connection, however it is cut.
#[tokio::test]
async fn windows_are_given_back() {
    let (connection, mut server) = RawServer::start(Http2::new().stream_window(2048).max_streams(1)).await;
    let client = Client::new().config(Config::client().no_deflate());
    let (ws, (mut send, mut body)) = tokio::join!(connection.open(&client, "/"), server.accept());
    let mut ws = ws.unwrap();
    let sending = tokio::spawn(async move {
        // Fifty times the window, in frames of every size.
        for size in (0..400usize).chain([2000, 5000, 30_000]) {
            let mut frame = vec![0x82, 126];
            frame.extend_from_slice(&(size as u16).to_be_bytes());
            frame.resize(4 + size, 9);
            let mut frame = Bytes::from(frame);
            if size < 126 {
                frame = [&[0x82, size as u8][..], &frame[4..]].concat().into();
            }
            while !frame.is_empty() {
                send.reserve_capacity(frame.len());
                match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                    Some(Ok(room)) if room > 0 => {
                        send.send_data(frame.split_to(room.min(frame.len())), false).unwrap();
                    }
                    Some(Ok(_)) => {}
                    end => panic!("{end:?}"),
                }
            }
        }
        send
    });
    for size in (0..400).chain([2000, 5000, 30_000]) {
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(Message::from(vec![9; size])));
    }
    let mut send = soon(sending).await.unwrap();
    send.send_data(Bytes::from_static(b"\x88\x00"), true).unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    while let Some(Ok(_)) = data(&mut body).await {}
}
