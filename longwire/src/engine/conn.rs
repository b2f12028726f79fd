//! One connection of a loop: what it holds, and what a callback may do with it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::{
    Assembler, CloseCode, CloseFrame, Compress, Connection, DeflateParameters, Outbox, Outgoing, SendError,
    SharedFrame,
};

use super::mailbox::{Handle, Id, Peer};
use super::slab::Key;
use super::socket::layer::Layer;
use super::topics::backlog::{Backlog, Published, Relief, Waiting};
use super::topics::{Log, Logged, NOBODY, Subscriptions, Topics};
use crate::end::Error;
use crate::end::{Closed, Side};
use crate::observe::counters::Tally;

/// A WebSocket of a loop. One that is idle holds this and nothing else.
pub(crate) struct Entry {
    pub(crate) core: Connection,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) held: Option<Box<Held>>,
    /// How far it has heard what was published in this turn, where that is not all or nothing.
    pub(crate) heard: u32,
}

/// What a connection holds while something is half received, waits to be written, or comes to its end.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) out: Outbox,
    /// What was published and sent behind that.
    pub(crate) backlog: Backlog,
    pub(crate) assembler: Assembler,
    /// What was read and not worked off: the beginning of a header or control frame, or all that came
    /// while there is no room for answers.
    pub(crate) input: Vec<u8>,
    /// `input` waits for room.
    pub(crate) paused: bool,
    /// A write has found no room, or who sends has been told so, since all was written.
    pub(crate) was_blocked: bool,
    /// Since when a message or a header is half received.
    pub(crate) begun: Option<Instant>,
    /// The Close frame that we sent first.
    pub(crate) sent: Option<CloseFrame>,
    pub(crate) ending: Option<Ending>,
    /// The stream takes no more bytes. What the peer said before may still be read.
    pub(crate) broken: Option<Error>,
    /// What lies between the socket and this connection, from its beginning to its end.
    pub(crate) layer: Option<Layer>,
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) result: Result<Closed, Error>,
    /// Not worth waiting for the peer.
    pub(crate) hopeless: bool,
    /// Our direction of TCP is ended.
    pub(crate) shut: bool,
}

impl Held {
    pub(crate) fn is_needed(&self) -> bool {
        self.was_blocked
            || self.paused
            || !self.out.is_empty()
            || !self.backlog.is_empty()
            || !self.input.is_empty()
            || !self.assembler.is_idle()
            || self.begun.is_some()
            || self.sent.is_some()
            || self.ending.is_some()
            || self.broken.is_some()
            || self.layer.is_some()
    }
}

impl Entry {
    pub(crate) fn new(core: Connection) -> Self {
        Self { core, subscriptions: Subscriptions::default(), held: None, heard: 0 }
    }

    pub(crate) fn held(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }

    /// So much waits to be written that nothing more is read.
    pub(crate) fn is_behind(&self) -> bool {
        let limit = self.core.config().write_buffer_limit();
        self.held.as_ref().is_some_and(|held| held.out.remaining() + held.backlog.bytes() >= limit)
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.ending.is_some())
    }

    /// How the stream that is carried to the socket has failed, if it has.
    pub(crate) fn carrier_failed(&self) -> Option<Error> {
        match self.held.as_ref()?.layer.as_ref()? {
            Layer::Carried(carried) => carried.failed.get().cloned(),
            #[cfg(feature = "tls")]
            Layer::Tls(_) => None,
        }
    }

    /// Notes how it ends; the first to say so counts.
    pub(crate) fn end(&mut self, result: Result<Closed, Error>) {
        let hopeless = !matches!(
            result,
            Ok(_)
                | Err(Error::Protocol(_)
                    | Error::MessageTimeout
                    | Error::SlowConsumer
                    | Error::Panicked
                    | Error::Eof)
        );
        let held = self.held();
        if held.ending.is_none() {
            held.ending = Some(Ending { result, hopeless, shut: false });
            held.backlog = Backlog::default();
            held.input = Vec::new();
            held.assembler.reset();
            held.begun = None;
        }
    }

    /// Both Close frames have passed: the first of them says by whom and why.
    pub(crate) fn closed_by(&mut self, frame: Option<CloseFrame>) {
        let sent = self.held.as_mut().and_then(|held| held.sent.take());
        let closed = match sent {
            Some(sent) => Closed { by: Side::Us, frame: (sent.code != CloseCode::NO_STATUS).then_some(sent) },
            None => Closed { by: Side::Peer, frame },
        };
        self.end(Ok(closed));
    }

    /// When something is to be done if nothing comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        static NOTHING: Outbox = Outbox::new();
        let Some(held) = &self.held else { return self.core.poll_timeout(&NOTHING) };
        let own = self.core.poll_timeout(&held.out);
        own.into_iter().chain(self.message_due()).chain(held.backlog.due()).min()
    }

    /// When the message that is half received is given up.
    pub(crate) fn message_due(&self) -> Option<Instant> {
        self.held.as_ref()?.begun?.checked_add(self.core.config().message_time_limit()?)
    }
}

