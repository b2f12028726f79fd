//! Between threads: what a loop is told from outside, and who may tell it.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire_proto::{CloseCode, CloseFrame, Compress, Message, Outgoing, SendError, SharedFrame};
use mio::Waker;

use crate::end::Error;
use crate::engine::adopt::{Adoption, Invite};
use crate::engine::conn::Conn;
use crate::engine::slab::Key;
use crate::observe::counters::{Snapshot, Told};

/// Bytes of messages that may wait to be taken by a loop.
const WAITING_MAX: usize = 64 * 1024 * 1024;

/// What each command costs besides, in bytes.
const COMMAND: usize = 128;

/// Names a connection of an [`Engine`](crate::engine::Engine), also after it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    pub(crate) at: u16,
    pub(crate) key: Key,
}

/// Such as `0-17-42`: the loop, the place there, and how many were opened there before.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.at, self.key.index, self.key.generation)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is to be done with a connection, on its thread.
type Act = dyn FnOnce(&mut Conn<'_>) + Send;

/// What a loop is told.
pub(crate) enum Command {
    Begin(TcpStream, SocketAddr),
    /// A task has something for it.
    Look,
    Invite(Box<Invite>),
    Adopt(Adoption),
    Forget(u64),
    Send(Key, Message, Compress),
    SendShared(Key, SharedFrame),
    Close(Key, CloseFrame),
    Subscribe(Key, Arc<str>),
    Unsubscribe(Key, Arc<str>),
    /// To all subscribers but the one that is `except`.
    Publish {
        topic: Arc<str>,
        key: Option<Arc<str>>,
        frame: SharedFrame,
        except: Option<Key>,
    },
    Run(Key, Box<Act>),
    Drain(Drain),
    Stop,
}

impl Command {
    /// Bytes of the message that it brings, if it does, with all names.
    fn message_len(&self) -> Option<usize> {
        match self {
            Self::Send(_, message, _) => Some(message.len()),
            Self::SendShared(_, frame) => Some(frame.payload_len()),
            Self::Publish { topic, key, frame, .. } => {
                Some(frame.payload_len() + topic.len() + key.as_ref().map_or(0, |key| key.len()))
            }
            _ => None,
        }
    }

    fn size(&self) -> usize {
        COMMAND + self.message_len().unwrap_or(0)
    }
}

/// One loop, as others see it.
pub(crate) struct Link {
    queue: Mutex<Queue>,
    waker: Waker,
    pub(crate) told: Arc<Told>,
    /// Its connections, those that are on their way to it included.
    pub(crate) connections: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    bytes: usize,
    /// The loop has ended.
    closed: bool,
}

impl Link {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { queue: Mutex::default(), waker, told: Arc::default(), connections: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No command is half pushed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, command: Command) -> Result<(), Error> {
        let size = command.size();
        let mut queue = self.lock();
        if queue.closed {
            return Err(SendError::Closing.into());
        }
        // What is no message is never refused.
        if command.message_len().is_some() && queue.bytes + size > WAITING_MAX {
            return Err(Error::Full);
        }
        queue.bytes += size;
        let first = queue.commands.is_empty();
        queue.commands.push(command);
        drop(queue);
        if first {
            // It fails when the system is out of memory for a counter: the loop sees the command later then.
            let _ = self.waker.wake();
        }
        Ok(())
    }

    /// The next commands, at most so many, and whether there are more.
    pub(crate) fn take(&self, most: usize) -> (Vec<Command>, bool) {
        let mut queue = self.lock();
        if queue.commands.len() <= most {
            queue.bytes = 0;
            return (std::mem::take(&mut queue.commands), false);
        }
        let rest = queue.commands.split_off(most);
        let taken = std::mem::replace(&mut queue.commands, rest);
        queue.bytes -= taken.iter().map(Command::size).sum::<usize>();
        (taken, true)
    }

    pub(crate) fn end(&self) {
        let mut queue = self.lock();
        *queue = Queue { closed: true, ..Queue::default() };
    }
}

/// All loops of an engine.
pub(crate) struct Links(pub(crate) Box<[Link]>);

/// A handle on an engine that is running: it clones, and may be used from any thread.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Links>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.0.len()).finish()
    }
}

