//! The client's side of the opening handshake: a table for each section, a response in each row.

#![allow(clippy::unwrap_used)]

#[path = "support/head.rs"]
mod head;

use head::{RESPONSE, scan, text, with};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use longwire_proto::handshake::client::{self, Agreed, InvalidRequest, Request};
use longwire_proto::handshake::server::{self, Policy};
use longwire_proto::handshake::{
    ExtraHeaderError, HandshakeError, HeadError, HeadLimits, HeadReader, Offer, Origins, accept_key,
};
use proptest::prelude::*;

/// The nonce behind the key of RFC 6455 1.2.
const NONCE: [u8; 16] = *b"the sample nonce";
fn offer() -> Offer {
    Offer::new("server.example.com", "/chat").unwrap().subprotocols(["chat"]).unwrap()
}

fn request() -> Request {
    Request::new(offer(), NONCE)
}

fn parse(bytes: &[u8]) -> Result<Response<()>, HandshakeError> {
    let limits = HeadLimits::default();
    let length = scan(&HeadReader::for_response(limits), bytes)?;
    assert_eq!(length, Some(bytes.len()), "{}", bytes.escape_ascii());
    let parsed = client::parse_response(bytes, limits);
    // The server's first frames may come with the head.
    let longer = client::parse_response(&[bytes, b"\x81\x05hello"].concat(), limits);
    assert_eq!(format!("{parsed:?}"), format!("{longer:?}"));
    parsed
}

fn handshake(bytes: &[u8]) -> Result<Agreed, HandshakeError> {
    request().check(&parse(bytes)?)
}

type Row<'a> = (&'a str, &'a [&'a str], Result<Option<&'a str>, HandshakeError>);

fn table(rows: &[Row<'_>]) {
    for (name, lines, expected) in rows {
        let bytes = with(RESPONSE, name, lines);
        let got = handshake(&bytes);
        let got = got.as_ref().map(|agreed| agreed.subprotocol.as_deref());
        assert_eq!(got, expected.as_ref().map(|&name| name), "{}", bytes.escape_ascii());
    }
}

#[test]
fn rfc6455_1_3_accept_key() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(accept_key(b"").len(), 28);
}

#[test]
fn rfc6455_4_1_request() {
    let extra = HeaderMap::from_iter([
        (header::ORIGIN, HeaderValue::from_static("http://example.com")),
        (header::USER_AGENT, HeaderValue::from_bytes("longwire 🚀".as_bytes()).unwrap()),
    ]);
    let offer = Offer::new("[::1]:8080", "/chat?a=%E4%BD%A0")
        .unwrap()
        .subprotocols(["chat", "superchat"])
        .unwrap()
        .headers(&extra)
        .unwrap();
    let mut out = b"before ".to_vec();
    Request::new(offer, NONCE).encode(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "before GET /chat?a=%E4%BD%A0 HTTP/1.1\r\nHost: [::1]:8080\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://example.com\r\nUser-Agent: longwire 🚀\r\n\r\n"
    );
}

#[test]
fn rfc6455_4_1_request_that_cannot_be_made() {
    // Line breaks are what an attacker would smuggle in.
    for host in ["", ":80", "a b", "a\r\nX: y", "user@a", "a/", "a:port", "[::1", "::1", "例子"] {
        assert_eq!(Offer::new(host, "/").unwrap_err(), InvalidRequest::Host, "{host:?}");
    }
    for target in
        ["", "chat", "*", "?a", "http://a/", "/a b", "/a\r\nX: y", "/#a", "/?a#b", "/\0", "/你好", "/🚀"]
    {
        assert_eq!(Offer::new("a", target).unwrap_err(), InvalidRequest::Target, "{target:?}");
    }
    for name in ["", "a b", "a,b", "a\r\nX: y", "a;b", "聊天"] {
        assert_eq!(
            offer().subprotocols(["good", name]).unwrap_err(),
            InvalidRequest::Subprotocol(name.to_owned())
        );
    }
    assert_eq!(
        offer().subprotocols(["b", "a", "b"]).unwrap_err(),
        InvalidRequest::RepeatedSubprotocol("b".to_owned())
    );
    for name in [
        "host",
        "upgrade",
        "connection",
        "content-length",
        "transfer-encoding",
        "sec-websocket-key",
        "sec-websocket-x",
    ] {
        let name = HeaderName::from_static(name);
        let extra = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
        let error = offer().headers(&extra).unwrap_err();
        assert_eq!(error, InvalidRequest::Header(ExtraHeaderError::Reserved(name.clone())));
        assert!(error.to_string().contains(name.as_str()));
    }
}

