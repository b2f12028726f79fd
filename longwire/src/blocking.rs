//! A client for programs without an async runtime: its methods block the calling thread.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ws = longwire::blocking::connect("ws://127.0.0.1:8080/-/echo")?;
//! ws.send("你好 👋")?;
//! while let Some(message) = ws.recv()? {
//!     println!("{message:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! One thread of the library, `longwire-blocking`, serves all such connections. It starts with the first of them,
//! answers Pings, keeps connections alive and finishes closing handshakes while the program does something else. It
//! reads ahead of [`WebSocket::recv`] by [`READ_AHEAD`] bytes and one message. When a peer sends more, it stops
//! reading until the program has received some, and keepalive pauses too.
//!
//! A method that blocks panics in a task of a Tokio runtime, because it would block all tasks of that thread. Use
//! [`crate::WebSocket`] there, or call it in [`spawn_blocking`](tokio::task::spawn_blocking).

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use longwire_proto::{CloseCode, DeflateParameters, Message, Outgoing};
use tokio::runtime::{self, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::client::Client;
use crate::connection::split;
use crate::end::{Closed, ConnectError, Error, SendError};

/// How many bytes of payload are received ahead of the program; each message counts 128 bytes more.
pub const READ_AHEAD: u32 = 256 * 1024;

/// What a message counts besides its payload, so that empty ones are bounded too.
const MESSAGE_COST: usize = 128;

/// Opens a connection with the defaults of [`Client`]. See [`Client::connect_blocking`].
///
/// # Errors
///
/// [`ConnectError`], also when the thread cannot be started.
///
/// # Panics
///
/// Panics in a task of a Tokio runtime.
pub fn connect(url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
    Client::new().connect_blocking(url)
}

impl Client {
    /// As [`connect`](Self::connect), waiting in this thread: see [`blocking`](crate::blocking).
    ///
    /// # Errors
    ///
    /// [`ConnectError`], also when the thread cannot be started.
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn connect_blocking(&self, url: impl AsRef<str>) -> Result<WebSocket, ConnectError> {
        let runtime = runtime()?;
        let ws = runtime.block_on(self.connect(url))?;
        let (subprotocol, deflate) = (ws.subprotocol().map(Into::into), ws.deflate());
        let (sender, receiver) = ws.split();
        let (taken, messages) = mpsc::unbounded_channel();
        let task = runtime.spawn(receive(receiver, taken)).abort_handle();
        let sender = Sender(Arc::new(Connection { sender, runtime, task }));
        let receiver = Receiver { messages, sender: sender.clone(), is_reported: false };
        Ok(WebSocket { sender, receiver, subprotocol, deflate })
    }
}

/// The runtime of all blocking connections, on a thread of its own.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);
    let mut started = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*started {
        return Ok(handle.clone());
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("longwire-blocking".into())
        .spawn(move || runtime.block_on(pending::<()>()))?;
    *started = Some(handle.clone());
    Ok(handle)
}

/// A message, and its share of [`READ_AHEAD`].
type Taken = (Message, OwnedSemaphorePermit);

/// Receives until the connection has ended. Once the receiver is dropped, messages are dropped too, and the
/// connection stays alive for its senders.
async fn receive(mut receiver: split::Receiver, taken: mpsc::UnboundedSender<Taken>) {
    let room = Arc::new(Semaphore::new(READ_AHEAD as usize));
    // The connection itself knows how it ended.
    while let Ok(Some(message)) = receiver.recv().await {
        let cost = u32::try_from(message.len() + MESSAGE_COST).unwrap_or(READ_AHEAD).min(READ_AHEAD);
        let Ok(share) = Arc::clone(&room).acquire_many_owned(cost).await else { return };
        let _ = taken.send((message, share));
    }
}

/// The state that the senders and the receiver of a connection share.
#[derive(Debug)]
struct Connection {
    sender: split::Sender,
    runtime: Handle,
    /// The task that receives; it ends when the last sender and the receiver are dropped.
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An open connection whose methods block the calling thread.
///
/// Dropping it without [`close`](Self::close) ends TCP, and the peer sees 1006.
#[derive(Debug)]
pub struct WebSocket {
    sender: Sender,
    receiver: Receiver,
    subprotocol: Option<Box<str>>,
    deflate: Option<DeflateParameters>,
}

/// Sends on a connection that was [split](WebSocket::split). Clone it for each thread that sends.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Connection>);

/// Receives on a connection that was [split](WebSocket::split). The connection lives until it and all senders
/// are dropped.
#[derive(Debug)]
pub struct Receiver {
    messages: mpsc::UnboundedReceiver<Taken>,
    sender: Sender,
    /// The iterator has yielded the error.
    is_reported: bool,
}

/// Why [`WebSocket::recv_timeout`] returned no message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// No message came in time; the connection goes on.
    Timeout,
    /// The connection has failed.
    Failed(Error),
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no message came in time"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvTimeoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Timeout => None,
            // Its text is that of the error, so its source is its source.
            Self::Failed(error) => error.source(),
        }
    }
}

