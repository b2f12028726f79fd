//! Who a client says it is, and that nothing it is given can write a line of its own.

use longwire::{Client, ConnectError, Proxy};

use crate::support::wire::Wire;
use crate::support::{accept_of, read_head, response, soon};

use tokio::io::AsyncWriteExt;

/// The request of a client.
async fn request(client: Client, url: &str) -> String {
    let (near, mut far) = tokio::io::duplex(10_000);
    let (opened, head) = soon(async {
        tokio::join!(client.handshake(url, near), async {
            let head = read_head(&mut far).await;
            far.write_all(response(&accept_of(&head)).as_bytes()).await.unwrap();
            head
        })
    })
    .await;
    opened.unwrap();
    head
}

#[tokio::test]
async fn what_is_sent() {
    let basic = "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    let aladdin = || Client::new().basic_auth("Aladdin", "open sesame");
    let cases = [
        (aladdin(), "ws://a/", basic),
        (Client::new(), "ws://Aladdin:open%20sesame@a/", basic),
        // What is said of the client comes before what is said of one URL.
        (aladdin(), "ws://somebody:else@a/", basic),
        (Client::new().bearer_auth("abc").basic_auth("Aladdin", "open sesame"), "ws://a/", basic),
        (Client::new().bearer_auth("mF_9.B5f-4.1JqM"), "ws://a/", "Authorization: Bearer mF_9.B5f-4.1JqM"),
        (
            Client::new().basic_auth("用户", "密码 👋"),
            "ws://a/",
            "Authorization: Basic 55So5oi3OuWvhueggSDwn5GL",
        ),
        (Client::new().cookie("a", "1").cookie("b", "二"), "ws://a/", "Cookie: a=1; b=二"),
        (Client::new().header("Cookie", "a=1").cookie("b", "2"), "ws://a/", "Cookie: a=1; b=2"),
        (Client::new().header("Origin", "https://a.example"), "ws://a/", "Origin: https://a.example"),
    ];
    for (client, url, line) in cases {
        let head = request(client, url).await;
        assert_eq!(head.matches(line).count(), 1, "{line} in {head}");
        assert!(
            head.matches("Authorization:").count() <= 1 && head.matches("Cookie:").count() <= 1,
            "{head}"
        );
        assert!(head.starts_with("GET / HTTP/1.1\r\nHost: a\r\n"), "{head}");
    }
}

#[tokio::test]
async fn nothing_that_is_given_ends_a_line() {
    for bad in ["\r", "\n", "\0", "x\r\nInjected: 1", "x\nInjected: 1", "\u{7f}"] {
        let clients = [
            Client::new().basic_auth(bad, "x"),
            Client::new().basic_auth("x", bad),
            Client::new().bearer_auth(bad),
            Client::new().cookie(bad, "x"),
            Client::new().cookie("x", bad),
            Client::new().header(bad, "x"),
            Client::new().header("X-Value", format!("a{bad}b")),
            Client::new().header("Origin", format!("a{bad}b")),
            Client::new().header("Cookie", format!("a{bad}b")),
            Client::new().subprotocols([format!("a{bad}b")]),
        ];
        for client in clients {
            let wire = Wire::new();
            let refused = client.handshake("ws://localhost/", wire.clone()).await;
            assert!(matches!(refused, Err(ConnectError::Invalid(_))), "{bad:?} {client:?}");
            assert!(wire.take_written().is_empty());
        }
        let encoded: String = bad.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for url in [format!("ws://{encoded}:x@localhost/"), format!("ws://x:{encoded}@localhost/")] {
            let wire = Wire::new();
            let refused = Client::new().handshake(&url, wire.clone()).await;
            assert!(matches!(refused, Err(ConnectError::Invalid(_))), "{url}");
            assert!(wire.take_written().is_empty());
        }
        for scheme in ["http", "https", "socks5"] {
            for login in [format!("{encoded}:x"), format!("x:{encoded}")] {
                let proxy = Proxy::parse(&format!("{scheme}://{login}@proxy:1"));
                assert!(matches!(proxy, Err(ConnectError::Invalid(_))), "{proxy:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_the_handshakes_stays_so() {
    for name in
        ["Host", "Sec-WebSocket-Key", "sec-websocket-protocol", "Upgrade", "Connection", "Content-Length"]
    {
        let wire = Wire::new();
        let refused = Client::new().header(name, "x").handshake("ws://localhost/", wire.clone()).await;
        assert!(matches!(refused, Err(ConnectError::Invalid(_))), "{name}");
        assert!(wire.take_written().is_empty());
    }
}

#[test]
fn debug_shows_no_secret() {
    let clients = [
        Client::new().basic_auth("u", "geheim"),
        Client::new().bearer_auth("geheim"),
        Client::new().cookie("a", "geheim"),
        Client::new().header("X-Api-Key", "geheim"),
        Client::new().proxy(Proxy::parse("http://u:geheim@proxy:3128").unwrap()),
        Client::new().proxy(Proxy::parse("socks5://u:geheim@proxy").unwrap()),
        // Nor does what is wrong with one.
        Client::new().basic_auth("u", "geheim\n"),
        Client::new().bearer_auth("geheim\n"),
        Client::new().cookie("a", "geheim\n"),
        Client::new().header("X-Api-Key", "geheim\n"),
    ];
    for client in clients {
        // "u:geheim" in base64.
        let shown = format!("{client:?}");
        assert!(!shown.contains("geheim") && !shown.contains("dTpnZWhlaW0"), "{shown}");
    }
}