#[test]
fn rfc6455_4_1_status_and_version() {
    let refused = |code| Err(HandshakeError::Refused(StatusCode::from_u16(code).unwrap()));
    table(&[
        ("HTTP", &["HTTP/1.1 101 你好"], Ok(None)),
        ("HTTP", &["HTTP/1.1 101 "], Ok(None)),
        ("HTTP", &["HTTP/1.1 101"], Ok(None)),
        ("HTTP", &["HTTP/1.1 200 OK"], refused(200)),
        ("HTTP", &["HTTP/1.1 301 Moved"], refused(301)),
        ("HTTP", &["HTTP/1.1 426 Upgrade Required"], refused(426)),
        ("HTTP", &["HTTP/1.1 503 Service Unavailable"], refused(503)),
        ("HTTP", &["HTTP/1.1 999 ?"], refused(999)),
        ("HTTP", &["HTTP/1.1 100 Continue"], refused(100)),
        ("HTTP", &["HTTP/1.0 400 Bad Request"], refused(400)),
        ("HTTP", &["HTTP/1.0 101 Switching Protocols"], Err(HandshakeError::Version)),
        ("HTTP", &["HTTP/2.0 101 Switching Protocols"], Err(HandshakeError::Version)),
        ("HTTP", &["HTTP/1 101 x"], Err(HandshakeError::Head(HeadError::StartLine))),
        ("HTTP", &["HTTP/1.1 10 x"], Err(HandshakeError::Head(HeadError::StartLine))),
        ("HTTP", &["HTTP/1.1 1010 x"], Err(HandshakeError::Head(HeadError::StartLine))),
        ("HTTP", &["HTTP/1.1 099 x"], Err(HandshakeError::Head(HeadError::StartLine))),
        ("HTTP", &["HTTP/1.1  101 x"], Err(HandshakeError::Head(HeadError::StartLine))),
        ("HTTP", &["HTTP/1.1 +10 x"], Err(HandshakeError::Head(HeadError::StartLine))),
    ]);
}

#[test]
fn rfc6455_4_1_upgrade_and_connection() {
    table(&[
        ("Upgrade", &["upgrade: WEBSOCKET"], Ok(None)),
        ("Upgrade", &["Upgrade: \twebsocket "], Ok(None)),
        ("Upgrade", &[], Err(HandshakeError::Upgrade)),
        ("Upgrade", &["Upgrade:"], Err(HandshakeError::Upgrade)),
        ("Upgrade", &["Upgrade: h2c"], Err(HandshakeError::Upgrade)),
        ("Upgrade", &["Upgrade: h2c, websocket"], Err(HandshakeError::Upgrade)),
        ("Upgrade", &["Upgrade: websocket", "Upgrade: websocket"], Err(HandshakeError::Upgrade)),
        ("Connection", &["Connection: keep-alive, upgrade"], Ok(None)),
        ("Connection", &["Connection: keep-alive", "Connection: upgrade"], Ok(None)),
        ("Connection", &["Connection: ,UPGRADE,"], Ok(None)),
        ("Connection", &[], Err(HandshakeError::Connection)),
        ("Connection", &["Connection: close"], Err(HandshakeError::Connection)),
        ("Connection", &["Connection: Upgraded"], Err(HandshakeError::Connection)),
    ]);
}

#[test]
fn rfc6455_4_1_accept() {
    table(&[
        ("Sec-WebSocket-Accept", &["sec-websocket-accept:s3pPLMBiTxaQ9kYGzzhZRbK+xOo=  \t"], Ok(None)),
        ("Sec-WebSocket-Accept", &[], Err(HandshakeError::AcceptMissing)),
        ("Sec-WebSocket-Accept", &["Sec-WebSocket-Accept:"], Err(HandshakeError::Accept)),
        // The key itself, one bit off, no padding, another case.
        (
            "Sec-WebSocket-Accept",
            &["Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ=="],
            Err(HandshakeError::Accept),
        ),
        (
            "Sec-WebSocket-Accept",
            &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp="],
            Err(HandshakeError::Accept),
        ),
        (
            "Sec-WebSocket-Accept",
            &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo"],
            Err(HandshakeError::Accept),
        ),
        (
            "Sec-WebSocket-Accept",
            &["Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO="],
            Err(HandshakeError::Accept),
        ),
        // RFC 6455 11.3.3.
        ("Sec-WebSocket-Accept", &[RESPONSE[3], RESPONSE[3]], Err(HandshakeError::AcceptRepeated)),
    ]);
}

