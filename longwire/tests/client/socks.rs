//! SOCKS5 proxies (RFC 1928, RFC 1929), and such that do all they should not.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire::{Client, ConnectError, Phase, Proxy, ProxyError, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::certificates::Identity;
use crate::servers::{echo_server, serve, talk, tls_server};
use crate::support::soon;

/// What was asked: the login, and the kind and text of the address.
type Seen = Arc<Mutex<Vec<(Option<String>, u8, String)>>>;

/// RFC 1928 3 to 6, RFC 1929; for a client of one method more than none if a login is wanted.
async fn tunnel(mut stream: TcpStream, wanted: Option<&str>, seen: Seen) -> io::Result<()> {
    let mut methods = vec![0; 2];
    stream.read_exact(&mut methods).await?;
    assert_eq!(methods[0], 5);
    methods.resize(usize::from(methods[1]), 0);
    stream.read_exact(&mut methods).await?;
    let method = if wanted.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    let mut login = None;
    if let Some(wanted) = wanted {
        assert_eq!(stream.read_u8().await?, 1);
        let mut texts = Vec::new();
        for _ in 0..2 {
            let mut text = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut text).await?;
            texts.push(String::from_utf8(text).unwrap());
        }
        let given = texts.join(":");
        stream.write_all(&[1, u8::from(given != wanted)]).await?;
        if given != wanted {
            return Ok(());
        }
        login = Some(given);
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(stream.read_u32().await?).to_string(),
        4 => std::net::Ipv6Addr::from(stream.read_u128().await?).to_string(),
        _ => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name).unwrap()
        }
    };
    let port = stream.read_u16().await?;
    seen.lock().unwrap().push((login, request[3], format!("{host}:{port}")));
    // The names of this test are the proxy's own.
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&[5, 0, 0, 3, 4, b'n', b'a', b'm', b'e', 0, 80]).await?;
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

async fn proxy(wanted: Option<&'static str>) -> (String, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let (address, _) = serve(move |stream| {
        let kept = Arc::clone(&kept);
        async move {
            let _ = tunnel(stream, wanted, kept).await;
        }
    })
    .await;
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
async fn the_proxy_resolves_names() {
    let identity = Identity::self_signed("localhost", 4000);
    let (plain, secure) = (echo_server().await.port(), tls_server(identity.acceptor()).await);
    let (address, seen) = proxy(None).await;
    for scheme in ["socks5", "socks5h"] {
        let client =
            through(&format!("{scheme}://{address}")).tls(Tls::new().pin_der(identity.certificate.der()));
        for (url, kind, asked) in [
            (format!("ws://only.the.proxy.invalid:{plain}/"), 3, format!("only.the.proxy.invalid:{plain}")),
            (format!("wss://例子.invalid:{secure}/"), 3, format!("xn--fsqu00a.invalid:{secure}")),
            (format!("ws://127.0.0.1:{plain}/"), 1, format!("127.0.0.1:{plain}")),
            (format!("ws://[::1]:{plain}/"), 4, format!("::1:{plain}")),
        ] {
            let mut ws = soon(client.connect(url)).await.unwrap();
            talk(&mut ws).await;
            assert_eq!(seen.lock().unwrap().pop().unwrap(), (None, kind, asked));
        }
    }
}

#[tokio::test]
async fn a_login() {
    let server = echo_server().await;
    let (address, seen) = proxy(Some("我:geheim")).await;
    let mut ws = soon(through(&format!("socks5://我:geheim@{address}")).connect(format!("ws://{server}/")))
        .await
        .unwrap();
    talk(&mut ws).await;
    assert_eq!(seen.lock().unwrap()[0].0.as_deref(), Some("我:geheim"));
    for url in [format!("socks5://我:falsch@{address}"), format!("socks5://{address}")] {
        let error = proxy_error(&through(&url), "ws://example.invalid/").await;
        assert!(matches!(error, ProxyError::Login), "{error:?}");
        assert!(error.to_string().contains("password") && !error.to_string().contains("falsch"));
    }
    // A proxy that wants none is not told.
    let (address, seen) = proxy(None).await;
    soon(through(&format!("socks5://me:geheim@{address}")).connect(format!("ws://{server}/"))).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].0, None);
}

