//! Checks SECURITY.md: its numbers match the code, and the tests that it names exist.
//!
//! The numbers of the code come from public values and `Debug` output if possible, otherwise from the source text. The table
//! lists the numbers that cannot be compared, each with the reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod document;
mod source;

use std::path::PathBuf;

use longwire::reconnect::Backoff;
use longwire::{Acceptor, Client, Config, Counters, Deflate, ProtocolError, blocking};
use longwire_proto::handshake::{HeadLimits, client::MAX_INTERIM};

use document::{document, names_a_test, numbers, paragraphs};
use source::Source::{self, Is, NotCompared};
use source::{both, constant, literal, number, setting, value};

const MEASURED: Source = NotCompared("measured; the test that the row names asserts it");
const RUSTLS: Source = NotCompared("a private constant of rustls");
const HYPER: Source = NotCompared("a default of hyper");
const TLS_VERSION: Source = NotCompared("a version number");
const LEVEL: Source = NotCompared("a level of compression");

/// Lists the beginning of each row and paragraph with numbers, and the sources of these numbers in order.
///
/// The close codes and HTTP statuses in the column "beyond it" are not included, because the tests that the row names assert
/// them. `close_codes_of_broken_rules` compares those that have a public source.
fn rows() -> Vec<(&'static str, Vec<Source>)> {
    // Constants, by the folder that defines them.
    let engine = |name| constant("longwire/src/engine", name);
    let connection = |name| constant("longwire/src/connection", name);
    let client_side = |name| constant("longwire/src/client", name);
    let http2 = |name| constant("longwire/src/client/http2", name);
    let server_side = |name| constant("longwire/src/server", name);
    let proto = |name| constant("longwire-proto/src", name);
    let binary = |name| constant("longwire-server/src", name);
    let hub = |name| constant("longwire-server/src/hub", name);
    let realtime = |name| constant("longwire-server/src/realtime", name);
    let over_http = |name| constant("longwire-server/src/realtime/http", name);
    let serving = |name| constant("longwire-server/src/http_server.rs", name);
    let (server, client) = (Config::server(), Config::client());
    let head = HeadLimits::default();
    let head = [Is(head.bytes as u64), Is(head.headers as u64)];
    let response_head = HeadLimits::RESPONSE;
    let response_head = [Is(response_head.bytes as u64), Is(response_head.headers as u64)];
    let interim = Is(MAX_INTERIM as u64);
    let write_buffer = both(setting(&server, "write_buffer"), setting(&client, "write_buffer"));
    let write_timeout = both(setting(&server, "write_timeout"), setting(&client, "write_timeout"));
    let close_timeout = both(setting(&server, "close_timeout"), setting(&client, "close_timeout"));
    let max_message = [setting(&server, "max_message"), setting(&client, "max_message")];
    let handshake =
        both(setting(&Acceptor::new(), "handshake_timeout"), setting(&Client::new(), "handshake_timeout"));
    // Tokio gives a task a budget of 128 units per turn (`tokio::task::coop`).
    let turn = 128 * number(connection("UNIT"));
    let compressed = number(connection("COMPRESSED"));
    let step = proto("INFLATE_STEP");
    let inflated = proto("INFLATED_MAX");
    let read_block = constant("longwire/src/net/read_block.rs", "BLOCK");
    let largest_match = constant("longwire-proto/src/deflate/inflate", "MATCH_MAX");
    let counters = Counters::new().snapshot();
    let loop_read = engine("READ");
    let records = Is(number(engine("READS")) * number(engine("SEALED")));
    let backoff = Backoff::new();
    let history = literal("longwire-server/src/hub", "history: History {");
    let keys = literal("longwire-server/src/realtime", "const KEYS: Keys = Keys {");
    let wait = Is(1000 * number(realtime("WAIT_MAX")));

    vec![
        ("The guarantees hold for", vec![engine("LATENESS")]),
        ("The head of a request", [head, response_head].concat()),
        ("The opening handshake ends", vec![handshake]),
        ("A rejected client has time", vec![server_side("LINGER_TIME"), server_side("LINGER_BYTES")]),
        ("The number of interim responses", vec![interim]),
        ("The body of a rejection", vec![client_side("BODY_MAX"), client_side("BODY_TIMEOUT")]),
        ("Connecting ends", vec![setting(&Client::new(), "connect_timeout")]),
        ("A client tries few addresses", vec![client_side("ATTEMPTS_MAX")]),
        ("The answer of a proxy", vec![response_head[0], response_head[1], interim]),
        ("The server of a `wss` URL", vec![TLS_VERSION, TLS_VERSION]),
        ("Redirects are limited", vec![setting(&Client::new(), "redirects")]),
        ("Parsing a list of extensions", vec![head[0]]),
        ("A message is limited", max_message.to_vec()),
        ("A compressed message is limited", max_message.to_vec()),
        ("A part of a compressed message", vec![step, Is(number(largest_match) - 1)]),
        (
            "A task of the async library",
            vec![Is(turn), Is(turn / compressed), Is(number(inflated) + number(step)), read_block],
        ),
        ("Input that is not DEFLATE", vec![setting(&Deflate::new(), "receive_window_bits")]),
        ("Between messages", vec![MEASURED]),
        ("Compressing takes time", vec![LEVEL, NotCompared("measured by `bench --codec`"), LEVEL]),
        ("An unfinished compressed message", vec![MEASURED, MEASURED]),
        (
            "A message has a limited number",
            vec![Is(Config::SMALL_FRAGMENT as u64), setting(&server, "max_small_fragments")],
        ),
        ("Consecutive control frames", vec![setting(&server, "max_control_run")]),
        ("Queued Pongs", vec![proto("PONGS_MAX")]),
        ("Bytes queued for a slow reader", vec![write_buffer]),
        (
            "The queue of a listener's connection",
            vec![constant("longwire/src/listener.rs", "MESSAGE_COST"), write_buffer],
        ),
        (
            "A blocking client reads",
            vec![constant("longwire/src/blocking.rs", "MESSAGE_COST"), Is(blocking::READ_AHEAD.into())],
        ),
        (
            "A message that the application keeps",
            vec![read_block, constant("longwire-proto/src/assembler.rs", "COPY_MAX")],
        ),
        (
            "The memory that a thread keeps",
            vec![
                proto("POOL_MAX"),
                constant("longwire/src/net/read_block.rs", "KEPT"),
                read_block,
                MEASURED,
                constant("longwire-proto/src/deflate", "SCRATCH_KEPT"),
                constant("longwire-proto/src/deflate", "INFLATERS_KEPT"),
                MEASURED,
            ],
        ),
        (
            "A whole message, a header",
            vec![
                setting(&server, "message_timeout"),
                setting(&client, "message_timeout"),
                setting(&server, "min_rate"),
                NotCompared("the rate is per second"),
            ],
        ),
        ("A peer that accepts no bytes", vec![write_timeout]),
        (
            "A silent peer",
            vec![setting(&server, "ping_after"), setting(&server, "pong_timeout"), proto("ALLOWANCE_MAX")],
        ),
        ("The closing handshake ends", vec![close_timeout]),
        ("After a failure", vec![close_timeout]),
        ("Counters by codes", vec![Is(counters.ended.len() as u64), Is(counters.not_opened.len() as u64)]),
        ("Queued log lines", vec![binary("QUEUE_MAX")]),
        ("The name of a channel", vec![binary("NAME_MAX")]),
        (
            "Messages queued for a slow consumer",
            vec![constant("longwire/src/engine/topics/backlog.rs", "MESSAGE_COST")],
        ),
        ("The engine stops reading", vec![write_buffer, loop_read]),
        (
            "Published messages waiting",
            vec![
                constant("longwire/src/engine/topics/log.rs", "MESSAGE_COST"),
                engine("LOG_MAX"),
                engine("TURN"),
                constant("longwire/src/engine/event_loop", "MESSAGE_COST"),
            ],
        ),
        ("Messages that other threads", vec![engine("COMMAND_COST"), engine("WAITING_MAX")]),
        ("A peer that floods", vec![loop_read, engine("TURN")]),
        ("The memory that a loop keeps", vec![loop_read, engine("GATHER"), engine("CHUNK")]),
        (
            "A client does not retry",
            vec![setting(&backoff, "initial"), setting(&backoff, "max"), setting(&backoff, "stable_after")],
        ),
        ("A server cannot delay", vec![setting(&backoff, "max_retry_after")]),
        ("Connecting, the opening handshake", vec![constant("longwire/src/reconnect", "open_timeout")]),
        ("A TLS handshake ends", vec![handshake]),
        ("A TLS handshake holds", vec![MEASURED, MEASURED]),
        ("An idle TLS connection", vec![MEASURED, MEASURED]),
        ("Encrypted bytes", vec![RUSTLS, write_timeout]),
        ("Records with no", vec![records]),
        ("Key updates", vec![RUSTLS]),
        ("Waiting for a verdict", vec![handshake, loop_read]),
        ("A stream that is passed", vec![engine("STUCK"), engine("AFTERWARDS")]),
        (
            "HTTP/2 in `longwire serve`",
            ["MAX_STREAMS", "MAX_HEADER_LIST", "IDLE", "PING_AFTER", "PING_TIMEOUT"].map(serving).to_vec(),
        ),
        ("Input that a client's application", ["stream_window", "max_streams"].map(http2).to_vec()),
        ("Output that a server does not accept", vec![http2("SEND_BUFFER")]),
        ("Output that a client does not accept", vec![NotCompared("the send buffer of hyper")]),
        ("The settings and the answer", vec![both(http2("handshake_timeout"), handshake), interim]),
        ("A dropped stream", ["LINGER_TIME", "LINGER_BYTES"].map(http2).to_vec()),
        ("hyper and h2", vec![HYPER, HYPER]),
        (
            "Histories in memory",
            vec![
                value(&history, "messages"),
                value(&history, "bytes"),
                value(&history, "age"),
                hub("history_memory"),
            ],
        ),
        ("Channels and idempotency keys", vec![hub("channels"), value(&keys, "count"), hub("keys")]),
        (
            "Subscriptions and pending requests",
            ["SUBSCRIPTIONS_MAX", "PENDING_MAX"]
                .map(|name| constant("longwire-server/src/realtime/session.rs", name))
                .to_vec(),
        ),
        (
            "The number of messages that a client resumes",
            ["REPLAY_MESSAGES", "REPLAY_BYTES"].map(realtime).to_vec(),
        ),
        ("A token is limited", vec![constant("longwire-server/src/access", "TOKEN_MAX")]),
        ("Samples of the dashboard", ["SAMPLES", "FILES_MAX", "BYTES_MAX"].map(binary).to_vec()),
        (
            "A body is limited",
            vec![
                over_http("BATCH_FACTOR"),
                over_http("QUERY_MAX"),
                constant("longwire-server/src/config", "max_message"),
            ],
        ),
        ("A body arrives", vec![over_http("BODY_TIME")]),
        ("A poll ends", vec![wait]),
        ("The channels of one stream", vec![over_http("CHANNELS_MAX")]),
        ("Output prepared", vec![over_http("CHUNK_TARGET")]),
        ("Presence changes", vec![realtime("BACKLOG")]),
        ("A client that accepts no bytes", vec![serving("WRITE_TIMEOUT")]),
        (
            "**A budget for compressing",
            vec![MEASURED, LEVEL, NotCompared("the tables of the compressor, measured")],
        ),
    ]
}

