//! One connection used by several tasks: senders, which can be cloned, and a receiver.
//!
//! All of them work on the same [`WebSocket`] under a lock that is never held across an await. They wait through one
//! waker that wakes them all ([`Wakers`]), so no wake-up is lost between them.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use longwire_proto::{CloseCode, CloseFrame, DeflateParameters, Message, Outgoing, Part, Role};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::WebSocket;
use crate::connection::wakers::{Half, Wakers};
use crate::end::{Closed, Error, SendError};
use crate::net::peer_addr::PeerAddr;
use crate::net::transport::Transport;

/// Sends on a connection that was [split](WebSocket::split). Clone it for each task that sends.
///
/// Keepalive and the closing handshake run in [`Receiver::recv`], and messages that are only queued are written there:
/// keep calling it. Once the receiver is dropped, sending fails with [`SendError::ReceiverDropped`]. The connection
/// ends when the receiver and all senders are dropped.
#[derive(Debug)]
pub struct Sender<S = Transport> {
    pub(super) shared: Arc<Shared<S>>,
    /// Of its use as a `Sink`.
    pub(super) ticket: Option<u64>,
}

/// Receives on a connection that was [split](WebSocket::split).
#[derive(Debug)]
pub struct Receiver<S = Transport>(Arc<Shared<S>>);

#[derive(Debug)]
pub(super) struct Shared<S> {
    ws: Mutex<WebSocket<S>>,
    pub(super) wakers: Wakers,
    /// Nobody will ever receive: what is queued would not be written.
    receiver_dropped: AtomicBool,
}

pub(crate) fn split<S>(mut ws: WebSocket<S>) -> (Sender<S>, Receiver<S>) {
    ws.wakers = None;
    let (ws, wakers) = (Mutex::new(ws), Wakers::default());
    let shared = Arc::new(Shared { ws, wakers, receiver_dropped: AtomicBool::new(false) });
    (Sender { shared: Arc::clone(&shared), ticket: None }, Receiver(shared))
}

impl<S> Shared<S> {
    pub(super) fn ws(&self) -> MutexGuard<'_, WebSocket<S>> {
        self.ws.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That nobody receives any more is an error, unless there is a better one.
    pub(super) fn check(&self, ws: &WebSocket<S>) -> Result<(), SendError> {
        if !self.receiver_dropped.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(match ws.failure() {
            Some(error) => SendError::Failed(error),
            None if !ws.core.is_open() => SendError::Closed,
            None => SendError::ReceiverDropped,
        })
    }
}

impl<S> Drop for Receiver<S> {
    fn drop(&mut self) {
        self.0.receiver_dropped.store(true, Ordering::Release);
        self.0.wakers.wake_all();
    }
}

impl<S> Clone for Sender<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ticket: None }
    }
}

impl<S> Drop for Sender<S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.wakers.forget(ticket);
        }
    }
}

impl<S> Sender<S> {
    /// Queues a message without waiting; the task in [`Receiver::recv`] writes it, with all else that was
    /// queued meanwhile. For broadcasts: a slow receiver gets [`SendError::Full`] and delays nobody.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`Config::write_buffer`](crate::Config::write_buffer) bytes or more wait;
    /// otherwise as [`WebSocket::send`]. Nothing was queued then.
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        let message = message.into();
        let mut ws = self.shared.ws();
        self.shared.check(&ws)?;
        ws.enqueue_message(message)?;
        drop(ws);
        self.shared.wakers.wake_receiver();
        Ok(())
    }

    /// Returns whether nothing can be sent any more: the connection is closing, closed or failed, or its receiver was
    /// dropped. Use it to remove senders from a registry.
    pub fn is_closed(&self) -> bool {
        let ws = self.shared.ws();
        !ws.core.is_open() || ws.failure().is_some() || self.shared.check(&ws).is_err()
    }

    /// Returns the number of bytes that wait to be written, as [`WebSocket::buffered_amount`].
    pub fn buffered_amount(&self) -> usize {
        self.shared.ws().buffered_amount()
    }

    /// Why the connection has failed, if it has.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared.ws().failure()
    }
}

/// What both halves tell of the connection.
macro_rules! facts {
    ($half:ident, $shared:tt) => {
        impl<S> $half<S> {
            /// Returns how the connection was closed, once its closing handshake is complete.
            pub fn closed(&self) -> Option<Closed> {
                self.$shared.ws().closed().cloned()
            }

            /// Returns the round-trip time of the last Ping that the peer has answered, as [`WebSocket::latency`].
            pub fn latency(&self) -> Option<Duration> {
                self.$shared.ws().latency()
            }

            /// Returns the subprotocol that was negotiated (RFC 6455 1.9).
            pub fn subprotocol(&self) -> Option<Box<str>> {
                self.$shared.ws().subprotocol().map(Into::into)
            }

            /// Returns the parameters of permessage-deflate, if it was negotiated (RFC 7692).
            pub fn deflate(&self) -> Option<DeflateParameters> {
                self.$shared.ws().deflate()
            }

            /// Returns whether this is the client's or the server's end.
            pub fn role(&self) -> Role {
                self.$shared.ws().role()
            }
        }

        impl<S: PeerAddr> $half<S> {
            /// Returns the address at the other end of TCP, as [`WebSocket::peer_addr`].
            ///
            /// # Errors
            ///
            /// As [`WebSocket::peer_addr`].
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.$shared.ws().peer_addr()
            }
        }
    };
}

