//! What a connection does after OPEN, as a table over time, in milliseconds: what the peer and the
//! application do, how the connection ends, and when. Every driver runs the same rows, in both roles.
#![allow(dead_code, reason = "each driver uses a part of it")]

use std::io::ErrorKind;
use std::time::Duration;

use longwire_proto::{Config, Role};

/// Something that happens at a moment. At the same moment it happens before any deadline is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// The peer sends these bytes of a frame.
    Sends(PeerFrame, std::ops::Range<usize>),
    /// The peer ends its direction of TCP.
    Ends,
    /// Reading fails, once.
    ReadFails(ErrorKind),
    /// All writing fails from now on.
    WritesFail(ErrorKind),
    /// The stream takes this many bytes more; `None`: any number.
    Takes(Option<usize>),
    /// The application sends a message of this many bytes.
    Queues(usize),
    /// The application closes with 1000.
    Closes,
}

/// A frame of the peer's, masked if it is a client.
#[derive(Clone, Debug)]
pub(crate) struct PeerFrame {
    first: u8,
    payload: Vec<u8>,
}

/// How a connection ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// The name of the cause, as in logs and metrics.
    pub(crate) cause: &'static str,
    /// The close code, 1006 without a Close frame.
    pub(crate) code: u16,
    /// When the socket is dropped: from and to.
    pub(crate) at: (u64, u64),
    /// The opcodes of the whole frames that the stream took from this end.
    pub(crate) sent: &'static [u8],
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    /// Changes to [`config`].
    config: fn(Config) -> Config,
    /// In order of time.
    pub(crate) script: Vec<(u64, Act)>,
    pub(crate) end: End,
}

pub(crate) const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

impl PeerFrame {
    fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first: 0x80 | opcode, payload: payload.into() }
    }

    /// As the peer of an end of this role sends it.
    pub(crate) fn encode(&self, role: Role) -> Vec<u8> {
        let mut bytes = vec![self.first];
        let mask = if role == Role::Server { 0x80 } else { 0 };
        match self.payload.len() {
            length @ ..=125 => bytes.push(mask | length as u8),
            length => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        if role == Role::Server {
            // The key 0 leaves the payload as it is.
            bytes.extend([0; 4]);
        }
        bytes.extend(&self.payload);
        bytes
    }
}

impl Act {
    /// All of a frame.
    fn frame(frame: PeerFrame) -> Self {
        Self::Sends(frame, 0..usize::MAX)
    }

    /// The bytes that the peer of an end of this role sends, if it sends.
    pub(crate) fn bytes(&self, role: Role) -> Option<Vec<u8>> {
        let Self::Sends(frame, range) = self else { return None };
        let bytes = frame.encode(role);
        let end = range.end.min(bytes.len());
        Some(bytes[range.start.min(end)..end].to_vec())
    }
}

impl Row {
    /// Limits that are short enough to be waited for.
    pub(crate) fn config(&self, role: Role) -> Config {
        let config = if role == Role::Server { Config::server() } else { Config::client() };
        let config = config
            .ping_after(Some(ms(400)))
            .pong_timeout(ms(200))
            .close_timeout(ms(300))
            .write_timeout(ms(500))
            .message_timeout(Some(ms(600)));
        (self.config)(config)
    }

    /// The transport fails in a way that a real socket cannot be made to fail at a moment.
    pub(crate) fn needs_scripted_stream(&self) -> bool {
        self.script.iter().any(|(_, act)| matches!(act, Act::ReadFails(_) | Act::WritesFail(_)))
    }
}

/// The opcodes of the whole frames in what an end wrote.
pub(crate) fn opcodes(mut bytes: &[u8]) -> Vec<u8> {
    let mut opcodes = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (extended, masked) = (second & 0x7F, second & 0x80 != 0);
        let (length, header) = match extended {
            126 if rest.len() >= 2 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), 4),
            126 => break,
            length => (usize::from(length), 2),
        };
        let size = header + 4 * usize::from(masked) + length;
        let Some(behind) = bytes.get(size..) else { break };
        opcodes.push(first & 0x0F);
        bytes = behind;
    }
    opcodes
}