#[tokio::test]
async fn a_name_that_is_too_long_for_it() {
    let (address, seen) = proxy(None).await;
    let client = through(&format!("socks5://{address}"));
    let label = "x".repeat(62);
    for (length, is_asked) in [(255, true), (256, false)] {
        let mut name = format!("{label}.{label}.{label}.{label}.");
        name.extend(std::iter::repeat_n('y', length - name.len()));
        let server = echo_server().await.port();
        let opened = soon(client.connect(format!("ws://{name}:{server}/"))).await;
        assert_eq!(opened.is_ok(), is_asked, "{length}: {opened:?}");
        assert_eq!(seen.lock().unwrap().pop().is_some(), is_asked);
    }
}

/// A proxy of these bytes: some for each thing that it is told.
async fn against(login: &str, answers: &[&[u8]]) -> Result<(), ConnectError> {
    let answers: Vec<Vec<u8>> = answers.iter().map(|bytes| bytes.to_vec()).collect();
    let (address, _) = serve(move |mut stream: TcpStream| {
        let answers = answers.clone();
        async move {
            for answer in answers {
                if stream.read(&mut [0; 1000]).await.unwrap_or(0) == 0
                    || stream.write_all(&answer).await.is_err()
                {
                    return;
                }
            }
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    soon(through(&format!("socks5://{login}{address}")).connect("ws://example.invalid/")).await.map(drop)
}

#[tokio::test]
async fn answers_that_are_none() {
    let refusals: Vec<[u8; 10]> =
        (1..=9).chain([255]).map(|code| [5, code, 0, 1, 0, 0, 0, 0, 0, 0]).collect();
    for refusal in &refusals {
        match against("", &[&[5, 0], refusal]).await {
            Err(ConnectError::Proxy(ProxyError::Socks(text))) => assert!(!text.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    let endless = [b"HTTP/1.1 400 Bad Request\r\n".as_slice(), &[b'x'; 100_000]].concat();
    let cases: [(&str, &[&[u8]]); 12] = [
        // No SOCKS, versions that are none, methods that were not offered.
        ("", &[&endless]),
        ("", &[&[4, 0]]),
        ("", &[&[5, 2]]),
        ("", &[&[5, 1]]),
        ("u:p@", &[&[5, 1]]),
        ("u:p@", &[&[5, 2], &[5, 0]]),
        // Hangs up.
        ("", &[]),
        ("", &[&[5]]),
        ("", &[&[5, 0], &[5, 0, 0]]),
        ("", &[&[5, 0], &[5, 0, 0, 3, 255, b'x']]),
        // An address that is none.
        ("", &[&[5, 0], &[5, 0, 0, 9, 0, 0, 0, 0, 0, 0]]),
        ("", &[&[5, 0], &[5, 0, 0, 3, 1, 0xff, 0, 0]]),
    ];
    for (login, answers) in cases {
        let refused = against(login, answers).await;
        assert!(matches!(refused, Err(ConnectError::Proxy(_))), "{answers:?}: {refused:?}");
    }
    // What it says in the server's place is judged as the server's.
    let garbage = against("", &[&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0, b'?', b'!']]).await;
    assert!(matches!(garbage, Err(ConnectError::Handshake(_))), "{garbage:?}");
}

#[tokio::test]
async fn a_proxy_that_is_silent() {
    let (address, _) = serve(|mut stream: TcpStream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let client = through(&format!("socks5://{address}")).connect_timeout(Duration::from_millis(700));
    let refused = soon(client.connect("ws://example.invalid/")).await;
    assert!(matches!(refused, Err(ConnectError::Timeout(Phase::Proxy))), "{refused:?}");
}
