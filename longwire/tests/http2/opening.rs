//! Opening handshakes that fail, and say why.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use longwire::{
    Acceptor, Client, ConnectError, HandshakeError, Http2, Http2Error, Origins, Refusal, http::StatusCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::RawServer;
use crate::server::Server;
use crate::support::{sockets, soon};

#[tokio::test]
async fn a_server_without_the_setting() {
    let (near, far) = sockets().await;
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while server.accept().await.is_some() {}
    });
    let connection = soon(Http2::new().handshake("ws://localhost", near)).await.unwrap();
    let error = connection.open(&Client::new(), "/").await.unwrap_err();
    assert!(matches!(error, ConnectError::Http2(Http2Error::NotSupported)), "{error:?}");
    assert!(error.to_string().contains("RFC 8441 3"), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_something_else() {
    let (near, mut far) = sockets().await;
    tokio::spawn(async move {
        far.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let _ = far.read_to_end(&mut Vec::new()).await;
    });
    let error = soon(Http2::new().handshake("ws://localhost", near)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Http2(Http2Error::Protocol(_))), "{error:?}");

    let (near, far) = sockets().await;
    drop(far);
    let error = soon(Http2::new().handshake("ws://localhost", near)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io(_) | ConnectError::Http2(Http2Error::Ended)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing() {
    let (near, _far) = tokio::io::duplex(64 * 1024);
    let http2 = Http2::new().handshake_timeout(Duration::from_secs(7));
    let began = tokio::time::Instant::now();
    let error = http2.handshake("ws://localhost", near).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout(_)), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 7);
}

#[tokio::test]
async fn a_request_that_is_never_answered() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new().handshake_timeout(Duration::from_secs(1));
    let (error, asked) = tokio::join!(connection.open(&client, "/"), server.asked());
    assert!(matches!(error.unwrap_err(), ConnectError::Timeout(_)));
    assert_eq!(connection.streams(), 0);
    // The stream was reset, so that the server need not wait either.
    let (request, _respond) = asked;
    let error = soon(request.into_body().data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn refusals_are_responses() {
    let acceptor = Acceptor::new().origins(Origins::list(["https://example.com"]).unwrap()).on_request(
        |request, headers| {
            assert_eq!(request.version(), http::Version::HTTP_2);
            headers.insert("x-seen", "1".parse().unwrap());
            match request.uri().path() {
                "/secret" => Err(Refusal::new(StatusCode::UNAUTHORIZED, "先登录 🔑")),
                _ => Ok(()),
            }
        },
    );
    let server = Server::start(acceptor).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();
    let refused = async |client: Client, path: &str| match connection.open(&client, path).await {
        Err(ConnectError::Refused(response)) => (response.status.as_u16(), response.body),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Client::new(), "/secret").await, (401, "先登录 🔑".into()));
    let (status, body) = refused(Client::new().header("origin", "https://evil.example"), "/").await;
    assert_eq!(status, 403);
    assert!(body.contains("RFC 6455 10.2"), "{body}");
    connection.open(&Client::new().header("origin", "https://example.com"), "/").await.unwrap();
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new();
    let serve = async {
        let (request, mut respond) = server.asked().await;
        let response = Response::builder().status(503).header("retry-after", "7").body(()).unwrap();
        let mut send = respond.send_response(response, false).unwrap();
        send.send_data(Bytes::from(vec![b'x'; 10_000]), false).unwrap();
        (request, send)
    };
    let (error, _kept) = tokio::join!(connection.open(&client, "/"), serve);
    let Err(ConnectError::Refused(response)) = error else { panic!("{error:?}") };
    assert_eq!((response.status.as_u16(), response.body.len()), (503, 4096));
    assert_eq!(response.headers["retry-after"], "7");
}

