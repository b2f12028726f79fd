//! One end that receives, driven in every way in which a driver may drive it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use longwire_proto::{
    Assembler, Config, Connection, Event, Incoming, Kind, Message, Outbox, Payload, ProtocolError, Role,
    TcpStep,
};

/// The longest header and the longest control frame: no more than this may stay unconsumed.
const MAX_LEFT: usize = 139;

/// What was received, parts joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason.
    Close(Option<(u16, String)>),
}

impl Seen {
    pub(crate) fn message(kind: Kind, payload: Vec<u8>) -> Self {
        match kind {
            Kind::Text => Self::Text(String::from_utf8(payload).expect("text that was handed out is UTF-8")),
            Kind::Binary => Self::Binary(payload),
        }
    }

    pub(crate) fn incoming(incoming: Incoming<Message>) -> Self {
        match incoming {
            Incoming::Data(Message::Text(text)) => Self::Text(text.to_string()),
            Incoming::Data(Message::Binary(bytes)) => Self::Binary(bytes.to_vec()),
            other => Self::control(other),
        }
    }

    pub(crate) fn control<T: std::fmt::Debug>(incoming: Incoming<T>) -> Self {
        match incoming {
            Incoming::Ping => Self::Ping(Vec::new()),
            Incoming::Pong(payload) => Self::Pong(payload.to_vec()),
            Incoming::Close(frame) => {
                Self::Close(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
            }
            other => panic!("{other:?} is new: name it here"),
        }
    }

    /// As an [`Assembler`] reports it: without the payload of a Ping.
    pub(crate) fn assembled(self) -> Self {
        if let Self::Ping(_) = self { Self::Ping(Vec::new()) } else { self }
    }
}

/// Which entries of the crate take the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `Connection::receive`.
    Connection,
    /// `Assembler::receive`.
    Assembler,
    /// `Assembler::receive`, and `landing` with `landed` whenever there is one.
    Landing,
    /// `Assembler::receive_part`.
    Parts,
}

impl Entry {
    pub(crate) const ALL: [Self; 4] = [Self::Connection, Self::Assembler, Self::Landing, Self::Parts];
}

/// An end that receives, and all that became of it.
pub(crate) struct Receiver {
    entry: Entry,
    pub(crate) connection: Connection,
    pub(crate) assembler: Assembler,
    pub(crate) out: Outbox,
    pub(crate) now: Instant,
    pub(crate) seen: Vec<Seen>,
    pub(crate) error: Option<ProtocolError>,
    /// Parts of the message under way, joined by this driver.
    pub(crate) joined: Option<(Kind, Vec<u8>)>,
    /// How often a read landed in the message's own buffer.
    pub(crate) landings: usize,
    input: BytesMut,
    inflated: Vec<u8>,
}

/// A connection of this role; a client's masking keys come from a fixed seed.
pub(crate) fn connection(role: Role, config: &Config, now: Instant) -> Connection {
    let config = Arc::new(config.clone());
    match role {
        Role::Server => Connection::server(config, now),
        Role::Client => Connection::client(config, [7; 32], now),
    }
}