impl From<Error> for RecvTimeoutError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl WebSocket {
    /// Returns the subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the parameters of permessage-deflate, if it was negotiated (RFC 7692).
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate
    }

    /// Sends a message, and waits until the operating system has taken it: at most for
    /// [`Config::write_timeout`](crate::Config::write_timeout) in which the peer takes nothing.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`](crate::WebSocket::send).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// Queues a message without waiting, as [`Sender::try_send`](crate::Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`Sender::try_send`](crate::Sender::try_send).
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// Queues a message, and waits only for room, as [`Sender::feed`](crate::Sender::feed).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn feed<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.sender.feed(message)
    }

    /// Waits until everything that was queued is written, as [`Sender::flush`](crate::Sender::flush).
    ///
    /// # Errors
    ///
    /// As [`Sender::flush`](crate::Sender::flush).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn flush(&self) -> Result<(), SendError> {
        self.sender.flush()
    }

    /// Sends a Ping with up to 125 bytes, as [`Sender::ping`](crate::Sender::ping).
    ///
    /// # Errors
    ///
    /// As [`Sender::ping`](crate::Sender::ping).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn ping(&self, payload: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.sender.ping(payload)
    }

    /// Receives the next message; waits for it as long as the connection lives.
    ///
    /// `Ok(None)` means that the connection was closed cleanly, here and in every later call; [`closed`](Self::closed)
    /// tells by which end and why.
    ///
    /// # Errors
    ///
    /// Why the connection ended otherwise, in every later call too.
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn recv(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.recv()
    }

    /// Receives the next message like [`recv`](Self::recv), but waits for this long at most. A message that comes later is
    /// not lost.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`].
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Option<Message>, RecvTimeoutError> {
        self.receiver.recv_timeout(time)
    }

    /// Closes the connection, as [`WebSocket::close`](crate::WebSocket::close). Messages that arrive meanwhile are
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::close`](crate::WebSocket::close).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.sender.close(code, reason)?;
        while self.recv()?.is_some() {}
        Ok(())
    }

    /// Returns how the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<Closed> {
        self.sender.closed()
    }

    /// Makes another sender on this connection, for another thread.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Splits the connection into a sender, which can be cloned, and a receiver, for two threads.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// Sends a message, and waits until the operating system has taken it, as [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.0.runtime.block_on(self.0.sender.send(message))
    }

    /// Queues a message, and waits only for room, as [`Sender::feed`](crate::Sender::feed).
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn feed<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.0.runtime.block_on(self.0.sender.feed(message))
    }

    /// Queues a message without waiting, as [`Sender::try_send`](crate::Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`Sender::try_send`](crate::Sender::try_send).
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.0.sender.try_send(message)
    }

    /// Waits until everything that was queued is written, as [`Sender::flush`](crate::Sender::flush).
    ///
    /// # Errors
    ///
    /// As [`Sender::flush`](crate::Sender::flush).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn flush(&self) -> Result<(), SendError> {
        self.0.runtime.block_on(self.0.sender.flush())
    }

    /// Sends a Ping with up to 125 bytes, as [`Sender::ping`](crate::Sender::ping).
    ///
    /// # Errors
    ///
    /// As [`Sender::ping`](crate::Sender::ping).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn ping(&self, payload: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.0.runtime.block_on(self.0.sender.ping(payload))
    }

    /// Sends a Ping, waits for its Pong, and returns the round-trip time, as
    /// [`Sender::round_trip`](crate::Sender::round_trip).
    ///
    /// # Errors
    ///
    /// As [`Sender::round_trip`](crate::Sender::round_trip).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn round_trip(&self) -> Result<Duration, SendError> {
        self.0.runtime.block_on(self.0.sender.round_trip())
    }

    /// Sends a Close frame behind the messages that wait. The receiver learns when the peer has answered.
    ///
    /// # Errors
    ///
    /// As [`Sender::close`](crate::Sender::close).
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        self.0.runtime.block_on(self.0.sender.close(code, reason))
    }

    /// Returns whether nothing can be sent any more, as [`Sender::is_closed`](crate::Sender::is_closed).
    pub fn is_closed(&self) -> bool {
        self.0.sender.is_closed()
    }

    /// Returns the number of bytes that wait to be written, frame headers included.
    pub fn buffered_amount(&self) -> usize {
        self.0.sender.buffered_amount()
    }

    /// Returns how the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<Closed> {
        self.0.sender.closed()
    }
}

impl Receiver {
    /// As [`WebSocket::recv`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::recv`].
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn recv(&mut self) -> Result<Option<Message>, Error> {
        let taken = self.sender.0.runtime.block_on(self.messages.recv());
        self.given(taken)
    }

    /// As [`WebSocket::recv_timeout`].
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`].
    ///
    /// # Panics
    ///
    /// Panics in a task of a Tokio runtime.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Option<Message>, RecvTimeoutError> {
        // Within the runtime, whose clock it is.
        let waits = async { timeout(time, self.messages.recv()).await };
        let taken = self.sender.0.runtime.block_on(waits).map_err(|_| RecvTimeoutError::Timeout)?;
        Ok(self.given(taken)?)
    }

    /// As [`WebSocket::closed`].
    pub fn closed(&self) -> Option<Closed> {
        self.sender.closed()
    }

    /// The message, or how the connection has ended.
    fn given(&self, taken: Option<Taken>) -> Result<Option<Message>, Error> {
        match taken {
            Some((message, _)) => Ok(Some(message)),
            None if self.closed().is_some() => Ok(None),
            None => Err(self.sender.0.sender.failure().unwrap_or(Error::Eof)),
        }
    }
}

/// Yields messages, then an error if the connection did not end by a closing handshake, then `None`.
impl Iterator for Receiver {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_reported {
            return None;
        }
        let received = self.recv().transpose();
        self.is_reported = !matches!(received, Some(Ok(_)));
        received
    }
}

/// As the iterator of a [`Receiver`].
impl Iterator for WebSocket {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.next()
    }
}
