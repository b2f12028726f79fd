//! The opening handshake over HTTP/2 (RFC 8441): a table for each rule, what differs from a good request in each
//! row.

#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use longwire_proto::handshake::client::InvalidRequest;
use longwire_proto::handshake::http2::{self, PROTOCOL};
use longwire_proto::handshake::server::{self, Acceptance, Policy};
use longwire_proto::handshake::{HandshakeError, Offer, Origins, Refusal};
use longwire_proto::{Config, Deflate};

/// The request of RFC 8441 5.1, without subprotocol, extension and Origin.
fn good() -> Request<()> {
    Request::builder()
        .method("CONNECT")
        .version(Version::HTTP_2)
        .uri("https://server.example.com/chat")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap()
}

fn with(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = good();
    for (name, value) in headers {
        let (name, value) = (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        request.headers_mut().append(name, value);
    }
    request
}

fn check(request: &Request<()>, policy: &Policy) -> Result<Acceptance, Refusal> {
    http2::check(request, Some(PROTOCOL), policy)
}

/// The status that the server answers under the default policy.
fn status(request: &Request<()>) -> u16 {
    answered(check(request, &Policy::new()))
}

fn answered(checked: Result<Acceptance, Refusal>) -> u16 {
    checked.map_or_else(
        |refusal| refusal.status().as_u16(),
        |acceptance| acceptance.response(&HeaderMap::new()).unwrap().status().as_u16(),
    )
}

#[test]
fn rfc8441_4_method_and_protocol() {
    let rows: &[(&str, Option<&str>, u16)] = &[
        ("CONNECT", Some("websocket"), 200),
        ("CONNECT", None, 400),
        ("CONNECT", Some(""), 501),
        ("CONNECT", Some("connect-udp"), 501),
        ("CONNECT", Some("websockets"), 501),
        ("CONNECT", Some("WebSocket"), 501),
        ("GET", Some("websocket"), 405),
        ("GET", None, 405),
        ("HEAD", None, 405),
        ("connect", Some("websocket"), 405),
    ];
    for (method, protocol, expected) in rows {
        let mut request = good();
        *request.method_mut() = method.parse().unwrap();
        let checked = http2::check(&request, *protocol, &Policy::new());
        assert_eq!(answered(checked), *expected, "{method} {protocol:?}");
        let asks = *method == "CONNECT" && *protocol == Some("websocket");
        assert_eq!(http2::is_websocket(&request, *protocol), asks, "{method} {protocol:?}");
    }
    let mut head = good();
    *head.method_mut() = "HEAD".parse().unwrap();
    let refusal = http2::check(&head, None, &Policy::new()).unwrap_err();
    assert_eq!((refusal.text(), refusal.headers().get("allow")), ("", Some(&"CONNECT".parse().unwrap())));
}

#[test]
fn rfc8441_3_http_version() {
    let rows = [
        (Version::HTTP_2, 200),
        (Version::HTTP_3, 200),
        (Version::HTTP_11, 505),
        (Version::HTTP_10, 505),
        (Version::HTTP_09, 505),
    ];
    for (version, expected) in rows {
        let mut request = good();
        *request.version_mut() = version;
        assert_eq!(status(&request), expected, "{version:?}");
        // The handshake of HTTP/1.1 is no other way in.
        assert_ne!(server::check(&request, &Policy::new()).map(|_| ()).unwrap_err().status(), 101);
    }
}

#[test]
fn rfc8441_4_scheme_authority_and_path() {
    let rows = [
        ("https://server.example.com/", 200),
        ("http://server.example.com:8080/chat?room=%E8%8C%B6", 200),
        ("https://[::1]:8443/chat", 200),
        ("https://server.example.com", 200),
        ("ws://server.example.com/", 400),
        ("wss://server.example.com/", 400),
        ("ftp://server.example.com/", 400),
        ("/chat", 400),
        ("server.example.com:443", 400),
        ("*", 400),
        ("https://user@server.example.com/", 400),
        ("https://server.example.com:99999/", 400),
    ];
    for (uri, expected) in rows {
        let mut request = good();
        let Ok(uri) = uri.parse() else {
            assert_eq!(expected, 400, "{uri}");
            continue;
        };
        *request.uri_mut() = uri;
        assert_eq!(status(&request), expected, "{}", request.uri());
    }
}

#[test]
fn rfc9113_8_headers_of_a_connection_and_host() {
    let rows: &[(&[(&str, &str)], u16)] = &[
        (&[("host", "server.example.com")], 200),
        (&[("host", "SERVER.example.com")], 200),
        (&[("host", "other.example.com")], 400),
        (&[("host", "server.example.com:8080")], 400),
        (&[("host", "@")], 400),
        (&[("host", "server.example.com"), ("host", "server.example.com")], 400),
        (&[("connection", "Upgrade")], 400),
        (&[("upgrade", "websocket")], 400),
        (&[("transfer-encoding", "chunked")], 400),
        (&[("content-length", "0")], 400),
        (&[("content-length", "1")], 400),
        // RFC 8441 5: not used, so not looked at.
        (&[("sec-websocket-key", "nonsense")], 200),
        (&[("cookie", "a=b"), ("x-name", "小红")], 200),
    ];
    for (headers, expected) in rows {
        assert_eq!(status(&with(headers)), *expected, "{headers:?}");
    }
}

#[test]
fn rfc6455_version_subprotocol_extension_and_origin() {
    let versions: &[(&[&str], u16)] =
        &[(&["13"], 200), (&[], 400), (&["8"], 400), (&["13, 8"], 400), (&["13", "13"], 400)];
    for (values, expected) in versions {
        let mut request = good();
        request.headers_mut().remove("sec-websocket-version");
        for value in *values {
            request.headers_mut().append("sec-websocket-version", value.parse().unwrap());
        }
        assert_eq!(status(&request), *expected, "{values:?}");
    }
    let mut request = good();
    request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let refusal = check(&request, &Policy::new()).unwrap_err();
    // RFC 6455 4.4, and RFC 9113 8.2.2.
    assert_eq!(refusal.headers().get("sec-websocket-version").unwrap(), "13");
    assert!(!refusal.headers().contains_key(header::UPGRADE));
    assert!(!refusal.headers().contains_key(header::CONNECTION));

    for (origin, expected) in [
        ("https://server.example.com", 200),
        ("https://server.example.com:443", 200),
        ("https://evil.example", 403),
        ("https://server.example.com:8443", 403),
        ("null", 403),
    ] {
        assert_eq!(status(&with(&[("origin", origin)])), expected, "{origin}");
    }
    let listed = Policy::new().origins(Origins::list(["https://evil.example"]).unwrap());
    assert!(check(&with(&[("origin", "https://evil.example")]), &listed).is_ok());

    let policy = Policy::new().subprotocols(["chat.v2", "chat.v1"]).deflate(Deflate::new());
    let offered = with(&[
        ("sec-websocket-protocol", "chat.v1, chat.v2"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ]);
    let acceptance = check(&offered, &policy).unwrap();
    assert_eq!(acceptance.subprotocol(), Some("chat.v2"));
    assert!(acceptance.deflate().is_some());
    assert_eq!(status(&with(&[("sec-websocket-protocol", "a, a")])), 400);
    assert_eq!(status(&with(&[("sec-websocket-extensions", "a;;b")])), 400);

    let extra: HeaderMap = [(header::SET_COOKIE, HeaderValue::from_static("seen=1"))].into_iter().collect();
    let response = acceptance.response(&extra).unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    // Neither Upgrade, Connection nor Sec-WebSocket-Accept.
    assert_eq!(names, ["sec-websocket-extensions", "sec-websocket-protocol", "set-cookie"]);
}

fn offer() -> Offer {
    Offer::new("server.example.com", "/chat").unwrap()
}

#[test]
fn what_a_client_asks_is_what_a_server_accepts() {
    let extra: HeaderMap =
        [(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))].into_iter().collect();
    let offer = Offer::new("server.example.com:8443", "/chat?room=%E8%8C%B6")
        .unwrap()
        .subprotocols(["chat.v2"])
        .unwrap()
        .deflate(Config::client().deflate)
        .headers(&extra)
        .unwrap();
    let asked = http2::Request::new(offer, true).unwrap();
    let head = asked.head();
    assert_eq!(head.uri(), "https://server.example.com:8443/chat?room=%E8%8C%B6");
    assert_eq!((head.method().as_str(), head.version()), ("CONNECT", Version::HTTP_2));
    assert!(!head.headers().contains_key("sec-websocket-key"));
    assert_eq!(head.headers()["authorization"], "Bearer x");

    let policy = Policy::new().subprotocols(["chat.v2"]).deflate(Deflate::new());
    let acceptance = check(&head, &policy).unwrap();
    let agreed = asked.check(&acceptance.response(&HeaderMap::new()).unwrap()).unwrap();
    assert_eq!(agreed.subprotocol.as_deref(), Some("chat.v2"));
    assert_eq!(agreed.deflate, acceptance.deflate());
    assert!(agreed.deflate.is_some());

    let plain = http2::Request::new(Offer::new("[::1]:80", "/").unwrap(), false).unwrap().head();
    assert_eq!(plain.uri(), "http://[::1]:80/");
    assert!(!plain.headers().contains_key("sec-websocket-extensions"));
}

#[test]
fn requests_that_cannot_be_made() {
    for host in ["", "a b", "a/b", "user@a", "a:x", "a\r\nb", "a\0"] {
        assert_eq!(Offer::new(host, "/").unwrap_err(), InvalidRequest::Host, "{host:?}");
    }
    for target in ["", "chat", "/a b", "/#x", "/你好", "/\r\n", "/\0", "http://a/"] {
        assert_eq!(Offer::new("a", target).unwrap_err(), InvalidRequest::Target, "{target:?}");
    }
    assert!(matches!(offer().subprotocols(["a b"]), Err(InvalidRequest::Subprotocol(_))));
    assert!(matches!(offer().subprotocols(["a", "a"]), Err(InvalidRequest::RepeatedSubprotocol(_))));
    for name in [header::HOST, header::UPGRADE, header::CONTENT_LENGTH, header::SEC_WEBSOCKET_KEY] {
        let extra: HeaderMap = [(name.clone(), HeaderValue::from_static("x"))].into_iter().collect();
        assert!(matches!(offer().headers(&extra), Err(InvalidRequest::Header(_))), "{name}");
    }
}

#[test]
fn answers_that_a_client_judges() {
    let response = |status: u16, headers: &[(&str, &str)]| {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    };
    let offer = offer().subprotocols(["chat"]).unwrap().deflate(Deflate::new());
    let request = http2::Request::new(offer, true).unwrap();
    // RFC 8441 5: 2xx; RFC 9110 9.3.6: a length is ignored.
    for good in [response(200, &[]), response(204, &[]), response(299, &[("content-length", "5")])] {
        assert!(request.check(&good).is_ok(), "{good:?}");
    }
    for status in [101, 199, 300, 301, 400, 401, 403, 404, 500, 501, 503] {
        let error = request.check(&response(status, &[])).unwrap_err();
        assert_eq!(error, HandshakeError::Refused(StatusCode::from_u16(status).unwrap()));
    }
    let bad: &[(&[(&str, &str)], HandshakeError)] = &[
        (&[("sec-websocket-protocol", "x")], HandshakeError::Subprotocol("x".parse().unwrap())),
        (
            &[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat")],
            HandshakeError::SubprotocolRepeated,
        ),
        (&[("sec-websocket-extensions", "x-y")], HandshakeError::Extension),
        (&[("sec-websocket-extensions", ";")], HandshakeError::ExtensionsMalformed),
        (&[("sec-websocket-extensions", "permessage-deflate; x")], HandshakeError::DeflateUnknown),
    ];
    for (headers, error) in bad {
        assert_eq!(request.check(&response(200, headers)).as_ref(), Err(error), "{headers:?}");
    }
}

#[test]
fn a_refusal_is_a_response_without_framing() {
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "先登录 🔑")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        .header(header::CONTENT_LENGTH, HeaderValue::from_static("7"))
        .header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let response: Response<String> = refusal.into();
    assert_eq!((response.status().as_u16(), response.body().as_str()), (401, "先登录 🔑"));
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.headers().len(), 2);
    let empty: Response<String> = Refusal::new(StatusCode::NO_CONTENT, "text").into();
    assert_eq!((empty.body().as_str(), empty.headers().len()), ("", 0));
}