#[test]
fn rfc6455_4_1_extensions_and_subprotocol() {
    let not_offered = |name| Err(HandshakeError::Subprotocol(HeaderValue::from_static(name)));
    table(&[
        ("Sec-WebSocket-Extensions", &["Sec-WebSocket-Extensions:"], Ok(None)),
        (
            "Sec-WebSocket-Extensions",
            &["Sec-WebSocket-Extensions: permessage-deflate"],
            Err(HandshakeError::Extension),
        ),
        (
            "Sec-WebSocket-Extensions",
            &["Sec-WebSocket-Extensions: permessage-deflate;"],
            Err(HandshakeError::ExtensionsMalformed),
        ),
        // RFC 6455 11.3.2.
        (
            "Sec-WebSocket-Extensions",
            &["Sec-WebSocket-Extensions: ", "Sec-WebSocket-Extensions: x"],
            Err(HandshakeError::ExtensionsRepeated),
        ),
        ("Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: chat"], Ok(Some("chat"))),
        ("Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: Chat"], not_offered("Chat")),
        ("Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: superchat"], not_offered("superchat")),
        ("Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: chat, chat"], not_offered("chat, chat")),
        ("Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol:"], not_offered("")),
        // RFC 6455 11.3.4.
        (
            "Sec-WebSocket-Protocol",
            &["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"],
            Err(HandshakeError::SubprotocolRepeated),
        ),
    ]);
    // None was offered.
    let response =
        parse(&with(RESPONSE, "Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: chat"])).unwrap();
    let request = Request::new(Offer::new("a", "/").unwrap(), NONCE);
    assert_eq!(request.check(&response), Err(HandshakeError::Subprotocol(HeaderValue::from_static("chat"))));
}

#[test]
fn rfc9112_2_and_5_bytes_and_lines() {
    let head = |error| Err(HandshakeError::Head(error));
    table(&[
        ("X", &["X: 你好 🚀"], Ok(None)),
        ("X", &["X:"], Ok(None)),
        ("X", &["X : a"], head(HeadError::HeaderLine)),
        ("X", &["X: a", " folded"], head(HeadError::HeaderLine)),
        ("Upgrade", &[" Upgrade: websocket"], head(HeadError::HeaderLine)),
        ("X", &["no colon"], head(HeadError::HeaderLine)),
        ("X", &["X: a\rb"], head(HeadError::BareCr)),
        ("X", &["X: a\nb"], head(HeadError::BareLf)),
        ("X", &["X: a\0"], head(HeadError::Control(0))),
        ("HTTP", &["", "HTTP/1.1 101 x"], head(HeadError::FirstByte(b'\r'))),
        ("HTTP", &["\nHTTP/1.1 101 x"], head(HeadError::FirstByte(b'\n'))),
        ("HTTP", &[" HTTP/1.1 101 x"], head(HeadError::FirstByte(b' '))),
        ("HTTP", &["ICY 200 OK"], head(HeadError::FirstByte(b'I'))),
        ("HTTP", &["<html>"], head(HeadError::FirstByte(b'<'))),
        // A TLS alert: the server wants wss.
        ("HTTP", &["\x15\x03\x01\0\x02\x02\x28"], head(HeadError::Tls)),
    ]);
}

#[test]
fn rfc9110_15_2_interim_responses() {
    let rows = [(100, true), (101, false), (102, true), (103, true), (199, true), (200, false), (404, false)];
    for (status, expected) in rows {
        let response = parse(&text(&[&format!("HTTP/1.1 {status} x")])).unwrap();
        assert_eq!(client::is_interim(&response), expected, "{status}");
    }
    // The reader of the next response begins where the interim one ends.
    let wire = [text(&["HTTP/1.1 103 Early Hints", "Link: </a>"]), text(RESPONSE)].concat();
    let limits = HeadLimits::default();
    let first = HeadReader::for_response(limits).scan(&wire).unwrap().unwrap();
    assert!(client::is_interim(&client::parse_response(&wire[..first], limits).unwrap()));
    let second = HeadReader::for_response(limits).scan(&wire[first..]).unwrap().unwrap();
    assert_eq!(first + second, wire.len());
    assert!(request().check(&client::parse_response(&wire[first..], limits).unwrap()).is_ok());
}

