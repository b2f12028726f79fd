//! A client connection with callbacks: the [`Listener`], and the [`Handle`] of its connection.
//!
//! For applications that are built around callbacks, like those that use OkHttp's `WebSocketListener` on Android. The
//! callbacks come in the same order:
//!
//! ```text
//! on_open?  on_message*  on_closing?  (on_closed | on_failure)
//! ```
//!
//! ```
//! use longwire::listener::{Failure, Handle, Listener};
//! use longwire::{Client, Closed, Message, WebSocket};
//!
//! struct Greeter;
//!
//! impl Listener for Greeter {
//!     fn on_open(&mut self, handle: &Handle, _: &WebSocket) {
//!         // It fails when too much waits already.
//!         let _ = handle.send("大家好 👋");
//!     }
//!
//!     fn on_message(&mut self, handle: &Handle, message: Message) {
//!         println!("{message:?}");
//!         let _ = handle.close(1000, "that is all");
//!     }
//!
//!     fn on_closed(&mut self, _: &Handle, closed: Closed) {
//!         println!("closed: {closed:?}");
//!     }
//!
//!     fn on_failure(&mut self, _: &Handle, failure: Failure) {
//!         println!("failed: {failure}");
//!     }
//! }
//!
//! # async fn example() {
//! let handle = Client::new().listen("ws://127.0.0.1:8080/room", Greeter);
//! # }
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use longwire_proto::{CloseCode, CloseFrame, Message, Outgoing};

use crate::client::Client;
use crate::connection::WebSocket;
use crate::end::{Closed, ConnectError, Error, Response, SendError};

/// What a message that waits without a frame counts besides its payload, in bytes: so empty ones are bounded too.
const MESSAGE_COST: usize = 128;

/// The callbacks of one connection. One task calls them, one after the other.
///
/// [`on_closed`](Self::on_closed) or [`on_failure`](Self::on_failure) is always the last, unless the runtime ends
/// before. A callback must not block: the keepalive of its connection and the other tasks of its thread wait for it.
///
/// A callback that panics closes the connection with 1011; `on_failure` follows with [`Error::Panicked`].
pub trait Listener: Send + 'static {
    /// Called when the connection is open, once and before all others, unless connecting fails. `ws` tells what was
    /// negotiated.
    fn on_open(&mut self, handle: &Handle, ws: &WebSocket) {
        let _ = (handle, ws);
    }

    /// Called for each message, also after [`Handle::close`] until the peer has answered.
    fn on_message(&mut self, handle: &Handle, message: Message) {
        let _ = (handle, message);
    }

    /// Called at most once, when the peer's Close frame was received, whichever end began: no message follows. The
    /// answer is sent automatically (RFC 6455 5.5.1); messages that wait in the queue of the handle are dropped.
    fn on_closing(&mut self, handle: &Handle, closed: &Closed) {
        let _ = (handle, closed);
    }

    /// Called when both ends have closed and the socket is released. Always preceded by
    /// [`on_closing`](Self::on_closing).
    fn on_closed(&mut self, handle: &Handle, closed: Closed) {
        let _ = (handle, closed);
    }

    /// Called when connecting has failed, or the connection ended without a closing handshake: messages of either end
    /// may be lost.
    fn on_failure(&mut self, handle: &Handle, failure: Failure) {
        let _ = (handle, failure);
    }
}

/// Why a [`Listener`]'s connection failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The connection was not opened.
    Connect(ConnectError),
    /// The connection was open, and ended without a closing handshake.
    Connection(Error),
    /// [`Handle::cancel`] was called.
    Cancelled,
}

impl Failure {
    /// Returns the answer of the server, if it refused the connection.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Connect(ConnectError::Refused(response)) => Some(response),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Connection(error) => error.fmt(f),
            Self::Cancelled => f.write_str("the connection was cancelled"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Their text is that of the error within, so their source is its source.
            Self::Connect(error) => error.source(),
            Self::Connection(error) => error.source(),
            Self::Cancelled => None,
        }
    }
}

/// Sends on a [`Listener`]'s connection and closes it, from any thread. Clones are handles of the same connection;
/// dropping them does not close it.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    /// [`Config::write_buffer`](crate::Config::write_buffer).
    limit: usize,
    queue: Mutex<Queue>,
}

