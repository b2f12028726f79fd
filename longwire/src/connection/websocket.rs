//! An open connection over any stream: its methods. How it reads and writes is in `driver`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use longwire_proto::{
    CloseCode, CloseFrame, Connection, DeflateParameters, Message, Outbox, Outgoing, Part, Role,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::driver::Ending;
use crate::connection::part::OutgoingPart;
use crate::connection::pings::Pings;
use crate::connection::scratch::{self, Scratch};
use crate::connection::shutdown::Member;
use crate::connection::timer::{Timer, now};
use crate::connection::wakers::Wakers;
use crate::end::{Closed, Error, SendError};
use crate::net::peer_addr::PeerAddr;
use crate::net::transport::Transport;
use crate::observe::recorder::Watch;

/// An open WebSocket connection over any stream.
///
/// All work happens in [`recv`](Self::recv): it answers Pings, keeps the connection alive, finishes the closing
/// handshake and writes the messages that were [fed](Self::feed). Keep calling it; when the connection is over, its
/// result tells why.
///
/// Dropping it without [`close`](Self::close) ends TCP, and the peer sees 1006.
///
/// An idle connection holds no buffer, whatever the stream, apart from the history that compression refers back to
/// where context takeover was negotiated (see [`Deflate`](crate::Deflate)).
///
/// A client that connects has a `WebSocket`, which is short for `WebSocket<Transport>`; a server that accepts TCP
/// has a `WebSocket<TcpStream>`. Make your functions generic over the stream to use them for both:
/// `async fn chat<S: AsyncRead + AsyncWrite + Unpin>(ws: WebSocket<S>)`.
///
/// Every method that waits needs a Tokio runtime with its clock enabled, and panics without.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ws = longwire::connect("ws://127.0.0.1:8080/-/echo").await?;
/// ws.send("你好 👋").await?;
/// while let Some(message) = ws.recv().await? {
///     println!("{message:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WebSocket<S = Transport> {
    pub(crate) stream: S,
    pub(crate) core: Connection,
    /// What is held only while something is pending.
    pub(crate) lent: Option<Box<Scratch>>,
    pub(crate) timer: Timer,
    subprotocol: Option<Box<str>>,
    /// Made when the connection begins to end.
    pub(crate) ending: Option<Box<Ending>>,
    /// The group of connections that it is closed with, if any.
    pub(crate) member: Option<Box<Member>>,
    /// Counters and tracing, if they are on.
    pub(crate) watch: Option<Box<Watch>>,
    /// The Pings that the application has sent, from the first.
    pub(crate) pings: Option<Box<Pings>>,
    /// The tasks that use it as a `Stream` and as a `Sink`, once it is polled as one of them.
    pub(crate) wakers: Option<Box<Wakers>>,
}

impl<S> WebSocket<S> {
    /// Joins a stream and the state of a connection on it. `input` are bytes that were read behind the
    /// opening handshake.
    pub(crate) fn new(stream: S, core: Connection, input: BytesMut, subprotocol: Option<&str>) -> Self {
        Self {
            stream,
            core,
            lent: (!input.is_empty()).then(|| Box::new(Scratch::new(input))),
            timer: Timer::default(),
            subprotocol: subprotocol.map(Into::into),
            ending: None,
            member: None,
            watch: None,
            pings: None,
            wakers: None,
        }
    }

    /// Counts and traces it from its beginning.
    pub(crate) fn watched(mut self, watch: Option<Box<Watch>>) -> Self {
        self.watch = watch;
        if let (Some(watch), Some(lent)) = (&mut self.watch, &self.lent) {
            watch.read(lent.input.len());
        }
        self
    }

