//! One connection in several hands: senders that clone, and a receiver.
//!
//! All of them work on the same [`WebSocket`] under a lock that is never held across a wait. The stream
//! knows one waker only, which wakes everyone who waits, so no wake-up can be lost between them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use longwire_proto::{CloseCode, CloseFrame, Compress, Message, Part, SharedFrame};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::WebSocket;
use crate::connection::wakers::{Half, Wakers};
use crate::end::Closed;
use crate::end::Error;
use crate::net::transport::Transport;

/// Sends on a connection that was [split](WebSocket::split). Clone it for each place that sends.
///
/// The connection lives until all senders and the receiver are dropped. Its keepalive and its closing
/// handshake run in [`Receiver::recv`], and what is only queued is written there: without a receiver
/// that is kept receiving, use [`send`](Self::send) or [`flush`](Self::flush).
#[derive(Debug)]
pub struct Sender<S = Transport>(Arc<Shared<S>>);

/// Receives on a connection that was [split](WebSocket::split).
#[derive(Debug)]
pub struct Receiver<S = Transport>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    ws: Mutex<WebSocket<S>>,
    wakers: Wakers,
}

pub(crate) fn split<S>(ws: WebSocket<S>) -> (Sender<S>, Receiver<S>) {
    let shared = Arc::new(Shared { ws: Mutex::new(ws), wakers: Wakers::default() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<S> Shared<S> {
    fn ws(&self) -> MutexGuard<'_, WebSocket<S>> {
        self.ws.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Sender<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Sender<S> {
    /// Queues a message without waiting; the task in [`Receiver::recv`] writes it, with all else that was
    /// queued meanwhile. For broadcasts: a slow receiver shows itself here and holds nobody up.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] while more than [`Config::write_buffer`](crate::Config::write_buffer) bytes wait;
    /// otherwise as [`WebSocket::send`]. Nothing was queued then.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.try_send_with(message, Compress::Auto)
    }

    /// As [`try_send`](Self::try_send), with a word on the compression of this message.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_send_with(&self, message: impl Into<Message>, compress: Compress) -> Result<(), Error> {
        let message = message.into();
        self.0.ws().enqueue_message(message, compress)?;
        self.0.wakers.wake_receiver();
        Ok(())
    }

    /// As [`try_send`](Self::try_send), with a message that was encoded once for many connections.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_send_shared(&self, frame: &SharedFrame) -> Result<(), Error> {
        self.0.ws().enqueue_shared(frame)?;
        self.0.wakers.wake_receiver();
        Ok(())
    }

    /// As [`WebSocket::buffered_amount`].
    pub fn buffered_amount(&self) -> usize {
        self.0.ws().buffered_amount()
    }

    /// As [`WebSocket::closed`].
    pub fn closed(&self) -> Option<Closed> {
        self.0.ws().closed().cloned()
    }

    /// Why the connection has failed, if it has.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.0.ws().failure()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.send_with(message, Compress::Auto).await
    }

    /// As [`WebSocket::send_with`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn send_with(&self, message: impl Into<Message>, compress: Compress) -> Result<(), Error> {
        let mut message = Some(message.into());
        self.poll(|ws, cx| {
            ready!(ws.poll_feed(cx, &mut message, compress))?;
            ws.poll_flush(cx)
        })
        .await
    }

    /// As [`WebSocket::feed`]; what is queued is written by the task in [`Receiver::recv`], together with
    /// all else that was queued when it comes to it.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn feed(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.feed_with(message, Compress::Auto).await
    }

    /// As [`WebSocket::feed_with`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn feed_with(&self, message: impl Into<Message>, compress: Compress) -> Result<(), Error> {
        let mut message = Some(message.into());
        self.poll(|ws, cx| ws.poll_feed(cx, &mut message, compress)).await?;
        self.0.wakers.wake_receiver();
        Ok(())
    }

    /// As [`WebSocket::flush`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::flush`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn flush(&self) -> Result<(), Error> {
        self.poll(|ws, cx| ws.poll_flush(cx)).await
    }

    /// As [`WebSocket::ping`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::ping`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn ping(&self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.poll(|ws, cx| {
            ready!(ws.poll_room(cx))?;
            Poll::Ready(ws.enqueue_ping(payload.as_ref()))
        })
        .await?;
        self.flush().await
    }

    /// Sends a Close frame behind what waits. The closing handshake completes in [`Receiver::recv`],
    /// which still yields the messages that the peer sent before its answer.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::close`] and [`WebSocket::flush`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::close`].
    pub async fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.start_close(code, reason)?;
        self.flush().await
    }

    /// Queues a Close frame without waiting; the task in [`Receiver::recv`] does the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] as [`WebSocket::close`].
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.0.ws().start_close(CloseFrame::new(code, reason))?;
        self.0.wakers.wake_receiver();
        Ok(())
    }

    /// Polls the connection as one of its senders, until `poll` is ready.
    async fn poll<T>(&self, mut poll: impl FnMut(&mut WebSocket<S>, &mut Context<'_>) -> Poll<T>) -> T {
        let turn = Turn::new(&self.0.wakers);
        poll_fn(|cx| self.0.wakers.poll(&mut self.0.ws(), Half::Sender(turn.ticket), cx, &mut poll)).await
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

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// As [`WebSocket::recv`].
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

    /// As [`WebSocket::recv_part`].
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

    /// As [`WebSocket::closed`].
    pub fn closed(&self) -> Option<Closed> {
        self.0.ws().closed().cloned()
    }

    /// Another sender on this connection.
    pub fn sender(&self) -> Sender<S> {
        Sender(Arc::clone(&self.0))
    }

    /// Polls the connection as its receiver.
    pub(crate) fn with<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut WebSocket<S>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.0.wakers.poll(&mut self.0.ws(), Half::Receiver, cx, poll)
    }
}
