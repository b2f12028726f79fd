//! Arbitrary values of Sec-WebSocket-Extensions, offered to a server and answered to a client, both with
//! arbitrary configurations: what is accepted, and what holds then, is what a plain reading of RFC 6455 9.1 and
//! RFC 7692 7.1 says; and what our own client offers our own server accepts, and the other way round.
//!
//! An input is two configurations (see `ours`), how often the first line is repeated, and lines.

#![no_main]

#[expect(dead_code, reason = "heads come whole here")]
#[path = "../../longwire-proto/tests/support/head.rs"]
mod head;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use libfuzzer_sys::fuzz_target;
use longwire_proto::handshake::server::{self, Policy};
use longwire_proto::handshake::{HeadLimits, Offer, client};
use longwire_proto::{Deflate, DeflateParameters};

fuzz_target!(|data: &[u8]| {
    let [a, b, times, text @ ..] = data else { return };
    let (ours, theirs) = (ours(*a), ours(*b));
    between_us(ours, theirs);

    let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    // So long that more than linear time is seen.
    if times % 8 == 7 {
        lines[0] = [&lines[0], &b","[..]].concat().repeat(64);
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        // A head that is parsed has no white space around a value.
        let Ok(value) = HeaderValue::from_bytes(line.trim_ascii()) else { return };
        headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    offered(&headers, ours);
    answered(&headers, ours);
    answered(&headers, None);
});

/// A configuration, or none: the largest windows, takeover when receiving and when sending.
#[derive(Clone, Copy, Debug)]
struct Ours {
    send_bits: u8,
    receive_bits: u8,
    receive_takeover: bool,
    send_takeover: bool,
}

/// Its lowest three bits are those of the window for sending beyond 8, the next three those of the other one,
/// then comes takeover when sending, then when receiving. 255 is none.
const fn ours(number: u8) -> Option<Ours> {
    if number == 255 {
        return None;
    }
    Some(Ours {
        send_bits: 15 - number % 8,
        receive_bits: 15 - (number >> 3) % 8,
        send_takeover: number & 64 != 0,
        receive_takeover: number & 128 == 0,
    })
}

impl Ours {
    fn deflate(self) -> Deflate {
        let mut deflate = Deflate::new();
        if !self.receive_takeover {
            deflate = deflate.no_context_takeover();
        }
        if self.send_takeover {
            deflate = deflate.send_context_takeover(1 << 20);
        }
        deflate.send_window_bits(self.send_bits).receive_window_bits(self.receive_bits)
    }
}

fn config(ours: Option<Ours>) -> Option<Deflate> {
    ours.map(Ours::deflate)
}

fn request(ours: Option<Ours>) -> client::Request {
    let offer = Offer::new("server.example.com", "/chat").expect("valid").deflate(config(ours));
    client::Request::new(offer, *b"the sample nonce")
}

fn response(headers: &HeaderMap) -> Response<()> {
    let mut response =
        client::parse_response(&head::text(head::RESPONSE), HeadLimits::default()).expect("valid");
    response.headers_mut().extend(headers.clone());
    response
}

/// What a server makes of it.
fn offered(headers: &HeaderMap, ours: Option<Ours>) {
    let mut request =
        server::parse_request(&head::text(head::REQUEST), HeadLimits::default()).expect("valid");
    request.headers_mut().extend(headers.clone());
    let Ok(acceptance) = server::check(&request, &Policy::new().deflate(config(ours))) else {
        assert!(lists(headers).is_none(), "a list of extensions was refused");
        return;
    };
    let offers = lists(headers).expect("what is accepted is a list of extensions");
    let wanted = |ours: Ours| {
        let mut stated =
            offers.iter().filter(|offer| offer.0 == "permessage-deflate").map(|offer| stated(&offer.1));
        // RFC 7692 7.1.2.2: without the parameter the client's window cannot be limited.
        stated.find_map(|offer| offer.filter(|offer| offer.client_bits.is_some() || ours.receive_bits == 15))
    };
    let wanted = ours.and_then(|ours| wanted(ours).map(|offer| (ours, offer)));
    assert_eq!(acceptance.deflate().is_some(), wanted.is_some());

    let response = acceptance.response(&HeaderMap::new()).expect("no more headers");
    let answers = lists(response.headers()).expect("our own answer");
    let (Some(agreed), Some((ours, offer))) = (acceptance.deflate(), wanted) else {
        assert!(answers.is_empty());
        return;
    };
    let [(name, parameters)] = &answers[..] else { panic!("one answer") };
    assert_eq!(name, "permessage-deflate");
    let answer = stated(parameters).expect("our own answer is valid");

    // RFC 7692 7.1.1.1 and 7.1.2.1: what is offered is honoured. 7.1.2.2: only what was offered is answered.
    assert!(!offer.server_no_takeover || answer.server_no_takeover);
    assert!(offer.server_bits.is_none_or(|most| answer.server_bits.is_some_and(|bits| bits <= most)));
    assert!(answer.client_bits.is_none() || offer.client_bits.is_some());
    assert!(answer.client_bits != Some(None), "an answer has a value");
    // What holds is what the answer says.
    assert_eq!(agreed.server_no_context_takeover, answer.server_no_takeover);
    assert_eq!(agreed.client_no_context_takeover, answer.client_no_takeover);
    assert_eq!(agreed.server_max_window_bits, answer.server_bits.unwrap_or(15));
    assert_eq!(agreed.client_max_window_bits, answer.client_bits.flatten().unwrap_or(15));
    // And it is what is configured, as far as the offer lets it.
    assert_eq!(agreed.server_no_context_takeover, offer.server_no_takeover || !ours.send_takeover);
    assert_eq!(agreed.client_no_context_takeover, offer.client_no_takeover || !ours.receive_takeover);
    assert_eq!(agreed.server_max_window_bits, ours.send_bits.min(offer.server_bits.unwrap_or(15)));
    assert!(agreed.client_max_window_bits <= ours.receive_bits);
}

/// What a client makes of it.
fn answered(headers: &HeaderMap, ours: Option<Ours>) {
    let judged = request(ours).check(&response(headers)).map(|agreed| agreed.deflate);
    let expected = match (headers.len(), lists(headers)) {
        (1, Some(answers)) => match (&answers[..], ours) {
            ([], _) => Some(None),
            ([(name, parameters)], Some(ours)) if name == "permessage-deflate" => {
                stated(parameters).and_then(|answer| holds(&answer, ours)).map(Some)
            }
            _ => None,
        },
        // RFC 6455 11.3.2: not more than once in a response.
        _ => None,
    };
    assert_eq!(judged.ok(), expected);
}

/// What holds for a client that gets this answer, unless it breaks a rule.
fn holds(answer: &Stated, ours: Ours) -> Option<DeflateParameters> {
    // RFC 7692 7.1.1.1, 7.1.2.1: what was offered is honoured.
    let honoured = (ours.receive_takeover || answer.server_no_takeover)
        && answer.server_bits.unwrap_or(15) <= ours.receive_bits
        && answer.client_bits != Some(None);
    honoured.then(|| DeflateParameters {
        server_no_context_takeover: answer.server_no_takeover,
        client_no_context_takeover: answer.client_no_takeover || !ours.send_takeover,
        server_max_window_bits: answer.server_bits.unwrap_or(15),
        client_max_window_bits: answer.client_bits.flatten().unwrap_or(15).min(ours.send_bits),
    })
}

/// Our client and our server: what one says the other takes, and both then keep to.
fn between_us(client: Option<Ours>, server: Option<Ours>) {
    let mut bytes = Vec::new();
    let client_request = request(client);
    client_request.encode(&mut bytes);
    let request = server::parse_request(&bytes, HeadLimits::default()).expect("what a client sends");
    let acceptance =
        server::check(&request, &Policy::new().deflate(config(server))).expect("what a client sends");
    assert_eq!(acceptance.deflate().is_some(), client.is_some() && server.is_some());
    let response = acceptance.response(&HeaderMap::new()).expect("no more headers");
    let agreed = client_request.check(&response).expect("what a server answers").deflate;
    let (Some(at_client), Some(at_server)) = (agreed, acceptance.deflate()) else {
        assert_eq!(agreed, acceptance.deflate());
        return;
    };
    assert_eq!(at_client.server_no_context_takeover, at_server.server_no_context_takeover);
    assert_eq!(at_client.server_max_window_bits, at_server.server_max_window_bits);
    // The client may keep to less than it is allowed.
    assert!(at_client.client_no_context_takeover >= at_server.client_no_context_takeover);
    assert!(at_client.client_max_window_bits <= at_server.client_max_window_bits);
}

/// What an offer or an answer says, where it is valid.
#[derive(Default)]
struct Stated {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
}

type Pairs = Vec<(String, Option<String>)>;

/// RFC 7692 7.1: nothing unknown, nothing twice, no value that must not be.
fn stated(parameters: &Pairs) -> Option<Stated> {
    let mut stated = Stated::default();
    for (at, (name, value)) in parameters.iter().enumerate() {
        if parameters[..at].iter().any(|before| before.0 == *name) {
            return None;
        }
        let bits = match value.as_deref() {
            None => None,
            Some(value) => Some((8..=15).find(|bits| value == bits.to_string())?),
        };
        match (&name[..], bits) {
            ("server_no_context_takeover", None) => stated.server_no_takeover = true,
            ("client_no_context_takeover", None) => stated.client_no_takeover = true,
            ("server_max_window_bits", Some(bits)) => stated.server_bits = Some(bits),
            ("client_max_window_bits", bits) => stated.client_bits = Some(bits),
            _ => return None,
        }
    }
    Some(stated)
}

/// A word of RFC 9110 5.6.
#[derive(PartialEq)]
enum Word {
    Token(String),
    Quoted(String),
    Mark(u8),
}

/// All extensions of all lines, or `None` when one of them is no list.
fn lists(headers: &HeaderMap) -> Option<Vec<(String, Pairs)>> {
    let name: HeaderName = header::SEC_WEBSOCKET_EXTENSIONS;
    let mut all = Vec::new();
    for line in headers.get_all(name) {
        let words = words(line.as_bytes())?;
        for element in words.split(|word| *word == Word::Mark(b',')).filter(|element| !element.is_empty()) {
            all.push(extension(element)?);
        }
    }
    Some(all)
}

fn extension(words: &[Word]) -> Option<(String, Pairs)> {
    let mut parts = words.split(|word| *word == Word::Mark(b';'));
    let [Word::Token(name)] = parts.next()? else { return None };
    let pairs = parts.map(|part| match part {
        [Word::Token(name)] => Some((name.clone(), None)),
        [Word::Token(name), Word::Mark(b'='), Word::Token(value) | Word::Quoted(value)] => {
            Some((name.clone(), Some(value.clone())))
        }
        _ => None,
    });
    Some((name.clone(), pairs.collect::<Option<_>>()?))
}

fn words(line: &[u8]) -> Option<Vec<Word>> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b' ' | b'\t' => {}
            b',' | b';' | b'=' => words.push(Word::Mark(*first)),
            b'"' => {
                let mut value = String::new();
                loop {
                    let (next, behind) = rest.split_first()?;
                    rest = behind;
                    match next {
                        b'"' => break,
                        b'\\' => {
                            let (next, behind) = rest.split_first()?;
                            rest = behind;
                            value.push(char::from(*next));
                        }
                        _ => value.push(char::from(*next)),
                    }
                }
                // RFC 6455 9.1: it must be a token.
                let valid = !value.is_empty() && value.bytes().all(|byte| is_token(&byte));
                words.push(valid.then_some(Word::Quoted(value))?);
            }
            _ if is_token(first) => {
                let end = rest.iter().position(|byte| !is_token(byte)).unwrap_or(rest.len());
                let (token, behind) = rest.split_at(end);
                rest = behind;
                let token: Vec<u8> = [&[*first][..], token].concat();
                words.push(Word::Token(String::from_utf8(token).ok()?));
            }
            _ => return None,
        }
    }
    Some(words)
}
