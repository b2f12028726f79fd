//! Who the client is behind proxies (RFC 7239, and what came before it): a table of what they write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;

use longwire::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use longwire::{Acceptor, TrustedProxies};
use tokio::io::AsyncWriteExt;

fn proxies() -> TrustedProxies {
    TrustedProxies::new(["10.0.0.0/8", "192.0.2.1", "fd00::/8"]).unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

const PEER: &str = "10.0.0.1:1000";

/// Client, TLS, host.
type Said = (String, Option<bool>, Option<String>);

fn read(proxies: &TrustedProxies, peer: &str, lines: &[(&str, &str)]) -> Result<Said, StatusCode> {
    let peer: SocketAddr = peer.parse().unwrap();
    let forwarded = proxies.read(peer, &headers(lines)).map_err(|refusal| refusal.status())?;
    Ok((forwarded.client.to_string(), forwarded.secure, forwarded.host))
}

#[test]
fn x_forwarded_for() {
    for (values, client) in [
        (&[][..], PEER),
        (&["203.0.113.7"][..], "203.0.113.7:0"),
        (&["203.0.113.7:4711"], "203.0.113.7:4711"),
        (&["2001:db8::1"], "[2001:db8::1]:0"),
        (&["[2001:db8::1]"], "[2001:db8::1]:0"),
        (&["[2001:db8::1]:80"], "[2001:db8::1]:80"),
        (&["::ffff:203.0.113.7"], "203.0.113.7:0"),
        // What the client has written itself stands on the left, however much it is.
        (&["6.6.6.6, 203.0.113.7"], "203.0.113.7:0"),
        (&["10.6.6.6, 203.0.113.7"], "203.0.113.7:0"),
        (&["6.6.6.6", "203.0.113.7"], "203.0.113.7:0"),
        (&["\"坏,,;=", "203.0.113.7"], "203.0.113.7:0"),
        // From proxy to proxy.
        (&["6.6.6.6, 203.0.113.7, 10.1.2.3"], "203.0.113.7:0"),
        (&["203.0.113.7,10.1.2.3 ,\tfd00::1", "192.0.2.1"], "203.0.113.7:0"),
        (&["203.0.113.7, 192.0.2.2, 10.1.2.3"], "192.0.2.2:0"),
        (&["::ffff:10.1.2.3"], "10.1.2.3:0"),
        // All of them are trusted: it is the first one.
        (&["10.0.0.9, 10.0.0.8"], "10.0.0.9:0"),
        // Who is not known: the last one that is stands for it.
        (&["unknown"], PEER),
        (&["203.0.113.7, unknown"], PEER),
        (&["203.0.113.7, unknown, 10.1.2.3"], "10.1.2.3:0"),
        (&["_hidden"], PEER),
        (&[""], PEER),
        (&["203.0.113.7,"], PEER),
        (&["203.0.113.7, 地址"], PEER),
        (&["203.0.113.256"], PEER),
        (&["203.0.113.7:70000"], PEER),
        (&["203.0.113.7:"], PEER),
        (&["2001:db8::1:x"], PEER),
        (&["[2001:db8::1"], PEER),
        (&["[2001:db8::1]x"], PEER),
        (&["[203.0.113.7]"], PEER),
        (&["203.0.113.7 203.0.113.8"], PEER),
    ] {
        let lines: Vec<_> = values.iter().map(|value| ("X-Forwarded-For", *value)).collect();
        assert_eq!(read(&proxies(), PEER, &lines), Ok((client.into(), None, None)), "{values:?}");
    }
}

#[test]
fn who_is_not_trusted_says_nothing() {
    let lines = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "chat.example"),
        ("Forwarded", "for=203.0.113.8;proto=https;host=chat.example"),
    ];
    for peer in ["203.0.113.9:1", "[2001:db8::9]:1", "11.0.0.1:1", "192.0.2.2:1", "[fc00::1]:1"] {
        for proxies in [proxies(), proxies().rfc7239(true), TrustedProxies::default()] {
            assert_eq!(read(&proxies, peer, &lines).unwrap(), (peer.into(), None, None));
        }
    }
    // What only the other kind of proxy would have written is the client's.
    assert_eq!(read(&proxies(), PEER, &lines).unwrap().0, "203.0.113.7:0");
    assert_eq!(read(&proxies().rfc7239(true), "[::ffff:10.0.0.1]:1", &lines).unwrap().0, "203.0.113.8:0");
}

