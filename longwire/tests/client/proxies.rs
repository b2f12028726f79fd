//! HTTP proxies: tunnels for `ws` and `wss`, refusals, and proxies that do all they should not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire::http::StatusCode;
use longwire::{Client, ConnectError, HandshakeError, Phase, Proxy, ProxyError, Step, Tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::certificates::Identity;
use crate::servers::{echo_server, serve, talk, tls_server};
use crate::support::{read_head, soon};

/// Requests as they came.
type Seen = Arc<Mutex<Vec<String>>>;

/// Opens a tunnel to where the request says, if it has the login that is wanted.
async fn tunnel(mut stream: impl AsyncRead + AsyncWrite + Unpin, login: Option<&str>, seen: Seen) {
    let head = read_head(&mut stream).await;
    seen.lock().unwrap().push(head.clone());
    if login.is_some_and(|login| !head.contains(&format!("\r\nProxy-Authorization: Basic {login}\r\n"))) {
        let answer =
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        return;
    }
    let authority = head.split(' ').nth(1).unwrap();
    let mut server = TcpStream::connect(authority).await.unwrap();
    // RFC 9110 9.3.6: a length in it means nothing.
    stream.write_all(b"HTTP/1.0 200 Connection established\r\nContent-Length: 100\r\n\r\n").await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut server).await;
}

/// A proxy that wants this login; where it listens, and what it was asked.
async fn proxy(login: Option<&'static str>) -> (String, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let (address, _) = serve(move |stream| tunnel(stream, login, Arc::clone(&kept))).await;
    (address.to_string(), seen)
}

fn through(url: &str) -> Client {
    Client::new().proxy(Proxy::parse(url).unwrap()).connect_timeout(Duration::from_secs(30))
}

async fn proxy_error(client: &Client, url: &str) -> ProxyError {
    match soon(client.connect(url)).await {
        Err(ConnectError::Proxy(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ws_and_wss_through_a_tunnel() {
    let identity = Identity::self_signed("localhost", 4000);
    let (plain, secure) = (echo_server().await.port(), tls_server(identity.acceptor()).await);
    let (address, seen) = proxy(None).await;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&steps);
    let client = through(&format!("http://{address}"))
        .tls(Tls::new().pin_der(identity.certificate.der()))
        .on_step(move |step| kept.lock().unwrap().push(format!("{step:?}")));
    // A proxy that was named is asked for this machine too.
    for (url, port) in
        [(format!("ws://localhost:{plain}/a"), plain), (format!("wss://localhost:{secure}/a"), secure)]
    {
        let mut ws = soon(client.connect(url)).await.unwrap();
        talk(&mut ws).await;
        assert_eq!(ws.peer_addr().unwrap().to_string(), address);
        assert_eq!(ws.get_ref().tls().is_some(), port == secure);
        let head = seen.lock().unwrap().pop().unwrap();
        let agent = concat!("User-Agent: longwire/", env!("CARGO_PKG_VERSION"));
        let expected =
            format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n{agent}\r\n\r\n");
        assert_eq!(head, expected);
        soon(ws.close(1000, "")).await.unwrap();
    }
    let steps = steps.lock().unwrap().join("\n");
    for part in
        ["Dialing", "Connected", &format!("Tunnelled(\"http://{address}\")"), "TLS 1.3", "Answered(101"]
    {
        assert!(steps.contains(part), "{part} in {steps}");
    }
}

#[tokio::test]
async fn a_login_is_told_to_the_proxy_and_to_nobody_else() {
    // me:geheim
    let (address, seen) = proxy(Some("bWU6Z2VoZWlt")).await;
    let heads = Seen::default();
    let kept = Arc::clone(&heads);
    let (server, _) = serve(move |mut stream| {
        let kept = Arc::clone(&kept);
        async move {
            let head = read_head(&mut stream).await;
            kept.lock().unwrap().push(head);
        }
    })
    .await;
    let client = through(&format!("http://me:geheim@{address}")).bearer_auth("fuer-den-server");
    let _ = soon(client.connect(format!("ws://{server}/"))).await;
    assert!(!seen.lock().unwrap()[0].contains("fuer-den-server"));
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.contains("fuer-den-server") && !head.to_ascii_lowercase().contains("proxy"), "{head}");

    for url in [format!("http://{address}"), format!("http://me:falsch@{address}")] {
        let error = proxy_error(&through(&url), "ws://example.invalid/").await;
        assert!(matches!(error, ProxyError::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED)), "{error:?}");
        let told = format!("{:#}", ConnectError::Proxy(error));
        assert!(told.contains("407") && told.contains("password") && !told.contains("falsch"), "{told}");
    }
}

#[tokio::test]
async fn tls_within_tls() {
    let identity = Identity::self_signed("localhost", 4000);
    let acceptor = identity.acceptor();
    let (address, _) = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                tunnel(stream, None, Seen::default()).await;
            }
        }
    })
    .await;
    let (plain, secure) = (echo_server().await.port(), tls_server(identity.acceptor()).await);
    let client = through(&format!("https://localhost:{}", address.port()));
    for url in [format!("ws://localhost:{plain}/"), format!("wss://localhost:{secure}/")] {
        let trusting = client.clone().tls(Tls::new().pin_der(identity.certificate.der()));
        let mut ws = soon(trusting.connect(&url)).await.unwrap();
        talk(&mut ws).await;
        ws.send(vec![1; 300_000]).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_bytes().len(), 300_000);
        assert_eq!(ws.get_ref().tls().is_some(), url.starts_with("wss"));
        // A proxy that is not trusted learns nothing.
        let wary = client.clone().tls(Tls::new().pin_sha256([1; 32]));
        assert!(matches!(soon(wary.connect(&url)).await, Err(ConnectError::Tls(_))));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "https", "socks5"] {
        let error = proxy_error(&through(&format!("{scheme}://{address}")), "ws://example.invalid/").await;
        assert!(
            matches!(&error, ProxyError::Unreachable(error) if error.kind() == std::io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
        assert!(error.to_string().contains(&address.to_string()));
    }
}

/// What a proxy says that gives this answer to whatever it is asked.
async fn against(answer: impl Into<Vec<u8>>) -> ProxyError {
    let answer = answer.into();
    let (address, _) = serve(move |mut stream: TcpStream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    proxy_error(&through(&format!("http://{address}")), "ws://example.invalid/").await
}

#[tokio::test]
async fn answers_that_are_none() {
    use longwire_proto::handshake::HeadError as E;
    type Expected = fn(&ProxyError) -> bool;
    let ok = "HTTP/1.1 200 OK\r\n";
    let cases: Vec<(Vec<u8>, Expected)> = vec![
        (format!("{ok}X: {}", "x".repeat(100_000)).into(), |e| {
            matches!(e, ProxyError::Head(HandshakeError::Head(E::TooLong { .. })))
        }),
        (format!("{ok}{}\r\n", "X: y\r\n".repeat(257)).into(), |e| {
            matches!(e, ProxyError::Head(HandshakeError::Head(E::TooManyHeaders { .. })))
        }),
        ("HTTP/1.1 100 Continue\r\n\r\n".repeat(9).into(), |e| {
            matches!(e, ProxyError::Head(HandshakeError::TooManyInterim))
        }),
        (b"<html>200 OK</html>".into(), |e| {
            matches!(e, ProxyError::Head(HandshakeError::Head(E::FirstByte(b'<'))))
        }),
        (b"\x16\x03\x01".into(), |e| matches!(e, ProxyError::Head(HandshakeError::Head(E::Tls)))),
        (b"HTTP/1.1 200\0OK\r\n\r\n".into(), |e| {
            matches!(e, ProxyError::Head(HandshakeError::Head(E::Control(0))))
        }),
        (b"HTTP/1.1 2000 OK\r\n\r\n".into(), |e| matches!(e, ProxyError::Head(HandshakeError::Head(_)))),
        // Hangs up at once, and in the middle.
        (b"".into(), |e| matches!(e, ProxyError::Head(HandshakeError::Head(E::Incomplete)))),
        (ok.into(), |e| matches!(e, ProxyError::Head(HandshakeError::Head(E::Incomplete)))),
        // Speaks in the server's place: before the key of the request is known, so it can be nothing good.
        (format!("{ok}\r\n\x01\x02").into(), |e| matches!(e, ProxyError::Early)),
        (format!("{ok}\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n").into(), |e| {
            matches!(e, ProxyError::Early)
        }),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n".into(), |e| {
            matches!(e, ProxyError::Refused(StatusCode::FORBIDDEN))
        }),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".into(), |e| matches!(e, ProxyError::Refused(_))),
        // No redirect of a proxy is followed.
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n".into(), |e| {
            matches!(e, ProxyError::Refused(StatusCode::FOUND))
        }),
    ];
    for (answer, expected) in cases {
        let error = against(answer.clone()).await;
        assert!(
            expected(&error),
            "{:?}: {error:?}",
            String::from_utf8_lossy(&answer[..answer.len().min(80)])
        );
    }
    // As many as there may be, and a header less.
    let most = format!("{}{ok}{}\r\n!", "HTTP/1.1 100 Continue\r\n\r\n".repeat(8), "X: y\r\n".repeat(64));
    assert!(matches!(against(most).await, ProxyError::Early));
}

