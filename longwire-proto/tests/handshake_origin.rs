//! Which web pages may connect: Origin against the host of the request, or against a list.

#![allow(clippy::unwrap_used)]

#[path = "support/head.rs"]
mod head;

use head::{REQUEST, scan, text, with};
use http::{HeaderValue, header};
use longwire_proto::handshake::server::{self, Policy};
use longwire_proto::handshake::{HeadLimits, HeadReader, Origins};
use proptest::prelude::*;

/// The status for a request to `host` from a page of `origin`.
fn from_page(request_line: &str, host: &str, origins: &[&str], policy: &Policy) -> u16 {
    let host = format!("Host: {host}");
    let origins: Vec<_> = origins.iter().map(|origin| format!("Origin: {origin}")).collect();
    let mut lines = vec![request_line, &host];
    lines.extend_from_slice(&REQUEST[2..]);
    lines.extend(origins.iter().map(String::as_str));
    let bytes = text(&lines);

    let limits = HeadLimits::default();
    assert_eq!(scan(&HeadReader::for_request(limits), &bytes), Ok(Some(bytes.len())));
    let result = server::parse_request(&bytes, limits).and_then(|request| server::check(&request, policy));
    result.map_or_else(|refusal| refusal.status().as_u16(), |_| 101)
}

#[test]
fn rfc6455_10_2_same_origin() {
    let rows: &[(&str, &[&str], u16)] = &[
        ("example.com", &[], 101),
        ("example.com", &["http://example.com"], 101),
        ("example.com", &["https://example.com"], 101),
        ("EXAMPLE.com", &["HTTPS://example.COM"], 101),
        ("example.com:443", &["https://example.com"], 101),
        ("example.com:80", &["http://example.com"], 101),
        ("example.com", &["https://example.com:443"], 101),
        ("example.com:", &["https://example.com"], 101),
        ("example.com:8080", &["http://example.com:8080"], 101),
        ("[::1]:8080", &["http://[0:0::1]:8080"], 101),
        ("example.com:80", &["https://example.com"], 403),
        ("example.com:443", &["http://example.com"], 403),
        ("example.com:8080", &["http://example.com"], 403),
        ("example.com", &["http://example.com:8080"], 403),
        ("example.com", &["http://www.example.com"], 403),
        ("example.com", &["http://example.com.evil.example"], 403),
        ("example.com", &["http://evilexample.com"], 403),
        ("example.com", &["http://example.com."], 403),
        ("localhost", &["tauri://localhost"], 403),
        ("[::1]", &["http://localhost"], 403),
        // Not an origin.
        ("example.com", &["null"], 403),
        ("example.com", &[""], 403),
        ("example.com", &["example.com"], 403),
        ("example.com", &["http://example.com/"], 403),
        ("example.com", &["http://example.com?x"], 403),
        ("example.com", &["http://user@example.com"], 403),
        ("example.com", &["http://example.com http://evil.example"], 403),
        ("example.com", &["http://"], 403),
        ("example.com", &["://example.com"], 403),
        ("example.com", &["http://example.com:port"], 403),
        ("example.com", &["http://例子.example"], 403),
        // RFC 6454 7.3: the header is there once.
        ("example.com", &["http://example.com", "http://example.com"], 400),
    ];
    for (host, origins, expected) in rows {
        let got = from_page("GET / HTTP/1.1", host, origins, &Policy::new());
        assert_eq!(got, *expected, "{host} {origins:?}");
    }
    // RFC 9112 3.2.2: the authority of the target counts, not Host.
    let target = "GET http://one.example/ HTTP/1.1";
    assert_eq!(from_page(target, "two.example", &["http://one.example"], &Policy::new()), 101);
    assert_eq!(from_page(target, "two.example", &["http://two.example"], &Policy::new()), 403);
}

