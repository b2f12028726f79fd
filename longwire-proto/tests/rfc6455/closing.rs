//! 7, closing the connection: the codes of 7.4, the echo of 5.5.1, and who ends TCP when.

use std::time::{Duration, Instant};

use longwire_proto::{
    Cause, CloseCode, CloseFrame, Config, Initiator, Kind, MAX_REASON, Message, Outbox, ProtocolError,
    SendError, SharedFrame,
};

use crate::frames::{binary, close, close_empty, continuation, decode, encode, frame, ping, text};
use crate::pair::{End, Pair};
use crate::receiver::{Entry, Receiver, Seen, connection, drain};
use crate::row::{BOTH, Row, row};

/// May a Close frame carry this code? The registry of 7.4.1 and 11.7, and the ranges of 7.4.2.
fn is_defined(code: u16) -> bool {
    match code {
        1000 | 1001 | 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 1011 => true,
        // Registered since (11.7): service restart, try again later, bad gateway.
        1012..=1014 => true,
        _ => (3000..5000).contains(&code),
    }
}

fn closed(code: u16, reason: &str) -> Seen {
    Seen::Close(Some((code, reason.into())))
}

pub(crate) fn rows() -> Vec<Row> {
    let longest = "长".repeat(MAX_REASON / 3);
    let mut rows = vec![
        // 5.5.1: "in response, the endpoint MUST send a Close frame"; 7.1.5: without a code it is 1005
        row("no body", [close_empty()]).seen([Seen::Close(None)]).replies([close_empty()]).closes(),
        row("a reason", [close(1000, "再见 👋")])
            .seen([closed(1000, "再见 👋")])
            .replies([close(1000, "再见 👋")])
            .closes(),
        row("the longest reason", [close(1001, &longest)])
            .seen([closed(1001, &longest)])
            .replies([close(1001, &longest)])
            .closes(),
        row("behind a message", [text("最后"), close(1000, "")])
            .seen([Seen::Text("最后".into()), closed(1000, "")])
            .replies([close(1000, "")])
            .closes(),
        row("twice", [close(1000, "一"), close(1001, "二")])
            .seen([closed(1000, "一")])
            .replies([close(1000, "一")])
            .closes(),
        row("followed by a broken frame", [close(1000, ""), frame(0xF, "").rsv(0x70)])
            .seen([closed(1000, "")])
            .replies([close(1000, "")])
            .closes(),
        // 5.5.1: "the first two bytes of the body MUST be a 2-byte unsigned integer"
        row("half a code", [frame(0x8, [3])]).fails(ProtocolError::CloseTooShort, 1002),
        row("a wrong code and a wrong reason", [close(1005, [0xFF])])
            .fails(ProtocolError::InvalidCloseCode(1005.into()), 1002),
        row("half a Close frame", [close(1000, "再见").cut(5)]).in_frame(),
    ];
    let codes = (0..=16)
        .chain([255, 256, 998, 999])
        .chain(1000..=1017)
        .chain([1018, 1099, 1100, 2000, 2998, 2999, 3000, 3001, 3999, 4000, 4001, 4998, 4999])
        .chain([5000, 5001, 9999, 32_768, 65_535]);
    for code in codes {
        let named = row(format!("code {code}"), [close(code, "再见")]);
        rows.push(if is_defined(code) {
            named.seen([closed(code, "再见")]).replies([close(code, "再见")]).closes()
        } else {
            named.fails(ProtocolError::InvalidCloseCode(code.into()), 1002)
        });
    }
    rows
}

#[test]
fn table() {
    rows().iter().for_each(Row::run);
}