impl Handle {
    /// Publishes a message: everyone who is subscribed to `topic` gets it, encoded and compressed once.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when a loop has 64 MiB of such messages to work off: its connections miss this one.
    /// [`Error::Send`] when the engine has ended.
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.publish_frame(topic, None, &SharedFrame::new(message), None)
    }

    /// As [`publish`](Self::publish), with a key such as the name of a quote: see
    /// [`SlowConsumer::keep_latest`](crate::engine::SlowConsumer::keep_latest).
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_latest<'m>(
        &self,
        topic: &str,
        key: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), Error> {
        self.publish_frame(topic, Some(key.into()), &SharedFrame::new(message), None)
    }

    /// As [`publish`](Self::publish), of a message that was encoded before.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_shared(&self, topic: &str, frame: &SharedFrame) -> Result<(), Error> {
        self.publish_frame(topic, None, frame, None)
    }

    /// As [`publish_shared`](Self::publish_shared), to all but one connection, and with the key of
    /// [`publish_latest`](Self::publish_latest) if there is one.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_except(
        &self,
        topic: &str,
        key: Option<&str>,
        frame: &SharedFrame,
        except: Option<Id>,
    ) -> Result<(), Error> {
        self.publish_frame(topic, key.map(Into::into), frame, except)
    }

    fn publish_frame(
        &self,
        topic: &str,
        key: Option<Arc<str>>,
        frame: &SharedFrame,
        except: Option<Id>,
    ) -> Result<(), Error> {
        let topic: Arc<str> = topic.into();
        let mut result = Ok(());
        // One that is full takes nothing from the others.
        for (at, link) in self.0.0.iter().enumerate() {
            let (topic, key, frame) = (Arc::clone(&topic), key.clone(), frame.clone());
            let except = except.filter(|id| usize::from(id.at) == at).map(|id| id.key);
            result = result.and(link.push(Command::Publish { topic, key, frame, except }));
        }
        result
    }

    /// The connection of this name.
    pub fn peer(&self, id: Id) -> Peer {
        Peer { links: Arc::clone(&self.0), id }
    }

    /// What the engine has done so far; as each loop has told at the end of its last turn.
    pub fn counters(&self) -> Snapshot {
        Snapshot::of(&self.0.0.iter().map(|link| &*link.told).collect::<Vec<_>>())
    }

    /// Stops accepting, closes every connection, and ends when they are closed.
    pub fn drain(&self, drain: &Drain) {
        self.tell_all(|| Command::Drain(drain.clone()));
    }

    /// Ends at once, without a word to the connections.
    pub fn stop(&self) {
        self.tell_all(|| Command::Stop);
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for link in &self.0.0 {
            // A loop that has ended needs not be told.
            let _ = link.push(command());
        }
    }
}

/// How an engine comes to its end in peace.
///
/// ```
/// use std::time::Duration;
/// use longwire::engine::Drain;
///
/// // Clients reconnect when they are told 1012; spread, so that they do not come all at once.
/// let drain = Drain::new(1012, "restart").spread(Duration::from_secs(20));
/// ```
#[derive(Clone, Debug)]
pub struct Drain {
    pub(crate) frame: CloseFrame,
    pub(crate) spread: Duration,
    pub(crate) timeout: Duration,
}

impl Default for Drain {
    /// Closes all with 1001 at once.
    fn default() -> Self {
        Self::new(CloseCode::GOING_AWAY, "")
    }
}

impl Drain {
    /// Closes with this code and reason: 1001 for an end, 1012 for a restart. A code that may not be sent
    /// (RFC 6455 7.4) goes as 1001, and of the reason at most 123 bytes.
    pub fn new(code: impl Into<CloseCode>, reason: &str) -> Self {
        let code = code.into();
        let code = if code.is_sendable() { code } else { CloseCode::GOING_AWAY };
        let reason = &reason[..reason.floor_char_boundary(longwire_proto::MAX_REASON)];
        let frame = CloseFrame::new(code, reason);
        Self { frame, spread: Duration::ZERO, timeout: Duration::from_secs(5) }
    }