/// What was asked of the handles and the task has not done yet.
#[derive(Default)]
struct Queue {
    messages: VecDeque<Outgoing<'static>>,
    /// What `messages` count.
    bytes: usize,
    /// Bytes that wait in the connection's own buffer.
    outbox: usize,
    /// To be sent behind `messages`.
    close: Option<CloseFrame>,
    /// Nothing more is taken.
    refuses: bool,
    is_cancelled: bool,
    task: Option<Waker>,
}

impl Queue {
    const fn size(&self) -> usize {
        self.bytes + self.outbox
    }

    /// Something is to be handed over.
    fn is_waiting(&self) -> bool {
        !self.messages.is_empty() || self.close.is_some()
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Nothing that waits will be sent, nor what comes.
    fn refuse(&mut self) {
        self.refuses = true;
        self.messages = VecDeque::new();
        self.bytes = 0;
        self.close = None;
    }

    fn pop(&mut self) -> Option<Outgoing<'static>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len() + MESSAGE_COST;
        Some(message)
    }

    fn register(&mut self, cx: &Context<'_>) {
        match &mut self.task {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("queue_size", &self.queue_size()).finish_non_exhaustive()
    }
}

impl Handle {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message without waiting. It is sent as soon as the connection is open and has room for it.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`Config::write_buffer`](crate::Config::write_buffer) bytes or more wait: nothing was
    /// queued, and the connection goes on. (OkHttp closes it with 1001 then; do so if no message must be
    /// left out.) [`SendError::Closed`] if the connection is closing or over.
    pub fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        let message = message.into().into_owned();
        let mut queue = self.queue();
        if queue.refuses {
            return Err(SendError::Closed);
        }
        if queue.size() >= self.0.limit {
            return Err(SendError::Full);
        }
        queue.bytes += message.len() + MESSAGE_COST;
        queue.messages.push_back(message);
        queue.wake();
        Ok(())
    }

    /// Closes the connection: sends the queued messages, then a Close frame. The listener is told how it ended within
    /// [`Config::close_timeout`](crate::Config::close_timeout) of that. Messages cannot be sent from now on.
    /// Closing a connection that is closing or over is no error.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`]; the connection then goes on.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        let mut queue = self.queue();
        if !queue.refuses {
            queue.refuses = true;
            queue.close = Some(frame);
            queue.wake();
        }
        Ok(())
    }

    /// Ends the connection at once, without a Close frame, and drops the queued messages. The listener is told
    /// [`Failure::Cancelled`], unless its connection was over already.
    pub fn cancel(&self) {
        let mut queue = self.queue();
        queue.refuse();
        queue.is_cancelled = true;
        queue.wake();
    }

    /// Returns the number of bytes that wait to be sent. A message that is not encoded yet counts 128 bytes besides its
    /// payload; bytes that the operating system has taken do not count.
    pub fn queue_size(&self) -> usize {
        self.queue().size()
    }
}

impl Client {
    /// Opens a connection that calls `listener`, in a task of its own on the current Tokio runtime. Messages can
    /// be [sent](Handle::send) at once: they wait until it is open.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime, as [`tokio::spawn`].
    pub fn listen(&self, url: impl Into<String>, listener: impl Listener) -> Handle {
        let limit = self.config.write_buffer.get();
        let handle = Handle(Arc::new(Shared { limit, queue: Mutex::default() }));
        let task = Task { handle: handle.clone(), listener };
        tokio::spawn(task.run(self.clone(), url.into()));
        handle
    }
}

/// What the task does for the handles.
impl Handle {
    async fn connect(&self, client: Client, url: String) -> Result<WebSocket, Failure> {
        let mut connect = pin!(client.connect(url));
        poll_fn(|cx| match self.is_cancelled(cx) {
            true => Poll::Ready(Err(Failure::Cancelled)),
            false => connect.as_mut().poll(cx).map_err(Failure::Connect),
        })
        .await
    }