const BOTH: &[Role] = &[Role::Server, Role::Client];
const SERVER: &[Role] = &[Role::Server];
const CLIENT: &[Role] = &[Role::Client];

fn row(name: &'static str, script: impl Into<Vec<(u64, Act)>>, end: End) -> Row {
    Row { name, roles: BOTH, config: |config| config, script: script.into(), end }
}

impl Row {
    fn roles(mut self, roles: &'static [Role]) -> Self {
        self.roles = roles;
        self
    }

    fn with(mut self, config: fn(Config) -> Config) -> Self {
        self.config = config;
        self
    }
}

fn end(cause: &'static str, code: u16, at: u64, sent: &'static [u8]) -> End {
    End { cause, code, at: (at, at), sent }
}

/// A text message.
pub(crate) fn message() -> PeerFrame {
    PeerFrame::new(0x1, "你好 👋")
}

/// Bytes of a message, a Pong, a Close frame or a broken one.
pub(crate) fn sends(frame: usize, range: std::ops::Range<usize>) -> Act {
    let frames =
        [message(), PeerFrame::new(0xA, ""), PeerFrame::new(0x8, [0x03, 0xE8]), PeerFrame::new(0x3, "")];
    Act::Sends(frames[frame].clone(), range)
}

fn pong() -> Act {
    Act::frame(PeerFrame::new(0xA, ""))
}

fn closes(code: u16) -> Act {
    Act::frame(PeerFrame::new(0x8, code.to_be_bytes()))
}

/// One byte of a message each 100 ms, from 0 on.
fn dribble() -> Vec<(u64, Act)> {
    let frame = PeerFrame::new(0x2, vec![7; 100]);
    (0..11).map(|i| (i as u64 * 100, Act::Sends(frame.clone(), i..i + 1))).collect()
}

fn and(mut script: Vec<(u64, Act)>, more: impl IntoIterator<Item = (u64, Act)>) -> Vec<(u64, Act)> {
    script.extend(more);
    script.sort_by_key(|(at, _)| *at);
    script
}

