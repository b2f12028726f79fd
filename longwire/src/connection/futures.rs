//! `Stream` and `Sink`, for those who build with combinators.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use longwire_proto::{CloseCode, CloseFrame, Compress, Message};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::WebSocket;
use crate::connection::split::Receiver;
use crate::end::Error;

/// Yields messages, then an error if the connection did not end by a closing handshake, then `None`.
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
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
}

/// Closing it closes the connection with 1000 and waits for the closing handshake.
impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_room(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.enqueue_message(message, Compress::Auto)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Self::poll_flush(&mut self, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.start_close(CloseFrame::new(CloseCode::NORMAL, ""))?;
        while ready!(self.poll_recv::<Message>(cx))?.is_some() {}
        Poll::Ready(Ok(()))
    }
}

/// As the stream of a [`WebSocket`].
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Receiver<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.with(cx, |ws, cx| Pin::new(ws).poll_next(cx))
    }
}
