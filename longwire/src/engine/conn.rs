//! A connection in a callback: sending, closing, subscribing, publishing.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Buf;
use longwire_proto::{CloseCode, CloseFrame, DeflateParameters, Outgoing, SharedFrame};

use super::entry::{Entry, Local};
use super::mailbox::command::Command;
use super::mailbox::handle::{ConnHandle, Handle};
use super::mailbox::id::Id;
use super::slab::Key;
use super::socket::layer::Layer;
use super::topics::backlog::{Evicted, Published, Queued};
use super::topics::{Logged, NOBODY};
use crate::end::{Error, SendError};

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

    /// Returns a handle on this connection that can be kept and used from any thread.
    pub fn handle(&self) -> ConnHandle {
        self.engine().conn(self.id())
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
    /// [`SendError::Full`] if [`Config::write_buffer`](crate::Config::write_buffer) bytes wait already:
    /// nothing was queued, and [`Handler::drained`](super::Handler::drained) is called when they are written. There is
    /// always room for one answer to each message that is received: nothing is read from a peer that is so far
    /// behind. [`SendError::Closed`] if the connection is closing.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        let message = message.into();
        let (kind, length) = (message.kind(), message.len());
        if self.check_room()? {
            self.entry.core.send_outgoing(message, &mut self.local.out)?;
        } else {
            self.wait(Queued::Direct(message.into_owned()))?;
        }
        self.local.counters.sent.add(kind, length, true);
        Ok(())
    }

    /// Whether what is sent goes to the outbox, or behind what waits already.
    #[inline]
    fn check_room(&mut self) -> Result<bool, SendError> {
        self.catch_up();
        self.check_full()?;
        Ok(self.entry.held.as_ref().is_none_or(|held| held.backlog.is_empty()))
    }

    #[inline]
    fn check_full(&mut self) -> Result<(), SendError> {
        if self.buffered_amount() < self.entry.core.config().write_buffer.get() {
            return Ok(());
        }
        if self.is_open() {
            // So it is told when there is room.
            self.entry.held().was_blocked = true;
        }
        Err(SendError::Full)
    }

    #[cold]
    fn wait(&mut self, what: Queued) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        let now = self.local.now;
        self.entry.held().backlog.push(what, now);
        Ok(())
    }

    /// Sends a Ping with up to 125 bytes. Keepalive needs no help.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::ControlTooLong`].
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.check_full()?;
        self.entry.core.ping(payload.as_ref(), &mut self.local.out)?;
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
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`].
    pub fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        self.close_with(CloseFrame::new(code, reason))
    }

    pub(crate) fn close_with(&mut self, frame: CloseFrame) -> Result<(), SendError> {
        frame.check()?;
        if !self.is_open() {
            return Ok(());
        }
        self.catch_up();
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
        self.catch_up_before_subscribing();
        let Local { topics, slow, .. } = &mut *self.local;
        topics.subscribe(topic, self.key.index, &mut self.entry.subscriptions, || slow(topic))
    }

    /// Unsubscribes; `false` if it was not subscribed.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        // What was published before is.
        self.catch_up();
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

    fn publish_frame(&mut self, topic: &str, key: Option<Arc<str>>, frame: &SharedFrame, except: u32) {
        let at = self.local.at;
        let others = (0..).zip(self.local.engine.mailboxes().iter()).filter(|(other, _)| *other != at);
        let mut name: Option<Arc<str>> = None;
        for (_, mailbox) in others {
            let topic = Arc::clone(name.get_or_insert_with(|| topic.into()));
            let (key, frame) = (key.clone(), frame.clone());
            let command = Command::Publish { topic, key, frame, except: None };
            if mailbox.push(command).is_err() {
                self.local.counters.dropped += 1;
            }
        }
        self.publish_beside(topic, key, frame, except);
    }

    /// Publishes to those of its own loop: to all but `except`, which is this connection or nobody.
    fn publish_beside(&mut self, topic: &str, key: Option<Arc<str>>, frame: &SharedFrame, except: u32) {
        if let Some(topic) = self.local.topics.find(topic) {
            if except != NOBODY && self.entry.subscriptions.contains(topic) {
                self.leave_batch();
            }
            self.local.log.push(Logged { topic, frame: frame.clone(), key, except });
        }
    }

    /// Publishes to the others of its own loop.
    pub(crate) fn publish_to_others(&mut self, topic: &str, key: Option<Arc<str>>, frame: &SharedFrame) {
        self.publish_beside(topic, key, frame, self.key.index);
    }

    /// From here on this connection's place in the log is its own.
    pub(crate) fn leave_batch(&mut self) {
        if self.entry.log_cursor == 0 {
            self.local.apart.push(self.key.index);
            self.entry.log_cursor = 1;
        }
    }

    /// Takes what was published in this turn, so that what it is sent now comes behind.
    #[inline]
    pub(crate) fn catch_up(&mut self) {
        if !self.local.log.entries.is_empty() && !self.entry.subscriptions.is_empty() {
            self.leave_batch();
            self.deliver_from_log();
        }
    }

    fn catch_up_before_subscribing(&mut self) {
        if !self.local.log.entries.is_empty() {
            self.leave_batch();
            self.deliver_from_log();
        }
    }

    #[inline(never)]
    pub(crate) fn deliver_from_log(&mut self) {
        // Out of the way, for it is taken from while the connection is given.
        let log = std::mem::take(&mut self.local.log);
        let from = (self.entry.log_cursor as usize).saturating_sub(1);
        for logged in log.entries.get(from..).unwrap_or_default() {
            if logged.except != self.key.index && self.entry.subscriptions.contains(logged.topic) {
                self.deliver(logged);
            }
        }
        self.entry.log_cursor = log.entries.len() as u32 + 1;
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
        let evicted = self.entry.held().backlog.publish(published, ahead, now);
        self.relieved(evicted);
    }

    pub(crate) fn relieved(&mut self, evicted: Evicted) {
        self.local.counters.dropped += evicted.dropped;
        self.local.counters.replaced += evicted.replaced;
        if evicted.close {
            let Local { out, now, .. } = &mut *self.local;
            self.entry.core.fail(longwire_proto::Cause::SlowConsumer, out, *now);
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
                Queued::Direct(message) => core.send_outgoing(message, out),
                Queued::Published(Published { frame, .. }) => core.send_shared(&frame, out),
            };
        }
    }
}
