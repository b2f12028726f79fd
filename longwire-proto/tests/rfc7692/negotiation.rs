//! RFC 7692 sections 5 and 7.1: what is offered, what is answered, and what holds then.

use http::{HeaderMap, header};
use longwire_proto::handshake::client::{self, Agreed, Request};
use longwire_proto::handshake::server::{self, Acceptance, Policy};
use longwire_proto::handshake::{HandshakeError, HeadLimits, Offer, Refusal};
use longwire_proto::{Deflate, DeflateParameters};

use crate::head::{REQUEST, RESPONSE, with};

pub(crate) const SNCT: &str = "server_no_context_takeover";
const CNCT: &str = "client_no_context_takeover";
const SMWB: &str = "server_max_window_bits";
pub(crate) const CMWB: &str = "client_max_window_bits";

/// Both ends may take over.
pub(crate) fn takeover() -> Deflate {
    Deflate::new().send_context_takeover(1)
}

/// Neither end may.
fn no_takeover() -> Deflate {
    Deflate::new().no_context_takeover()
}

/// The two *_no_context_takeover and the two *_max_window_bits, each time the server's first.
fn parameters((server, client): (bool, bool), (server_bits, client_bits): (u8, u8)) -> DeflateParameters {
    DeflateParameters {
        server_no_context_takeover: server,
        client_no_context_takeover: client,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
    }
}

fn extension_lines(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| format!("Sec-WebSocket-Extensions: {value}")).collect()
}

