//! A table of all the ways in which a connection of the async driver ends.

use std::io::ErrorKind;
use std::time::Duration;

use longwire::{Config, Side, WebSocket};
use longwire_proto::frame::OpCode;

use crate::support::frames::{close, frame, text};
use crate::support::wire::Wire;

/// What the connection's task does.
pub(crate) enum Task {
    /// Receives until the end.
    Receives,
    /// Closes with this code.
    Closes(u16),
    /// Sends, and then receives.
    Sends(usize),
    /// Receives what there is, and drops the connection.
    Leaves,
}

pub(crate) struct Ending {
    pub(crate) cause: &'static str,
    pub(crate) code: &'static str,
    /// What comes from the peer.
    pub(crate) input: fn(&Wire),
    pub(crate) task: Task,
}

const fn ending(cause: &'static str, code: &'static str, input: fn(&Wire), task: Task) -> Ending {
    Ending { cause, code, input, task }
}

/// The limits and deadlines of the table.
pub(crate) fn config() -> Config {
    Config::server()
        .max_message(1000)
        .max_small_fragments(3)
        .max_control_run(5)
        .message_timeout(Some(Duration::from_secs(2)))
}

pub(crate) fn table() -> Vec<Ending> {
    use Task::{Closes, Leaves, Receives, Sends};
    vec![
        ending("closed_by_peer", "1000", |wire| wire.input(close(true, 1000, "再见")), Receives),
        ending("closed_by_peer", "1001", |wire| wire.input(close(true, 1001, "")), Receives),
        ending("closed_by_peer", "3xxx", |wire| wire.input(close(true, 3000, "")), Receives),
        ending("closed_by_peer", "4xxx", |wire| wire.input(close(true, 4999, "👋")), Receives),
        ending("closed_by_peer", "1005", |wire| wire.input(frame(true, true, OpCode::Close, "")), Receives),
        ending("closed_by_us", "1012", |wire| wire.input(close(true, 1012, "")), Closes(1012)),
        ending("closed_by_us", "4xxx", |wire| wire.input(close(true, 1000, "")), Closes(4000)),
        ending("not_masked", "1002", |wire| wire.input(text(false, "x")), Receives),
        ending("reserved_bits", "1002", |wire| wire.input([0xA1, 0x80, 0, 0, 0, 0]), Receives),
        ending("reserved_opcode", "1002", |wire| wire.input([0x83, 0x80, 0, 0, 0, 0]), Receives),
        ending("length_not_minimal", "1002", |wire| wire.input([0x82, 0xFE, 0, 125, 0, 0, 0, 0]), Receives),
        ending(
            "length_too_large",
            "1002",
            |wire| wire.input([0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Receives,
        ),
        ending(
            "control_fragmented",
            "1002",
            |wire| wire.input(frame(true, false, OpCode::Ping, "")),
            Receives,
        ),
        ending(
            "control_too_long",
            "1002",
            |wire| wire.input(frame(true, true, OpCode::Ping, [0; 126])),
            Receives,
        ),
        ending(
            "unexpected_continuation",
            "1002",
            |wire| wire.input(frame(true, true, OpCode::Continuation, "")),
            Receives,
        ),
        ending(
            "expected_continuation",
            "1002",
            |wire| wire.input([frame(true, false, OpCode::Text, "a"), text(true, "b")].concat()),
            Receives,
        ),
        ending("close_too_short", "1002", |wire| wire.input(frame(true, true, OpCode::Close, "x")), Receives),
        ending("invalid_close_code", "1002", |wire| wire.input(close(true, 1005, "")), Receives),
        ending("invalid_utf8", "1007", |wire| wire.input(frame(true, true, OpCode::Text, [0xFF])), Receives),
        ending(
            "message_too_big",
            "1009",
            |wire| wire.input(frame(true, true, OpCode::Binary, [0; 1001])),
            Receives,
        ),
        ending("too_many_fragments", "1008", |wire| wire.input(fragments(4)), Receives),
        ending(
            "too_many_control_frames",
            "1008",
            |wire| wire.input(frame(true, true, OpCode::Pong, "").repeat(6)),
            Receives,
        ),
        ending(
            "message_timeout",
            "1008",
            |wire| wire.input(frame(true, false, OpCode::Text, "half")),
            Receives,
        ),
        ending("ping_timeout", "1011", |_| (), Receives),
        ending("close_timeout", "1006", |_| (), Closes(1000)),
        ending("write_timeout", "1008", |wire| wire.room(Some(10)), Sends(100)),
        ending("eof", "1006", Wire::eof, Receives),
        ending("reset", "1006", |wire| wire.read_error(ErrorKind::ConnectionReset), Receives),
        ending("io", "1006", |wire| wire.read_error(ErrorKind::Other), Receives),
        ending("dropped", "1006", |wire| wire.input(text(true, "你好")), Leaves),
    ]
}

fn fragments(count: usize) -> Vec<u8> {
    let first = frame(true, false, OpCode::Text, "x");
    [first, frame(true, false, OpCode::Continuation, "x").repeat(count - 1)].concat()
}

/// Lives through it. The clock has to be paused.
pub(crate) async fn live(ending: &Ending, wire: &Wire, mut ws: WebSocket<Wire>) {
    (ending.input)(wire);
    match ending.task {
        Task::Receives => {}
        Task::Closes(code) => {
            let closed = ws.close(code, "再见 👋").await;
            assert!(closed.is_err() || ws.closed().unwrap().by == Side::Us);
            return;
        }
        Task::Sends(bytes) => drop(ws.send(vec![7; bytes]).await),
        Task::Leaves => {
            ws.recv().await.unwrap().unwrap();
            return;
        }
    }
    while let Ok(Some(_)) = ws.recv().await {}
}