#[tokio::test]
async fn answers_that_break_a_rule() {
    let (connection, mut server) = RawServer::start(Http2::new()).await;
    let client = Client::new().subprotocols(["chat"]);
    let serve = async {
        let (request, mut respond) = server.asked().await;
        let response = Response::builder().header("sec-websocket-protocol", "other").body(()).unwrap();
        (request, respond.send_response(response, false).unwrap())
    };
    let (error, _kept) = tokio::join!(connection.open(&client, "/"), serve);
    assert!(matches!(error, Err(ConnectError::Handshake(HandshakeError::Subprotocol(_)))), "{error:?}");

    let reset = async {
        let (_, mut respond) = server.asked().await;
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    };
    let (error, ()) = tokio::join!(connection.open(&client, "/"), reset);
    let error = error.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Http2(Http2Error::Reset(reason)) if reason == "REFUSED_STREAM"),
        "{error:?}"
    );
}

/// The credentials of the URL, unless the client has its own, and the same default User-Agent as over HTTP/1.1.
#[tokio::test]
async fn the_credentials_of_the_url_are_sent() {
    let (connection, mut server) =
        RawServer::start_at(Http2::new(), "ws://Aladdin:open%20sesame@server.example.com").await;
    for (client, expected) in [
        (Client::new(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Client::new().bearer_auth("mF_9.B5f"), "Bearer mF_9.B5f"),
    ] {
        let serve = async {
            let (request, mut respond) = server.asked().await;
            let response = Response::builder().header("set-cookie", "a=\"1\"").body(()).unwrap();
            let kept = respond.send_response(response, false).unwrap();
            (request, kept)
        };
        let (opened, (request, _kept)) = tokio::join!(connection.open_with_response(&client, "/茶"), serve);
        assert_eq!(request.headers()["authorization"], expected);
        assert!(request.headers()["user-agent"].to_str().unwrap().starts_with("longwire/"));
        let (_ws, response) = opened.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["set-cookie"]),
            (200, &"a=\"1\"".parse().unwrap())
        );
    }
}

/// RFC 9110 15.2: eight interim responses are passed over, not more.
#[tokio::test]
async fn interim_responses_are_bounded() {
    for (count, opens) in [(8, true), (9, false)] {
        let (connection, mut server) = RawServer::start(Http2::new()).await;
        let client = Client::new();
        let serve = async {
            let (request, mut respond) = server.asked().await;
            for _ in 0..count {
                respond.send_informational(Response::builder().status(103).body(()).unwrap()).unwrap();
            }
            (request, respond.send_response(Response::new(()), false))
        };
        let (opened, _kept) = tokio::join!(connection.open(&client, "/"), serve);
        match opened {
            Ok(_) => assert!(opens, "{count}"),
            Err(error) => {
                assert!(
                    !opens && matches!(error, ConnectError::Handshake(HandshakeError::TooManyInterim)),
                    "{error:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn as_many_streams_as_the_server_allows() {
    let mut http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    http.enable_connect_protocol().max_concurrent_streams(2);
    let server = Server::with(Acceptor::new(), http).await;
    let connection = Http2::new().connect(server.url()).await.unwrap();
    let mut first = connection.open(&Client::new(), "/").await.unwrap();
    let _second = connection.open(&Client::new(), "/").await.unwrap();
    let error = connection.open(&Client::new(), "/").await.unwrap_err();
    assert!(matches!(error, ConnectError::Http2(Http2Error::Full { streams: 2 })), "{error:?}");
    soon(first.close(1000, "")).await.unwrap();
    drop(first);
    connection.open(&Client::new(), "/").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_asked() {
    let (connection, _server) = RawServer::start(Http2::new()).await;
    for path in ["", "chat", "/a#b"] {
        let error = connection.open(&Client::new(), path).await.unwrap_err();
        assert!(matches!(error, ConnectError::Invalid(_)), "{path}: {error:?}");
    }
    for client in [
        Client::new().subprotocols(["a b"]),
        Client::new().header("host", "other"),
        Client::new().header("x", "a\r\nb: c"),
        Client::new().header("x", "a\0"),
    ] {
        let error = connection.open(&client, "/").await.unwrap_err();
        assert!(matches!(error, ConnectError::Invalid(_)), "{error:?}");
    }
    let error = Http2::new().connect("gopher://localhost").await.unwrap_err();
    assert!(matches!(error, ConnectError::Invalid(_)), "{error:?}");
}