impl Receiver {
    pub(crate) fn new(entry: Entry, role: Role, config: &Config) -> Self {
        let now = Instant::now();
        Self {
            entry,
            connection: connection(role, config, now),
            assembler: Assembler::default(),
            out: Outbox::new(),
            now,
            seen: Vec::new(),
            error: None,
            joined: None,
            landings: 0,
            input: BytesMut::new(),
            inflated: Vec::new(),
        }
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// These bytes arrive together.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        if self.error.is_some() {
            return self.feed_after_failure(bytes);
        }
        if self.entry == Entry::Landing && self.input.is_empty() {
            bytes = self.land(bytes);
        }
        if bytes.is_empty() || self.error.is_some() {
            return;
        }
        self.connection.heard(bytes.len(), self.now);
        self.input.extend_from_slice(bytes);
        let result = match self.entry {
            Entry::Connection => self.receive_events(),
            Entry::Assembler | Entry::Landing => self.receive_messages(),
            Entry::Parts => self.receive_parts(),
        };
        match result {
            Ok(()) => assert!(self.input.len() <= MAX_LEFT, "{} bytes stay unconsumed", self.input.len()),
            Err(error) => self.error = Some(error),
        }
    }

    /// RFC 6455 7.1.7: whatever comes after a failure is consumed and has no effect.
    fn feed_after_failure(&mut self, bytes: &[u8]) {
        let replies = self.out.remaining();
        let received = self.connection.receive(&mut bytes.to_vec(), &mut self.inflated, &mut self.out);
        let received = received.expect("a connection fails once");
        assert_eq!((received.consumed, received.event), (bytes.len(), None));
        self.input = BytesMut::from(bytes);
        match self.entry {
            Entry::Connection => {}
            Entry::Assembler | Entry::Landing => {
                let incoming = self.assembler.receive(&mut self.connection, &mut self.input, &mut self.out);
                assert!(matches!(incoming, Ok(None)), "a connection fails once: {incoming:?}");
            }
            Entry::Parts => {
                let part = self.assembler.receive_part(&mut self.connection, &mut self.input, &mut self.out);
                assert!(matches!(part, Ok(None)), "a connection fails once: {part:?}");
            }
        }
        assert!(self.entry == Entry::Connection || self.input.is_empty());
        assert_eq!(self.out.remaining(), replies, "nothing is answered after a failure");
    }

    fn receive_events(&mut self) -> Result<(), ProtocolError> {
        while !self.input.is_empty() {
            let before = if self.input.len() <= 1024 { self.input.to_vec() } else { Vec::new() };
            let received = self.connection.receive(&mut self.input, &mut self.inflated, &mut self.out)?;
            let consumed = &self.input[..received.consumed];
            let mut nothing_found = false;
            let mut touched = false;
            match received.event {
                None => nothing_found = true,
                Some(Event::Part(part)) => {
                    let payload = match part.payload {
                        Payload::Input(range) => &consumed[range],
                        Payload::Inflated(range) => {
                            touched = true;
                            &self.inflated[range]
                        }
                    };
                    join(&mut self.joined, part.kind, part.first, payload);
                    if part.last {
                        self.seen.extend(self.joined.take().map(|(kind, bytes)| Seen::message(kind, bytes)));
                    }
                }
                Some(Event::Ping(payload)) => self.seen.push(Seen::Ping(consumed[payload].to_vec())),
                Some(Event::Pong(payload)) => self.seen.push(Seen::Pong(consumed[payload].to_vec())),
                Some(Event::Close(frame)) => self.seen.push(Seen::incoming(Incoming::Close(frame))),
                Some(other) => panic!("{other:?} is new: name it here"),
            }
            self.input.advance(received.consumed);
            assert!(
                touched || before.is_empty() || before.ends_with(&self.input),
                "what is not consumed is not touched"
            );
            self.inflated.clear();
            if received.consumed == 0 && nothing_found {
                break;
            }
        }
        Ok(())
    }

    fn receive_messages(&mut self) -> Result<(), ProtocolError> {
        while let Some(incoming) =
            self.assembler.receive(&mut self.connection, &mut self.input, &mut self.out)?
        {
            if !matches!(incoming, Incoming::Progress) {
                self.seen.push(Seen::incoming(incoming));
            }
        }
        Ok(())
    }

    fn receive_parts(&mut self) -> Result<(), ProtocolError> {
        while let Some(part) =
            self.assembler.receive_part(&mut self.connection, &mut self.input, &mut self.out)?
        {
            match part {
                Incoming::Data(part) => {
                    join(&mut self.joined, part.kind, part.first, &part.payload);
                    if part.last {
                        self.seen.extend(self.joined.take().map(|(kind, bytes)| Seen::message(kind, bytes)));
                    }
                }
                Incoming::Progress => {}
                control => self.seen.push(Seen::control(control)),
            }
        }
        Ok(())
    }

    /// Reads into the message's own buffer for as long as there is one; gives back what is behind.
    fn land<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() {
            let Some(mut room) = self.assembler.landing(&self.connection) else { break };
            let count = room.remaining_mut().min(bytes.len());
            assert!(count > 0, "a landing has room");
            self.connection.heard(count, self.now);
            room.put_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.landings += 1;
            match self.assembler.landed(count, &mut self.connection, &mut self.out) {
                Ok(message) => {
                    self.seen.extend(message.map(|message| Seen::incoming(Incoming::Data(message))));
                }
                Err(error) => {
                    self.error = Some(error);
                    return bytes;
                }
            }
        }
        bytes
    }

    /// This end's direction of TCP ends once everything is written.
    pub(crate) fn ends_tcp(&mut self) -> bool {
        self.connection.tcp_step(true, self.now) == TcpStep::ShutdownWrite
    }

    /// Takes everything out of the outbox.
    pub(crate) fn replies(&mut self) -> Vec<u8> {
        drain(&mut self.out)
    }
}

fn join(joined: &mut Option<(Kind, Vec<u8>)>, kind: Kind, first: bool, payload: &[u8]) {
    assert_eq!(first, joined.is_none(), "a message begins with its first part");
    let (of, bytes) = joined.get_or_insert((kind, Vec::new()));
    assert_eq!(*of, kind, "the kind stays for the whole message");
    bytes.extend_from_slice(payload);
}

/// Takes everything out of an outbox.
pub(crate) fn drain(out: &mut Outbox) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(out.remaining());
    while out.has_remaining() {
        assert!(!out.chunk().is_empty(), "what remains is there");
        bytes.extend_from_slice(out.chunk());
        out.advance(out.chunk().len());
    }
    bytes
}