#[test]
fn x_forwarded_proto_and_host() {
    for (proto, secure) in [
        ("https", Some(true)),
        ("WSS", Some(true)),
        ("http", Some(false)),
        ("ws", Some(false)),
        ("https, http", Some(false)),
        ("ftp", None),
        ("", None),
    ] {
        assert_eq!(read(&proxies(), PEER, &[("X-Forwarded-Proto", proto)]).unwrap().1, secure, "{proto}");
    }
    for (host, said) in
        [("a.example:8443", Some("a.example:8443")), ("evil, a.example", Some("a.example")), ("", None)]
    {
        assert_eq!(read(&proxies(), PEER, &[("X-Forwarded-Host", host)]).unwrap().2.as_deref(), said);
    }
}

#[test]
fn forwarded() {
    let proxies = proxies().rfc7239(true);
    let at = |client: &str, secure: Option<bool>, host: Option<&str>| {
        Ok((client.to_owned(), secure, host.map(str::to_owned)))
    };
    let malformed = Err(StatusCode::BAD_REQUEST);
    for (values, said) in [
        (&[][..], at(PEER, None, None)),
        // The examples of RFC 7239 4 and 7.1.
        (&["for=\"_gazonk\""][..], at(PEER, None, None)),
        // The element of the proxy that is trusted says nothing of the client: what stands before is another's word.
        (&["for=203.0.113.7;host=evil, by=10.0.0.2"], at(PEER, None, None)),
        (&["For=\"[2001:db8:cafe::17]:4711\""], at("[2001:db8:cafe::17]:4711", None, None)),
        (&["for=192.0.2.60;proto=http;by=203.0.113.43"], at("192.0.2.60:0", Some(false), None)),
        (&["for=192.0.2.43, for=198.51.100.17"], at("198.51.100.17:0", None, None)),
        (
            &["for=192.0.2.43,for=\"[2001:db8:cafe::17]\";proto=https;host=a.example"],
            at("[2001:db8:cafe::17]:0", Some(true), Some("a.example")),
        ),
        // What is said of the client was said by whom it has connected to.
        (
            &[
                "for=6.6.6.6;host=evil, for=203.0.113.7;host=a.example;proto=https",
                "for=10.0.0.2;host=inner;proto=http",
            ],
            at("203.0.113.7:0", Some(true), Some("a.example")),
        ),
        (
            &["for=unknown;host=a.example;proto=https, for=10.0.0.2;host=inner"],
            at("10.0.0.2:0", Some(true), Some("a.example")),
        ),
        (&["for=unknown;proto=https"], at(PEER, Some(true), None)),
        (&["proto=https;host=a.example"], at(PEER, Some(true), Some("a.example"))),
        (&["for=10.0.0.3;host=a, for=10.0.0.2;host=b"], at("10.0.0.3:0", None, Some("a"))),
        // Quotes and escapes; what is not known is passed over.
        (
            &["for=\"203.0.113.7:_x.y\";secret=\"a,b;c=\\\"d\\\"\";host=\"a\\.example\""],
            at("203.0.113.7:0", None, Some("a.example")),
        ),
        (&["for=\"203.0.113.7\" ; proto=https ,, ;"], at("203.0.113.7:0", Some(true), None)),
        (&["fOR=203.0.113.7;PROTO=HTTPS"], at("203.0.113.7:0", Some(true), None)),
        (&["for=\"unknown:80\""], at(PEER, None, None)),
        (&["for=\"203.0.113.7:_\""], at(PEER, None, None)),
        (&[""], at(PEER, None, None)),
        // Malformed: which part was the client's is not to be told.
        (&["for=\"203.0.113.7", "for=203.0.113.8"], malformed.clone()),
        (&["for=\"x, for=203.0.113.8"], malformed.clone()),
        (&["for=[2001:db8::1]"], malformed.clone()),
        (&["for=203.0.113.7:80"], malformed.clone()),
        (&["for"], malformed.clone()),
        (&["for="], malformed.clone()),
        (&["=203.0.113.7"], malformed.clone()),
        (&["for =203.0.113.7"], malformed.clone()),
        (&["for= 203.0.113.7"], malformed.clone()),
        (&["for=203.0.113.7 for=203.0.113.8"], malformed.clone()),
        (&["for=203.0.113.7;for=203.0.113.8"], malformed.clone()),
        (&["for=\"\\"], malformed.clone()),
        (&["for=地址"], malformed),
    ] {
        let lines: Vec<_> = values.iter().map(|value| ("Forwarded", *value)).collect();
        assert_eq!(read(&proxies, PEER, &lines), said, "{values:?}");
    }
}

