//! A row of a table: frames that come, what they are found to be, and the exact bytes of the answer.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use longwire_proto::{Config, DeflateParameters, ProtocolError, Role};

use crate::frames::{Frame, close, decode, encode, ping, pong, text};
use crate::receiver::{Entry, Receiver, Seen};

pub(crate) const BOTH: &[Role] = &[Role::Server, Role::Client];
pub(crate) const SERVER: &[Role] = &[Role::Server];
pub(crate) const CLIENT: &[Role] = &[Role::Client];

/// Where a row leads.
#[derive(Clone, Debug)]
enum End {
    /// The connection is open, and between messages.
    Open,
    /// The connection is open inside a fragmented message.
    InMessage,
    /// The connection is open inside a frame.
    InFrame,
    /// The closing handshake is complete.
    Closed,
    Failed(ProtocolError, u16),
}

pub(crate) struct Row {
    name: String,
    receivers: &'static [Role],
    /// Only these entries have the rule; the limit of a joined message is none of `Connection`'s.
    entries: &'static [Entry],
    config: fn(Config) -> Config,
    deflate: Option<DeflateParameters>,
    input: Vec<Frame>,
    seen: Vec<Seen>,
    replies: Vec<Frame>,
    end: End,
}

/// A row whose frames are accepted, until it is said what they are.
pub(crate) fn row(name: impl Into<String>, input: impl IntoIterator<Item = Frame>) -> Row {
    Row {
        name: name.into(),
        receivers: BOTH,
        entries: &Entry::ALL,
        config: |config| config,
        deflate: None,
        input: input.into_iter().collect(),
        seen: Vec::new(),
        replies: Vec::new(),
        end: End::Open,
    }
}

impl Row {
    /// Only an end of this role receives it.
    pub(crate) fn received_by(mut self, receivers: &'static [Role]) -> Self {
        self.receivers = receivers;
        self
    }

    /// Only these entries take it.
    pub(crate) fn through(mut self, entries: &'static [Entry]) -> Self {
        self.entries = entries;
        self
    }

    /// With other limits than the defaults.
    pub(crate) fn config(mut self, config: fn(Config) -> Config) -> Self {
        self.config = config;
        self
    }

    /// With permessage-deflate.
    pub(crate) fn deflate(mut self, parameters: DeflateParameters) -> Self {
        self.deflate = Some(parameters);
        self
    }

    /// What is received, in order.
    pub(crate) fn seen(mut self, seen: impl IntoIterator<Item = Seen>) -> Self {
        self.seen = seen.into_iter().collect();
        self
    }

    /// What is answered, in order; the Close frame of a failure is not among it.
    pub(crate) fn replies(mut self, replies: impl IntoIterator<Item = Frame>) -> Self {
        self.replies = replies.into_iter().collect();
        self
    }

    /// The row ends inside a fragmented message.
    pub(crate) fn in_message(mut self) -> Self {
        self.end = End::InMessage;
        self
    }

    /// The row ends inside a frame.
    pub(crate) fn in_frame(mut self) -> Self {
        self.end = End::InFrame;
        self
    }

    /// The row ends with the closing handshake.
    pub(crate) fn closes(mut self) -> Self {
        self.end = End::Closed;
        self
    }

    /// The connection fails with this error, and this code in its Close frame.
    pub(crate) fn fails(mut self, error: ProtocolError, code: u16) -> Self {
        self.end = End::Failed(error, code);
        self
    }

    /// The variant of the error that this row causes.
    pub(crate) fn variant(&self) -> Option<String> {
        let End::Failed(error, _) = &self.end else { return None };
        let name = format!("{error:?}");
        Some(name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned())
    }

    /// Receives the row in every way: by both roles, through every entry, whole, byte by byte, in
    /// pieces of three, and each with a further frame behind it.
    pub(crate) fn run(&self) {
        for &role in self.receivers {
            for &entry in self.entries {
                for size in [usize::MAX, 1, 3] {
                    for trailing in [false, true] {
                        self.run_one(role, entry, size, trailing);
                    }
                }
            }
        }
    }

    fn run_one(&self, role: Role, entry: Entry, size: usize, trailing: bool) {
        let context = format!("{}, {role:?}, {entry:?}, in {size}s, trailing: {trailing}", self.name);
        let config = (self.config)(match role {
            Role::Server => Config::server(),
            Role::Client => Config::client(),
        });
        let mut receiver = Receiver::new(entry, role, &config);
        if let Some(parameters) = self.deflate {
            receiver.connection = receiver.connection.with_deflate(parameters);
        }

        let mut input = self.input.clone();
        let mut seen = self.seen.clone();
        let mut replies = self.replies.clone();
        match &self.end {
            End::Open if trailing => {
                input.extend([text("后面 👋"), ping("后面")]);
                seen.extend([Seen::Text("后面 👋".into()), Seen::Ping("后面".into())]);
                replies.push(pong("后面"));
            }
            End::InMessage if trailing => {
                input.push(ping("后面"));
                seen.push(Seen::Ping("后面".into()));
                replies.push(pong("后面"));
            }
            End::Closed | End::Failed(..) if trailing => input.extend([text("后面"), ping("后面")]),
            _ => {}
        }
        if let End::Failed(error, code) = self.end {
            assert_eq!(error.close_code(), code, "{context}");
            replies.push(close(code, error.to_string()));
        }
        if entry != Entry::Connection {
            seen = seen.into_iter().map(Seen::assembled).collect();
        }

        for piece in encode(&input, role).chunks(size) {
            receiver.feed(piece);
        }

        let error = if let End::Failed(error, _) = self.end { Some(error) } else { None };
        assert_eq!(receiver.error, error, "{context}");
        assert_eq!(receiver.seen, seen, "{context}");
        let answer = receiver.replies();
        assert_eq!(answer, as_sent_by(role, &replies, &answer), "{context}");

        let open = matches!(self.end, End::Open | End::InMessage | End::InFrame);
        assert_eq!(receiver.connection.is_open(), open, "{context}");
        assert_eq!(receiver.connection.is_done(), !open, "{context}");
        // RFC 6455 7.1.1: the server ends TCP first; who fails the connection ends it too.
        let ends = error.is_some() || (!open && role == Role::Server);
        assert_eq!(receiver.ends_tcp(), ends, "{context}");
        if !open {
            receiver.wait(Duration::from_secs(1));
            let late = encode(&[text("太晚了"), ping("太晚了"), close(1000, "")], role);
            receiver.feed(&late);
            assert_eq!(receiver.seen, seen, "{context}: nothing is received after the end");
            assert!(receiver.out.is_empty(), "{context}: nothing is answered after the end");
        }
    }
}

/// The exact bytes of `frames` as an end of this role sends them. The masking keys of a client are
/// random; they are taken from what it did send.
fn as_sent_by(role: Role, frames: &[Frame], sent: &[u8]) -> Vec<u8> {
    let to = if role == Role::Server { Role::Client } else { Role::Server };
    let keys = decode(sent).into_iter().map(|frame| frame.key.unwrap_or_default());
    let keys = keys.chain(std::iter::repeat([0; 4]));
    frames.iter().zip(keys).flat_map(|(frame, key)| frame.encode(to, key)).collect()
}