#[test]
fn rfc6455_10_2_listed_origins() {
    let list = Origins::list([
        "https://Example.com:443",
        "http://example.com:8080",
        "http://[0:0:0:0:0:0:0:1]:3000",
        "tauri://localhost",
    ]);
    let policy = Policy::new().origins(list.unwrap());
    let rows: &[(&[&str], u16)] = &[
        (&[], 101),
        (&["https://example.com"], 101),
        (&["https://EXAMPLE.com:443"], 101),
        (&["http://example.com:8080"], 101),
        (&["http://[::1]:3000"], 101),
        (&["tauri://localhost"], 101),
        (&["http://example.com"], 403),
        (&["https://example.com:8080"], 403),
        (&["http://server.example.com"], 403),
        (&["null"], 403),
        (&["https://example.com/"], 403),
        (&["https://example.com", "https://example.com"], 400),
    ];
    for (origins, expected) in rows {
        let got = from_page("GET / HTTP/1.1", "server.example.com", origins, &policy);
        assert_eq!(got, *expected, "{origins:?}");
    }

    let null = Policy::new().origins(Origins::list(["null"]).unwrap());
    assert_eq!(from_page("GET / HTTP/1.1", "a", &["null"], &null), 101);
    assert_eq!(from_page("GET / HTTP/1.1", "a", &["NULL"], &null), 403);
    assert_eq!(from_page("GET / HTTP/1.1", "a", &["http://a"], &null), 403);

    let none = Policy::new().origins(Origins::list::<[&str; 0]>([]).unwrap());
    assert_eq!(from_page("GET / HTTP/1.1", "a", &["http://a"], &none), 403);
    assert_eq!(from_page("GET / HTTP/1.1", "a", &[], &none), 101);

    let any = Policy::new().origins(Origins::Any);
    for origin in ["http://evil.example", "null", "file://"] {
        assert_eq!(from_page("GET / HTTP/1.1", "a", &[origin], &any), 101);
    }
    assert_eq!(from_page("GET / HTTP/1.1", "a", &["http://a", "http://b"], &any), 400);
}

#[test]
fn a_list_of_origins_takes_nothing_that_could_never_match() {
    let rows = [
        ("example.com", "scheme"),
        ("https://example.com/", "slash"),
        ("https://example.com/chat", "path"),
        ("https://user@example.com", "user information"),
        ("wss://example.com", "http or https"),
        ("https://", "host"),
        ("https://exa mple.com", "host"),
        ("https://*.example.com:x", "port"),
        ("https://example.com:99999", "port"),
        ("1http://example.com", "scheme"),
        ("", "scheme"),
        ("https://例子.example", "host"),
    ];
    for (text, reason) in rows {
        let error = Origins::list(["https://good.example", text]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
    assert_eq!(Origins::list(["HTTP://A:80"]), Origins::list(["http://a"]));
    assert_eq!(Origins::default(), Origins::Same);
}

proptest! {
    #[test]
    fn any_origin_and_host_are_judged(origin in "[ -~]{0,40}|https?://[\\[\\]:a-z0-9.@/%]{0,20}", host in "[ -~]{0,20}") {
        let bytes = with(REQUEST, "Origin", &[]);
        let mut request = server::parse_request(&bytes, HeadLimits::default()).unwrap();
        request.headers_mut().insert(header::HOST, HeaderValue::try_from(host).unwrap());
        request.headers_mut().insert(header::ORIGIN, HeaderValue::try_from(&origin[..]).unwrap());
        if let Err(refusal) = server::check(&request, &Policy::new()) {
            prop_assert!([400, 403].contains(&refusal.status().as_u16()));
        }
        // What can be listed also matches itself.
        if let Ok(list) = Origins::list([&origin]) {
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("a"));
            prop_assert!(server::check(&request, &Policy::new().origins(list)).is_ok(), "{}", origin);
        }
    }
}

#[test]
fn the_same_origin_or_one_of_a_list() {
    let origins = Origins::same_or(["https://app.example"]).unwrap();
    let rows = [
        ("http://server.example:8080", true),
        ("https://app.example", true),
        ("https://app.example:444", false),
        ("http://server.example", false),
        ("https://evil.example", false),
        ("null", false),
    ];
    for (origin, passes) in rows {
        let request = http::Request::builder()
            .uri("/")
            .header("Host", "server.example:8080")
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", origin)
            .body(())
            .unwrap();
        let policy = Policy::new().origins(origins.clone());
        assert_eq!(server::check(&request, &policy).is_ok(), passes, "{origin}");
        assert_eq!(origins.allows(origin.as_bytes(), "server.example:8080"), passes, "{origin}");
        assert!(!origins.allows(origin.as_bytes(), "no host"), "{origin}");
    }
    assert!(Origins::same_or(["https://app.example/"]).is_err());
}

#[test]
fn origins_from_text() {
    let rows = [
        ("*", Origins::Any),
        ("same", Origins::Same),
        (" same ", Origins::Same),
        ("https://app.example", Origins::list(["https://app.example"]).unwrap()),
        ("https://app.example, null", Origins::list(["https://app.example", "null"]).unwrap()),
        ("https://app.example,same", Origins::same_or(["https://app.example"]).unwrap()),
    ];
    for (text, origins) in rows {
        assert_eq!(text.parse(), Ok(origins.clone()), "{text}");
        assert_eq!(Origins::try_from(text), Ok(origins), "{text}");
    }
    for text in ["", "any", "*, https://app.example", "https://app.example,", "https://例.example", "👋"] {
        assert!(text.parse::<Origins>().is_err(), "{text}");
    }
}