    /// Closes one after the other, the last one after this time; default at once.
    #[must_use]
    pub const fn spread(mut self, time: Duration) -> Self {
        self.spread = time;
        self
    }

    /// How long closing handshakes and HTTP requests may take behind that; default 5 s. What is still
    /// there then is dropped.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }
}

/// A connection of an engine, from wherever: it clones, and may be used from any thread.
///
/// What it is told takes effect on the connection's own thread, in order. Nothing here says whether the
/// connection is still there by then.
#[derive(Clone)]
pub struct Peer {
    links: Arc<Links>,
    id: Id,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.id).finish()
    }
}

impl Peer {
    /// Its name.
    pub const fn id(&self) -> Id {
        self.id
    }

    fn tell(&self, command: Command) -> Result<(), Error> {
        match self.links.0.get(usize::from(self.id.at)) {
            Some(link) => link.push(command),
            None => Err(SendError::Closing.into()),
        }
    }

    /// Sends a message. One for which the connection has no room, as
    /// [`Conn::send`](crate::engine::Conn::send) says, is dropped and [counted](Snapshot::dropped).
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when the loop has 64 MiB of such messages to work off, [`Error::Send`] when the
    /// engine has ended.
    pub fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.send_with(message, Compress::Auto)
    }

    /// As [`send`](Self::send), with a word on the compression of this message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_with<'m>(&self, message: impl Into<Outgoing<'m>>, compress: Compress) -> Result<(), Error> {
        self.tell(Command::Send(self.id.key, message.into().into_message(), compress))
    }

    /// As [`send`](Self::send), of a message that was encoded once for many.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_shared(&self, frame: &SharedFrame) -> Result<(), Error> {
        self.tell(Command::SendShared(self.id.key, frame.clone()))
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the code or the reason may not be sent, or the engine has ended.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        self.tell(Command::Close(self.id.key, frame))
    }

    /// Does anything with the connection, on its thread, which it must not block.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the engine has ended.
    pub fn run(&self, act: impl FnOnce(&mut Conn<'_>) + Send + 'static) -> Result<(), Error> {
        self.tell(Command::Run(self.id.key, Box::new(act)))
    }

    /// Subscribes the connection to a topic.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the engine has ended.
    pub fn subscribe(&self, topic: &str) -> Result<(), Error> {
        self.tell(Command::Subscribe(self.id.key, topic.into()))
    }

    /// Unsubscribes it.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the engine has ended.
    pub fn unsubscribe(&self, topic: &str) -> Result<(), Error> {
        self.tell(Command::Unsubscribe(self.id.key, topic.into()))
    }
}

/// The loop with the fewest connections, if it has so many fewer than loop `at` that it is worth the way.
pub(crate) fn less_busy(links: &Links, at: usize) -> Option<usize> {
    let connections = |link: &Link| link.connections.load(Ordering::Relaxed);
    let mine = connections(&links.0[at]);
    let (least, fewest) =
        links.0.iter().map(connections).enumerate().min_by_key(|(_, connections)| *connections)?;
    (mine > fewest + 2 + fewest / 32).then_some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_makes_room() {
        let poll = mio::Poll::new().unwrap();
        let link = Link::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let frame = SharedFrame::new("x".repeat(1000));
        let publish = || {
            link.push(Command::Publish { topic: "题".into(), key: None, frame: frame.clone(), except: None })
        };
        let fit = std::iter::from_fn(|| publish().ok()).count();
        assert!(matches!(publish(), Err(Error::Full)));
        let (taken, more) = link.take(100);
        assert_eq!((taken.len(), more), (100, true));
        assert_eq!(std::iter::from_fn(|| publish().ok()).count(), 100);
        link.push(Command::Stop).unwrap();
        assert_eq!(link.take(usize::MAX).0.len(), fit + 1);
        assert_eq!(link.lock().bytes, 0);
    }
}
