//! Redirects (RFC 9110 15.4): which are followed, how far, and what is told to whom.

use std::sync::{Arc, Mutex};

use longwire::http::StatusCode;
use longwire::{Client, ConnectError, RedirectError, Tls, WebSocket};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::certificates::Identity;
use crate::servers::{serve, talk};
use crate::support::{accept_of, read_head, response, soon};

/// Requests as they came.
type Seen = Arc<Mutex<Vec<String>>>;

/// A server that asks `location` where a path leads to: a status and a Location, or nowhere: then it opens.
async fn server(
    location: impl Fn(&str) -> Option<(u16, String)> + Clone + Send + Sync + 'static,
) -> (u16, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let each = move |mut stream: TcpStream| {
        let (location, kept) = (location.clone(), Arc::clone(&kept));
        async move {
            let head = read_head(&mut stream).await;
            let path = head.split(' ').nth(1).unwrap().to_owned();
            kept.lock().unwrap().push(head.clone());
            if let Some((status, location)) = location(&path) {
                let answer = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            let _ = stream.write_all(response(&accept_of(&head)).as_bytes()).await;
            let _ = stream.write_all(&[0x81, 2, b'o', b'k']).await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    };
    (serve(each).await.0.port(), seen)
}

async fn is_open(opened: Result<WebSocket, ConnectError>) {
    assert_eq!(soon(opened.unwrap().recv()).await.unwrap().unwrap().as_text(), Some("ok"));
}

#[tokio::test]
async fn each_status_is_followed_or_not() {
    let (port, seen) = server(|path| {
        path.strip_prefix("/from/").map(|status| {
            (status.parse().unwrap(), "../to?一=1#片段".replace("一", "a").replace("片段", "b"))
        })
    })
    .await;
    let url = |status| format!("ws://127.0.0.1:{port}/from/{status}");
    for status in [301, 302, 303, 307, 308] {
        is_open(soon(longwire::connect(url(status))).await).await;
        assert!(seen.lock().unwrap().pop().unwrap().starts_with("GET /to?a=1 HTTP/1.1\r\n"));
    }
    for status in [201, 300, 304, 305, 306, 309, 400] {
        match soon(longwire::connect(url(status))).await {
            Err(ConnectError::Refused(response)) => assert_eq!(response.status.as_u16(), status),
            other => panic!("{other:?}"),
        }
    }
    match soon(Client::new().redirects(0).connect(url(302))).await {
        Err(ConnectError::Refused(response)) => assert_eq!(response.status, StatusCode::FOUND),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_more_than_the_limit() {
    let (port, seen) = server(|path| {
        let left: usize = path[1..].parse().unwrap();
        left.checked_sub(1).map(|left| (302, format!("/{left}")))
    })
    .await;
    for (client, limit) in [(Client::new(), 5), (Client::new().redirects(1), 1)] {
        is_open(soon(client.connect(format!("ws://127.0.0.1:{port}/{limit}"))).await).await;
        seen.lock().unwrap().clear();
        match soon(client.connect(format!("ws://127.0.0.1:{port}/{}", limit + 1))).await {
            Err(ConnectError::Redirect(RedirectError::TooMany(most))) => assert_eq!(most, limit),
            other => panic!("{other:?}"),
        }
        assert_eq!(seen.lock().unwrap().len(), limit + 1);
    }
}

#[tokio::test]
async fn secrets_are_for_whom_they_were_meant() {
    let (far, far_seen) = server(|_| None).await;
    let (port, seen) = server(move |path| match path {
        "/near" => Some((307, "/there".into())),
        "/far" => Some((307, format!("http://127.0.0.1:{far}/there"))),
        // Another name of the same machine is another host.
        "/name" => Some((307, format!("//localhost:{far}/there"))),
        _ => None,
    })
    .await;
    let clients = [
        Client::new().basic_auth("我", "geheim").cookie("sitzung", "geheim"),
        Client::new().bearer_auth("geheim").header("Cookie", "a=geheim"),
        Client::new().header("Authorization", "geheim").header("Proxy-Authorization", "geheim"),
    ];
    let has_secret = |head: &str| {
        let head = head.to_ascii_lowercase();
        head.contains("geheim") || head.contains("authorization") || head.contains("cookie")
    };
    for client in clients {
        let client = client.header("X-Public", "y").redirects(1);
        is_open(soon(client.connect(format!("ws://127.0.0.1:{port}/near"))).await).await;
        assert!(seen.lock().unwrap().drain(..).all(|head| has_secret(&head)));
        for path in ["far", "name"] {
            is_open(soon(client.connect(format!("ws://127.0.0.1:{port}/{path}"))).await).await;
            let head = far_seen.lock().unwrap().pop().unwrap();
            assert!(!has_secret(&head) && head.to_ascii_lowercase().contains("x-public: y"), "{head}");
        }
    }
    is_open(soon(longwire::connect(format!("ws://u:geheim@127.0.0.1:{port}/far"))).await).await;
    assert!(!has_secret(&far_seen.lock().unwrap().pop().unwrap()));
    seen.lock().unwrap().clear();
    is_open(soon(longwire::connect(format!("ws://u:geheim@127.0.0.1:{port}/near"))).await).await;
    assert!(seen.lock().unwrap().iter().all(|head| head.contains("Basic dTpnZWhlaW0=")));
}

#[tokio::test]
async fn what_was_dropped_does_not_come_back() {
    let (there, there_seen) =
        server(|path| path.strip_prefix("/to/").map(|port| (302, format!("ws://127.0.0.1:{port}/end"))))
            .await;
    let (port, seen) = server(move |path| {
        path.strip_prefix("/via/").map(|port| (302, format!("ws://127.0.0.1:{there}/to/{port}")))
    })
    .await;
    let client = Client::new().bearer_auth("geheim");
    is_open(soon(client.connect(format!("ws://127.0.0.1:{port}/via/{port}"))).await).await;
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("geheim") && !seen[1].contains("geheim"));
    assert!(!there_seen.lock().unwrap()[0].contains("geheim"));
}

#[tokio::test]
async fn locations_that_lead_nowhere() {
    for location in
        ["http://", "ftp://a/", "gopher:x", "ws://user:pw@127.0.0.1/", "ws://a:99999/", "\u{4f60}"]
    {
        let (port, seen) = server(move |_| Some((302, location.to_owned()))).await;
        match soon(longwire::connect(format!("ws://127.0.0.1:{port}/"))).await {
            Err(ConnectError::Redirect(RedirectError::Location(_))) => {}
            other => panic!("{location}: {other:?}"),
        }
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

/// Whatever stands in a Location, no line of a request comes of it.
#[tokio::test]
async fn a_location_injects_nothing() {
    for location in ["/a%0d%0aX-Injected:1", "/a\tb", "/a b", "?%00"] {
        let (port, seen) = server(move |path| (path == "/").then(|| (302, location.to_owned()))).await;
        is_open(soon(longwire::connect(format!("ws://127.0.0.1:{port}/"))).await).await;
        let seen = seen.lock().unwrap();
        assert!(!seen[1].to_ascii_lowercase().contains("\r\nx-injected"), "{}", seen[1]);
        assert_eq!(seen[1].lines().count(), seen[0].lines().count(), "{}", seen[1]);
    }
}

#[tokio::test]
async fn from_wss_to_ws_is_not_followed_and_to_wss_is() {
    let identity = Identity::self_signed("localhost", 4000);
    let client = Client::new().tls(Tls::new().pin_der(identity.certificate.der()));
    let secure = crate::servers::tls_server(identity.acceptor()).await;
    let (plain, seen) = server(move |_| Some((301, format!("https://localhost:{secure}/")))).await;
    let mut ws = soon(client.connect(format!("ws://localhost:{plain}/"))).await.unwrap();
    talk(&mut ws).await;
    assert!(ws.get_ref().tls().is_some());

    let acceptor = identity.acceptor();
    let (leading, _) = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_head(&mut stream).await;
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: ws://localhost:{plain}/\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    })
    .await;
    seen.lock().unwrap().clear();
    match soon(client.connect(format!("wss://{leading}/"))).await {
        Err(ConnectError::Redirect(RedirectError::Insecure)) => {}
        other => panic!("{other:?}"),
    }
    assert!(seen.lock().unwrap().is_empty());
}
