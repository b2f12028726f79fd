//! An open connection over any stream: what it offers. How it works is in `drive`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::ready;

use bytes::{Buf, Bytes, BytesMut};
use longwire_proto::{
    CloseCode, CloseFrame, Compress, Connection, DeflateParameters, Kind, Message, Outbox, Part, Role,
    SendError, SharedFrame,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::connection::driver::Ending;
use crate::connection::scratch::{self, Scratch};
use crate::connection::shutdown::Member;
use crate::connection::timer::Timer;
use crate::end::{Closed, Error};
use crate::net::transport::Transport;
use crate::observe::recorder::Watch;

/// An open WebSocket connection over any stream.
///
/// [`recv`](Self::recv) does all that runs by itself: it answers Pings, keeps the connection alive,
/// finishes the closing handshake and writes what was [fed](Self::feed). Keep it called; what it
/// returns when the connection is over says why.
///
/// Dropped without [`close`](Self::close), it ends TCP, and the peer sees 1006.
///
/// While it is idle it holds no buffer, whatever the stream, but for what compression refers back to where
/// context takeover was agreed on (see [`Deflate`](crate::Deflate)).
///
/// Everything that waits here needs a Tokio runtime with its clock enabled, and panics without.
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
    /// Who may ask it to close, if anybody may.
    pub(crate) member: Option<Box<Member>>,
    /// Where somebody counts or traces.
    pub(crate) watch: Option<Box<Watch>>,
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
        }
    }

    /// The same, watched from its beginning.
    pub(crate) fn watched(mut self, watch: Option<Box<Watch>>) -> Self {
        self.watch = watch;
        if let (Some(watch), Some(lent)) = (&mut self.watch, &self.lent) {
            watch.read(lent.input.len());
        }
        self
    }

    /// The subprotocol that was negotiated (RFC 6455 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// How messages are compressed, if that was negotiated (RFC 7692).
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.core.deflate()
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.core.role()
    }

    /// Bytes that wait to be written, frame headers included.
    pub fn buffered_amount(&self) -> usize {
        self.lent.as_ref().map_or(0, |lent| lent.out.remaining())
    }

    /// How the connection was closed, once its closing handshake is complete.
    pub fn closed(&self) -> Option<&Closed> {
        self.ending.as_ref()?.result.as_ref()?.as_ref().ok()
    }

    /// The stream. Reading from it or writing to it breaks the connection.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// Less than the write buffer waits.
    pub(crate) fn has_room(&self) -> bool {
        self.buffered_amount() < self.core.config().write_buffer_limit()
    }

    /// Queues with `queue`, if the write buffer has room and the connection is up.
    pub(crate) fn enqueue(
        &mut self,
        queue: impl FnOnce(&mut Connection, &mut Outbox) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if !self.has_room() {
            return Err(Error::Full);
        }
        let lent = self.lent.get_or_insert_with(scratch::take);
        Ok(queue(&mut self.core, &mut lent.out)?)
    }

    /// As [`enqueue`](Self::enqueue), of a message.
    #[inline]
    pub(crate) fn enqueue_message(&mut self, message: Message, compress: Compress) -> Result<(), Error> {
        let (kind, length) = (message.kind(), message.len());
        self.enqueue(|core, out| core.send_with(message, compress, out))?;
        if let Some(watch) = &mut self.watch {
            watch.sent(kind, length, true);
        }
        Ok(())
    }

    /// As [`enqueue`](Self::enqueue), of a message that was encoded before.
    pub(crate) fn enqueue_shared(&mut self, frame: &SharedFrame) -> Result<(), Error> {
        self.enqueue(|core, out| core.send_shared(frame, out))?;
        if let Some(watch) = &mut self.watch {
            watch.sent(frame.kind(), frame.payload_len(), true);
        }
        Ok(())
    }

    /// As [`enqueue`](Self::enqueue), of a Ping.
    pub(crate) fn enqueue_ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.enqueue(|core, out| core.ping(payload, out))?;
        if let Some(watch) = &mut self.watch {
            watch.ping_sent();
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Receives the next message.
    ///
    /// `Ok(None)`: the connection was closed by a closing handshake; [`closed`](Self::closed) says by
    /// whom and why. It stays so. A message begun with [`recv_part`](Self::recv_part) and not finished
    /// is skipped.
    ///
    /// # Errors
    ///
    /// The typed cause of any other end; it stays so too.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a future that is dropped has lost nothing.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// Receives the next piece of a message as it arrives: for messages of any size, which are not
    /// put together and not bounded by [`Config::max_message`](crate::Config::max_message).
    ///
    /// A call of [`recv`](Self::recv) in the middle of a message passes over the rest of it: then no last
    /// part comes, and the next part is the first of another message.
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
    /// # Errors
    ///
    /// [`Error::Send`] when a Close frame was sent or received; [`Error::Io`] when the stream is broken,
    /// which may be because the peer has closed: [`recv`](Self::recv) then says why.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the whole message or nothing of it; frames are never torn.
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        self.send_with(message, Compress::Auto)
    }

    /// As [`send`](Self::send), with a word on the compression of this message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn send_with(
        &mut self,
        message: impl Into<Message>,
        compress: Compress,
    ) -> impl Future<Output = Result<(), Error>> {
        let mut message = Some(message.into());
        poll_fn(move |cx| {
            ready!(self.poll_feed(cx, &mut message, compress))?;
            self.poll_flush(cx)
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
    pub fn feed(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        self.feed_with(message, Compress::Auto)
    }

    /// As [`feed`](Self::feed), with a word on the compression of this message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn feed_with(
        &mut self,
        message: impl Into<Message>,
        compress: Compress,
    ) -> impl Future<Output = Result<(), Error>> {
        let mut message = Some(message.into());
        poll_fn(move |cx| self.poll_feed(cx, &mut message, compress))
    }

    /// Queues a message that was encoded once for many connections; as [`feed`](Self::feed).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn feed_shared(&mut self, frame: &SharedFrame) -> Result<(), Error> {
        self.room().await?;
        self.enqueue_shared(frame)
    }

    /// Sends a part of a message, and waits until it is written. The message ends with the part that is
    /// `last`; until then no other message can be sent. Text may be cut within a character.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Send`] when the part does not fit the message under way.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send), for this part.
    pub async fn send_part(
        &mut self,
        kind: Kind,
        payload: impl Into<Bytes>,
        last: bool,
    ) -> Result<(), Error> {
        self.send_part_with(kind, payload, last, Compress::Auto).await
    }

    /// As [`send_part`](Self::send_part), with a word on the compression of the message; the one said with
    /// its first part counts.
    ///
    /// # Errors
    ///
    /// As [`send_part`](Self::send_part).
    ///
    /// # Cancel safety
    ///
    /// As [`send_part`](Self::send_part).
    pub async fn send_part_with(
        &mut self,
        kind: Kind,
        payload: impl Into<Bytes>,
        last: bool,
        compress: Compress,
    ) -> Result<(), Error> {
        self.room().await?;
        let payload = payload.into();
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
    /// As [`send`](Self::send); [`Error::WriteTimeout`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: what is not written yet still waits.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends a Ping with up to 125 bytes, before the large messages that wait. Keepalive needs no help:
    /// [`recv`](Self::recv) sends its own.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Send`] when the payload is too long.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn ping(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.room().await?;
        self.enqueue_ping(payload.as_ref())?;
        self.flush().await
    }

    /// Closes the connection: sends a Close frame behind what waits, and waits for the peer's, for at
    /// most [`Config::close_timeout`](crate::Config::close_timeout). Messages that come meanwhile are
    /// dropped. Closing what is closed is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the code or the reason may not be sent (RFC 6455 7.4; a reason has at most
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

    /// Splits into a sender that clones and a receiver, over one connection.
    pub fn split(self) -> (crate::Sender<S>, crate::Receiver<S>) {
        crate::connection::split::split(self)
    }

    /// Waits until the write buffer has room.
    async fn room(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_room(cx)).await
    }
}

impl WebSocket<TcpStream> {
    /// The peer's address.
    ///
    /// # Errors
    ///
    /// What the operating system says, such as when the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl WebSocket {
    /// The address at the other end of TCP: the server's, or that of the proxy before it.
    ///
    /// # Errors
    ///
    /// When the socket was no longer connected as it was handed over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
