//! An open connection in a browser: what it offers.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use longwire_proto::{CloseCode, CloseFrame, Message, Outgoing};

use super::socket::Socket;
use super::split::{Receiver, Sender, split};
use super::timer::Sleep;
use crate::end::{Closed, Error, SendError};

/// An open WebSocket connection of a page or a worker, over the browser's own `WebSocket`.
///
/// The browser answers Pings, compresses, and writes what is sent, whether [`recv`](Self::recv) is called or not.
/// Messages that arrive wait in a buffer of limited size ([`Client::receive_buffer`](crate::Client::receive_buffer)).
///
/// Dropped without [`close`](Self::close), it sends a Close frame without a code, and the peer sees 1005: a page
/// cannot end TCP.
///
/// It stays on the thread that made it: `spawn_local` of `wasm-bindgen-futures` runs the tasks that use it.
#[derive(Debug)]
pub struct WebSocket {
    pub(super) socket: Rc<Socket>,
    subprotocol: Option<Box<str>>,
    close_timeout: Duration,
    /// Runs while the closing handshake does.
    closing: Option<Sleep>,
}

impl WebSocket {
    /// Takes a socket that is open.
    pub(super) fn new(socket: Socket, close_timeout: Duration) -> Self {
        let subprotocol = socket.subprotocol();
        Self { socket: Rc::new(socket), subprotocol, close_timeout, closing: None }
    }

    /// Returns the subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the number of bytes of payload that the browser has not written yet.
    pub fn buffered_amount(&self) -> usize {
        self.socket.buffered_amount()
    }

    /// Returns how the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<&Closed> {
        self.socket.closed()
    }

    /// Receives the next message.
    ///
    /// `Ok(None)` means that the connection was closed by a closing handshake; [`closed`](Self::closed) tells by
    /// which side and why. Every later call returns the same.
    ///
    /// # Errors
    ///
    /// Why the connection ended otherwise; every later call returns the same.
    ///
    /// - [`Error::Eof`]: what a browser calls 1006. The browser does not tell a page whether the network failed, or
    ///   the peer broke the protocol.
    /// - [`Error::Protocol`]: a message was larger than [`Client::max_message`](crate::Client::max_message).
    /// - [`Error::Io`] of the kind `QuotaExceeded`: more waited than
    ///   [`Client::receive_buffer`](crate::Client::receive_buffer) allows.
    /// - [`Error::CloseTimeout`]: the peer did not answer our Close frame.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a future that is dropped has lost nothing.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        self.socket.poll_recv(cx, &mut self.closing, self.close_timeout)
    }

    /// Sends a message: waits until less than [`Client::write_buffer`](crate::Client::write_buffer) bytes wait to be
    /// written, then hands it to the browser. It does not wait until the browser has written it: that is
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if a Close frame was sent or received; [`SendError::Failed`] if the connection has failed.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the whole message or nothing of it.
    pub async fn send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        send(&self.socket, message.into()).await
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`Client::write_buffer`](crate::Client::write_buffer) bytes or more wait to be written;
    /// otherwise as [`send`](Self::send). Nothing was sent then.
    pub fn try_send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.socket.try_send(&message.into().into_message())
    }

    /// Waits until the browser has written everything. It looks every 10 ms, for a browser has no event for it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        flush(&self.socket).await
    }

    /// Closes the connection: sends a Close frame behind what waits, and waits for the peer's, for at most
    /// [`Client::close_timeout`](crate::Client::close_timeout). Messages that arrive meanwhile are dropped. Closing a
    /// closed connection is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] if the code or the reason cannot be sent; the connection then goes on. A page may send the
    /// codes 1000 and 3000 to 4999 only, and a reason of at most 123 bytes. Otherwise the cause, if the closing
    /// handshake was not completed.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the Close frame or not; [`recv`](Self::recv) or another `close` goes on from
    /// there.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.socket.start_close(CloseFrame::new(code, reason))?;
        while self.recv().await?.is_some() {}
        Ok(())
    }

    /// Splits into a sender, which can be cloned, and a receiver, over one connection.
    pub fn split(self) -> (Sender, Receiver) {
        split(self)
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.socket.drop_receiver();
    }
}

pub(super) async fn send(socket: &Socket, message: Outgoing<'_>) -> Result<(), SendError> {
    let mut pause = None;
    poll_fn(|cx| socket.poll_room(cx, &mut pause)).await?;
    socket.try_send(&message.into_message())
}

pub(super) async fn flush(socket: &Socket) -> Result<(), SendError> {
    let mut pause = None;
    poll_fn(|cx| socket.poll_flush(cx, &mut pause)).await
}

/// Messages up to the end: a closing handshake ends the stream, an error is its last item.
impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(Result::transpose)
    }
}
