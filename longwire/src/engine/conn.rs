//! A connection in a callback: sending, closing, subscribing, publishing.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Buf;
use longwire_proto::{Cause, CloseCode, CloseFrame, DeflateParameters, Outgoing, SharedFrame};

use super::entry::{Entry, Local};
use super::mailbox::command::Command;
use super::mailbox::handle::{ConnHandle, Handle};
use super::mailbox::id::Id;
use super::slab::Key;
use super::socket::Layer;
use super::topics::backlog::{Evicted, Published, Queued};
use super::topics::log::{LogCursor, Logged};
use crate::end::SendError;

/// A connection, as callbacks get it.
pub struct Conn<'a> {
    pub(super) key: Key,
    pub(super) entry: &'a mut Entry,
    pub(super) stream: &'a TcpStream,
    pub(super) local: &'a mut Local,
}

impl std::fmt::Debug for Conn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Conn").field(&self.id()).finish()
    }
}

impl Conn<'_> {
    /// Returns the connection's identifier.
    pub const fn id(&self) -> Id {
        Id { at: self.local.at, key: self.key }
    }

    /// Returns a handle on this connection that can be kept and used from any thread.
    pub fn handle(&self) -> ConnHandle {
        self.engine().conn(self.id())
    }

    /// Returns a handle on the engine.
    pub fn engine(&self) -> Handle {
        self.local.engine.clone()
    }

    /// Returns the address of the socket's remote end. Behind a proxy that is the proxy's; see
    /// [`Engine::trusted_proxies`](super::Engine::trusted_proxies) for the client's.
    ///
    /// # Errors
    ///
    /// The error of the operating system, for example if the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.entry.buffers.as_ref().and_then(|buffers| buffers.layer.as_ref()) {
            Some(Layer::Carried(carried)) => Ok(carried.from),
            _ => self.stream.peer_addr(),
        }
    }

    /// Returns the negotiated compression parameters (RFC 7692); `None` if compression was not negotiated.
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.entry.core.deflate()
    }

    /// Returns whether messages can be sent: no Close frame was sent or received, and nothing has failed.
    pub const fn is_open(&self) -> bool {
        self.entry.core.is_open()
    }

    /// Returns the number of bytes that wait to be written.
    pub fn buffered_amount(&self) -> usize {
        self.local.out.remaining() + self.entry.buffers.as_ref().map_or(0, |buffers| buffers.backlog.bytes())
    }

    /// Queues a message. Everything that is queued is written together, once all that was read is processed.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if [`Config::write_buffer`](crate::Config::write_buffer) bytes are already queued: the message
    /// was not queued, and the engine calls [`Handler::drained`](super::Handler::drained) when everything is written.
    /// One reply to each received message always has room, because the engine stops reading from a connection whose
    /// write buffer is full. [`SendError::Closed`] if the connection is closing.
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

    /// Whether a message goes to the outbox; if not, it goes behind the backlog.
    #[inline]
    fn check_room(&mut self) -> Result<bool, SendError> {
        self.catch_up();
        self.check_full()?;
        Ok(self.entry.buffers.as_ref().is_none_or(|buffers| buffers.backlog.is_empty()))
    }

    #[inline]
    fn check_full(&mut self) -> Result<(), SendError> {
        if self.buffered_amount() < self.entry.core.config().write_buffer.get() {
            return Ok(());
        }
        if self.is_open() {
            // The application waits for `drained` now.
            self.entry.buffers_mut().was_blocked = true;
        }
        Err(SendError::Full)
    }

    #[cold]
    fn wait(&mut self, message: Queued) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        let now = self.local.now;
        self.entry.buffers_mut().backlog.push(message, now);
        Ok(())
    }

    /// Sends a Ping with up to 125 bytes of payload. Keepalive sends its own.
    ///
    /// # Errors
    ///
    /// The same as [`send`](Self::send), and [`SendError::ControlTooLong`] if the payload is too long.
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.check_full()?;
        self.entry.core.ping(payload.as_ref(), &mut self.local.out)?;
        self.local.counters.sent.pings += 1;
        Ok(())
    }

    /// Starts the closing handshake, behind the messages that are queued. Messages that still arrive are discarded. The
    /// engine calls [`Handler::closed`](super::Handler::closed) within
    /// [`Config::close_timeout`](crate::Config::close_timeout). Does nothing if the connection is closing.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`] (RFC 6455 7.4, 5.5).
    pub fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        self.close_with(CloseFrame::new(code, reason))
    }

    pub(super) fn close_with(&mut self, frame: CloseFrame) -> Result<(), SendError> {
        frame.check()?;
        if !self.is_open() {
            return Ok(());
        }
        self.catch_up();
        self.write_backlog(usize::MAX);
        self.entry.core.close(&frame, &mut self.local.out, self.local.now)?;
        self.local.topics.unsubscribe_all(&mut self.entry.subscriptions);
        Ok(())
    }

    /// Subscribes the connection to a topic. Returns `false` if it already is, or is closing.
    pub fn subscribe(&mut self, topic: &str) -> bool {
        if !self.is_open() {
            return false;
        }
        // It does not get what was published before it subscribed.
        if !self.local.log.is_empty() {
            self.leave_batch();
            self.deliver_log();
        }
        let Local { topics, slow, .. } = &mut *self.local;
        topics.subscribe(topic, self.key.index, &mut self.entry.subscriptions, || slow(topic))
    }

    /// Unsubscribes the connection from a topic. Returns `false` if it was not subscribed.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        // It gets what was published before it unsubscribed.
        self.catch_up();
        self.local.topics.unsubscribe(topic, &mut self.entry.subscriptions)
    }

    /// Returns whether the connection is subscribed to a topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.local.topics.find(topic).is_some_and(|topic| self.entry.subscriptions.contains(topic))
    }

    /// Publishes a message to all other subscribers of `topic`, on all threads. This connection need not be subscribed.
    ///
    /// The message is encoded and compressed once. It is delivered at the end of the loop's iteration, and each
    /// subscriber gets messages of one publisher in the order in which they were published.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Outgoing<'m>>) {
        self.publish_frame(topic, None, &SharedFrame::new(message), Some(self.key.index));
    }

    /// Like [`publish`](Self::publish), but this connection gets the message too if it is subscribed.
    pub fn publish_to_all<'m>(&mut self, topic: &str, message: impl Into<Outgoing<'m>>) {
        self.publish_frame(topic, None, &SharedFrame::new(message), None);
    }

    /// Like [`publish`](Self::publish), with a key such as a stock symbol: see
    /// [`SlowConsumer::keep_latest`](super::SlowConsumer::keep_latest).
    pub fn publish_latest<'m>(&mut self, topic: &str, key: &str, message: impl Into<Outgoing<'m>>) {
        self.publish_frame(topic, Some(key.into()), &SharedFrame::new(message), Some(self.key.index));
    }

    fn publish_frame(
        &mut self,
        topic: &str,
        key: Option<Arc<str>>,
        frame: &SharedFrame,
        except: Option<u32>,
    ) {
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
        self.publish_in_loop(topic, key, frame, except);
    }

    /// Publishes to the subscribers of this connection's loop; `except` is this connection, if it is not to get the
    /// message.
    fn publish_in_loop(
        &mut self,
        topic: &str,
        key: Option<Arc<str>>,
        frame: &SharedFrame,
        except: Option<u32>,
    ) {
        if let Some(topic) = self.local.topics.find(topic) {
            if except.is_some() && self.entry.subscriptions.contains(topic) {
                self.leave_batch();
            }
            self.local.log.push(Logged { topic, frame: frame.clone(), key, except });
        }
    }

    /// Publishes to the other subscribers of this connection's loop.
    pub(super) fn publish_to_others_in_loop(
        &mut self,
        topic: &str,
        key: Option<Arc<str>>,
        frame: &SharedFrame,
    ) {
        self.publish_in_loop(topic, key, frame, Some(self.key.index));
    }

    /// From here on this connection gets the log by itself: what it is to get is no longer what its topic's batch is.
    fn leave_batch(&mut self) {
        if self.entry.log_cursor.is_none() {
            self.local.individual.push(self.key.index);
            self.entry.log_cursor = Some(LogCursor::START);
        }
    }

    /// Delivers what was published before, so that what is sent now comes behind it.
    #[inline]
    fn catch_up(&mut self) {
        if !self.local.log.is_empty() && !self.entry.subscriptions.is_empty() {
            self.leave_batch();
            self.deliver_log();
        }
    }

    /// Delivers what the connection has not got yet of the log.
    #[inline(never)]
    pub(super) fn deliver_log(&mut self) {
        let Some(cursor) = self.entry.log_cursor else { return };
        // Out of the way, for delivering borrows the rest of `local`. It publishes nothing.
        let log = std::mem::take(&mut self.local.log);
        let (entries, end) = log.after(cursor);
        for logged in entries {
            if logged.except != Some(self.key.index) && self.entry.subscriptions.contains(logged.topic) {
                self.deliver(logged);
            }
        }
        self.entry.log_cursor = Some(end);
        self.local.log = log;
    }

    /// Queues a published message in the outbox, or in the backlog of a connection that does not keep up.
    fn deliver(&mut self, logged: &Logged) {
        if !self.is_open() {
            return;
        }
        let (kind, length) = (logged.frame.kind(), logged.frame.payload_len());
        self.local.counters.sent.add(kind, length, true);
        let keeps_up =
            self.entry.buffers.as_ref().is_none_or(|buffers| {
                !buffers.was_blocked && !buffers.is_paused && buffers.backlog.is_empty()
            });
        if keeps_up {
            // It cannot fail: the connection is open, and the engine sends no messages in parts.
            let _ = self.entry.core.send_shared(&logged.frame, &mut self.local.out);
            return;
        }
        let Some(topic) = self.local.topics.get(logged.topic) else { return };
        let (frame, key) = (logged.frame.clone(), logged.key.clone());
        let published = Published { frame, topic: Arc::clone(&topic.name), key, slow: topic.slow };
        let (ahead, now) = (self.local.out.remaining(), self.local.now);
        let evicted = self.entry.buffers_mut().backlog.publish(published, ahead, now);
        self.evict(evicted);
    }

    /// Acts upon what a backlog had to give up.
    pub(super) fn evict(&mut self, evicted: Evicted) {
        self.local.counters.dropped += evicted.dropped;
        self.local.counters.replaced += evicted.replaced;
        if evicted.close {
            let Local { out, now, .. } = &mut *self.local;
            self.entry.core.fail(Cause::SlowConsumer, out, *now);
        }
    }

    /// Moves the backlog to the outbox, until that has `most` bytes.
    pub(super) fn write_backlog(&mut self, most: usize) {
        let Some(buffers) = &mut self.entry.buffers else { return };
        while self.local.out.remaining() < most
            && let Some(waiting) = buffers.backlog.pop()
        {
            let (core, out) = (&mut self.entry.core, &mut self.local.out);
            // A message that can no longer be sent, because the connection has been closed meanwhile, is dropped.
            let _ = match waiting {
                Queued::Direct(message) => core.send_outgoing(message, out),
                Queued::Published(Published { frame, .. }) => core.send_shared(&frame, out),
            };
        }
    }
}
