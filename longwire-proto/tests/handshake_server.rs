//! The server's side of the opening handshake: a table for each section, a request in each row.

#![allow(clippy::unwrap_used)]

#[path = "support/head.rs"]
mod head;

use head::{REQUEST, scan, text, with};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use longwire_proto::handshake::server::{self, Acceptance, Policy};
use longwire_proto::handshake::{ExtraHeaderError, HeadLimits, HeadReader, Refusal};

fn parse(bytes: &[u8]) -> Result<Request<()>, Refusal> {
    let limits = HeadLimits::default();
    let length = scan(&HeadReader::for_request(limits), bytes)?;
    assert_eq!(length, Some(bytes.len()), "{}", bytes.escape_ascii());
    let parsed = server::parse_request(bytes, limits);
    // Bytes after the head change nothing.
    let longer = server::parse_request(&[bytes, b"\x81\x80\0\0\0\0"].concat(), limits);
    assert_eq!(format!("{parsed:?}"), format!("{longer:?}"));
    parsed
}

fn handshake(bytes: &[u8], policy: &Policy) -> Result<Acceptance, Refusal> {
    server::check(&parse(bytes)?, policy)
}

/// The status that the server answers under the default policy.
fn status(bytes: &[u8]) -> u16 {
    handshake(bytes, &Policy::new()).map_or_else(|refusal| refusal.status().as_u16(), |_| 101)
}

type Row<'a> = (&'a str, &'a [&'a str], u16);