/// A proxy that is silent or dribbles is given up after the time for connecting, and only then.
#[tokio::test]
async fn a_proxy_that_dribbles() {
    for is_silent in [true, false] {
        let (address, _) = serve(move |mut stream: TcpStream| async move {
            read_head(&mut stream).await;
            for byte in "HTTP/1.1 200 OK\r\nX: ".bytes().chain(std::iter::repeat(b'x')) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if !is_silent && stream.write_u8(byte).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let limit = Duration::from_millis(700);
        let start = std::time::Instant::now();
        let client = through(&format!("http://{address}")).connect_timeout(limit);
        match soon(client.connect("ws://example.invalid/")).await {
            Err(ConnectError::Timeout(Phase::Proxy)) => assert!(start.elapsed() >= limit),
            other => panic!("{other:?}"),
        }
    }
}

/// In a tunnel that leads elsewhere TLS does not meet whom it expects.
#[tokio::test]
async fn a_proxy_that_leads_elsewhere() {
    let ours = Identity::self_signed("localhost", 4000);
    let theirs = tls_server(Identity::self_signed("localhost", 4000).acceptor()).await;
    let (address, _) = serve(move |mut stream: TcpStream| async move {
        read_head(&mut stream).await;
        let mut server = TcpStream::connect(("127.0.0.1", theirs)).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut server).await;
    })
    .await;
    let client = through(&format!("http://{address}")).tls(Tls::new().pin_der(ours.certificate.der()));
    let refused = soon(client.connect("wss://localhost:1/")).await;
    assert!(matches!(refused, Err(ConnectError::Tls(_))), "{refused:?}");
}

#[tokio::test]
async fn steps_know_no_login() {
    let (address, _) = proxy(None).await;
    let steps = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&steps);
    let client = through(&format!("http://me:geheim@{address}")).on_step(move |step: Step<'_>| {
        kept.lock().unwrap().push_str(&format!("{step:?}\n"));
    });
    let server = echo_server().await;
    soon(client.connect(format!("ws://u:geheim@{server}/"))).await.unwrap();
    let steps = steps.lock().unwrap();
    assert!(steps.contains("Answered") && !steps.contains("geheim"), "{steps}");
}
