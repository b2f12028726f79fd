//! How connections end, each way and by each of the two.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use longwire::{
    Acceptor, Client, CloseCode, CloseFrame, ConnectError, Error, Http2, Http2Connection, Http2Error, Side,
};

use crate::raw::{RawServer, all, raw_client, request};
use crate::server::Server;
use crate::support::soon;

fn kind(error: &Error) -> Option<ErrorKind> {
    match error {
        Error::Io(error) => Some(error.kind()),
        _ => None,
    }
}

#[tokio::test]
async fn closing_handshakes() {
    let mut server = Server::start(Acceptor::new()).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();

    let mut ws = connection.open(&Client::new(), "/").await.unwrap();
    ws.send("最后一句 🍵").await.unwrap();
    assert!(soon(ws.recv()).await.unwrap().is_some());
    soon(ws.close(4000, "午饭 🍜")).await.unwrap();
    let ours = ws.closed().unwrap();
    assert_eq!((ours.by, ours.frame.as_ref().unwrap().code), (Side::Us, CloseCode::from(4000)));
    let theirs = server.end().await.unwrap().unwrap();
    assert_eq!((theirs.by, theirs.frame), (Side::Peer, Some(CloseFrame::new(4000, "午饭 🍜"))));
    drop(ws);

    let mut ws = connection.open(&Client::new(), "/close").await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.closed().unwrap().frame, Some(CloseFrame::new(4001, "再见 👋")));
    assert_eq!(server.end().await.unwrap().unwrap().by, Side::Us);

    // Both have ended, and left the connection as it was.
    drop(ws);
    until_unused(&connection).await;
    connection.open(&Client::new(), "/").await.unwrap();
}

/// What was dropped is over for the server too.
async fn until_unused(connection: &Http2Connection) {
    while connection.streams() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whoever_just_goes_is_1006() {
    let mut server = Server::start(Acceptor::new()).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();
    // hyper hides from us whether it was END_STREAM or RST_STREAM with CANCEL.
    drop(connection.open(&Client::new(), "/").await.unwrap());
    assert!(matches!(server.end().await, Err(Error::Eof)));

    let mut ws = connection.open(&Client::new(), "/drop").await.unwrap();
    let error = soon(ws.recv()).await.unwrap_err();
    assert!(matches!(error, Error::Eof), "{error:?}");
}

#[tokio::test]
async fn resets_that_a_client_gets() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::ENHANCE_YOUR_CALM] {
        let client = Client::new();
        let (ws, (mut send, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
        let mut ws = ws.unwrap();
        // Behind a whole message, in the middle of the frame that follows.
        send.send_data(Bytes::from_static(b"\x81\x06\xe4\xbd\xa0\xe5\xa5\xbd\x81\x7e\x10\x00half"), false)
            .unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("你好"));
        send.send_reset(reason);
        let error = soon(ws.recv()).await.unwrap_err();
        assert_eq!(kind(&error), Some(ErrorKind::ConnectionReset), "{error:?}");
        let error = ws.send("more").await.unwrap_err();
        assert_eq!(kind(&error.clone().into()), Some(ErrorKind::ConnectionReset), "{error:?}");
    }
    // A reset of one is the matter of that one.
    let client = Client::new();
    let (ws, accepted) = tokio::join!(connection.open(&client, "/"), server.accept());
    drop((ws.unwrap(), accepted));
}

/// RFC 9113 8.1: a server that has said all, and does not want the rest.
#[tokio::test]
async fn no_error_behind_the_end_is_no_error() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    let (ws, (mut send, body)) = tokio::join!(connection.open(&client, "/"), server.accept());
    let mut ws = ws.unwrap();
    send.send_data(Bytes::from_static(b"\x88\x02\x03\xe8"), true).unwrap();
    drop((send, body));
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(ws.closed().unwrap().by, Side::Peer);
}