fn table(rows: &[Row<'_>]) {
    for (name, lines, expected) in rows {
        let bytes = with(REQUEST, name, lines);
        assert_eq!(status(&bytes), *expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn rfc6455_4_2_1_method_and_version() {
    table(&[
        ("GET", &["GET / HTTP/1.1"], 101),
        ("GET", &["POST / HTTP/1.1"], 405),
        ("GET", &["HEAD / HTTP/1.1"], 405),
        ("GET", &["get / HTTP/1.1"], 405),
        ("GET", &["OPTIONS * HTTP/1.1"], 405),
        ("GET", &["GET / HTTP/1.0"], 400),
        ("GET", &["GET / HTTP/2.0"], 505),
        ("GET", &["GET / HTTP/3.0"], 505),
        ("GET", &["PRI * HTTP/2.0"], 505),
        ("GET", &["GET / HTTP/1.2"], 505),
        ("GET", &["GET / HTTP/0.9"], 505),
        ("GET", &["GET / HTTP/1.10"], 400),
        ("GET", &["GET / HTTP/1"], 400),
        ("GET", &["GET / http/1.1"], 400),
        ("GET", &["GET / HTTPS/1.1"], 400),
        ("GET", &["GET /"], 400),
    ]);
}

#[test]
fn rfc9112_3_request_line_and_target() {
    table(&[
        ("GET", &["GET /chat?room=1&name=%E4%BD%A0 HTTP/1.1"], 101),
        ("GET", &["GET //two/slashes HTTP/1.1"], 101),
        ("GET", &["GET /a?q=http://other HTTP/1.1"], 101),
        ("GET", &["GET http://other.example/chat HTTP/1.1"], 101),
        ("GET", &["GET https://other.example HTTP/1.1"], 101),
        ("GET", &["GET ws://other.example:8080/chat?x HTTP/1.1"], 101),
        ("GET", &["GET WSS://[::1]:8080/chat HTTP/1.1"], 101),
        ("GET", &["GET ftp://other.example/ HTTP/1.1"], 400),
        ("GET", &["GET http:///chat HTTP/1.1"], 400),
        ("GET", &["GET http://user@other.example/ HTTP/1.1"], 400),
        ("GET", &["GET http://user:secret@other.example/ HTTP/1.1"], 400),
        ("GET", &["GET http://other.example:70000/ HTTP/1.1"], 400),
        ("GET", &["GET http://[::1/ HTTP/1.1"], 400),
        ("GET", &["GET * HTTP/1.1"], 400),
        ("GET", &["GET other.example:443 HTTP/1.1"], 400),
        ("GET", &["CONNECT other.example:443 HTTP/1.1"], 400),
        ("GET", &["GET chat HTTP/1.1"], 400),
        ("GET", &["GET /chat#part HTTP/1.1"], 400),
        ("GET", &["GET /chat?x#part HTTP/1.1"], 400),
        ("GET", &["GET /你好 HTTP/1.1"], 400),
        ("GET", &["GET /🚀 HTTP/1.1"], 400),
        ("GET", &["GET  / HTTP/1.1"], 400),
        ("GET", &["GET /  HTTP/1.1"], 400),
        ("GET", &["GET / HTTP/1.1 "], 400),
        ("GET", &["GET\t/ HTTP/1.1"], 400),
        ("GET", &["GET /a b HTTP/1.1"], 400),
        ("GET", &["G(T / HTTP/1.1"], 400),
        ("GET", &["GET"], 400),
    ]);
}

#[test]
fn rfc9112_2_2_and_5_bytes_and_lines() {
    table(&[
        ("X", &["X-Name: 你好 🚀"], 101),
        ("X", &["X-Tab: a\tb"], 101),
        ("X", &["X-Empty:"], 101),
        ("X", &["X-Empty: \t "], 101),
        ("X", &["X-Space : a"], 400),
        ("X", &["X-Tab\t: a"], 400),
        ("X", &["X-No-Colon"], 400),
        ("X", &["X-Folded: a", " b"], 400),
        ("X", &["X-Folded: a", "\tb"], 400),
        ("X", &[": nameless"], 400),
        ("X", &["X(Name): a"], 400),
        ("X", &["X-Näme: a"], 400),
        // A blank before the first header line hides it from some parsers.
        ("Host", &[" Host: server.example.com"], 400),
        ("X", &["X: a\rb"], 400),
        ("X", &["X: a\r\r"], 400),
        ("X", &["X: a\nY: b"], 400),
        ("X", &["\nX: a"], 400),
        ("X", &["X: a\0b"], 400),
        ("X", &["X: a\x0bb"], 400),
        ("X", &["X: a\x1bb"], 400),
        ("X", &["X: a\x7fb"], 400),
        ("X", &["X\x00: a"], 400),
        ("GET", &["GET /\0 HTTP/1.1"], 400),
        ("GET", &["GET / HTTP/1.1\n"], 400),
    ]);
    let bare_line_feeds = (REQUEST.join("\n") + "\n\n").into_bytes();
    assert_eq!(status(&bare_line_feeds), 400);
}

#[test]
fn rfc9112_3_2_host() {
    table(&[
        ("Host", &["Host: server.example.com:8080"], 101),
        ("Host", &["host:SERVER"], 101),
        ("Host", &["Host: 127.0.0.1:80"], 101),
        ("Host", &["Host: [::1]"], 101),
        ("Host", &["Host: [2001:db8::1]:8080"], 101),
        ("Host", &["Host: server:"], 101),
        ("Host", &["Host: server:65535"], 101),
        ("Host", &["Host: server_1.example"], 101),
        ("Host", &["Host: a%2db.example"], 101),
        ("Host", &[], 400),
        ("Host", &["Host:"], 400),
        ("Host", &["Host: a", "Host: a"], 400),
        ("Host", &["Host: a", "HOST: b"], 400),
        ("Host", &["Host: a, b"], 400),
        ("Host", &["Host: a b"], 400),
        ("Host", &["Host: :80"], 400),
        ("Host", &["Host: server:65536"], 400),
        ("Host", &["Host: server:+80"], 400),
        ("Host", &["Host: server:80:80"], 400),
        ("Host", &["Host: ::1"], 400),
        ("Host", &["Host: []"], 400),
        ("Host", &["Host: [::1"], 400),
        ("Host", &["Host: [::1]80"], 400),
        ("Host", &["Host: [127.0.0.1]"], 400),
        ("Host", &["Host: user@server"], 400),
        ("Host", &["Host: http://server"], 400),
        ("Host", &["Host: server/"], 400),
        ("Host", &["Host: a%2"], 400),
        ("Host", &["Host: a%zz"], 400),
        ("Host", &["Host: 你好.example"], 400),
    ]);
    // RFC 9112 3.2.2: exactly one Host beside an absolute target as well.
    let absolute = "GET http://server/ HTTP/1.1";
    assert_eq!(status(&text(&[absolute, "Host: other"])), 426);
    assert_eq!(status(&text(&[absolute])), 400);
    assert_eq!(status(&text(&[absolute, "Host: @"])), 400);
}

#[test]
fn rfc6455_4_2_1_upgrade_and_connection() {
    table(&[
        ("Upgrade", &["Upgrade: WebSocket"], 101),
        ("Upgrade", &["upgrade:\twebsocket \t"], 101),
        ("Upgrade", &["Upgrade: h2c, websocket"], 101),
        ("Upgrade", &["Upgrade: ,, websocket ,"], 101),
        ("Upgrade", &["Upgrade: h2c", "Upgrade: WEBSOCKET"], 101),
        ("Upgrade", &[], 426),
        ("Upgrade", &["Upgrade:"], 426),
        ("Upgrade", &["Upgrade: h2c"], 426),
        ("Upgrade", &["Upgrade: websockets"], 426),
        ("Upgrade", &["Upgrade: web socket"], 426),
        ("Upgrade", &["Upgrade: websocket/13"], 426),
        ("Connection", &["Connection: upgrade"], 101),
        ("Connection", &["Connection: keep-alive, UPGRADE"], 101),
        ("Connection", &["Connection: keep-alive", "Connection: Upgrade"], 101),
        ("Connection", &["Connection: ,,\t,Upgrade,"], 101),
        ("Connection", &[], 400),
        ("Connection", &["Connection: close"], 400),
        ("Connection", &["Connection: keep-alive Upgrade"], 400),
        ("Connection", &["Connection: Upgrade;q=1"], 400),
    ]);
}

#[test]
fn rfc6455_4_2_1_key_and_version() {
    table(&[
        ("Sec-WebSocket-Key", &["sec-websocket-key:   AQIDBAUGBwgJCgsMDQ4PEC==  "], 101),
        ("Sec-WebSocket-Key", &["sec-websocket-key:   AQIDBAUGBwgJCgsMDQ4PEA==  "], 101),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="], 101),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: +/+/+/+/+/+/+/+/+/+/+w=="], 101),
        ("Sec-WebSocket-Key", &[], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key:"], 400),
        // 15 and 17 bytes, no padding, the alphabet for file names, white space, and not base64 at all.
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAA"], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA"], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA="], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: -_-_-_-_-_-_-_-_-_-_-w=="], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAA AAAAAAAAAAA=="], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==,"], 400),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: 你好"], 400),
        // RFC 6455 11.3.1.
        ("Sec-WebSocket-Key", &[REQUEST[4], REQUEST[4]], 400),
        ("Sec-WebSocket-Version", &["SEC-WEBSOCKET-VERSION:13"], 101),
        ("Sec-WebSocket-Version", &[], 426),
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version:"], 426),
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8"], 426),
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 14"], 426),
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 013"], 426),
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version: +13"], 426),
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 13, 8"], 426),
        // RFC 6455 11.3.5.
        ("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], 400),
    ]);
}