/// A head with these values in header lines of their own.
pub(crate) fn head(good: &[&str], values: &[&str]) -> Vec<u8> {
    let lines = extension_lines(values);
    with(good, "Sec-WebSocket-Extensions", &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(crate) fn serve(offers: &[&str], deflate: impl Into<Option<Deflate>>) -> Result<Acceptance, Refusal> {
    let request = server::parse_request(&head(REQUEST, offers), HeadLimits::default())?;
    server::check(&request, &Policy::new().deflate(deflate))
}

/// What the server answers, as text, and what it takes for agreed; or the status of its refusal.
pub(crate) fn answer(
    offers: &[&str],
    deflate: impl Into<Option<Deflate>>,
) -> Result<Option<(String, DeflateParameters)>, u16> {
    let acceptance = serve(offers, deflate).map_err(|refusal| refusal.status().as_u16())?;
    let response = acceptance.response(&HeaderMap::new()).unwrap();
    let mut texts = response.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let text = texts.next().map(|text| text.to_str().unwrap().to_owned());
    assert!(texts.next().is_none());
    assert_eq!(text.is_some(), acceptance.deflate().is_some(), "{offers:?}");
    Ok(text.zip(acceptance.deflate()))
}

pub(crate) fn judge(deflate: impl Into<Option<Deflate>>, answers: &[&str]) -> Result<Agreed, HandshakeError> {
    let offer = Offer::new("server.example.com", "/chat").unwrap().deflate(deflate);
    let request = Request::new(offer, *b"the sample nonce");
    request.check(&client::parse_response(&head(RESPONSE, answers), HeadLimits::default())?)
}

/// What the client offers, as text.
fn offer(deflate: impl Into<Option<Deflate>>) -> Option<String> {
    let mut head = Vec::new();
    let request = Request::new(Offer::new("a", "/").unwrap().deflate(deflate), [7; 16]);
    request.encode(&mut head);
    let request = server::parse_request(&head, HeadLimits::default()).unwrap();
    let mut values = request.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let value = values.next().map(|value| value.to_str().unwrap().to_owned());
    assert!(values.next().is_none());
    value
}

#[test]
fn rfc7692_7_1_server_answers() {
    type Row<'a> = (&'a str, Deflate, &'a str, DeflateParameters);
    let plain = "permessage-deflate";
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let ours = "permessage-deflate; server_no_context_takeover";
    let rows: &[Row<'_>] = &[
        // 7.1.1: what the server is configured to, or what the client asks for.
        (plain, takeover(), plain, parameters((false, false), (15, 15))),
        (plain, Deflate::new(), ours, parameters((true, false), (15, 15))),
        (plain, no_takeover(), both, parameters((true, true), (15, 15))),
        (
            "permessage-deflate; server_no_context_takeover",
            takeover(),
            ours,
            parameters((true, false), (15, 15)),
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            takeover(),
            "permessage-deflate; client_no_context_takeover",
            parameters((false, true), (15, 15)),
        ),
        (
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            takeover(),
            both,
            parameters((true, true), (15, 15)),
        ),
        // 7.1.2.1: the smaller of both, answered if it was offered or is less than the full window.
        (
            "permessage-deflate; server_max_window_bits=10",
            takeover(),
            "permessage-deflate; server_max_window_bits=10",
            parameters((false, false), (10, 15)),
        ),
        (
            "permessage-deflate; server_max_window_bits=8",
            takeover(),
            "permessage-deflate; server_max_window_bits=8",
            parameters((false, false), (8, 15)),
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            takeover(),
            "permessage-deflate; server_max_window_bits=15",
            parameters((false, false), (15, 15)),
        ),
        (
            "permessage-deflate; server_max_window_bits=12",
            takeover().send_window_bits(9),
            "permessage-deflate; server_max_window_bits=9",
            parameters((false, false), (9, 15)),
        ),
        (
            "permessage-deflate; server_max_window_bits=9",
            takeover().send_window_bits(12),
            "permessage-deflate; server_max_window_bits=9",
            parameters((false, false), (9, 15)),
        ),
        (
            plain,
            takeover().send_window_bits(14),
            "permessage-deflate; server_max_window_bits=14",
            parameters((false, false), (14, 15)),
        ),
        // 7.1.2.2: the smaller of both, answered if it is less than the full window.
        (
            "permessage-deflate; client_max_window_bits",
            takeover(),
            plain,
            parameters((false, false), (15, 15)),
        ),
        (
            "permessage-deflate; client_max_window_bits=15",
            takeover(),
            plain,
            parameters((false, false), (15, 15)),
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            takeover(),
            "permessage-deflate; client_max_window_bits=8",
            parameters((false, false), (15, 8)),
        ),
        (
            "permessage-deflate; client_max_window_bits",
            takeover().receive_window_bits(10),
            "permessage-deflate; client_max_window_bits=10",
            parameters((false, false), (15, 10)),
        ),
        (
            "permessage-deflate; client_max_window_bits=12",
            takeover().receive_window_bits(10),
            "permessage-deflate; client_max_window_bits=10",
            parameters((false, false), (15, 10)),
        ),
        (
            "permessage-deflate; client_max_window_bits=9",
            takeover().receive_window_bits(10),
            "permessage-deflate; client_max_window_bits=9",
            parameters((false, false), (15, 9)),
        ),
        // Everything at once, in one order.
        (
            "permessage-deflate; client_max_window_bits=11; server_max_window_bits=12; \
             client_no_context_takeover; server_no_context_takeover",
            takeover(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12; client_max_window_bits=11",
            parameters((true, true), (12, 11)),
        ),
        // Of 5.1 and 7.1.3: an offer with a fallback; Chromium, Firefox and ws; Python's websockets.
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
             permessage-deflate; client_max_window_bits",
            takeover(),
            "permessage-deflate; server_max_window_bits=10",
            parameters((false, false), (10, 15)),
        ),
        (
            "permessage-deflate; client_max_window_bits",
            Deflate::new(),
            ours,
            parameters((true, false), (15, 15)),
        ),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            Deflate::new(),
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; \
             client_max_window_bits=12",
            parameters((true, false), (12, 12)),
        ),
        // RFC 6455 9.1: a value may be quoted, and white space implied.
        (
            r#"permessage-deflate; server_max_window_bits="10""#,
            takeover(),
            "permessage-deflate; server_max_window_bits=10",
            parameters((false, false), (10, 15)),
        ),
        (
            r#"permessage-deflate;server_max_window_bits="\1\0";client_max_window_bits="\9""#,
            takeover(),
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            parameters((false, false), (10, 9)),
        ),
        (
            "permessage-deflate\t ;\tserver_max_window_bits =\t\"10\" ; client_max_window_bits\t= 9 ",
            takeover(),
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            parameters((false, false), (10, 9)),
        ),
    ];
    for (offers, deflate, text, agreed) in rows {
        let expected = Ok(Some(((*text).to_owned(), *agreed)));
        assert_eq!(answer(&[offers], deflate.clone()), expected, "{offers} {deflate:?}");
        // RFC 6455 9.1: without configuration every offer may be declined.
        assert_eq!(answer(&[offers], None), Ok(None), "{offers}");
    }
}

/// What a client may never offer declines the offer, and nothing but that: the next one is accepted.
#[test]
fn rfc7692_7_1_server_declines() {
    let bits =
        ["7", "16", "08", "010", "0", "+8", "8.0", "1e1", "0xa", "256", "264", "1000000000000000000008"];
    let mut offers: Vec<String> = bits
        .iter()
        .flat_map(|bits| [SMWB, CMWB].map(|name| (name, bits)))
        .flat_map(|(name, bits)| [format!("{name}={bits}"), format!("{name}=\"{bits}\"")])
        .collect();
    for name in [SNCT, CNCT] {
        offers.extend(["true", "15", "1", "\"x\""].map(|value| format!("{name}={value}")));
    }
    // Repeated, with the same value or another.
    for name in [SNCT, CNCT, CMWB] {
        offers.push(format!("{name}; {name}"));
    }
    for name in [SMWB, CMWB] {
        offers.push(format!("{name}=10; {name}=10"));
        offers.push(format!("{name}=10; {CNCT}; {name}=11"));
    }
    offers.push(format!("{CMWB}; {CMWB}=10"));
    // Needs a value.
    offers.push(SMWB.to_owned());
    // Not defined: names are compared as they stand.
    offers.extend(
        ["x", "x=1", "constructor", "__proto__", "__proto__=15", "toString", "Server_No_Context_Takeover"]
            .map(str::to_owned),
    );
    offers.push(format!("{SNCT}; server_max_window_bit=10"));
    offers.push("mux; max_channels=4; flow_control".to_owned());

    for parameters in &offers {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(&[&offer], takeover()), Ok(None), "{offer}");
        assert_eq!(answer(&[&offer], None), Ok(None), "{offer}");
        let fallback = format!("{offer}, permessage-deflate");
        let text = answer(&[&fallback], takeover()).unwrap().map(|(text, _)| text);
        assert_eq!(text.as_deref(), Some("permessage-deflate"), "{fallback}");
    }
}