facts!(Sender, shared);
facts!(Receiver, 0);

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Sends a message: queues it and waits until it is written, as [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`], and [`SendError::ReceiverDropped`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        let mut message = Some(message.into());
        self.poll(|ws, cx| {
            if message.is_some() {
                self.shared.check(ws)?;
            }
            ready!(ws.poll_feed(cx, &mut message))?;
            Poll::Ready(Ok(ready!(ws.poll_flush(cx))?))
        })
        .await
    }

    /// Queues a message, and waits only for room, as [`WebSocket::feed`]. The task in [`Receiver::recv`] writes it,
    /// together with all else that was queued.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn feed<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        let mut message = Some(message.into());
        self.poll(|ws, cx| {
            self.shared.check(ws)?;
            ws.poll_feed(cx, &mut message)
        })
        .await?;
        self.shared.wakers.wake_receiver();
        Ok(())
    }

    /// Writes everything that waits.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::flush`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn flush(&self) -> Result<(), SendError> {
        Ok(self.poll(WebSocket::poll_flush).await?)
    }

    /// Sends a Ping with up to 125 bytes, as [`WebSocket::ping`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::ping`], and [`SendError::ReceiverDropped`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn ping(&self, payload: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.poll(|ws, cx| {
            self.shared.check(ws)?;
            ready!(ws.poll_room(cx))?;
            Poll::Ready(ws.enqueue_ping(payload.as_ref()))
        })
        .await?;
        self.flush().await
    }

    /// Sends a Ping and waits for its Pong: returns the round-trip time. The Pong is received in [`Receiver::recv`], which
    /// has to be called meanwhile.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping). Waits as long as the connection lives: keepalive ends one whose peer is silent.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a Ping may have been sent.
    pub async fn round_trip(&self) -> Result<Duration, SendError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let payload = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        self.ping(payload).await?;
        self.poll(|ws, _| {
            let pings = ws.pings.get_or_insert_default();
            if !pings.is_waiting(&payload) {
                return Poll::Ready(Ok(pings.latest().unwrap_or_default()));
            }
            self.shared.check(ws)?;
            match ws.failure() {
                Some(error) => Poll::Ready(Err(SendError::Failed(error))),
                None if ws.core.is_done() => Poll::Ready(Err(SendError::Closed)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Sends a Close frame behind the messages that wait, and waits until it is written. The closing handshake completes
    /// in [`Receiver::recv`], which still returns the messages that the peer sent before its answer.
    ///
    /// Works without a receiver too: then the peer gets the Close frame, and nobody waits for its answer.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`]; the connection then goes on. As
    /// [`WebSocket::flush`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::close`].
    pub async fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        self.shared.ws().start_close(CloseFrame::new(code, reason))?;
        self.shared.wakers.wake_receiver();
        self.flush().await
    }

    /// Queues a Close frame without waiting; the task in [`Receiver::recv`] writes it and completes the closing
    /// handshake. Closing a closed connection is no error.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`]; the connection then goes on.
    /// [`SendError::ReceiverDropped`].
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        let mut ws = self.shared.ws();
        if ws.core.is_open() {
            self.shared.check(&ws)?;
        }
        ws.start_close(CloseFrame::new(code, reason))?;
        drop(ws);
        self.shared.wakers.wake_receiver();
        Ok(())
    }

    /// Polls the connection as one of its senders, until `poll` is ready.
    async fn poll<T>(&self, mut poll: impl FnMut(&mut WebSocket<S>, &mut Context<'_>) -> Poll<T>) -> T {
        let turn = Turn::new(&self.shared.wakers);
        poll_fn(|cx| {
            let wakers = turn.wakers;
            wakers.poll(&mut self.shared.ws(), Half::Sender(turn.ticket), cx, &mut poll)
        })
        .await
    }
}

/// One call's place among those that wait; given up when the call ends or is dropped.
struct Turn<'a> {
    wakers: &'a Wakers,
    ticket: u64,
}

impl<'a> Turn<'a> {
    fn new(wakers: &'a Wakers) -> Self {
        Self { wakers, ticket: wakers.ticket() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.wakers.forget(self.ticket);
    }
}

impl<S> Receiver<S> {
    /// Makes another sender on this connection.
    pub fn sender(&self) -> Sender<S> {
        Sender { shared: Arc::clone(&self.0), ticket: None }
    }

    /// Puts the two halves together again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which returns both, if the sender is of another connection or there are other senders.
    pub fn reunite(self, sender: Sender<S>) -> Result<WebSocket<S>, ReuniteError<S>> {
        // Nobody else can make another sender meanwhile: these two are all there are.
        if !Arc::ptr_eq(&self.0, &sender.shared) || Arc::strong_count(&self.0) != 2 {
            return Err(ReuniteError(sender, self));
        }
        let shared = Arc::clone(&self.0);
        drop((self, sender));
        let shared = Arc::into_inner(shared).map(|shared| shared.ws);
        match shared {
            Some(ws) => Ok(ws.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => unreachable!("it was the last reference"),
        }
    }
}

/// Two halves that are not those of one connection, or not all of them: see [`Receiver::reunite`].
pub struct ReuniteError<S = Transport>(
    /// The sender.
    pub Sender<S>,
    /// The receiver.
    pub Receiver<S>,
);

impl<S> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender is of another connection, or there are other senders")
    }
}

impl<S> std::error::Error for ReuniteError<S> {}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// Receives the next message, as [`WebSocket::recv`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        poll_fn(|cx| self.with(cx, |ws, cx| ws.poll_recv(cx))).await
    }

    /// Receives the next part of a message, as [`WebSocket::recv_part`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn recv_part(&mut self) -> Result<Option<Part>, Error> {
        poll_fn(|cx| self.with(cx, |ws, cx| ws.poll_recv(cx))).await
    }

    /// Polls the connection as its receiver.
    pub(crate) fn with<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut WebSocket<S>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.0.wakers.poll(&mut self.0.ws(), Half::Receiver, cx, poll)
    }
}