#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Row> {
    let text = message();
    let upload = PeerFrame::new(0x2, vec![7; 9000]);
    let bad = Act::frame(PeerFrame::new(0x3, ""));
    vec![
        // Keepalive.
        row("a silent peer", [], end("ping_timeout", 1011, 600, &[9, 8])),
        row("a Pong puts it off", [(500, pong())], end("ping_timeout", 1011, 1100, &[9, 9, 8])),
        row("any byte is life",
            [(300, Act::Sends(text.clone(), 0..3)), (650, Act::Sends(text.clone(), 3..99))],
            end("ping_timeout", 1011, 1250, &[9, 8])),
        row("what was written has time to arrive before the Ping",
            [(0, Act::Queues(8000)), (2000, pong()), (2100, Act::Ends)],
            end("eof", 1006, 2100, &[2, 9])),
        row("and no more time than that",
            [(0, Act::Queues(8000))],
            End { at: (2550, 2560), ..end("ping_timeout", 1011, 0, &[2, 9, 8]) }),

        // Messages.
        row("a message that dribbles; the peer does not end TCP", dribble(),
            End { at: (901, 903), ..end("message_timeout", 1008, 0, &[8]) }),
        row("a message that dribbles; the peer ends TCP", and(dribble(), [(750, Act::Ends)]),
            end("message_timeout", 1008, 750, &[8])),
        row("a large message that makes progress",
            and((0..9).map(|i| (i as u64 * 100, Act::Sends(upload.clone(), i * 1010..(i + 1) * 1010))).collect(),
                [(850, closes(1000)), (860, Act::Ends)]),
            End { at: (850, 860), ..end("closed_by_peer", 1000, 0, &[8]) }),
        row("a peer that answers Pings and sends no message",
            [(410, pong()), (820, pong()), (1000, Act::Ends)],
            end("read_timeout", 1008, 1000, &[9, 9, 8])).with(|config| config.read_timeout(Some(ms(900)))),
        row("each message starts the read timeout again",
            [(300, Act::frame(text.clone())), (600, Act::frame(text)), (1000, pong()), (1400, Act::Ends)],
            end("read_timeout", 1008, 1400, &[9, 8])).with(|config| {
                config.read_timeout(Some(ms(500))).ping_after(Some(ms(350)))
            }),

        // The closing handshake.
        row("the peer closes; a server is done", [(100, closes(1001))],
            end("closed_by_peer", 1001, 100, &[8])).roles(SERVER),
        row("the peer closes; a client waits for the end of TCP", [(100, closes(1001)), (250, Act::Ends)],
            end("closed_by_peer", 1001, 250, &[8])).roles(CLIENT),
        row("the peer closes; a client waits no longer than that", [(100, closes(1001))],
            end("closed_by_peer", 1001, 400, &[8])).roles(CLIENT),
        row("the peer closes and does not take the answer",
            [(0, Act::Takes(Some(0))), (100, closes(1000))],
            end("close_timeout", 1006, 400, &[])),
        row("this end closes",
            [(100, Act::Closes), (150, closes(1000)), (200, Act::Ends)],
            End { at: (150, 200), ..end("closed_by_us", 1000, 0, &[8]) }),
        row("this end closes and is not answered", [(100, Act::Closes), (350, pong())],
            end("close_timeout", 1006, 400, &[8])),
        row("this end closes and the peer ends TCP", [(100, Act::Closes), (200, Act::Ends)],
            end("eof", 1006, 200, &[8])),

        // Failures.
        row("a broken rule; the peer ends TCP", [(100, bad.clone()), (200, pong()), (300, Act::Ends)],
            end("reserved_opcode", 1002, 300, &[8])),
        row("a broken rule; the peer does not end TCP", [(100, bad), (200, pong())],
            end("reserved_opcode", 1002, 400, &[8])),

        // The end of TCP.
        row("the peer ends TCP", [(100, Act::Ends)], end("eof", 1006, 100, &[])),
        row("a half-closed peer gets what waits",
            [(0, Act::Takes(Some(0))), (0, Act::Queues(3000)), (100, Act::Ends), (200, Act::Takes(Some(1000))),
             (400, Act::Takes(Some(1000))), (600, Act::Takes(None))],
            end("eof", 1006, 600, &[2])),
        row("a half-closed peer that takes nothing is not waited for",
            [(0, Act::Takes(Some(0))), (0, Act::Queues(3000)), (100, Act::Ends)],
            end("eof", 1006, 500, &[])),
        row("a peer that takes nothing",
            [(0, Act::Takes(Some(0))), (50, Act::Queues(10))],
            end("write_timeout", 1008, 550, &[])),
        row("a peer that is reset", [(100, Act::ReadFails(ErrorKind::ConnectionReset))],
            end("reset", 1006, 100, &[])),
        row("what was said before writing broke is still read",
            [(100, Act::WritesFail(ErrorKind::BrokenPipe)), (100, Act::Queues(10)), (150, closes(1000)),
             (200, Act::Ends)],
            End { at: (150, 200), ..end("closed_by_peer", 1000, 0, &[]) }),
        row("a reset that writing met counts",
            [(100, Act::WritesFail(ErrorKind::ConnectionReset)), (100, Act::Queues(10)), (150, Act::Ends)],
            end("reset", 1006, 150, &[])),
        row("a broken pipe says less than the end that reading meets",
            [(100, Act::WritesFail(ErrorKind::BrokenPipe)), (100, Act::Queues(10)), (150, Act::Ends)],
            end("eof", 1006, 150, &[])),
    ]
}