#[test]
fn rfc7692_7_1_client_offers() {
    let rows = [
        (None, None),
        (Some(takeover()), Some("permessage-deflate; client_max_window_bits")),
        (
            Some(Deflate::new()),
            Some("permessage-deflate; client_no_context_takeover; client_max_window_bits"),
        ),
        (
            Some(no_takeover()),
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 client_max_window_bits",
            ),
        ),
        (
            Some(no_takeover().send_context_takeover(1)),
            Some("permessage-deflate; server_no_context_takeover; client_max_window_bits"),
        ),
        (
            Some(takeover().receive_window_bits(14)),
            Some("permessage-deflate; server_max_window_bits=14; client_max_window_bits"),
        ),
        (Some(takeover().send_window_bits(14)), Some("permessage-deflate; client_max_window_bits=14")),
        (
            Some(no_takeover().receive_window_bits(8).send_window_bits(9)),
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=8; client_max_window_bits=9",
            ),
        ),
    ];
    for (deflate, expected) in rows {
        assert_eq!(offer(deflate.clone()).as_deref(), expected, "{deflate:?}");
    }
}

#[test]
fn rfc7692_7_1_client_judges() {
    type Row = (Deflate, &'static str, Result<DeflateParameters, HandshakeError>);
    let unknown = || Err(HandshakeError::DeflateUnknown);
    let repeated = |name| Err(HandshakeError::DeflateRepeated(name));
    let value = |name| Err(HandshakeError::DeflateValue(name));
    let not_honoured = |name| Err(HandshakeError::DeflateNotHonoured(name));
    let rows: &[Row] = &[
        // 7.1.1.2: what the client offered holds whether it is answered or not.
        (takeover(), "", Ok(parameters((false, false), (15, 15)))),
        (Deflate::new(), "", Ok(parameters((false, true), (15, 15)))),
        (Deflate::new(), "client_no_context_takeover", Ok(parameters((false, true), (15, 15)))),
        (takeover(), "client_no_context_takeover", Ok(parameters((false, true), (15, 15)))),
        // 7.1.1.1: unasked it may be there, asked for it must.
        (takeover(), "server_no_context_takeover", Ok(parameters((true, false), (15, 15)))),
        (no_takeover(), "server_no_context_takeover", Ok(parameters((true, true), (15, 15)))),
        (no_takeover(), "", not_honoured(SNCT)),
        (no_takeover(), "client_no_context_takeover", not_honoured(SNCT)),
        // 7.1.2.1: unasked it may be there, asked for it must, with no larger value.
        (takeover(), "server_max_window_bits=8", Ok(parameters((false, false), (8, 15)))),
        (takeover(), "server_max_window_bits=15", Ok(parameters((false, false), (15, 15)))),
        (
            takeover().receive_window_bits(12),
            "server_max_window_bits=12",
            Ok(parameters((false, false), (12, 15))),
        ),
        (
            takeover().receive_window_bits(12),
            "server_max_window_bits=11",
            Ok(parameters((false, false), (11, 15))),
        ),
        (takeover().receive_window_bits(12), "server_max_window_bits=13", not_honoured(SMWB)),
        (takeover().receive_window_bits(14), "server_max_window_bits=15", not_honoured(SMWB)),
        (takeover().receive_window_bits(12), "", not_honoured(SMWB)),
        (takeover().receive_window_bits(14), "client_max_window_bits=12", not_honoured(SMWB)),
        // 7.1.2.2: the smaller of both; a server may ignore our value.
        (takeover(), "client_max_window_bits=8", Ok(parameters((false, false), (15, 8)))),
        (takeover(), "client_max_window_bits=15", Ok(parameters((false, false), (15, 15)))),
        (takeover().send_window_bits(10), "", Ok(parameters((false, false), (15, 10)))),
        (
            takeover().send_window_bits(10),
            "client_max_window_bits=9",
            Ok(parameters((false, false), (15, 9))),
        ),
        (
            takeover().send_window_bits(10),
            "client_max_window_bits=10",
            Ok(parameters((false, false), (15, 10))),
        ),
        (
            takeover().send_window_bits(10),
            "client_max_window_bits=12",
            Ok(parameters((false, false), (15, 10))),
        ),
        (takeover(), r#"client_max_window_bits="\1\0""#, Ok(parameters((false, false), (15, 10)))),
        (
            Deflate::new(),
            "client_max_window_bits=9; server_max_window_bits=10; server_no_context_takeover; \
             client_no_context_takeover",
            Ok(parameters((true, true), (10, 9))),
        ),
        // 7.1: everything else fails.
        (takeover(), "x", unknown()),
        (takeover(), "__proto__", unknown()),
        (takeover(), "constructor=1", unknown()),
        (takeover(), "CLIENT_NO_CONTEXT_TAKEOVER", unknown()),
        (takeover(), "client_no_context_takeover; x=\"y\"", unknown()),
        (takeover(), "server_no_context_takeover; server_no_context_takeover", repeated(SNCT)),
        (takeover(), "client_no_context_takeover; client_no_context_takeover", repeated(CNCT)),
        (takeover(), "server_max_window_bits=9; server_max_window_bits=9", repeated(SMWB)),
        (takeover(), "client_max_window_bits=9; client_max_window_bits=10", repeated(CMWB)),
        (takeover(), "server_no_context_takeover=1", value(SNCT)),
        (takeover(), "client_no_context_takeover=\"true\"", value(CNCT)),
        (takeover(), "server_max_window_bits", value(SMWB)),
        (takeover(), "client_max_window_bits", value(CMWB)),
        (takeover(), "server_max_window_bits=7", value(SMWB)),
        (takeover(), "server_max_window_bits=16", value(SMWB)),
        (takeover(), "server_max_window_bits=09", value(SMWB)),
        (takeover(), "client_max_window_bits=7", value(CMWB)),
        (takeover(), "client_max_window_bits=16", value(CMWB)),
        (takeover(), "client_max_window_bits=+9", value(CMWB)),
        (takeover(), "client_max_window_bits=\"010\"", value(CMWB)),
    ];
    for (deflate, parameters, expected) in rows {
        let separator = if parameters.is_empty() { "" } else { "; " };
        let answer = format!("permessage-deflate{separator}{parameters}");
        let agreed = judge(deflate.clone(), &[&answer]).map(|agreed| agreed.deflate);
        assert_eq!(agreed, expected.clone().map(Some), "{deflate:?} {answer}");
        if let Err(error) = expected {
            assert!(error.to_string().contains("RFC 7692 7.1"), "{error}");
        }
        assert_eq!(judge(None, &[&answer]), Err(HandshakeError::Extension), "{answer}");
    }
}

#[test]
fn rfc6455_4_1_client_takes_no_extension_but_what_it_offered() {
    let extension = || Err(HandshakeError::Extension);
    let repeated = || Err(HandshakeError::ExtensionsRepeated);
    let rows: &[(&[&str], Result<bool, HandshakeError>)] = &[
        (&[], Ok(false)),
        // RFC 9110 5.6.1.2.
        (&[""], Ok(false)),
        (&[",\t,"], Ok(false)),
        (&[", permessage-deflate ,"], Ok(true)),
        (&["x"], extension()),
        (&["Permessage-Deflate"], extension()),
        (&["x-webkit-deflate-frame"], extension()),
        (&["permessage-deflate, x"], extension()),
        (&["x, permessage-deflate"], extension()),
        (&["permessage-deflate, permessage-deflate"], extension()),
        // RFC 6455 11.3.2.
        (&["permessage-deflate", ""], repeated()),
        (&["", "permessage-deflate"], repeated()),
        (&["permessage-deflate", "permessage-deflate"], repeated()),
    ];
    for (lines, expected) in rows {
        let agreed = judge(takeover(), lines).map(|agreed| agreed.deflate.is_some());
        assert_eq!(agreed, *expected, "{lines:?}");
    }
}

fn grid() -> Vec<Deflate> {
    let takeovers = [
        takeover(),
        Deflate::new(),
        no_takeover(),
        Deflate::new().no_context_takeover().send_context_takeover(1),
    ];
    let bits = [8, 10, 11, 14, 15];
    let with_bits = |deflate: Deflate| {
        bits.iter()
            .flat_map(move |&send| bits.map(|receive| (send, receive)))
            .map(move |(send, receive)| deflate.clone().send_window_bits(send).receive_window_bits(receive))
    };
    takeovers.into_iter().flat_map(with_bits).collect()
}

/// The largest window in which this configuration sends and receives, and whether it takes over in
/// each, read from what it offers as a client.
fn promises(deflate: &Deflate) -> (u8, u8, bool, bool) {
    let offer = offer(deflate.clone()).unwrap();
    let bits = |name: &str| {
        let value = offer.split("; ").find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='));
        value.map_or(15, |bits| bits.parse().unwrap())
    };
    (bits(CMWB), bits(SMWB), !offer.contains(CNCT), !offer.contains(SNCT))
}

#[test]
fn our_client_and_our_server_agree() {
    let grid = grid();
    assert_eq!(grid.len(), 100);
    for ours in &grid {
        let (client_sends, client_receives, client_takes_over, client_bears_takeover) = promises(ours);
        let offer = offer(ours.clone()).unwrap();
        for theirs in &grid {
            let (server_sends, server_receives, server_takes_over, server_bears_takeover) = promises(theirs);
            // Our client lets the server limit its window: no configuration keeps the two apart.
            let (answer, agreed) = answer(&[&offer], theirs.clone()).unwrap().unwrap();
            let rows = format!("{offer} -> {answer}");
            assert_eq!(judge(ours.clone(), &[&answer]).map(|it| it.deflate), Ok(Some(agreed)), "{rows}");
            let expected = parameters(
                (
                    !(server_takes_over && client_bears_takeover),
                    !(client_takes_over && server_bears_takeover),
                ),
                (server_sends.min(client_receives), client_sends.min(server_receives)),
            );
            assert_eq!(agreed, expected, "{rows}");
        }
    }
}