/// What belongs to a loop and a callback may use.
pub(crate) struct Local {
    pub(crate) at: u16,
    pub(crate) engine: Handle,
    pub(crate) now: Instant,
    /// What the connection that is worked on has to write.
    pub(crate) out: Outbox,
    pub(crate) topics: Topics,
    pub(crate) log: Log,
    /// Connections that have heard a part of the log, or are not to hear all of it.
    pub(crate) apart: Vec<u32>,
    pub(crate) counters: Tally,
    pub(crate) slow: Arc<super::SlowPolicy>,
}

/// A connection, in a callback about it.
pub struct Conn<'a> {
    pub(crate) key: Key,
    pub(crate) entry: &'a mut Entry,
    pub(crate) stream: &'a TcpStream,
    pub(crate) local: &'a mut Local,
}

impl std::fmt::Debug for Conn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Conn").field(&self.id()).finish()
    }
}

impl Conn<'_> {
    /// Its name.
    pub const fn id(&self) -> Id {
        Id { at: self.local.at, key: self.key }
    }

    /// A handle on it that may be kept, and used from any thread.
    pub fn peer(&self) -> Peer {
        self.engine().peer(self.id())
    }

    /// A handle on the engine.
    pub fn engine(&self) -> Handle {
        self.local.engine.clone()
    }

    /// The peer's address: that of the socket, where a proxy stands before it the proxy's.
    ///
    /// # Errors
    ///
    /// What the operating system says, such as when the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.entry.held.as_ref().and_then(|held| held.layer.as_ref()) {
            Some(Layer::Carried(carried)) => Ok(carried.from),
            _ => self.stream.peer_addr(),
        }
    }

    /// How messages are compressed, if that was negotiated (RFC 7692).
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.entry.core.deflate()
    }

    /// Messages may be sent: no Close frame has passed and nothing has failed.
    pub fn is_open(&self) -> bool {
        self.entry.core.is_open() && !self.entry.is_ending()
    }

    /// Bytes that wait to be written.
    pub fn buffered_amount(&self) -> usize {
        self.local.out.remaining() + self.entry.held.as_ref().map_or(0, |held| held.backlog.bytes())
    }

    /// Sends a message: it is written, with all others, when what was read is worked off.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when [`Config::write_buffer`](crate::Config::write_buffer) bytes wait already:
    /// nothing was queued, and [`Handler::drained`](super::Handler::drained) says when they have gone. To
    /// each message that is received one answer has room: nothing is read from a peer that is so far
    /// behind. [`Error::Send`] when the connection is closing.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.send_with(message, Compress::Auto)
    }

    /// As [`send`](Self::send), with a word on the compression of this message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_with<'m>(
        &mut self,
        message: impl Into<Outgoing<'m>>,
        compress: Compress,
    ) -> Result<(), Error> {
        let message = message.into();
        let (kind, length) = (message.kind(), message.len());
        if self.check_room()? {
            self.entry.core.send_borrowed(message, compress, &mut self.local.out)?;
        } else {
            self.wait(Waiting::Direct(message.into_message(), compress))?;
        }
        self.local.counters.sent.add(kind, length, true);
        Ok(())
    }

    /// As [`send`](Self::send), of a message that was encoded once for many.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_shared(&mut self, frame: &SharedFrame) -> Result<(), Error> {
        if self.check_room()? {
            self.entry.core.send_shared(frame, &mut self.local.out)?;
        } else {
            self.wait(Waiting::Shared(frame.clone()))?;
        }
        self.local.counters.sent.add(frame.kind(), frame.payload_len(), true);
        Ok(())
    }

    /// Whether what is sent goes to the outbox, or behind what waits already.
    #[inline]
    fn check_room(&mut self) -> Result<bool, Error> {
        self.hear();
        self.check_full()?;
        Ok(self.entry.held.as_ref().is_none_or(|held| held.backlog.is_empty()))
    }

    #[inline]
    fn check_full(&mut self) -> Result<(), Error> {
        if self.buffered_amount() < self.entry.core.config().write_buffer_limit() {
            return Ok(());
        }
        if self.is_open() {
            // So it is told when there is room.
            self.entry.held().was_blocked = true;
        }
        Err(Error::Full)
    }

    #[cold]
    fn wait(&mut self, what: Waiting) -> Result<(), Error> {
        if !self.is_open() {
            return Err(SendError::Closing.into());
        }
        let now = self.local.now;
        self.entry.held().backlog.push(what, now);
        Ok(())
    }

    /// Sends a Ping with up to 125 bytes. Keepalive needs no help.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Send`] when the payload is too long.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.check_full()?;
        self.entry.core.ping(payload, &mut self.local.out)?;
        self.local.counters.sent.pings += 1;
        Ok(())
    }

    /// Starts the closing handshake, behind what waits. What is received from now on is dropped;
    /// [`Handler::closed`](super::Handler::closed) follows, within
    /// [`Config::close_timeout`](crate::Config::close_timeout) at the latest. Closing what is closing is no
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the code or the reason may not be sent (RFC 6455 7.4).
    pub fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.close_with(CloseFrame::new(code, reason))
    }

    pub(crate) fn close_with(&mut self, frame: CloseFrame) -> Result<(), Error> {
        frame.check()?;
        if !self.is_open() {
            return Ok(());
        }
        self.hear();
        self.write_backlog(usize::MAX);
        self.entry.core.close(&frame, &mut self.local.out, self.local.now)?;
        self.entry.held().sent = Some(frame);
        self.local.topics.unsubscribe_all(&mut self.entry.subscriptions);
        Ok(())
    }

    /// Subscribes to a topic; `false` if it was, or is closing.
    pub fn subscribe(&mut self, topic: &str) -> bool {
        if !self.is_open() {
            return false;
        }
        // What was published before is not for it.
        self.hear_from_now_on();
        let Local { topics, slow, .. } = &mut *self.local;
        topics.subscribe(topic, self.key.index, &mut self.entry.subscriptions, || slow(topic))
    }

    /// Unsubscribes; `false` if it was not subscribed.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        // What was published before is.
        self.hear();
        self.local.topics.unsubscribe(topic, &mut self.entry.subscriptions)
    }

    /// Whether it is subscribed.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.local.topics.find(topic).is_some_and(|topic| self.entry.subscriptions.contains(topic))
    }

    /// Publishes a message to all others who are subscribed to `topic`, on all threads: encoded and
    /// compressed once, and delivered at the end of the turn, in the order in which it was published. To
    /// publish it needs not be subscribed itself.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Outgoing<'m>>) {
        self.publish_frame(topic, None, &SharedFrame::new(message), self.key.index);
    }

    /// As [`publish`](Self::publish), to this connection too if it is subscribed.
    pub fn publish_to_all<'m>(&mut self, topic: &str, message: impl Into<Outgoing<'m>>) {
        self.publish_frame(topic, None, &SharedFrame::new(message), NOBODY);
    }

    /// As [`publish`](Self::publish), with a key such as the name of a quote: see
    /// [`SlowConsumer::keep_latest`](super::SlowConsumer::keep_latest).
    pub fn publish_latest<'m>(&mut self, topic: &str, key: &str, message: impl Into<Outgoing<'m>>) {
        self.publish_frame(topic, Some(key.into()), &SharedFrame::new(message), self.key.index);
    }

    /// As [`publish`](Self::publish), of a message that was encoded before.
    pub fn publish_shared(&mut self, topic: &str, frame: &SharedFrame) {
        self.publish_frame(topic, None, frame, self.key.index);
    }

    fn publish_frame(&mut self, topic: &str, key: Option<Arc<str>>, frame: &SharedFrame, except: u32) {
        let others =
            self.local.engine.0.0.iter().enumerate().filter(|(at, _)| *at != usize::from(self.local.at));
        let mut name: Option<Arc<str>> = None;
        for (_, link) in others {
            let topic = Arc::clone(name.get_or_insert_with(|| topic.into()));
            let (key, frame) = (key.clone(), frame.clone());
            let command = super::mailbox::Command::Publish { topic, key, frame, except: None };
            if link.push(command).is_err() {
                self.local.counters.dropped += 1;
            }
        }
        self.publish_beside(topic, key, frame, except);
    }

    /// Publishes to those of its own loop: to all but `except`, which is this connection or nobody.
    fn publish_beside(&mut self, topic: &str, key: Option<Arc<str>>, frame: &SharedFrame, except: u32) {
        if let Some(topic) = self.local.topics.find(topic) {
            if except != NOBODY && self.entry.subscriptions.contains(topic) {
                self.stand_apart();
            }
            self.local.log.push(Logged { topic, frame: frame.clone(), key, except });
        }
    }

    /// Publishes to the others of its own loop.
    pub(crate) fn publish_to_others(&mut self, topic: &str, key: Option<Arc<str>>, frame: &SharedFrame) {
        self.publish_beside(topic, key, frame, self.key.index);
    }

    /// From here on this connection's place in the log is its own.
    pub(crate) fn stand_apart(&mut self) {
        if self.entry.heard == 0 {
            self.local.apart.push(self.key.index);
            self.entry.heard = 1;
        }
    }

    /// Takes what was published in this turn, so that what it is sent now comes behind.
    #[inline]
    pub(crate) fn hear(&mut self) {
        if !self.local.log.entries.is_empty() && !self.entry.subscriptions.is_empty() {
            self.stand_apart();
            self.hear_apart();
        }
    }

    fn hear_from_now_on(&mut self) {
        if !self.local.log.entries.is_empty() {
            self.stand_apart();
            self.hear_apart();
        }
    }

    #[inline(never)]
    pub(crate) fn hear_apart(&mut self) {
        // Out of the way, for it is taken from while the connection is given.
        let log = std::mem::take(&mut self.local.log);
        let from = (self.entry.heard as usize).saturating_sub(1);
        for logged in log.entries.get(from..).unwrap_or_default() {
            if logged.except != self.key.index && self.entry.subscriptions.contains(logged.topic) {
                self.deliver(logged);
            }
        }
        self.entry.heard = log.entries.len() as u32 + 1;
        self.local.log = log;
    }

    /// Gives it a published message: to the outbox, or behind what waits.
    pub(crate) fn deliver(&mut self, logged: &Logged) {
        if !self.is_open() {
            return;
        }
        let (kind, length) = (logged.frame.kind(), logged.frame.payload_len());
        self.local.counters.sent.add(kind, length, true);
        let waits = self
            .entry
            .held
            .as_ref()
            .is_some_and(|held| held.was_blocked || held.paused || !held.backlog.is_empty());
        if !waits {
            // It is open and no message in parts is ever under way here.
            let _ = self.entry.core.send_shared(&logged.frame, &mut self.local.out);
            return;
        }
        let Some(topic) = self.local.topics.get(logged.topic) else { return };
        let (frame, key) = (logged.frame.clone(), logged.key.clone());
        let published = Published { frame, topic: Arc::clone(&topic.name), key, slow: topic.slow };
        let (ahead, now) = (self.local.out.remaining(), self.local.now);
        let relief = self.entry.held().backlog.publish(published, ahead, now);
        self.relieved(relief);
    }

    pub(crate) fn relieved(&mut self, relief: Relief) {
        self.local.counters.dropped += relief.dropped;
        self.local.counters.replaced += relief.replaced;
        if relief.close {
            let Local { out, now, .. } = &mut *self.local;
            self.entry.core.fail(CloseCode::TRY_AGAIN, "slow consumer", out, *now);
            self.entry.end(Err(Error::SlowConsumer));
        }
    }

    /// Moves what waits to the outbox, until that has `most` bytes.
    pub(crate) fn write_backlog(&mut self, most: usize) {
        let Some(held) = &mut self.entry.held else { return };
        while self.local.out.remaining() < most
            && let Some(waiting) = held.backlog.pop()
        {
            let (core, out) = (&mut self.entry.core, &mut self.local.out);
            // What may have become impossible by now, such as a message when the peer has closed, is moot.
            let _ = match waiting {
                Waiting::Direct(message, compress) => core.send_with(message, compress, out),
                Waiting::Shared(frame) | Waiting::Published(Published { frame, .. }) => {
                    core.send_shared(&frame, out)
                }
            };
        }
    }
}

/// What was published from outside of a connection.
pub(crate) fn publish_here(local: &mut Local, topic: &str, key: Option<Arc<str>>, frame: SharedFrame) {
    if let Some(topic) = local.topics.find(topic) {
        local.log.push(Logged { topic, frame, key, except: NOBODY });
    }
}