    fn poll_event(&self, ws: &mut WebSocket, is_closing: bool, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if self.is_cancelled(cx) {
                return Poll::Ready(Event::Ended(Err(Failure::Cancelled)));
            }
            self.hand_over(ws);
            let polled = ws.poll_recv::<Message>(cx);
            self.queue().outbox = ws.buffered_amount();
            if let Poll::Ready(Ok(Some(message))) = polled {
                return Poll::Ready(Event::Message(message));
            }
            // The frame of the peer's may be there long before its end of TCP.
            if let Some(closed) = ws.closed()
                && !is_closing
            {
                self.queue().refuse();
                return Poll::Ready(Event::Closing(closed.clone()));
            }
            match (polled, ws.closed()) {
                (Poll::Ready(Err(error)), _) => {
                    return Poll::Ready(Event::Ended(Err(Failure::Connection(error))));
                }
                (Poll::Ready(Ok(_)), Some(closed)) => return Poll::Ready(Event::Ended(Ok(closed.clone()))),
                (Poll::Ready(Ok(_)), None) => {
                    return Poll::Ready(Event::Ended(Err(Failure::Connection(Error::Eof))));
                }
                // What was written may have made room.
                (Poll::Pending, _) if ws.has_room() && self.queue().is_waiting() => {}
                (Poll::Pending, _) => return Poll::Pending,
            }
        }
    }

    /// Gives the connection of what is queued as much as it has room for, and then the Close frame.
    fn hand_over(&self, ws: &mut WebSocket) {
        while ws.has_room() {
            let mut queue = self.queue();
            let given = match queue.pop() {
                Some(message) => {
                    // Compressing takes its time: not while others wait for the lock.
                    queue.outbox += message.len();
                    drop(queue);
                    let given = ws.enqueue_message(message);
                    self.queue().outbox = ws.buffered_amount();
                    given.map_err(Error::from)
                }
                None => match queue.close.take() {
                    Some(frame) => ws.start_close(frame),
                    None => return,
                },
            };
            if given.is_err() {
                // Why is what receiving will say.
                self.queue().refuse();
            }
        }
    }

    /// The listener has panicked: the peer is told.
    async fn fail(&self, ws: &mut WebSocket) -> Failure {
        self.queue().refuse();
        // An end that is under way needs no other.
        let _ = ws.start_close(CloseFrame::new(CloseCode::INTERNAL, ""));
        poll_fn(|cx| {
            while !self.is_cancelled(cx) {
                match ws.poll_recv::<Message>(cx) {
                    Poll::Ready(Ok(Some(_))) => {}
                    polled => return polled.map(drop),
                }
            }
            Poll::Ready(())
        })
        .await;
        Failure::Connection(Error::Panicked)
    }

    /// Also registers the task with the queue: whatever is asked for later wakes it.
    fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        let mut queue = self.queue();
        queue.register(cx);
        queue.is_cancelled
    }
}

/// The task that all calls come from.
struct Task<L> {
    handle: Handle,
    listener: L,
}

/// What the listener is told next.
enum Event {
    Message(Message),
    Closing(Closed),
    Ended(Result<Closed, Failure>),
}

/// Whatever ends the task, its handles take no more.
impl<L> Drop for Task<L> {
    fn drop(&mut self) {
        let mut queue = self.handle.queue();
        queue.refuse();
        queue.outbox = 0;
    }
}

impl<L: Listener> Task<L> {
    async fn run(mut self, client: Client, url: String) {
        let ended = match self.handle.connect(client, url).await {
            Ok(mut ws) => match self.listen(&mut ws).await {
                Err(Failure::Connection(Error::Panicked)) => Err(self.handle.fail(&mut ws).await),
                ended => ended,
            },
            Err(failure) => Err(failure),
        };
        self.handle.queue().refuse();
        // A listener that panics here has been told all there is.
        let _ = self.call(|listener, handle| match ended {
            Ok(closed) => listener.on_closed(handle, closed),
            Err(failure) => listener.on_failure(handle, failure),
        });
    }

    /// Calls the listener until its connection has ended.
    async fn listen(&mut self, ws: &mut WebSocket) -> Result<Closed, Failure> {
        self.call(|listener, handle| listener.on_open(handle, ws))?;
        let mut is_closing = false;
        loop {
            match poll_fn(|cx| self.handle.poll_event(ws, is_closing, cx)).await {
                Event::Message(message) => {
                    self.call(|listener, handle| listener.on_message(handle, message))?
                }
                Event::Closing(closed) => {
                    is_closing = true;
                    self.call(|listener, handle| listener.on_closing(handle, &closed))?;
                }
                Event::Ended(ended) => return ended,
            }
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut L, &Handle)) -> Result<(), Failure> {
        // What the listener looks like behind a panic is its own affair: it hears of the failure and no more.
        catch_unwind(AssertUnwindSafe(|| call(&mut self.listener, &self.handle)))
            .map_err(|_| Failure::Connection(Error::Panicked))
    }
}