    /// Returns the subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the parameters of permessage-deflate, if it was negotiated (RFC 7692).
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.core.deflate()
    }

    /// Returns whether this is the client's or the server's end.
    pub const fn role(&self) -> Role {
        self.core.role()
    }

    /// Returns the number of bytes that wait to be written, frame headers included.
    pub fn buffered_amount(&self) -> usize {
        self.lent.as_ref().map_or(0, |lent| lent.out.remaining())
    }

    /// Returns how the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<&Closed> {
        self.ending.as_ref()?.result.as_ref()?.as_ref().ok()
    }

    /// Queues a message without waiting. It is written by the next [`recv`](Self::recv) that has to wait, or by
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while [`Config::write_buffer`](crate::Config::write_buffer) bytes or more wait; otherwise as
    /// [`send`](Self::send). Nothing was queued then.
    #[inline]
    pub fn try_send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Result<(), SendError> {
        self.enqueue_message(message.into())
    }

    /// Returns the round-trip time of the last [`ping`](Self::ping) that the peer has answered. The Pongs of keepalive
    /// do not count.
    pub fn latency(&self) -> Option<Duration> {
        self.pings.as_ref()?.latest()
    }

    /// How many Pings of the application were answered: when it changes, all tasks have something to learn.
    pub(crate) fn pongs(&self) -> u32 {
        self.pings.as_ref().map_or(0, |pings| pings.count())
    }

    /// Less than the write buffer waits.
    pub(crate) fn has_room(&self) -> bool {
        self.buffered_amount() < self.core.config().write_buffer.get()
    }

    /// Queues with `queue`, if the write buffer has room and the connection is up.
    pub(crate) fn enqueue(
        &mut self,
        queue: impl FnOnce(&mut Connection, &mut Outbox) -> Result<(), longwire_proto::SendError>,
    ) -> Result<(), SendError> {
        if let Some(error) = self.failure() {
            return Err(SendError::Failed(error));
        }
        if !self.has_room() {
            return Err(SendError::Full);
        }
        let lent = self.lent.get_or_insert_with(scratch::take);
        Ok(queue(&mut self.core, &mut lent.out)?)
    }

    /// As [`enqueue`](Self::enqueue), of a message.
    #[inline]
    pub(crate) fn enqueue_message(&mut self, message: Outgoing<'_>) -> Result<(), SendError> {
        let (kind, length) = (message.kind(), message.len());
        self.enqueue(|core, out| core.send_outgoing(message, out))?;
        if let Some(watch) = &mut self.watch {
            watch.sent(kind, length, true);
        }
        Ok(())
    }

    /// As [`enqueue`](Self::enqueue), of a Ping.
    pub(crate) fn enqueue_ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.enqueue(|core, out| core.ping(payload, out))?;
        self.pings.get_or_insert_default().sent(payload, now());
        if let Some(watch) = &mut self.watch {
            watch.ping_sent();
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Receives the next message.
    ///
    /// `Ok(None)` means that the connection was closed cleanly, here and in every later call;
    /// [`closed`](Self::closed) tells by which end and why. A message begun with [`recv_part`](Self::recv_part) and not
    /// finished is skipped.
    ///
    /// # Errors
    ///
    /// Why the connection ended otherwise, in every later call too.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a future that is dropped has lost nothing.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// Receives the next part of a message as it arrives. A message received in parts can be of any size:
    /// [`Config::max_message`](crate::Config::max_message) does not apply.
    ///
    /// A call of [`recv`](Self::recv) in the middle of a message skips the rest of it: its last part is never
    /// returned, and the next part is the first of another message.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn recv_part(&mut self) -> Result<Option<Part>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends a message: [`feed`](Self::feed), then [`flush`](Self::flush).
    ///
    /// Takes text, bytes, a [`Message`] or a [`SharedFrame`](crate::SharedFrame); [`Outgoing::compress`] chooses whether
    /// this message is compressed.
    ///
    /// ```
    /// # async fn example(mut ws: longwire::WebSocket) -> Result<(), longwire::Error> {
    /// use longwire::{Compress, Outgoing};
    ///
    /// ws.send("你好 👋").await?;
    /// ws.send([1, 2, 3]).await?;
    /// ws.send(Outgoing::from("secret").compress(Compress::Never)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if a Close frame was sent or received; [`SendError::Failed`] if the stream is broken,
    /// which may be because the peer has closed: [`recv`](Self::recv) then tells why.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the whole message or nothing of it; frames are never torn.
    pub fn send<'m>(
        &mut self,
        message: impl Into<Outgoing<'m>>,
    ) -> impl Future<Output = Result<(), SendError>> {
        let mut message = Some(message.into());
        poll_fn(move |cx| {
            ready!(self.poll_feed(cx, &mut message))?;
            Poll::Ready(Ok(ready!(self.poll_flush(cx))?))
        })
    }

    /// Queues a message; waits only while [`Config::write_buffer`](crate::Config::write_buffer) bytes wait
    /// already. It is written by the next [`recv`](Self::recv) that has to wait, or by
    /// [`flush`](Self::flush), together with all that was queued meanwhile.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn feed<'m>(
        &mut self,
        message: impl Into<Outgoing<'m>>,
    ) -> impl Future<Output = Result<(), SendError>> {
        let mut message = Some(message.into());
        poll_fn(move |cx| self.poll_feed(cx, &mut message))
    }

    /// Sends a part of a message, and waits until it is written. The message ends with the part that is
    /// `last`; until then no other message can be sent. Text may be cut within a character.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::KindChanged`] or [`SendError::InvalidUtf8`] if the part does not fit the
    /// message under way.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send), for this part.
    pub async fn send_part(&mut self, part: impl Into<OutgoingPart>) -> Result<(), SendError> {
        let OutgoingPart { kind, payload, last, compress } = part.into();
        self.room().await?;
        let length = payload.len();
        self.enqueue(|core, out| core.send_part_with(kind, payload, last, compress, out))?;
        if let Some(watch) = &mut self.watch {
            watch.sent(kind, length, last);
        }
        self.flush().await
    }

    /// Writes everything that waits.
    ///
    /// # Errors
    ///
    /// [`SendError::Failed`], such as with [`Error::WriteTimeout`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: what is not written yet still waits.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        Ok(poll_fn(|cx| self.poll_flush(cx)).await?)
    }

    /// Sends a Ping with up to 125 bytes, ahead of the large messages that wait. Keepalive does not need it:
    /// [`recv`](Self::recv) sends Pings of its own. [`latency`](Self::latency) tells when the Pong has come, in
    /// [`recv`](Self::recv), and how long that took; a [`Sender`](crate::Sender) can
    /// [wait for it](crate::Sender::round_trip).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::ControlTooLong`].
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn ping(&mut self, payload: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.room().await?;
        self.enqueue_ping(payload.as_ref())?;
        self.flush().await
    }

    /// Closes the connection: sends a Close frame behind the messages that wait, and waits for the peer's, for at
    /// most [`Config::close_timeout`](crate::Config::close_timeout). Messages that arrive meanwhile are
    /// dropped. Closing a closed connection is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] if the code or the reason must not be sent (RFC 6455 7.4; a reason has at most
    /// 123 bytes); the connection then goes on. Otherwise the cause, if the closing handshake was not
    /// completed.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the Close frame or not; [`recv`](Self::recv) or another
    /// `close` goes on from there.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.start_close(CloseFrame::new(code, reason))?;
        while self.recv().await?.is_some() {}
        Ok(())
    }

    /// Splits the connection into a sender, which can be cloned, and a receiver. Not `StreamExt::split`, which gives two
    /// halves for a `Sink` and a `Stream`.
    pub fn split(self) -> (crate::Sender<S>, crate::Receiver<S>) {
        crate::connection::split::split(self)
    }

    /// Waits until the write buffer has room.
    async fn room(&mut self) -> Result<(), SendError> {
        Ok(poll_fn(|cx| self.poll_room(cx)).await?)
    }

    /// Queues the message as soon as there is room for it.
    #[inline]
    pub(crate) fn poll_feed(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<Outgoing<'_>>,
    ) -> Poll<Result<(), SendError>> {
        ready!(self.poll_room(cx))?;
        let Some(message) = message.take() else { return Poll::Ready(Ok(())) };
        Poll::Ready(self.enqueue_message(message))
    }
}

impl<S: PeerAddr> WebSocket<S> {
    /// Returns the address at the other end of TCP: that of the peer, or of the proxy in between.
    ///
    /// # Errors
    ///
    /// The error of the operating system, such as when the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