/// 7.4: all 65,536 codes, received and sent.
#[test]
fn every_code_is_accepted_and_sent_just_when_it_is_defined() {
    let now = Instant::now();
    for code in 0..=u16::MAX {
        assert_eq!(CloseCode::from(code).is_sendable(), is_defined(code), "{code}");
        for &role in BOTH {
            let config = Config::server();
            let mut end = connection(role, &config, now);
            let mut out = Outbox::new();
            let received = end.receive(&mut close(code, "").encode(role, [7; 4]), &mut Vec::new(), &mut out);
            assert_eq!(received.is_ok(), is_defined(code), "{code} received");

            let mut end = connection(role, &config, now);
            let mut out = Outbox::new();
            match end.close(&CloseFrame::new(code, "再见"), &mut out, now) {
                Ok(()) => {
                    assert!(is_defined(code), "{code} sent");
                    let body = [&code.to_be_bytes(), "再见".as_bytes()].concat();
                    let sent = decode(&drain(&mut out));
                    assert_eq!((sent.len(), sent[0].opcode, &sent[0].payload), (1, 8, &body));
                }
                Err(error) => {
                    assert!(!is_defined(code), "{code} refused");
                    assert_eq!(error, SendError::InvalidCloseCode(code.into()));
                    assert!(out.is_empty() && end.is_open());
                }
            }
        }
    }
}

#[test]
fn a_close_frame_without_a_code_has_no_body() {
    for &role in BOTH {
        let now = Instant::now();
        let mut end = connection(role, &Config::server(), now);
        let mut out = Outbox::new();
        let no_status = CloseFrame::new(CloseCode::NO_STATUS, "但是");
        let refused = Err(SendError::InvalidCloseCode(CloseCode::NO_STATUS));
        assert_eq!(end.close(&no_status, &mut out, now), refused, "a reason needs a code");
        end.close(&CloseFrame::new(CloseCode::NO_STATUS, ""), &mut out, now).unwrap();
        assert_eq!(decode(&drain(&mut out))[0].payload, b"");
    }
}

/// A reason that is too long loses its last characters, and never half of one.
#[test]
fn a_reason_is_shortened_between_characters() {
    for (reason, kept) in [
        ("再见", "再见".to_owned()),
        (&"a".repeat(123), "a".repeat(123)),
        (&"a".repeat(124), "a".repeat(123)),
        (&"见".repeat(42), "见".repeat(41)),
        (&"a👋".repeat(25), "a👋".repeat(24) + "a"),
    ] {
        assert_eq!(CloseFrame::truncated(1000, reason), CloseFrame::new(1000, kept));
    }
}

/// The longest reason is 123 bytes; a longer one is refused by `close`.
#[test]
fn the_longest_reason() {
    for &role in BOTH {
        let now = Instant::now();
        let mut out = Outbox::new();
        let mut end = connection(role, &Config::server(), now);
        let longer = CloseFrame::new(1000, "a".repeat(124));
        assert_eq!(end.close(&longer, &mut out, now), Err(SendError::ReasonTooLong));
        assert!(out.is_empty() && end.is_open());
        end.close(&CloseFrame::new(1000, "a".repeat(123)), &mut out, now).unwrap();
        assert_eq!(decode(&drain(&mut out))[0].payload.len(), 125);
    }
}

/// 7.4.1: 1005, 1006 and the like must not be set in a Close frame, by `fail` neither.
#[test]
fn failing_puts_no_code_on_the_wire_that_must_not_be_there() {
    for cause in [Cause::Panicked, Cause::SlowConsumer, Cause::MessageTimeout, Cause::Io, Cause::CloseTimeout]
    {
        for &role in BOTH {
            let now = Instant::now();
            let mut end = connection(role, &Config::server(), now);
            let mut out = Outbox::new();
            end.fail(cause, &mut out, now);
            assert!(end.is_done() && end.cause() == Some(cause));
            for sent in decode(&drain(&mut out)) {
                let code = sent.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                assert!(code.is_none_or(is_defined), "{code:?} was sent by {role:?}");
                assert_eq!(code, Some(cause.close_code().get()), "{cause:?}");
            }
        }
    }
}

