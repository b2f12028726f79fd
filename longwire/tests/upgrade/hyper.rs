//! `longwire::upgrade` in a hyper server.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, server::conn::http1};
use hyper_util::rt::TokioIo;
use longwire::{AcceptError, Acceptor, Bytes, Client, Config, ConnectError, Deflate, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{REQUEST, read_head, read_to_end, sockets, soon};

/// Serves one connection with an echo at every path but `/plain` and `/late`; how upgrades end.
async fn serve(acceptor: Acceptor) -> (TcpStream, mpsc::UnboundedReceiver<Result<(), AcceptError>>) {
    let (near, far) = sockets().await;
    let (told, ends) = mpsc::unbounded_channel();
    let service =
        service_fn(move |request: Request<Incoming>| answer(request, acceptor.clone(), told.clone()));
    tokio::spawn(async move {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades().await;
    });
    (near, ends)
}

async fn answer(
    mut request: Request<Incoming>,
    acceptor: Acceptor,
    told: mpsc::UnboundedSender<Result<(), AcceptError>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/plain" {
        assert!(!longwire::is_websocket(&request));
        return Ok(Response::new("普通网页 📄".into()));
    }
    let headers = request.headers().len();
    let answer = longwire::upgrade(&mut request, &acceptor);
    assert_eq!(request.headers().len(), headers, "the request is as it was");
    let (response, websocket) = match answer {
        Ok(upgrade) => upgrade.into_websocket(),
        Err(refusal) => return Ok(refusal.into()),
    };
    if request.uri().path() == "/late" {
        // Awaited before the response is returned, it can never come.
        let _ = told.send(websocket.await.map(drop));
        return Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too late").into());
    }
    tokio::spawn(async move {
        let mut ws = match websocket.await {
            Ok(ws) => ws,
            Err(error) => return drop(told.send(Err(error))),
        };
        assert!(!ws.get_ref().is_http2());
        while let Ok(Some(message)) = ws.recv().await {
            ws.send(message).await.unwrap();
        }
        let _ = told.send(Ok(()));
    });
    Ok(response)
}

#[tokio::test]
async fn our_client_and_what_was_negotiated() {
    let acceptor = Acceptor::new()
        .subprotocols(["chat.v2"])
        .config(Config::server().deflate(Deflate::new()))
        .on_request(|request, headers| {
            headers.insert("x-path", request.uri().path().parse().unwrap());
            Ok(())
        });
    let (stream, mut ends) = serve(acceptor).await;
    let client = Client::new().subprotocols(["chat.v2"]);
    let mut ws = soon(client.handshake("ws://localhost/chat", stream)).await.unwrap();
    assert_eq!(ws.subprotocol(), Some("chat.v2"));
    assert!(ws.deflate().is_some());
    for text in ["你好 👋".to_owned(), "天地玄黄 🌏".repeat(20_000)] {
        ws.send(text.as_str()).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some(text.as_str()));
    }
    soon(ws.close(1000, "")).await.unwrap();
    soon(ends.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn bytes_behind_the_handshake_are_not_lost() {
    let (mut stream, _ends) = serve(Acceptor::new()).await;
    let frames = b"\x81\x86\0\0\0\0\xe4\xbd\xa0\xe5\xa5\xbd\x88\x80\0\0\0\0";
    stream.write_all(&[REQUEST.as_bytes(), frames].concat()).await.unwrap();
    let head = soon(read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(read_to_end(&mut stream).await, b"\x81\x06\xe4\xbd\xa0\xe5\xa5\xbd\x88\x00");
}

/// Plain requests, refusals and a WebSocket one after the other on a connection.
#[tokio::test]
async fn a_refusal_leaves_the_connection_to_http() {
    let (mut stream, _ends) = serve(Acceptor::new()).await;
    let ask = async |stream: &mut TcpStream, request: &str| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = soon(read_head(stream)).await;
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| Some(line.strip_prefix("content-length: ")?.parse().unwrap()));
        let mut body = vec![0; length.unwrap_or(0)];
        soon(stream.read_exact(&mut body)).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    };
    let (_, page) = ask(&mut stream, "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(page, "普通网页 📄");
    let (head, body) = ask(&mut stream, "GET /chat HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 426 ") && head.contains("upgrade: websocket"), "{head}");
    assert!(body.contains("RFC 6455 4.2.1"), "{body}");
    for (line, with, status) in [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", "426"),
        ("Host: server.example.com", "Host: server.example.com\r\nOrigin: https://evil.example", "403"),
        ("Host: server.example.com", "Host: server.example.com\r\nContent-Length: 2", "400"),
        ("GET", "POST", "405"),
    ] {
        let (mut stream, _ends) = serve(Acceptor::new()).await;
        let body = if status == "400" { "hi" } else { "" };
        let (head, _) = ask(&mut stream, &(REQUEST.replace(line, with) + body)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{with}: {head}");
    }
    let (head, _) = ask(&mut stream, REQUEST).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn what_the_application_says() {
    let acceptor = Acceptor::new().on_request(|request, headers| match request.uri().path() {
        "/no" => Err(Refusal::new(StatusCode::FORBIDDEN, "不行 ✋")),
        "/bad" => {
            headers.insert("sec-websocket-accept", "mine".parse().unwrap());
            Ok(())
        }
        _ => Ok(()),
    });
    for (path, expected, text) in [("/no", 403, "不行 ✋"), ("/bad", 500, "sec-websocket-accept")] {
        let (stream, _ends) = serve(acceptor.clone()).await;
        let error = soon(Client::new().handshake(format!("ws://localhost{path}"), stream)).await.unwrap_err();
        let ConnectError::Refused(response) = error else { panic!("{error:?}") };
        assert_eq!(response.status.as_u16(), expected);
        assert!(response.body.contains(text), "{}", response.body);
    }
}

#[tokio::test]
async fn an_upgrade_that_is_awaited_too_early_ends() {
    let acceptor = Acceptor::new().handshake_timeout(std::time::Duration::from_millis(50));
    let (mut stream, mut ends) = serve(acceptor).await;
    stream.write_all(REQUEST.replace("/chat", "/late").as_bytes()).await.unwrap();
    assert!(matches!(soon(ends.recv()).await, Some(Err(AcceptError::Timeout))));
    let head = soon(read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

/// A request that no hyper server has parsed, or that somebody has upgraded already.
#[test]
fn a_request_that_cannot_be_upgraded() {
    let mut request = Request::builder().uri("/chat").body(()).unwrap();
    for line in REQUEST.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        request.headers_mut().insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    assert!(longwire::is_websocket(&request));
    let answer = longwire::upgrade(&mut request, &Acceptor::new());
    let refusal = answer.map(|_| ()).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refusal.text().contains("hyper"), "{refusal}");
}
