//! Where a head ends and what it may cost: the reader and the limits, for requests and responses.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/head.rs"]
mod head;

use head::{REQUEST, RESPONSE, scan, text, with};
use http::StatusCode;
use longwire_proto::handshake::server::Policy;
use longwire_proto::handshake::{
    HandshakeError, HeadError, HeadLimits, HeadReader, Offer, Refusal, client, server,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The status that a server answers, 200 for a request that parses.
fn status(bytes: &[u8], limits: HeadLimits) -> u16 {
    match (scan(&HeadReader::for_request(limits), bytes), server::parse_request(bytes, limits)) {
        (Ok(Some(length)), Ok(_)) if length == bytes.len() => 200,
        (Err(error), Err(refusal)) => {
            assert_eq!(Refusal::from(error), refusal);
            refusal.status().as_u16()
        }
        (scanned, parsed) => panic!("{scanned:?} but {parsed:?}: {}", bytes.escape_ascii()),
    }
}

/// What the client makes of a response.
fn error(bytes: &[u8], limits: HeadLimits) -> Option<HeadError> {
    let error = scan(&HeadReader::for_response(limits), bytes).err();
    let parsed = client::parse_response(bytes, limits);
    assert_eq!(parsed.err(), error.map(HandshakeError::Head), "{}", bytes.escape_ascii());
    error
}

#[test]
fn rfc9112_2_2_empty_lines_before_the_head() {
    let limits = HeadLimits::default();
    let request = text(REQUEST);
    assert_eq!(status(&[b"\r\n", &request[..]].concat(), limits), 200);
    for before in ["\r\n\r\n", "\n", "\r", " "] {
        assert_eq!(status(&[before.as_bytes(), &request].concat(), limits), 400, "{before:?}");
    }
    for before in ["\r\n", "\n", "\r", " "] {
        let bytes = [before.as_bytes(), &text(RESPONSE)].concat();
        assert_eq!(error(&bytes, limits), Some(HeadError::FirstByte(bytes[0])));
    }
}

#[test]
fn a_hopeless_head_fails_at_its_first_bad_byte() {
    let rows: &[(&[u8], HeadError)] = &[
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", HeadError::Tls),
        (b"\x16", HeadError::Tls),
        (b"\x15\x03\x01", HeadError::Tls),
        (b"\x80\x2e\x01", HeadError::FirstByte(0x80)),
        (b"{\"op\":1}", HeadError::FirstByte(b'{')),
        (b"\0", HeadError::FirstByte(0)),
        (b" GET", HeadError::FirstByte(b' ')),
        (b"\n", HeadError::FirstByte(b'\n')),
        (b"\r\n\r", HeadError::FirstByte(b'\r')),
        (b"\r\n\x16", HeadError::Tls),
        (b"\rG", HeadError::BareCr),
        (b"GET\rX", HeadError::BareCr),
        (b"GET / HTTP/1.1\n", HeadError::BareLf),
        (b"GET / HTTP/1.1\r\n\n", HeadError::BareLf),
        (b"GET / HTTP/1.1\r\n\rX", HeadError::BareCr),
        (b"GET \x07", HeadError::Control(7)),
        (b"GET / HTTP/1.1\r\nX: 0123456789abcdef0123456789abcdef\x7f", HeadError::Control(0x7f)),
        (b"GET / HTTP/1.1\r\n\0", HeadError::Control(0)),
    ];
    for (bytes, expected) in rows {
        let result = scan(&HeadReader::for_request(HeadLimits::default()), bytes);
        assert_eq!(result, Err(*expected), "{}", bytes.escape_ascii());
        assert_eq!(Refusal::from(*expected).status(), StatusCode::BAD_REQUEST);
    }
    assert!(Refusal::from(HeadError::Tls).text().contains("TLS"));
}

#[test]
fn every_byte_is_judged_alike_wherever_it_stands() {
    let limits = HeadLimits::default();
    for byte in 0..=u8::MAX {
        let expected = match byte {
            b'\r' => Some(HeadError::BareCr),
            b'\n' => Some(HeadError::BareLf),
            b'\t' | b' '..=0x7e | 0x80.. => None,
            _ => Some(HeadError::Control(byte)),
        };
        for before in 0..20 {
            let mut bytes = text(&[RESPONSE[0], &format!("X: {}", "x".repeat(before + 20))]);
            let at = bytes.len() - 4 - 20;
            bytes[at] = byte;
            assert_eq!(error(&bytes, limits), expected, "{byte:#04x} after {before}");
        }
    }
}

#[test]
fn an_incomplete_head_is_neither_good_nor_bad() {
    let limits = HeadLimits::default();
    let (request, response) = (text(REQUEST), text(RESPONSE));
    for end in 0..request.len() {
        assert_eq!(scan(&HeadReader::for_request(limits), &request[..end]), Ok(None), "{end}");
        let refusal = server::parse_request(&request[..end], limits).unwrap_err();
        assert_eq!(refusal, Refusal::from(HeadError::Incomplete));
    }
    for end in 0..response.len() {
        assert_eq!(scan(&HeadReader::for_response(limits), &response[..end]), Ok(None), "{end}");
        let error = client::parse_response(&response[..end], limits).unwrap_err();
        assert_eq!(error, HandshakeError::Head(HeadError::Incomplete));
    }
}

#[test]
fn each_byte_is_looked_at_once() {
    let mut buffer = text(REQUEST);
    let length = buffer.len();
    let mut reader = HeadReader::for_request(HeadLimits::default());
    for end in 0..length {
        assert_eq!(reader.scan(&buffer[..end]), Ok(None));
        // A reader that came back to these bytes would refuse them.
        buffer[..end].fill(0);
    }
    assert_eq!(reader.scan(&buffer), Ok(Some(length)));
}

#[test]
fn limits_of_a_request_hold_exactly() {
    let good = text(REQUEST);
    let bytes = |bytes| HeadLimits { bytes, ..HeadLimits::default() };
    assert_eq!(status(&good, bytes(good.len())), 200);
    assert_eq!(status(&good, bytes(good.len() - 1)), 431);
    // The limit ends after the first byte of a header, right after the request line and within it.
    let line = REQUEST[0].len() + 2;
    assert_eq!(status(&good, bytes(line + 1)), 431);
    assert_eq!(status(&good, bytes(line)), 431);
    assert_eq!(status(&good, bytes(line - 1)), 414);
    assert_eq!(status(&good, bytes(line - 3)), 414);
    assert_eq!(status(&good, bytes(0)), 414);

    let headers = |headers| HeadLimits { headers, ..HeadLimits::default() };
    assert_eq!(status(&good, headers(REQUEST.len() - 1)), 200);
    assert_eq!(status(&good, headers(REQUEST.len() - 2)), 431);
    assert_eq!(status(b"GET / HTTP/1.0\r\n\r\n", headers(0)), 200);
    assert_eq!(status(b"GET / HTTP/1.0\r\nA:\r\n\r\n", headers(0)), 431);
    assert_eq!(status(&good, HeadLimits { bytes: usize::MAX, headers: usize::MAX }), 200);

    // The defaults.
    let limits = HeadLimits::default();
    let padding = 16 * 1024 - good.len() - "X: \r\n".len();
    assert_eq!(status(&with(REQUEST, "X", &[&format!("X: {}", "x".repeat(padding))]), limits), 200);
    assert_eq!(status(&with(REQUEST, "X", &[&format!("X: {}", "x".repeat(padding + 1))]), limits), 431);
    assert_eq!(
        status(&with(REQUEST, "GET", &[&format!("GET /{} HTTP/1.1", "x".repeat(17_000))]), limits),
        414
    );
    let more = 64 - (REQUEST.len() - 1);
    assert_eq!(status(&with(REQUEST, "X", &vec!["X: x"; more]), limits), 200);
    assert_eq!(status(&with(REQUEST, "X", &vec!["X: x"; more + 1]), limits), 431);
}

#[test]
fn limits_of_a_response_hold_exactly() {
    let good = text(RESPONSE);
    let bytes = |bytes| HeadLimits { bytes, ..HeadLimits::default() };
    assert_eq!(error(&good, bytes(good.len())), None);
    assert_eq!(error(&good, bytes(good.len() - 1)), Some(HeadError::TooLong { limit: good.len() - 1 }));
    assert_eq!(
        error(&good, bytes(RESPONSE[0].len())),
        Some(HeadError::StartLineTooLong { limit: RESPONSE[0].len() })
    );
    let headers = |headers| HeadLimits { headers, ..HeadLimits::default() };
    assert_eq!(error(&good, headers(RESPONSE.len() - 1)), None);
    assert_eq!(
        error(&good, headers(RESPONSE.len() - 2)),
        Some(HeadError::TooManyHeaders { limit: RESPONSE.len() - 2 })
    );
}

#[test]
fn a_long_head_fails_before_its_end_comes() {
    let limits = HeadLimits::default();
    let mut reader = HeadReader::for_request(limits);
    let mut buffer = b"GET / HTTP/1.1\r\nX: ".to_vec();
    while buffer.len() < limits.bytes {
        assert_eq!(reader.scan(&buffer), Ok(None));
        buffer.push(b'x');
    }
    assert_eq!(reader.scan(&buffer), Err(HeadError::TooLong { limit: 16 * 1024 }));

    let mut reader = HeadReader::for_request(limits);
    let mut buffer = b"GET / HTTP/1.1\r\n".to_vec();
    buffer.extend_from_slice(&b"X: x\r\n".repeat(limits.headers));
    assert_eq!(reader.scan(&buffer), Ok(None));
    buffer.push(b'X');
    assert_eq!(reader.scan(&buffer), Err(HeadError::TooManyHeaders { limit: 64 }));
}

/// `good` with some bytes replaced, inserted or removed: most of the interesting mistakes.
fn damaged(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), select(&b"\r\n\t ,:;=\"/@[]%#019\0\x7f\x80"[..])];
    vec((any::<Index>(), 0..3_u8, byte), 0..6).prop_map(move |edits| {
        let mut head = good.clone();
        for (index, edit, byte) in edits {
            let at = index.index(head.len());
            match edit {
                0 => head[at] = byte,
                1 => head.insert(at, byte),
                _ => drop(head.remove(at)),
            }
        }
        head
    })
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let good = with(REQUEST, "Origin", &["Origin: http://a:8080", "Sec-WebSocket-Protocol: chat, b"]);
    prop_oneof![vec(any::<u8>(), 0..200), damaged(good)]
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let good = with(RESPONSE, "Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: chat"]);
    prop_oneof![vec(any::<u8>(), 0..200), damaged(good)]
}