/// 5.5.1: nothing follows a Close frame, however it was caused.
#[test]
fn nothing_is_sent_after_a_close_frame() {
    let causes: [fn(&mut Receiver); 4] = [
        |end| end.connection.close(&CloseFrame::new(1000, ""), &mut end.out, end.now).unwrap(),
        |end| end.feed(&encode(&[close(1000, "")], end.connection.role())),
        |end| end.feed(&encode(&[frame(0x3, "")], end.connection.role())),
        |end| end.connection.fail(Cause::Panicked, &mut end.out, end.now),
    ];
    for cause in causes {
        for &role in BOTH {
            let mut end = Receiver::new(Entry::Connection, role, &Config::server());
            cause(&mut end);
            assert_eq!(decode(&end.replies()).len(), 1);
            let (connection, out) = (&mut end.connection, &mut end.out);
            let closing = Err(SendError::Closing);
            assert_eq!(connection.send("太晚".into(), out), closing);
            assert_eq!(connection.send_part(Kind::Text, "太晚".into(), true, out), closing);
            assert_eq!(connection.send_shared(&SharedFrame::new("太晚"), out), closing);
            assert_eq!(connection.ping(b"", out), closing);
            assert_eq!(connection.close(&CloseFrame::new(1000, ""), out, end.now), closing);
            connection.fail(Cause::SlowConsumer, out, end.now);
            assert!(out.is_empty(), "a failure after a Close frame sends no second");
        }
    }
}

/// A Close frame goes behind everything that waits, though Pings pass messages.
#[test]
fn a_close_frame_goes_behind_the_messages_that_wait() {
    for &role in BOTH {
        let now = Instant::now();
        let mut end = connection(role, &Config::server(), now);
        let mut out = Outbox::new();
        for _ in 0..3 {
            end.send(vec![1; 300_000].into(), &mut out).unwrap();
            end.ping(b"", &mut out).unwrap();
        }
        end.close(&CloseFrame::new(1000, ""), &mut out, now).unwrap();
        let opcodes: Vec<u8> = decode(&drain(&mut out)).iter().map(|frame| frame.opcode).collect();
        assert_eq!(
            opcodes.iter().filter(|&&opcode| opcode != 9).copied().collect::<Vec<_>>(),
            [2, 0, 2, 0, 2, 0, 8]
        );
        assert_eq!(opcodes.iter().position(|&opcode| opcode == 8), Some(9));
    }
}

fn ends(pair: &mut Pair, server_first: bool) -> (&mut End, &mut End) {
    if server_first { (&mut pair.server, &mut pair.client) } else { (&mut pair.client, &mut pair.server) }
}

/// 7.1.1, 7.1.4: a clean close, begun by either end. The server ends TCP, the client only after it.
#[test]
fn a_clean_close_by_either_end() {
    for server_first in [false, true] {
        let mut pair = Pair::new(&Config::client(), &Config::server());
        let now = pair.now;
        let (first, _) = ends(&mut pair, server_first);
        first.connection.send("最后".into(), &mut first.out).unwrap();
        first.connection.close(&CloseFrame::new(4000, "再见"), &mut first.out, now).unwrap();
        pair.run_for(Duration::from_secs(60));

        let (first, second) = ends(&mut pair, server_first);
        assert_eq!(second.seen, [Seen::Text("最后".into()), closed(4000, "再见")]);
        assert_eq!(first.seen, [closed(4000, "再见")], "the answer has the code and the reason");
        for end in [&*first, second] {
            assert!(end.is_over() && end.connection.is_done());
            assert_eq!((end.error, end.timed_out), (None, None));
        }
        let (client, server) = (&pair.client, &pair.server);
        assert!(server.ended < client.ended, "the server ends TCP first");
        assert_eq!(client.eof, Some(server.ended.unwrap() + pair.to_client.delay));
        for end in [&client, &server] {
            assert!(matches!(end.connection.cause(), Some(Cause::Closed { .. })));
        }
    }
}

/// 7.1.3: Close frames cross on the wire; both ends take the other's as the answer.
#[test]
fn a_simultaneous_close() {
    let mut pair = Pair::new(&Config::client(), &Config::server());
    let now = pair.now;
    pair.client.connection.close(&CloseFrame::new(1000, "我先"), &mut pair.client.out, now).unwrap();
    pair.server.connection.close(&CloseFrame::new(1001, "我先"), &mut pair.server.out, now).unwrap();
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.server.seen, [closed(1000, "我先")]);
    assert_eq!(pair.client.seen, [closed(1001, "我先")]);
    assert_eq!(decode(&pair.client.written).len(), 1, "no second Close frame");
    assert_eq!(decode(&pair.server.written).len(), 1);
    assert!(pair.server.ended < pair.client.ended);
    assert!(pair.client.is_over() && pair.client.timed_out.is_none());
    assert!(pair.server.is_over() && pair.server.timed_out.is_none());
}