#[test]
fn networks() {
    let contains = |network: &str, address: &str| {
        TrustedProxies::new([network]).unwrap().trusts(address.parse().unwrap())
    };
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.9.9.9/8", "10.0.0.0", "9.255.255.255"),
        ("192.0.2.0/31", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
        ("192.0.2.1/32", "::ffff:192.0.2.1", "::192.0.2.1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("::1/128", "::1", "::2"),
        ("fe80::/10", "febf::", "fec0::"),
    ] {
        assert!(contains(network, inside) && !contains(network, outside), "{network}");
    }
    assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
    assert!(contains("::/0", "ffff::") && !contains("::/0", "127.0.0.1"));
    for text in [
        "",
        "localhost",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0/8",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "/8",
    ] {
        let error = TrustedProxies::new([text]).unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/8"), "{text}");
    }
}

/// The pages of the host that the client has asked for are of the same origin.
#[tokio::test]
async fn with_an_acceptor() {
    for (trusted, status) in [("127.0.0.1", "101"), ("10.0.0.0/8", "403")] {
        let proxies = TrustedProxies::new([trusted]).unwrap();
        let (mut client, server) = tokio::io::duplex(10_000);
        let request = "GET / HTTP/1.1\r\nHost: inner:8080\r\nX-Forwarded-Host: chat.example\r\n\
             X-Forwarded-For: 203.0.113.7\r\nOrigin: https://chat.example\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut handshake = Acceptor::new().receive(server).await.unwrap();
        let address = handshake.apply_proxies(&proxies, "127.0.0.1:9".parse().unwrap()).unwrap();
        assert_eq!(address.to_string(), if status == "101" { "203.0.113.7:0" } else { "127.0.0.1:9" });
        assert_eq!(handshake.accept().await.is_ok(), status == "101");
    }
    let mut request = Request::new(());
    request.headers_mut().insert("x-forwarded-host", HeaderValue::from_bytes(b"a\xFF").unwrap());
    let proxies = TrustedProxies::new(["127.0.0.1"]).unwrap();
    proxies.apply("127.0.0.1:9".parse().unwrap(), &mut request).unwrap();
    // What is no text stands for something that no host is.
    assert_eq!(request.headers()["host"], "?");
}

#[test]
fn proxies_from_text() {
    let expected = TrustedProxies::new(["10.0.0.0/8", "::1"]).unwrap();
    assert_eq!("10.0.0.0/8, ::1".parse(), Ok(expected.clone()));
    assert_eq!(TrustedProxies::try_from("10.0.0.0/8,::1"), Ok(expected));
    for text in ["", "10.0.0.0/8,", "10.0.0.0/8 ::1", "代理", "👋"] {
        assert!(text.parse::<TrustedProxies>().is_err(), "{text:?}");
    }
}
