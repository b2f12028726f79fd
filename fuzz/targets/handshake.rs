//! Arbitrary heads of requests and responses in arbitrary pieces: however they are cut, the result is the
//! same; what is accepted keeps the rules; what is refused gets an answer that a client can read; and
//! what one side makes the other accepts.
//!
//! An input begins with which of the three it is (`0` request, `1` response, `2` what a client is asked
//! to send), the limits (`0` default, `1` small) and the size of the pieces, so that text can follow.

#![no_main]

#[expect(dead_code, reason = "made for the tests, which build heads with it")]
#[path = "../../longwire-proto/tests/support/head.rs"]
mod head;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use libfuzzer_sys::fuzz_target;
use longwire_proto::handshake::server::{self, Acceptance, Policy};
use longwire_proto::handshake::{
    HandshakeError, HeadError, HeadLimits, HeadReader, Offer, Origins, Refusal, accept_key, client,
};

const SMALL: HeadLimits = HeadLimits { bytes: 300, headers: 7 };

fuzz_target!(|data: &[u8]| {
    let [which, limits, piece, bytes @ ..] = data else { return };
    let limits = if limits % 2 == 0 { HeadLimits::default() } else { SMALL };
    let piece = usize::from(*piece).max(1);
    match which % 3 {
        0 => request(bytes, limits, piece),
        1 => response(bytes, limits, piece),
        _ => asked(&String::from_utf8_lossy(bytes)),
    }
});

/// What a reader says, however the bytes are cut.
fn scan(fresh: &HeadReader, bytes: &[u8], piece: usize) -> Result<Option<usize>, HeadError> {
    let found = head::scan(fresh, bytes);
    let mut reader = fresh.clone();
    let ends = (0..bytes.len()).step_by(piece).chain([bytes.len()]);
    let in_pieces = ends.map(|end| reader.scan(&bytes[..end])).find(|found| *found != Ok(None));
    assert_eq!(in_pieces.unwrap_or(Ok(None)), found, "in pieces of {piece}");
    found
}

fn request(bytes: &[u8], limits: HeadLimits, piece: usize) {
    let found = scan(&HeadReader::for_request(limits), bytes, piece);
    let parsed = server::parse_request(bytes, limits);
    let length = match found.and_then(|length| length.ok_or(HeadError::Incomplete)) {
        Ok(length) => length,
        Err(error) => {
            let refusal = parsed.expect_err("what cannot be read cannot be parsed");
            assert_eq!(refusal, Refusal::from(error));
            return refused(&refusal);
        }
    };
    let again = server::parse_request(&bytes[..length], limits);
    assert_eq!(format!("{parsed:?}"), format!("{again:?}"), "what follows the head is not looked at");
    let request = match parsed {
        Ok(request) => request,
        Err(refusal) => return refused(&refusal),
    };

    assert!(length <= limits.bytes && bytes[..length].ends_with(b"\r\n\r\n"));
    check_headers(request.headers(), limits);
    assert!(matches!(request.version(), Version::HTTP_10 | Version::HTTP_11));
    let hosts = request.headers().get_all(header::HOST).iter().count();
    assert!(hosts == 1 || (hosts == 0 && request.version() == Version::HTTP_10));

    let list = Origins::list(["https://example.com", "http://[::1]:8080", "null"]).expect("origins");
    for policy in [
        Policy::new(),
        Policy::new().origins(Origins::Any).subprotocols(["superchat", "chat"]),
        Policy::new().origins(list).subprotocols(["chat"]),
    ] {
        match server::check(&request, &policy) {
            Ok(acceptance) => accepted(&request, &acceptance),
            Err(refusal) => refused(&refusal),
        }
    }
}

fn check_headers(headers: &HeaderMap, limits: HeadLimits) {
    assert!(headers.len() <= limits.headers);
    for value in headers.values().map(HeaderValue::as_bytes) {
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert_eq!(value, value.trim_ascii(), "no white space around a value");
    }
}

/// A request that was accepted keeps RFC 6455 4.2.1, and its client accepts the answer.
fn accepted(request: &Request<()>, acceptance: &Acceptance) {
    assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
    assert!(server::is_websocket(request));
    assert_eq!(request.headers()[header::SEC_WEBSOCKET_VERSION], "13");
    // A key with bits behind its 16 bytes, as in the example of RFC 6455 4.1, is accepted, but no client of ours sends it.
    let Ok(nonce) = STANDARD.decode(&request.headers()[header::SEC_WEBSOCKET_KEY]) else { return };
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offers = offers.flat_map(|value| value.to_str().expect("tokens").split(',').map(str::trim));
    let offers: Vec<&str> = offers.filter(|name| !name.is_empty()).collect();
    assert!(acceptance.subprotocol().is_none_or(|name| offers.contains(&name)));

    let offer = Offer::new("example.com", "/").and_then(|offer| offer.subprotocols(offers));
    let offer = offer.expect("what a client may ask");
    let client = client::Request::new(offer, nonce.try_into().expect("16 bytes"));
    let mut bytes = Vec::new();
    server::encode_response(&acceptance.response(&HeaderMap::new()).expect("no extra headers"), &mut bytes);
    let agreed = client.check(&response_of(&bytes, bytes.len())).expect("accepted by both");
    assert_eq!(agreed.subprotocol.as_deref(), acceptance.subprotocol());
}

