//! `Stream` and `Sink`, for programs that are built with combinators.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use longwire_proto::{CloseCode, CloseFrame, Message};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::WebSocket;
use crate::connection::split::{Receiver, Sender, Shared};
use crate::connection::wakers::Half;
use crate::end::Error;

/// Yields messages, then an error if the connection did not end with a closing handshake, then `None`.
///
/// The stream and the [`Sink`](#impl-Sink<Message>-for-WebSocket<S>) may be used by two tasks, as with
/// `StreamExt::split`: each keeps a waker of its own. The stream does what runs by itself, as
/// [`recv`](WebSocket::recv) does: keepalive, answers to Pings and the closing handshake. Keep polling it.
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_as(Half::Receiver, cx, Self::poll_item)
    }
}

/// Closing the sink sends a Close frame with 1000, and is done when it is written. The closing handshake completes
/// in the stream, which still yields the messages that the peer sent before its answer.
impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_as(Half::SINK, cx, Self::poll_room)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Ok(self.enqueue_message(message.into())?)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_as(Half::SINK, cx, Self::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.core.is_open() {
            self.start_close(CloseFrame::new(CloseCode::NORMAL, ""))?;
            if let Some(wakers) = &self.wakers {
                // From now on the stream waits for the peer's Close frame, which has a deadline of its own.
                wakers.wake_receiver();
            }
        }
        self.poll_as(Half::SINK, cx, Self::poll_flush)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The next item of the stream.
    pub(crate) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.is_reported() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.poll_recv(cx)) {
            Ok(message) => message.map(Ok),
            Err(error) => {
                self.set_reported();
                Some(Err(error))
            }
        })
    }

    /// Polls as the stream or the sink of this connection.
    fn poll_as<T>(
        &mut self,
        half: Half,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Out of the way while the connection is polled.
        let wakers = self.wakers.take().unwrap_or_default();
        let polled = wakers.poll(self, half, cx, poll);
        self.wakers = Some(wakers);
        polled
    }
}

/// As the stream of a [`WebSocket`].
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Receiver<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.with(cx, WebSocket::poll_item)
    }
}

/// As the sink of a [`WebSocket`]. Closing one sender, as `forward` does at the end, closes the connection for all.
impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for Sender<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_sink(cx, |shared, ws, cx| {
            shared.check(ws)?;
            ws.poll_room(cx)
        })
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Ok(self.try_send(message)?)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_sink(cx, |_, ws, cx| ws.poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut ws = self.shared.ws();
        let begins = ws.core.is_open();
        ws.start_close(CloseFrame::new(CloseCode::NORMAL, ""))?;
        drop(ws);
        if begins {
            self.shared.wakers.wake_receiver();
        }
        self.poll_sink(cx, |_, ws, cx| ws.poll_flush(cx))
    }
}

impl<S> Sender<S> {
    /// Polls as a sink, with a place among those that wait until this sender is dropped.
    fn poll_sink<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&Shared<S>, &mut WebSocket<S>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let shared = &*self.shared;
        let ticket = *self.ticket.get_or_insert_with(|| shared.wakers.ticket());
        shared.wakers.poll(&mut shared.ws(), Half::Sender(ticket), cx, |ws, cx| poll(shared, ws, cx))
    }
}