/// Lists the rows whose close code is that of a `ProtocolError`.
fn broken_rules() -> [(&'static str, ProtocolError); 5] {
    [
        ("A message is limited", ProtocolError::MessageTooBig { limit: 0 }),
        ("A compressed message is limited", ProtocolError::MessageTooBig { limit: 0 }),
        ("Input that is not DEFLATE", ProtocolError::InvalidDeflate),
        ("A message has a limited number", ProtocolError::TooManyFragments { limit: 0 }),
        ("Consecutive control frames", ProtocolError::TooManyControlFrames { limit: 0 }),
    ]
}

#[test]
fn numbers_are_those_of_the_code() {
    let document = document();
    let mut rows = rows();
    let mut faults = Vec::new();
    for text in paragraphs(&document) {
        let stated = numbers(text);
        let found = rows.iter().position(|(beginning, _)| text.starts_with(beginning));
        let sources = found.map_or_else(Vec::new, |at| rows.remove(at).1);
        if stated.len() != sources.len() {
            faults.push(format!("{} numbers, {} sources: {text}", stated.len(), sources.len()));
        }
        for (stated, source) in stated.iter().zip(&sources) {
            match source {
                Is(number) if number != stated => {
                    faults.push(format!("{stated} is {number} in the code: {text}"))
                }
                Is(_) => {}
                NotCompared(reason) => assert!(!reason.is_empty(), "{text}"),
            }
        }
    }
    faults.extend(rows.iter().map(|(beginning, _)| format!("no row begins with: {beginning}")));
    assert!(faults.is_empty(), "SECURITY.md and the code differ:\n{}", faults.join("\n"));
}

#[test]
fn close_codes_of_broken_rules() {
    let document = document();
    for (beginning, error) in broken_rules() {
        let row = paragraphs(&document).find(|text| text.starts_with(beginning)).expect(beginning);
        let beyond = row.split(" | ").nth(3).expect(row);
        assert_eq!(beyond, u16::from(error.close_code()).to_string(), "{row}");
    }
}

#[test]
fn the_tests_that_it_names_exist() {
    let mut faults = Vec::new();
    let mut folder = PathBuf::new();
    let mut count = 0;
    for text in document().lines() {
        if let Some((_, rest)) = text.split_once("Tests without a path are in `") {
            folder = rest.split('`').next().unwrap().into();
        }
        let Some(tests) = text.strip_suffix(" |").and_then(|row| row.split(" | ").nth(4)) else { continue };
        for named in tests.split('`').skip(1).step_by(2).filter(|named| !named.contains(' ')) {
            count += 1;
            if !names_a_test(&folder, named) {
                faults.push(named.to_owned());
            }
        }
    }
    assert!(count > 100, "only {count} tests are named");
    assert!(faults.is_empty(), "SECURITY.md names tests that do not exist:\n{}", faults.join("\n"));
}
