//! RFC 6455 section 9.1: what a list of extensions is, and what an end does with one that it is not.

use std::time::{Duration, Instant};

use http::{HeaderValue, header};
use longwire_proto::Deflate;
use longwire_proto::handshake::server::{self, Policy};
use longwire_proto::handshake::{HandshakeError, HeadLimits};

use crate::head::REQUEST;
use crate::negotiation::{CMWB, SNCT, answer, head, judge, serve, takeover};

#[test]
fn rfc6455_9_1_server_goes_through_the_list() {
    // The lines, and which parameters the offer had that was accepted.
    type Row = (&'static [&'static str], Deflate, Option<&'static str>);
    let rows: &[Row] = &[
        (&[], takeover(), None),
        // RFC 9110 5.6.1.2.
        (&[""], takeover(), None),
        (&[", ,\t,"], takeover(), None),
        (&[",permessage-deflate,,"], takeover(), Some("")),
        // What is not known.
        (&["x-webkit-deflate-frame"], takeover(), None),
        (&["x-webkit-deflate-frame; no_context_takeover; max_window_bits=12"], takeover(), None),
        (&["deflate-frame, perframe-deflate, permessage-bzip2, permessage-compress"], takeover(), None),
        (&["Permessage-Deflate"], takeover(), None),
        (&["permessage-deflate-2, permessage-deflat"], takeover(), None),
        (&["constructor, __proto__; constructor=__proto__"], takeover(), None),
        (&["x; permessage-deflate, y; a=permessage-deflate"], takeover(), None),
        (&[r#"x; a="permessage-deflate", bar; a=b"#], takeover(), None),
        // Others beside it.
        (&["foo; a=\"b\"; a=\"b\", permessage-deflate, x-webkit-deflate-frame"], takeover(), Some("")),
        // Several lines are one list.
        (&["foo", "permessage-deflate"], takeover(), Some("")),
        (&["permessage-deflate; server_max_window_bits=7", "", "permessage-deflate"], takeover(), Some("")),
        (
            &["permessage-deflate; server_max_window_bits=9", "permessage-deflate"],
            takeover(),
            Some("; server_max_window_bits=9"),
        ),
        // The first that can be accepted.
        (
            &["permessage-deflate; x, permessage-deflate; server_max_window_bits, \
               permessage-deflate; server_max_window_bits=11, permessage-deflate"],
            takeover(),
            Some("; server_max_window_bits=11"),
        ),
        // 7.1.2.2: the client's window cannot be limited unless it lets us.
        (&["permessage-deflate"], takeover().receive_window_bits(14), None),
        (&["permessage-deflate; server_max_window_bits=8"], takeover().receive_window_bits(8), None),
        (
            &["permessage-deflate, permessage-deflate; client_max_window_bits"],
            takeover().receive_window_bits(14),
            Some("; client_max_window_bits=14"),
        ),
    ];
    for (lines, deflate, expected) in rows {
        let text = answer(lines, deflate.clone()).unwrap().map(|(text, _)| text);
        let expected = expected.map(|parameters| format!("permessage-deflate{parameters}"));
        assert_eq!(text, expected, "{lines:?}");
    }
}

/// Values that no extension list is; most of them would be one with a byte less.
const MALFORMED: &[&str] = &[
    ";",
    "=",
    "\"",
    "\"permessage-deflate\"",
    "permessage-deflate;",
    "permessage-deflate; ",
    "permessage-deflate;,",
    "permessage-deflate;;client_max_window_bits",
    "permessage-deflate; ;client_max_window_bits",
    ";permessage-deflate",
    "=permessage-deflate",
    "permessage-deflate=1",
    "permessage-deflate x",
    "permessage-deflate client_max_window_bits",
    "permessage-deflate; client_max_window_bits server_no_context_takeover",
    "permessage-deflate; client_max_window_bits=",
    "permessage-deflate; client_max_window_bits= ; x",
    "permessage-deflate; client_max_window_bits==10",
    "permessage-deflate; client_max_window_bits=10=10",
    "permessage-deflate; client_max_window_bits=10 10",
    "permessage-deflate; =10",
    "permessage-deflate; client_max_window_bits='10\"",
    "permessage-deflate; client_max_window_bits=\"10",
    "permessage-deflate; client_max_window_bits=\"10\\\"",
    "permessage-deflate; client_max_window_bits=\"10\\",
    "permessage-deflate; client_max_window_bits=10\"",
    "permessage-deflate; client_max_window_bits=\"10\"1",
    "permessage-deflate; client_max_window_bits=\"10\"\"11\"",
    "permessage-deflate; client_max_window_bits=\"\"",
    "permessage-deflate; client_max_window_bits=\" 10\"",
    "permessage-deflate; client_max_window_bits=\"10,11\"",
    "permessage-deflate; client_max_window_bits=\"a;b\"",
    "permessage-deflate; client_max_window_bits=\"\\\\\"",
    "permessage-deflate; client_max_window_bits=\"1\\\"0\"",
    "permessage-deflate; \"client_max_window_bits\"",
    "permessage-deflate; (client_max_window_bits)",
    "permessage-deflate: client_max_window_bits",
    "permessage-deflate/1",
    "permessage-deflate; x=你好",
    "permessage-deflate; x=\"👋\"",
    "你好",
    "foo; a=\"b, permessage-deflate",
];

#[test]
fn rfc6455_9_1_malformed_lists_fail_the_handshake() {
    for malformed in MALFORMED {
        // In front of, behind and beside what is good, and whatever the server wants of it.
        let lists: &[&[&str]] = &[
            &[malformed],
            &[&format!("{malformed}, foo")],
            &[&format!("permessage-deflate, {malformed}")],
            &["permessage-deflate", malformed],
            &[malformed, "permessage-deflate"],
        ];
        for lines in lists {
            for deflate in [None, Some(takeover())] {
                let refusal = serve(lines, deflate).unwrap_err();
                assert_eq!(refusal.status().as_u16(), 400, "{lines:?}");
                assert!(refusal.text().contains("RFC 6455 9.1"), "{refusal}");
            }
        }
        for deflate in [None, Some(takeover())] {
            let error = judge(deflate, &[malformed]).unwrap_err();
            assert_eq!(error, HandshakeError::ExtensionsMalformed, "{malformed}");
        }
    }
    // A quoted string does not go on in the next line.
    assert_eq!(answer(&["foo; a=\"b", "c\", permessage-deflate"], takeover()), Err(400));
}

#[test]
fn as_many_parameters_as_a_head_holds() {
    let head_holds = 8_000;
    let unknown = format!("permessage-deflate{}", ";a".repeat(head_holds));
    assert_eq!(answer(&[&unknown], takeover()), Ok(None));
    assert_eq!(judge(takeover(), &[&unknown]), Err(HandshakeError::DeflateUnknown));
    let repeated = format!("permessage-deflate{}", format!("; {SNCT}").repeat(500));
    assert_eq!(answer(&[&repeated], takeover()), Ok(None));
    assert_eq!(judge(takeover(), &[&repeated]), Err(HandshakeError::DeflateRepeated(SNCT)));
    let last = format!("{}permessage-deflate", "a,".repeat(head_holds));
    assert!(answer(&[&last], takeover()).unwrap().is_some());
    // One line for each extension, as many as a head may have.
    let free = HeadLimits::default().headers - (REQUEST.len() - 1);
    let mut lines = vec!["a; b=\"c\""; free - 1];
    lines.push("permessage-deflate");
    assert!(answer(&lines, takeover()).unwrap().is_some());
}

/// A request that another parser has read may be longer than our heads: a million bytes and more, which
/// anything quadratic would not be done with.
#[test]
fn long_values_take_linear_time() {
    let request = server::parse_request(&head(REQUEST, &[]), HeadLimits::default()).unwrap();
    let n = 500_000;
    let quoted = format!("permessage-deflate; a=\"{}\"", "\\1".repeat(n));
    // The value, and whether it is a list.
    let rows = [
        (format!("permessage-deflate{}", ";a".repeat(n)), true),
        (format!("permessage-deflate{}", "; a=\"b\"".repeat(n)), true),
        (format!("permessage-deflate{}", format!("; {CMWB}").repeat(n / 10)), true),
        ("permessage-deflate; x,".repeat(n / 10), true),
        ("a,".repeat(n), true),
        (",".repeat(n), true),
        (quoted.clone(), true),
        (format!("{quoted}\""), false),
        (";".repeat(n), false),
        ("\"".repeat(n), false),
        (format!("a{}", "; a=\"".repeat(n)), false),
        (format!("a; b=\"{}", "\\\"".repeat(n)), false),
        (format!("a; b=\"{}", "\"".repeat(n)), false),
        (format!("a{}", " ".repeat(n) + ";"), false),
        (format!("a{}", " \t".repeat(n) + "a"), false),
        (format!("a{};", ";a".repeat(n)), false),
    ];
    for (value, is_list) in rows {
        let mut request = request.clone();
        request
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::try_from(&value).unwrap());
        let start = Instant::now();
        let result = server::check(&request, &Policy::new().deflate(takeover()));
        let beginning = &value[..value.len().min(40)];
        assert!(start.elapsed() < Duration::from_secs(10), "{beginning}");
        assert_eq!(result.is_ok(), is_list, "{beginning}");
        assert!(result.is_err() || result.unwrap().deflate().is_none(), "{beginning}");
    }
}