#[test]
fn rfc9112_6_content() {
    table(&[
        ("Content-Length", &["Content-Length: 0"], 101),
        ("Content-Length", &["Content-Length: 1"], 400),
        ("Content-Length", &["Content-Length: 00"], 400),
        ("Content-Length", &["Content-Length: +0"], 400),
        ("Content-Length", &["Content-Length:"], 400),
        ("Content-Length", &["Content-Length: 0, 0"], 400),
        ("Content-Length", &["Content-Length: 0", "Content-Length: 0"], 400),
        ("Transfer-Encoding", &["Transfer-Encoding: chunked"], 400),
        ("Transfer-Encoding", &["Transfer-Encoding: identity"], 400),
        ("Transfer-Encoding", &["Transfer-Encoding:"], 400),
        ("Transfer-Encoding", &["Transfer-Encoding: chunked", "Content-Length: 0"], 400),
    ]);
}

#[test]
fn rfc6455_4_2_2_extensions_are_not_selected_by_default() {
    let offered = with(
        REQUEST,
        "Sec-WebSocket-Extensions",
        &["Sec-WebSocket-Extensions: permessage-deflate, x-y; z=1"],
    );
    let acceptance = handshake(&offered, &Policy::new()).unwrap();
    let response = acceptance.response(&HeaderMap::new()).unwrap();
    assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS));
}