/// What `reader` says of `bytes` that come in pieces.
fn in_pieces(mut reader: HeadReader, bytes: &[u8], cuts: &[Index]) -> Result<Option<usize>, HeadError> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let first = ends.iter().map(|&end| reader.scan(&bytes[..end])).find(|result| *result != Ok(None));
    first.unwrap_or(Ok(None))
}

proptest! {
    #[test]
    fn any_request_in_any_pieces_gives_one_result(
        bytes in request(),
        cuts in vec(any::<Index>(), 0..8),
        small in (0..400_usize, 0..12_usize).prop_map(|(bytes, headers)| HeadLimits { bytes, headers }),
    ) {
        for limits in [small, HeadLimits::default()] {
            let reader = HeadReader::for_request(limits);
            let whole = reader.clone().scan(&bytes);
            prop_assert_eq!(in_pieces(reader, &bytes, &cuts), whole);
            if let Ok(Some(length)) = whole {
                prop_assert!(length <= limits.bytes);
                prop_assert!(bytes[..length].ends_with(b"\r\n\r\n"));
            }
            let policy = Policy::new().subprotocols(["chat"]);
            let accepted = server::parse_request(&bytes, limits)
                .inspect(|request| assert!(request.headers().len() <= limits.headers))
                .and_then(|request| server::check(&request, &policy));
            match accepted {
                Ok(_) => prop_assert!(matches!(whole, Ok(Some(_)))),
                Err(refusal) => {
                    // Whatever came, the answer is one well-formed response.
                    let mut out = Vec::new();
                    refusal.encode(&mut out);
                    let answer = client::parse_response(&out, HeadLimits::default()).unwrap();
                    prop_assert_eq!(answer.status(), refusal.status());
                    prop_assert!(out.ends_with(refusal.text().as_bytes()));
                }
            }
        }
    }

    #[test]
    fn any_response_in_any_pieces_gives_one_result(bytes in response(), cuts in vec(any::<Index>(), 0..8)) {
        let limits = HeadLimits::default();
        let reader = HeadReader::for_response(limits);
        let whole = reader.clone().scan(&bytes);
        prop_assert_eq!(in_pieces(reader, &bytes, &cuts), whole);
        if let Ok(response) = client::parse_response(&bytes, limits) {
            prop_assert!(matches!(whole, Ok(Some(_))));
            let offer = Offer::new("a", "/").unwrap().subprotocols(["chat"]).unwrap();
            if let Ok(agreed) = client::Request::new(offer, *b"the sample nonce").check(&response) {
                // However damaged: nothing but the right answer to the key is accepted.
                prop_assert_eq!(&response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                prop_assert!(agreed.subprotocol.is_none_or(|name| name == "chat"));
            }
        }
    }
}
