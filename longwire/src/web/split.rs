//! One connection used by several tasks of a page: senders, which can be cloned, and a receiver.

use std::rc::Rc;

use longwire_proto::{CloseCode, CloseFrame, Message, Outgoing};

use super::WebSocket;
use super::socket::Socket;
use super::websocket::{flush, send};
use crate::end::{Closed, Error, SendError};

/// Sends on a connection that was [split](WebSocket::split). Clone it for each task that sends.
///
/// Once the receiver is dropped, sending fails with [`SendError::ReceiverDropped`], and messages that arrive are dropped.
/// The connection ends when the receiver and all senders are dropped.
#[derive(Clone, Debug)]
pub struct Sender(Rc<Socket>);

/// Receives on a connection that was [split](WebSocket::split).
#[derive(Debug)]
pub struct Receiver(WebSocket);

pub(super) fn split(ws: WebSocket) -> (Sender, Receiver) {
    (Sender(Rc::clone(&ws.socket)), Receiver(ws))
}

impl Sender {
    /// Sends a message, as [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`], and [`SendError::ReceiverDropped`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        send(&self.0, message.into()).await
    }

    /// Sends a message without waiting, as [`WebSocket::try_send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::try_send`].
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.0.try_send(&message.into().into_message())
    }

    /// Waits until the browser has written everything, as [`WebSocket::flush`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::flush`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn flush(&self) -> Result<(), SendError> {
        flush(&self.0).await
    }

    /// Sends a Close frame behind the messages that wait. The browser writes it by itself: this never waits.
    ///
    /// # Errors
    ///
    /// As [`start_close`](Self::start_close).
    ///
    /// # Cancel safety
    ///
    /// It is done when it is first polled.
    pub async fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        self.start_close(code, reason)
    }

    /// Sends a Close frame behind the messages that wait. The closing handshake completes in [`Receiver::recv`], which
    /// still returns the messages that the peer sent before its answer. Closing a closed connection is no error.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`], by the rules of [`WebSocket::close`]; the
    /// connection then goes on.
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        self.0.start_close(CloseFrame::new(code, reason))
    }

    /// Returns whether nothing can be sent any more: the connection is closing, closed or failed, or its receiver was
    /// dropped.
    pub fn is_closed(&self) -> bool {
        self.0.check().is_err()
    }

    /// Returns the subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<Box<str>> {
        self.0.subprotocol()
    }

    /// Returns the number of bytes of payload that the browser has not written yet.
    pub fn buffered_amount(&self) -> usize {
        self.0.buffered_amount()
    }

    /// Returns how the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<Closed> {
        self.0.closed().cloned()
    }
}

impl Receiver {
    /// Receives the next message, as [`WebSocket::recv`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> {
        self.0.recv()
    }

    /// Returns the subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<Box<str>> {
        self.0.subprotocol().map(Into::into)
    }

    /// Returns how the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<Closed> {
        self.0.closed().cloned()
    }
}