#[test]
fn rfc6455_4_2_2_subprotocol() {
    // What the client offers, what the server speaks, and what comes of it.
    type Row = (&'static [&'static str], &'static [&'static str], Result<Option<&'static str>, u16>);
    let rows: &[Row] = &[
        (&[], &[], Ok(None)),
        (&[], &["chat"], Ok(None)),
        (&["chat"], &[], Ok(None)),
        (&["chat"], &["chat"], Ok(Some("chat"))),
        (&["chat, superchat"], &["superchat", "chat"], Ok(Some("superchat"))),
        (&["chat", "superchat"], &["superchat"], Ok(Some("superchat"))),
        (&["a ,\tb", "c"], &["x", "c", "a"], Ok(Some("c"))),
        (&["chat"], &["Chat"], Ok(None)),
        (&["chat"], &["cha", "chats", ""], Ok(None)),
        (&["v1.chat!#$%&'*+-.^_`|~"], &["v1.chat!#$%&'*+-.^_`|~"], Ok(Some("v1.chat!#$%&'*+-.^_`|~"))),
        (&["chat"], &["你好", "a,b"], Ok(None)),
        (&["constructor"], &["chat"], Ok(None)),
        (&[""], &["chat"], Ok(None)),
        (&["chat,"], &["chat"], Ok(Some("chat"))),
        (&[",chat"], &["chat"], Ok(Some("chat"))),
        (&["chat,,x"], &["chat"], Ok(Some("chat"))),
        (&["chat", ""], &["chat"], Ok(Some("chat"))),
        (&["chat, chat"], &["chat"], Err(400)),
        (&["chat", "x, chat"], &["chat"], Err(400)),
        (&["chat x"], &["chat"], Err(400)),
        (&["chat;x"], &["chat"], Err(400)),
        (&["\"chat\""], &["chat"], Err(400)),
        (&["聊天"], &["chat"], Err(400)),
    ];
    for (offered, spoken, expected) in rows {
        let lines: Vec<_> = offered.iter().map(|names| format!("Sec-WebSocket-Protocol: {names}")).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let policy = Policy::new().subprotocols(spoken.iter().copied());
        let result = handshake(&with(REQUEST, "Sec-WebSocket-Protocol", &lines), &policy);
        let got = result.as_ref().map(Acceptance::subprotocol).map_err(|refusal| refusal.status().as_u16());
        assert_eq!(got, *expected, "{offered:?} {spoken:?}");
    }
}

