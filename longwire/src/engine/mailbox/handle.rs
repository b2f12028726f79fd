//! The public handles: on the engine and on one connection, usable from any thread.

use std::fmt;
use std::sync::Arc;

use longwire_proto::{CloseCode, CloseFrame, Outgoing, SharedFrame};

use super::command::Command;
use super::id::Id;
use super::{Mailbox, Mailboxes};
use crate::connection::Shutdown;
use crate::end::SendError;
use crate::engine::conn::Conn;
use crate::observe::counters::Snapshot;

/// A handle on a running engine. Clones refer to the same engine, and any thread may use them.
#[derive(Clone)]
pub struct Handle {
    mailboxes: Arc<Mailboxes>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.mailboxes.len()).finish()
    }
}

impl Handle {
    pub(in crate::engine) const fn new(mailboxes: Arc<Mailboxes>) -> Self {
        Self { mailboxes }
    }

    /// The mailbox of a loop of this engine.
    pub(in crate::engine) fn mailbox(&self, at: u16) -> &Mailbox {
        self.mailboxes.of(at)
    }

    pub(in crate::engine) fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    /// Publishes a message to all subscribers of `topic`. It is encoded and compressed once.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if 64 MiB of messages already wait for one of the loops: the subscribers on that loop miss this
    /// message. [`SendError::Closed`] if the engine has stopped.
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.publish_frame(topic, None, &SharedFrame::new(message), None)
    }

    /// Like [`publish`](Self::publish), with a key such as a stock symbol: see
    /// [`SlowConsumer::keep_latest`](crate::engine::SlowConsumer::keep_latest).
    ///
    /// # Errors
    ///
    /// The same as [`publish`](Self::publish).
    pub fn publish_latest<'m>(
        &self,
        topic: &str,
        key: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), SendError> {
        self.publish_frame(topic, Some(key.into()), &SharedFrame::new(message), None)
    }

    /// Like [`publish`](Self::publish), to all subscribers but one, and with the key of
    /// [`publish_latest`](Self::publish_latest) if there is one.
    ///
    /// # Errors
    ///
    /// The same as [`publish`](Self::publish).
    pub fn publish_except<'m>(
        &self,
        topic: &str,
        key: Option<&str>,
        message: impl Into<Outgoing<'m>>,
        except: Option<Id>,
    ) -> Result<(), SendError> {
        self.publish_frame(topic, key.map(Into::into), &SharedFrame::new(message), except)
    }

    fn publish_frame(
        &self,
        topic: &str,
        key: Option<Arc<str>>,
        frame: &SharedFrame,
        except: Option<Id>,
    ) -> Result<(), SendError> {
        let topic: Arc<str> = topic.into();
        let mut result = Ok(());
        // A full mailbox does not keep the other loops from receiving the message.
        for (at, mailbox) in (0..).zip(self.mailboxes.iter()) {
            let (topic, key, frame) = (Arc::clone(&topic), key.clone(), frame.clone());
            let except = except.filter(|id| id.at == at).map(|id| id.key);
            result = result.and(mailbox.push(Command::Publish { topic, key, frame, except }));
        }
        result
    }

    /// Returns a handle on the connection with this identifier, whether or not it is still open.
    pub fn conn(&self, id: Id) -> ConnHandle {
        ConnHandle { engine: self.clone(), id }
    }

    /// Returns the engine's counters. Each loop updates them at the end of an iteration.
    pub fn counters(&self) -> Snapshot {
        Snapshot::of(&self.mailboxes.iter().map(|mailbox| &*mailbox.totals).collect::<Vec<_>>())
    }

    /// Shuts the engine down gracefully: it stops accepting, sends every connection a Close frame, and stops when all
    /// connections have closed, or after [`Shutdown::timeout`]. Returns at once; wait with
    /// [`Running::wait`](crate::engine::Running::wait) or [`ended`](crate::engine::Running::ended).
    ///
    /// HTTP requests in progress count as connections. A second call changes nothing.
    pub fn shutdown(&self, shutdown: Shutdown) {
        self.push_to_all(|| Command::Shutdown(shutdown.clone()));
    }

    /// Stops the engine at once. Connections are dropped without a Close frame.
    pub fn stop(&self) {
        self.push_to_all(|| Command::Stop);
    }

    fn push_to_all(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            // The mailbox of a loop that has stopped refuses it, which is what the command is for.
            let _ = mailbox.push(command());
        }
    }
}

/// A handle on one connection of an engine. Clones refer to the same connection, and any thread may use them.
///
/// Calls take effect on the connection's own thread, in the order in which they were made. They do nothing if the
/// connection has ended by then, and their results do not say so.
#[derive(Clone)]
pub struct ConnHandle {
    engine: Handle,
    id: Id,
}

impl fmt::Debug for ConnHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnHandle").field(&self.id).finish()
    }
}

impl ConnHandle {
    /// Returns the connection's identifier.
    pub const fn id(&self) -> Id {
        self.id
    }

    fn push(&self, command: Command) -> Result<(), SendError> {
        match self.engine.mailboxes.get(self.id.at) {
            Some(mailbox) => mailbox.push(command),
            // The identifier is another engine's.
            None => Err(SendError::Closed),
        }
    }

    /// Sends a message. If the connection's write buffer is full, as in [`Conn::send`], the message is dropped and
    /// [counted](Snapshot::dropped).
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if 64 MiB of messages already wait for the connection's loop, [`SendError::Closed`] if the engine
    /// has stopped.
    pub fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.push(Command::Send(self.id.key, message.into().into_owned()))
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`]; [`SendError::Closed`] if the engine has stopped.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        self.push(Command::Close(self.id.key, frame))
    }

    /// Calls `act` with the connection on the connection's thread, which `act` must not block.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the engine has stopped.
    pub fn run(&self, act: impl FnOnce(&mut Conn<'_>) + Send + 'static) -> Result<(), SendError> {
        self.push(Command::Run(self.id.key, Box::new(act)))
    }

    /// Subscribes the connection to a topic.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the engine has stopped.
    pub fn subscribe(&self, topic: &str) -> Result<(), SendError> {
        self.push(Command::Subscribe(self.id.key, topic.into()))
    }

    /// Unsubscribes the connection from a topic.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the engine has stopped.
    pub fn unsubscribe(&self, topic: &str) -> Result<(), SendError> {
        self.push(Command::Unsubscribe(self.id.key, topic.into()))
    }
}
