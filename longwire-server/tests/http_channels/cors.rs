//! Cross-origin requests.

use longwire::Origins;

use crate::server::Server;

const LISTED: &str = "https://example.org";

#[tokio::test]
async fn origins_are_allowed_by_the_list() {
    let listed = Origins::same_or([LISTED]).expect("origins");
    for (origins, origin, allowed) in [
        (Origins::Same, None, Some(None)),
        (Origins::Same, Some("own"), Some(None)),
        (Origins::Same, Some(LISTED), None),
        (listed.clone(), Some("own"), Some(None)),
        (listed.clone(), Some(LISTED), Some(Some(LISTED))),
        (listed.clone(), Some("https://evil.example"), None),
        (listed, Some("null"), None),
        (Origins::Any, Some("https://evil.example"), Some(Some("*"))),
        (Origins::Any, Some("null"), Some(Some("*"))),
    ] {
        let server = Server::with("", |http| http.origins(origins.clone()));
        let own = format!("http://127.0.0.1:{}", server.port);
        let mut headers: Vec<_> = origin
            .map(|origin| ("Origin", if origin == "own" { &*own } else { origin }))
            .into_iter()
            .collect();
        for (method, path) in [
            ("GET", "/a"),
            ("POST", "/a"),
            ("POST", "/-/publish"),
            ("GET", "/-/events?channel=a"),
            ("HEAD", "/a"),
        ] {
            let answer = server.ask(method, path, &headers, br#"{"messages":[]}"#).await;
            let told = |name| answer.head.header(name);
            assert_eq!(
                answer.head.status,
                if allowed.is_some() { 200 } else { 403 },
                "{method} {path} {origins:?} {origin:?}"
            );
            assert_eq!(told("access-control-allow-origin"), allowed.flatten(), "{origins:?} {origin:?}");
            let credentials = (allowed.flatten() == Some(LISTED)).then_some("true");
            assert_eq!(told("access-control-allow-credentials"), credentials, "{origins:?} {origin:?}");
            assert_eq!(told("access-control-expose-headers").is_some(), allowed.flatten().is_some());
            assert_eq!(
                (told("vary"), told("x-content-type-options"), told("cache-control")),
                (Some("Origin"), Some("nosniff"), Some("no-store"))
            );
        }
        headers.push(("Access-Control-Request-Method", "POST"));
        let preflight = server.ask("OPTIONS", "/a", &headers, b"").await;
        let told = |name| preflight.head.header(name);
        assert_eq!(
            preflight.head.status,
            if allowed.is_some() { 204 } else { 403 },
            "{origins:?} {origin:?}"
        );
        let foreign = allowed.flatten().is_some();
        assert_eq!(told("access-control-allow-methods"), foreign.then_some("GET, HEAD, OPTIONS, POST"));
        assert_eq!(told("access-control-max-age"), foreign.then_some("7200"));
        assert_eq!(
            told("access-control-allow-headers").is_some_and(|names| names.contains("Idempotency-Key")),
            foreign
        );
    }
}

#[tokio::test]
async fn a_listed_page_may_read_an_error() {
    let origins = Origins::same_or([LISTED]).expect("origins");
    let server = Server::with(&crate::access::rules(), |http| http.origins(origins));
    let refused = server.ask("POST", "/open.a", &[("Origin", LISTED)], b"x").await;
    assert_eq!(refused.refusal().0, 403);
    assert_eq!(refused.head.header("access-control-allow-origin"), Some(LISTED));
}

#[tokio::test]
async fn a_rebound_host_name_is_rejected() {
    let server = Server::start("allow_host = [\"chat.example\"]\n");
    for (host, status) in [
        ("localhost", 200),
        ("app.localhost:8080", 200),
        ("[::1]:8080", 200),
        ("Chat.Example:8080", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ] {
        // To the browser, it is the same origin.
        let origin = format!("http://{host}");
        for headers in [vec![("Host", host)], vec![("Host", host), ("Origin", &*origin)]] {
            for (method, path) in [("GET", "/a"), ("POST", "/a"), ("OPTIONS", "/a")] {
                let answer = server.ask(method, path, &headers, b"x").await;
                let status = if status == 200 && method == "OPTIONS" { 204 } else { status };
                assert_eq!(answer.head.status, status, "{method} {headers:?}");
            }
        }
    }
    // The target takes precedence over the header (RFC 9112 3.2.2).
    let answer = server.ask("GET", "http://evil.example/a", &[("Host", "localhost")], b"").await;
    assert_eq!(answer.head.status, 403);
}

#[tokio::test]
async fn a_trusted_proxy_determines_address_and_host() {
    let proxies = longwire::TrustedProxies::new(["127.0.0.1"]).expect("networks");
    let server = Server::with("[limits.address]\nmessages = \"1/h\"\n", |http| http.trusted_proxies(proxies));
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        let answer = server.ask("POST", "/a", &[("X-Forwarded-For", client)], b"x").await;
        assert_eq!(answer.head.status, status, "{client}");
    }
    // The forwarded host determines the server's own origin.
    for (origin, status) in [("https://chat.example", 200), ("https://evil.example", 403)] {
        let headers = [("X-Forwarded-Host", "chat.example"), ("Origin", origin)];
        assert_eq!(server.ask("GET", "/a", &headers, b"").await.head.status, status, "{origin}");
    }
}