/// A refusal is a whole response that a client takes for one.
fn refused(refusal: &Refusal) {
    assert!(!refusal.status().is_informational());
    let mut bytes = Vec::new();
    refusal.encode(&mut bytes);
    let body = refusal.text().len();
    assert!(bytes.ends_with(refusal.text().as_bytes()));
    let response = response_of(&bytes, bytes.len() - body);
    assert_eq!(response.headers()[header::CONTENT_LENGTH], body.to_string().as_str());
    let error = sample_client().check(&response).expect_err("a refusal");
    assert_eq!(error, HandshakeError::Refused(refusal.status()));
}

/// Parses a response of ours, whose head is `length` bytes long.
fn response_of(bytes: &[u8], length: usize) -> Response<()> {
    let limits = HeadLimits::default();
    assert_eq!(HeadReader::for_response(limits).scan(bytes), Ok(Some(length)));
    client::parse_response(bytes, limits).expect("what we write can be parsed")
}

/// The client of RFC 6455 1.3.
fn sample_client() -> client::Request {
    let offer = Offer::new("server.example.com", "/chat");
    let offer = offer.and_then(|offer| offer.subprotocols(["chat", "superchat"])).expect("a valid offer");
    client::Request::new(offer, *b"the sample nonce")
}

fn response(bytes: &[u8], limits: HeadLimits, piece: usize) {
    let found = scan(&HeadReader::for_response(limits), bytes, piece);
    let parsed = client::parse_response(bytes, limits);
    if let Err(error) = found.and_then(|length| length.ok_or(HeadError::Incomplete)) {
        assert_eq!(parsed.map(drop), Err(HandshakeError::Head(error)));
        return;
    }
    let Ok(response) = parsed else { return };
    check_headers(response.headers(), limits);
    let status = response.status();
    let judged = sample_client().check(&response);
    assert_eq!(matches!(judged, Err(HandshakeError::Refused(_))), status != StatusCode::SWITCHING_PROTOCOLS);
    if let Ok(agreed) = judged {
        let headers = response.headers();
        assert_eq!(response.version(), Version::HTTP_11);
        assert!(headers[header::UPGRADE].as_bytes().eq_ignore_ascii_case(b"websocket"));
        assert_eq!(headers[header::SEC_WEBSOCKET_ACCEPT], *accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        let selected =
            headers.get(header::SEC_WEBSOCKET_PROTOCOL).map(|name| name.to_str().expect("a token"));
        assert_eq!(agreed.subprotocol.as_deref(), selected);
        assert!(selected.is_none_or(|name| ["chat", "superchat"].contains(&name)));
        assert!(!client::is_interim(&response));
    }
}

/// Lines of host, target, subprotocols, an origin, and the name and value of one more header: what a
/// client is willing to send a server accepts, and may refuse with all of it as its text.
fn asked(text: &str) {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (host, target, subprotocols, origin, name, value) = (line(), line(), line(), line(), line(), line());
    let mut extra = HeaderMap::new();
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        && name != header::ORIGIN
    {
        extra.insert(name, value);
    }
    let mut refusal = Refusal::new(StatusCode::FORBIDDEN, text.to_owned());
    refusal.headers_mut().extend(extra.clone());
    refused(&refusal);

    let origins = match Origins::list([origin]) {
        Ok(origins) => {
            extra.insert(header::ORIGIN, HeaderValue::try_from(origin).expect("an origin is ASCII"));
            origins
        }
        Err(_) => Origins::Any,
    };
    let names: Vec<&str> = subprotocols.split(',').filter(|name| !name.is_empty()).collect();
    let offer = Offer::new(host, target)
        .and_then(|offer| offer.subprotocols(names.iter().copied()))
        .and_then(|offer| offer.headers(&extra));
    let Ok(offer) = offer else { return };
    let client = client::Request::new(offer, [7; 16]);

    let mut bytes = Vec::new();
    client.encode(&mut bytes);
    let limits = HeadLimits::default();
    assert_eq!(HeadReader::for_request(limits).scan(&bytes), Ok(Some(bytes.len())));
    let request = server::parse_request(&bytes, limits).expect("what a client sends can be parsed");
    let policy = Policy::new().origins(origins).subprotocols(names.iter().copied());
    let acceptance = server::check(&request, &policy).expect("what a client sends is accepted");
    assert_eq!(acceptance.subprotocol(), names.first().copied());
    accepted(&request, &acceptance);
}