#[tokio::test]
async fn the_end_of_a_stream_in_the_middle_of_a_frame() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    let (ws, (mut send, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
    send.send_data(Bytes::from_static(b"\x81\x7e\x10\x00half"), true).unwrap();
    let error = soon(ws.unwrap().recv()).await.unwrap_err();
    assert!(matches!(error, Error::Eof), "{error:?}");
}

/// What a client that is dropped has sent arrives all the same; then the stream is ended, and reset when the server
/// does not end it too.
#[tokio::test]
async fn what_was_sent_before_the_client_was_dropped_arrives() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    for is_ended in [true, false] {
        let (ws, (mut send, mut body)) = tokio::join!(connection.open(&client, "/"), server.accept());
        let mut ws = ws.unwrap();
        ws.send("再见").await.unwrap();
        drop(ws);
        assert_eq!(all(&mut body).await.unwrap().len(), 2 + 4 + "再见".len());
        assert_eq!(connection.streams(), 1);
        if is_ended {
            send.send_data(Bytes::new(), true).unwrap();
        } else {
            let reset = soon(std::future::poll_fn(|cx| send.poll_reset(cx))).await.unwrap();
            // RFC 8441 5.
            assert_eq!(reset, Reason::CANCEL);
        }
        soon(until_unused(&connection)).await;
    }
}

/// One that is dropped and goes on getting data has it passed over, but not without end.
#[tokio::test]
async fn a_server_that_goes_on_after_the_client_was_dropped_is_reset() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    let (ws, (mut send, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
    drop(ws.unwrap());
    let mut sent = 0;
    let reset = async {
        loop {
            send.reserve_capacity(16 * 1024);
            match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(Ok(room)) if room > 0 => {
                    sent += room;
                    if send.send_data(Bytes::from(vec![0; room]), false).is_err() {
                        break;
                    }
                }
                Some(Ok(_)) => {}
                _ => break,
            }
        }
    };
    soon(reset).await;
    assert!((1 << 20..3 << 20).contains(&sent), "{sent}");
    soon(until_unused(&connection)).await;
}

/// One that waits for a window which never opens leaves nothing to wait for it.
#[tokio::test]
async fn a_client_that_is_dropped_while_it_waits_resets_the_stream() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    let (ws, (_send, mut body)) = tokio::join!(connection.open(&client, "/"), server.accept());
    let mut ws = ws.unwrap();
    let sent = tokio::time::timeout(Duration::from_millis(200), ws.send(vec![7; 1 << 20])).await;
    assert!(sent.is_err(), "the window of 64 KiB was not enough");
    drop(ws);
    // The window is not given back before the reset has come.
    let reset = std::future::poll_fn(|cx| body.poll_data(cx));
    let mut seen = soon(reset).await;
    while let Some(Ok(_)) = seen {
        seen = soon(std::future::poll_fn(|cx| body.poll_data(cx))).await;
    }
    assert_eq!(seen.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn resets_that_a_server_gets() {
    let mut server = Server::start(Acceptor::new()).await;
    let mut requests = raw_client(server.address).await;
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let (answer, mut send) = requests.send_request(request("/"), false).unwrap();
        assert_eq!(soon(answer).await.unwrap().status(), 200);
        // In the middle of a frame.
        send.send_data(Bytes::from_static(b"\x81\xfe\x10\x00\0\0\0\0half"), false).unwrap();
        send.send_reset(reason);
        match server.end().await {
            Err(Error::Eof) if reason == Reason::CANCEL => {}
            Err(Error::Io(_)) if reason != Reason::CANCEL => {}
            other => panic!("{reason:?}: {other:?}"),
        }
    }
}

/// The server's own close: Close frame, then END_STREAM, with nothing lost on the way.
#[tokio::test]
async fn a_server_ends_its_stream_behind_its_close_frame() {
    let server = Server::start(Acceptor::new()).await;
    let mut requests = raw_client(server.address).await;
    let (answer, mut send) = requests.send_request(request("/"), false).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    send.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xe8"), false).unwrap();
    assert_eq!(all(&mut body).await.unwrap(), b"\x88\x02\x03\xe8");
}