fn encoded(refusal: &Refusal) -> String {
    let mut out = b"before".to_vec();
    refusal.encode(&mut out);
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

fn refused(bytes: &[u8]) -> String {
    encoded(&handshake(bytes, &Policy::new()).unwrap_err())
}

#[test]
fn refusals_say_what_to_do() {
    let method = refused(&with(REQUEST, "GET", &["POST / HTTP/1.1"]));
    assert!(method.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"), "{method}");
    // RFC 9110 9.3.2.
    assert!(refused(&with(REQUEST, "GET", &["HEAD / HTTP/1.1"])).ends_with("\r\n\r\n"));

    let version = refused(&with(REQUEST, "GET", &["GET / HTTP/1.0"]));
    assert!(version.contains("HTTP/1.1 ") && version.contains("proxy_http_version 1.1"), "{version}");
    // What nginx sends on by default: HTTP/1.0 without Upgrade.
    let nginx = text(&["GET / HTTP/1.0", "Host: backend", "Connection: close"]);
    assert!(refused(&nginx).contains("proxy_http_version 1.1"));

    let upgrade = refused(&text(&["GET / HTTP/1.1", "Host: a"]));
    assert!(upgrade.starts_with("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"), "{upgrade}");
    assert!(upgrade.contains("\r\nConnection: Upgrade, close\r\n"), "{upgrade}");
    assert_eq!(upgrade.matches("Connection:").count(), 1, "{upgrade}");

    let websocket_version = refused(&with(REQUEST, "Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8"]));
    assert!(websocket_version.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{websocket_version}");
    assert!(websocket_version.contains("\r\nUpgrade: websocket\r\n"), "{websocket_version}");

    let origin = refused(&with(REQUEST, "Origin", &["Origin: https://evil.example"]));
    assert!(origin.contains("add it to the allowed origins"), "{origin}");
    assert!(!origin.contains("evil"), "{origin}");
}

#[test]
fn a_refusal_is_a_complete_response() {
    let refusal = Refusal::new(StatusCode::FORBIDDEN, "不行 🚫")
        .header(header::SET_COOKIE, HeaderValue::from_static("a=1"))
        .header(header::SET_COOKIE, HeaderValue::from_static("b=2"));
    assert_eq!(
        encoded(&refusal),
        "HTTP/1.1 403 Forbidden\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\nConnection: close\r\n\r\n不行 🚫"
    );
    assert_eq!((refusal.text(), refusal.headers().len()), ("不行 🚫", 2));
    assert_eq!(refusal.to_string(), "403 Forbidden: 不行 🚫");

    let mut json = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "{}")
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(header::CONTENT_LENGTH, HeaderValue::from_static("9000"))
        .header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))
        .header(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    json.headers_mut().insert(header::DATE, HeaderValue::from_static("Fri, 20 Nov 2026 15:00:00 GMT"));
    assert_eq!(
        encoded(&json),
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n\
         Date: Fri, 20 Nov 2026 15:00:00 GMT\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    );

    assert_eq!(
        encoded(&Refusal::new(StatusCode::NO_CONTENT, "text")),
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(
        encoded(&Refusal::new(StatusCode::from_u16(599).unwrap(), "")),
        "HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    // A refusal can never look like an acceptance.
    for status in [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS] {
        assert_eq!(Refusal::new(status, "").status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[test]
fn rfc6455_4_2_2_response() {
    let request = with(REQUEST, "Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: chat, superchat"]);
    let acceptance = handshake(&request, &Policy::new().subprotocols(["chat"])).unwrap();
    let mut extra = HeaderMap::new();
    extra.append(header::SET_COOKIE, HeaderValue::from_static("a=1"));
    extra.append(header::SET_COOKIE, HeaderValue::from_static("b=2"));
    let mut out = Vec::new();
    server::encode_response(&acceptance.response(&extra).unwrap(), &mut out);
    // The answer of RFC 6455 1.3.
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
    );

    for name in [
        "upgrade",
        "connection",
        "host",
        "content-length",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-anything",
    ] {
        let name = HeaderName::from_static(name);
        let extra = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
        assert_eq!(acceptance.response(&extra).unwrap_err(), ExtraHeaderError::Reserved(name));
    }
}

#[test]
fn a_plain_request_is_parsed_and_left_to_others() {
    let plain = parse(&text(&["POST /api HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"])).unwrap();
    assert!(!server::is_websocket(&plain));
    assert_eq!((plain.method(), plain.uri().path()), (&Method::POST, "/api"));

    let old = parse(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.version(), Version::HTTP_10);
    assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    assert_eq!(parse(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().uri(), "*");

    let asks = parse(&text(&["GET / HTTP/1.1", "Host: a", "Upgrade: h2c", "Upgrade: WebSocket"])).unwrap();
    assert!(server::is_websocket(&asks));
}

#[test]
fn another_parser_may_have_read_the_request() {
    let mut request = Request::new(vec![1]);
    *request.version_mut() = Version::HTTP_2;
    let status = |request: &Request<Vec<u8>>| server::check(request, &Policy::new()).unwrap_err().status();
    assert_eq!(status(&request), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    *request.version_mut() = Version::HTTP_11;
    for line in &REQUEST[2..] {
        let (name, value) = line.split_once(": ").unwrap();
        request.headers_mut().insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(value));
    }
    assert_eq!(status(&request), StatusCode::BAD_REQUEST);
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("a"));
    assert!(server::check(&request, &Policy::new()).is_ok());
}