#[test]
fn errors_name_the_section() {
    let errors = [
        HandshakeError::Version,
        HandshakeError::Refused(StatusCode::FORBIDDEN),
        HandshakeError::TooManyInterim,
        HandshakeError::Upgrade,
        HandshakeError::Connection,
        HandshakeError::AcceptMissing,
        HandshakeError::AcceptRepeated,
        HandshakeError::Accept,
        HandshakeError::Extension,
        HandshakeError::ExtensionsMalformed,
        HandshakeError::ExtensionsRepeated,
        HandshakeError::DeflateUnknown,
        HandshakeError::DeflateRepeated("client_max_window_bits"),
        HandshakeError::DeflateValue("client_max_window_bits"),
        HandshakeError::DeflateNotHonoured("server_max_window_bits"),
        HandshakeError::Subprotocol(HeaderValue::from_static("x")),
        HandshakeError::SubprotocolRepeated,
        HandshakeError::Head(HeadError::HeaderLine),
    ];
    for error in errors {
        assert!(error.to_string().contains("RFC "), "{error}");
    }
    assert!(HandshakeError::Refused(StatusCode::FORBIDDEN).to_string().contains("403 Forbidden"));
}

proptest! {
    #[test]
    fn our_client_and_our_server_understand_each_other(
        host in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?(:[1-9][0-9]{0,3})?|\\[(::1|2001:db8::[0-9a-f]{1,4})\\](:443)?",
        target in "/[A-Za-z0-9._~/%!$&'()*+,;=:@-]{0,30}(\\?[A-Za-z0-9._~/%!$&'()*+,;=:@?-]{0,30})?",
        offered in proptest::collection::btree_set("[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", 0..6),
        spoken in proptest::collection::vec(any::<proptest::sample::Index>(), 0..3),
        cookie in "[ -~]{0,40}",
        same_origin in any::<bool>(),
        nonce in any::<[u8; 16]>(),
    ) {
        let offered: Vec<String> = offered.into_iter().collect();
        let mut spoken: Vec<String> = if offered.is_empty() {
            Vec::new()
        } else {
            spoken.iter().map(|index| offered[index.index(offered.len())].clone()).collect()
        };
        spoken.insert(0, "not/offered".to_owned());
        let mut extra = HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(cookie.trim()).unwrap())]);
        if same_origin {
            extra.insert(header::ORIGIN, HeaderValue::try_from(format!("https://{host}")).unwrap());
        }
        let offer = Offer::new(&host, &target).unwrap()
            .subprotocols(offered).unwrap()
            .headers(&extra).unwrap();
        let request = Request::new(offer.clone(), nonce);
        let mut wire = Vec::new();
        request.encode(&mut wire);

        let limits = HeadLimits::default();
        let received = server::parse_request(&wire, limits).unwrap();
        prop_assert_eq!(received.uri(), &target[..]);
        prop_assert_eq!(&received.headers()[header::HOST], &host[..]);
        prop_assert_eq!(&received.headers()[header::COOKIE], cookie.trim());
        let policy = Policy::new().subprotocols(spoken.clone()).origins(Origins::Same);
        let acceptance = server::check(&received, &policy).unwrap();
        prop_assert_eq!(acceptance.subprotocol(), spoken.get(1).map(String::as_str));

        let mut wire = Vec::new();
        let cookie = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_static("a=1"))]);
        server::encode_response(&acceptance.response(&cookie).unwrap(), &mut wire);
        let response = client::parse_response(&wire, limits).unwrap();
        prop_assert_eq!(&response.headers()[header::SET_COOKIE], "a=1");
        let agreed = request.check(&response).unwrap();
        prop_assert_eq!(agreed.subprotocol.as_deref(), acceptance.subprotocol());

        // No other request takes this answer.
        let mut other = nonce;
        other[0] ^= 1;
        let other = Request::new(offer, other);
        prop_assert_eq!(other.check(&response), Err(HandshakeError::Accept));
    }
}