/// 1.4: data that the peer sends before it sees our Close frame is received; after its own, nothing.
#[test]
fn data_after_our_close_frame_is_received_until_the_peers() {
    for &role in BOTH {
        for entry in Entry::ALL {
            let mut end = Receiver::new(entry, role, &Config::server());
            end.feed(&encode(&[text("你").more()], role));
            end.connection.close(&CloseFrame::new(1000, ""), &mut end.out, end.now).unwrap();
            end.replies();
            let more = [continuation("好"), binary("还有"), ping(""), text("又").more(), close(1001, "")];
            encode(&more, role).chunks(5).for_each(|piece| end.feed(piece));
            end.feed(&encode(&[continuation("完")], role));
            let expected = [
                Seen::Text("你好".into()),
                Seen::Binary("还有".into()),
                Seen::Ping(Vec::new()),
                closed(1001, ""),
            ];
            assert_eq!(end.seen, expected);
            assert!(end.out.is_empty() && end.connection.is_done());
        }
    }
}

/// A rule broken after our Close frame fails the connection, without a second one.
#[test]
fn a_broken_rule_after_our_close_frame_sends_no_second() {
    for &role in BOTH {
        for bad in [frame(0x3, ""), close(1005, ""), text([0xFF])] {
            let mut end = Receiver::new(Entry::Connection, role, &Config::server());
            end.connection.close(&CloseFrame::new(1000, ""), &mut end.out, end.now).unwrap();
            assert!(!end.ends_tcp(), "the peer's Close frame is awaited");
            end.replies();
            end.feed(&encode(&[bad, text("太晚")], role));
            assert!(end.error.is_some() && end.connection.is_done() && end.ends_tcp());
            assert!(end.out.is_empty() && end.seen.is_empty());
        }
    }
}

/// A message in parts is under way when either end closes: it is never whole.
#[test]
fn a_close_while_a_message_in_parts_is_under_way() {
    for (server_first, sender_closes) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut pair = Pair::new(&Config::client(), &Config::server());
        let (sender, _) = ends(&mut pair, server_first);
        sender.connection.send_part(Kind::Text, "未完".into(), false, &mut sender.out).unwrap();
        pair.run_for(Duration::from_millis(10));
        let now = pair.now;
        let (closer, _) = ends(&mut pair, server_first == sender_closes);
        closer.connection.close(&CloseFrame::new(1001, ""), &mut closer.out, now).unwrap();
        if !sender_closes {
            // Crossing with the Close frame: still received.
            let (sender, _) = ends(&mut pair, server_first);
            sender.connection.send_part(Kind::Text, "待续".into(), false, &mut sender.out).unwrap();
        }
        pair.run_for(Duration::from_secs(60));
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.seen, [closed(1001, "")]);
            assert!(end.is_over() && end.timed_out.is_none() && end.error.is_none());
        }
    }
}

/// 7.1.5: TCP that ends without a closing handshake is 1006, also when only one Close frame has passed.
#[test]
fn the_end_of_tcp_without_a_closing_handshake_is_unclean() {
    for &role in BOTH {
        for we_close in [false, true] {
            let mut end = Receiver::new(Entry::Connection, role, &Config::server());
            if we_close {
                end.connection.close(&CloseFrame::new(1000, ""), &mut end.out, end.now).unwrap();
            }
            end.feed(&encode(&[text("半").cut(4)], role));
            end.connection.read_eof(&end.out, end.now);
            assert_eq!(end.connection.cause(), Some(Cause::Eof));
            assert!(end.connection.is_done() && end.ends_tcp());
            assert_eq!(end.connection.send(Message::from("好"), &mut end.out), Err(SendError::Closing));
        }
        let mut end = Receiver::new(Entry::Connection, role, &Config::server());
        end.feed(&encode(&[close(1000, "")], role));
        end.connection.read_eof(&end.out, end.now);
        assert!(matches!(end.connection.cause(), Some(Cause::Closed { by: Initiator::Remote, .. })));
    }
}
