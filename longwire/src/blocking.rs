//! The client for programs without a runtime: calls that wait in the thread that makes them.
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
//! All such connections live on one thread of the library's, `longwire-blocking`, which starts with the first of
//! them: it answers Pings, keeps connections alive and finishes closing handshakes while nobody calls. It reads
//! ahead of [`WebSocket::recv`] by [`READ_AHEAD`] bytes and one message; a peer that sends more is not read from
//! until they are taken, and its keepalive waits as long.
//!
//! Every call that waits panics in a task of a Tokio runtime, which it would hold up: use [`crate::WebSocket`]
//! there, or [`spawn_blocking`](tokio::task::spawn_blocking), where it may wait.

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

/// How much is received before it is asked for, in bytes of payload; each message counts 128 bytes besides.
pub const READ_AHEAD: u32 = 256 * 1024;

/// What a message counts besides its payload: so empty ones are bounded too.
const MESSAGE_COST: usize = 128;

/// Opens a connection with the defaults of [`Client`]. See [`Client::connect_blocking`].
///
/// # Errors
///
/// [`ConnectError`], also when the thread cannot be started.
///
/// # Panics
///
/// In a task of a Tokio runtime.
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
    /// In a task of a Tokio runtime.
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

/// Receives until the connection has ended. When nobody takes messages any more they are dropped, and the
/// connection is kept alive for those who send.
async fn receive(mut receiver: split::Receiver, taken: mpsc::UnboundedSender<Taken>) {
    let room = Arc::new(Semaphore::new(READ_AHEAD as usize));
    // How it ends is kept by the connection itself.
    while let Ok(Some(message)) = receiver.recv().await {
        let cost = u32::try_from(message.len() + MESSAGE_COST).unwrap_or(READ_AHEAD).min(READ_AHEAD);
        let Ok(share) = Arc::clone(&room).acquire_many_owned(cost).await else { return };
        let _ = taken.send((message, share));
    }
}

/// What all hands on a connection share.
#[derive(Debug)]
struct Connection {
    sender: split::Sender,
    runtime: Handle,
    /// The task that receives; it ends with the last that may use the connection.
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An open connection, used by a thread that waits.
///
/// Dropped without [`close`](Self::close), it ends TCP, and the peer sees 1006.
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

/// Why [`WebSocket::recv_timeout`] has no message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// None came in time; the connection goes on.
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
    /// The subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// How messages are compressed, if that was negotiated (RFC 7692).
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
    /// In a task of a Tokio runtime.
    pub fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// Receives the next message; waits for it as long as the connection lives.
    ///
    /// `Ok(None)`: the connection was closed by a closing handshake; [`closed`](Self::closed) says by whom and
    /// why. It stays so.
    ///
    /// # Errors
    ///
    /// The typed cause of any other end; it stays so too.
    ///
    /// # Panics
    ///
    /// In a task of a Tokio runtime.
    pub fn recv(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.recv()
    }

    /// As [`recv`](Self::recv), for this long at most. What comes later is not lost.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`].
    ///
    /// # Panics
    ///
    /// In a task of a Tokio runtime.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Option<Message>, RecvTimeoutError> {
        self.receiver.recv_timeout(time)
    }

    /// Closes the connection, as [`WebSocket::close`](crate::WebSocket::close): messages that come meanwhile are
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::close`](crate::WebSocket::close).
    ///
    /// # Panics
    ///
    /// In a task of a Tokio runtime.
    pub fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.sender.close(code, reason)?;
        while self.recv()?.is_some() {}
        Ok(())
    }

    /// How the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<Closed> {
        self.sender.closed()
    }

    /// Another sender on this connection, for another thread.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Splits into a sender that clones and a receiver, for two threads.
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
    /// In a task of a Tokio runtime.
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
    /// In a task of a Tokio runtime.
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