/// RFC 9113 6.8: streams that are open go on, new ones are refused.
#[tokio::test]
async fn goaway_lets_open_connections_finish() {
    let mut server = Server::start(Acceptor::new()).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();
    let mut ws = connection.open(&Client::new(), "/").await.unwrap();
    server.go_away.notify_one();
    // GOAWAY goes out in order with what is echoed.
    let ended = async {
        loop {
            ws.send("还在吗").await.unwrap();
            assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("还在吗"));
            match connection.open(&Client::new(), "/").await {
                Err(ConnectError::Http2(Http2Error::Ended)) => break,
                Err(other) => panic!("{other:?}"),
                Ok(mut early) => soon(early.close(1000, "")).await.unwrap(),
            }
        }
    };
    soon(ended).await;
    ws.send("还在").await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some("还在"));
    soon(ws.close(1000, "")).await.unwrap();
    while server.end().await.unwrap().unwrap().by != Side::Peer {}
}

#[tokio::test]
async fn goaway_at_once_aborts() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    let (ws, (_send, _body)) = tokio::join!(connection.open(&client, "/"), server.accept());
    let mut ws = ws.unwrap();
    server.end.send(true).unwrap();
    let error = soon(ws.recv()).await.unwrap_err();
    // As TCP ends with it, whichever is seen first.
    let kinds = [Some(ErrorKind::ConnectionAborted), Some(ErrorKind::BrokenPipe)];
    assert!(kinds.contains(&kind(&error)), "{error:?}");
    assert!(matches!(connection.open(&client, "/").await, Err(ConnectError::Http2(Http2Error::Ended))));
}

#[tokio::test]
async fn a_connection_that_nobody_uses_ends() {
    let (near, far) = crate::support::sockets().await;
    let server = tokio::spawn(async move {
        let mut server =
            h2::server::Builder::new().enable_connect_protocol().handshake::<_, Bytes>(far).await.unwrap();
        // `None`: the client has gone.
        server.accept().await.is_none()
    });
    drop(soon(Http2::new().handshake("ws://localhost", near)).await.unwrap());
    assert!(soon(server).await.unwrap());
}

/// A server of axum's that stops waits for its streams of HTTP/2, which are told to go.
#[tokio::test]
async fn a_graceful_shutdown_ends_the_streams_too() {
    use axum::{Router, routing::any};
    use longwire::{Connections, axum::WebSocketUpgrade};

    let connections = Connections::new();
    let members = connections.clone();
    let app = Router::new().route(
        "/",
        any(async move |ws: WebSocketUpgrade| {
            let members = members.clone();
            ws.on_upgrade(move |socket| {
                members.serve(socket, async |mut socket| assert_eq!(socket.recv().await.unwrap(), None))
            })
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, app).with_graceful_shutdown(connections.stopping());
    let server = tokio::spawn(async move { server.await });
    let connection = soon(Http2::new().connect(&url)).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(soon(connection.open(&Client::new(), "/")).await.unwrap());
    }
    while connections.count() < clients.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let shutdown = connections.shutdown(
        longwire::Shutdown::new(1012, "重启 🔄")
            .spread(Duration::from_millis(100))
            .timeout(Duration::from_secs(20)),
    );
    let told = async {
        for client in &mut clients {
            assert_eq!(client.recv().await.unwrap(), None);
            assert_eq!(client.closed().unwrap().frame, Some(CloseFrame::new(1012, "重启 🔄")));
        }
    };
    let (left, ()) = soon(async { tokio::join!(shutdown, told) }).await;
    assert_eq!(left, 0);
    drop((clients, connection));
    soon(server).await.unwrap().unwrap();
}
