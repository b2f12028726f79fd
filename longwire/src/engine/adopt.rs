//! Connections whose opening handshake somebody else answers, such as a stream of HTTP/2 (RFC 8441): how they come to a
//! loop, and the task that carries their bytes to it and back.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use longwire_proto::DeflateParameters;
use longwire_proto::handshake::Refusal;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

use super::event_loop::Loop;
use super::event_loop::admission::{Admission, OpeningTask, Permit};
use super::event_loop::opening::{Accepted, arrive, let_in_unanswered};
use super::handler::Handler;
use super::mailbox::command::Command;
use super::mailbox::handle::Handle;
use super::socket::layer::{Carried, Layer};
use crate::connection::scratch;
use crate::end::Error;

/// How long a stream may take no byte of what has left the loop.
const STUCK: Duration = Duration::from_secs(30);

/// How long the peer of a connection that is over may take to end its direction.
const AFTERWARDS: Duration = Duration::from_secs(10);

impl Handle {
    /// Lets in a connection whose opening handshake the caller answers, and whose bytes come on any stream: a stream of
    /// HTTP/2 (RFC 8441), or what hyper has upgraded. It has the callbacks, topics, limits and the end that all others
    /// have.
    ///
    /// [`Engine::on_request`](super::Engine::on_request) and [`Handler::on_request`](super::Handler::on_request) see `request`, on the
    /// thread of the loop with the fewest connections. The rules of the handshake, which pages may connect among
    /// them, are the caller's to check before. Answer with [`Invitation::headers`], then hand over the stream:
    ///
    /// ```
    /// # use longwire::engine::Handle;
    /// # use longwire::http::Request;
    /// # use tokio::io::{AsyncRead, AsyncWrite};
    /// # async fn answer<S>(_: u16, _: Option<&longwire::http::HeaderMap>) -> S { unimplemented!() }
    /// # async fn example<S>(engine: Handle, request: Request<()>, from: std::net::SocketAddr) -> std::io::Result<()>
    /// # where S: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// match engine.invite(request, from).await {
    ///     Ok(invitation) => {
    ///         let stream: S = answer(200, Some(invitation.headers())).await;
    ///         invitation.adopt(stream, None, None)
    ///     }
    ///     Err(refusal) => Ok(answer(refusal.status().as_u16(), Some(refusal.headers())).await),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The answer to a client that is refused; 503 when the engine comes to its end.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped lets nobody in.
    pub async fn invite(&self, request: Request<()>, from: SocketAddr) -> Result<Invitation, Refusal> {
        let ends = || {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "This server comes to its end: come again later.")
        };
        let mailbox = self.mailbox(self.mailboxes().least_busy());
        let (reply, replied) = oneshot::channel();
        let permit = Permit::acquire(Arc::clone(&mailbox.connections));
        let invite = Invite { request, from, permit, reply };
        mailbox.push(Command::Invite(Box::new(invite))).map_err(|_| ends())?;
        replied.await.map_err(|_| ends())?
    }
}

/// A connection that an engine has let in, and that has no stream yet. Dropped, its state is dropped.
pub struct Invitation {
    /// Until it is adopted.
    engine: Option<Handle>,
    at: u16,
    ticket: u64,
    headers: HeaderMap,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl Invitation {
    /// What [`Handler::on_request`](super::Handler::on_request) has added to the answer.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The answer is on its way: gives the engine the stream, and what was agreed on. A task on the caller's runtime
    /// carries its bytes, and holds no buffer while there are none. Behind a stream that takes no byte of what has
    /// left the loop for 30 s, or does not end 10 s after the connection has, nobody waits.
    ///
    /// # Errors
    ///
    /// What the operating system says of a pair of sockets, by which the bytes come to the loop.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn adopt<S>(
        mut self,
        stream: S,
        subprotocol: Option<&str>,
        deflate: Option<DeflateParameters>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let far = UnixStream::from_std(far)?;
        let failed = Arc::default();
        let adoption = Adoption {
            ticket: self.ticket,
            // The calls of the system that a loop makes are the same for all sockets of streams.
            socket: TcpStream::from(OwnedFd::from(near)),
            failed: Arc::clone(&failed),
            subprotocol: subprotocol.map(Into::into),
            deflate,
        };
        if let Some(engine) = self.engine.take() {
            // An engine that has ended drops it: that is the end of the stream.
            let _ = engine.mailbox(self.at).push(Command::Adopt(adoption));
        }
        tokio::spawn(carry(stream, far, failed));
        Ok(())
    }
}

impl Drop for Invitation {
    fn drop(&mut self) {
        if let Some(engine) = &self.engine {
            let _ = engine.mailbox(self.at).push(Command::Forget(self.ticket));
        }
    }
}

/// A request to let somebody in.
pub(crate) struct Invite {
    request: Request<()>,
    from: SocketAddr,
    permit: Permit,
    reply: oneshot::Sender<Result<Invitation, Refusal>>,
}

/// The stream of somebody who was let in.
pub(crate) struct Adoption {
    ticket: u64,
    socket: TcpStream,
    failed: Arc<OnceLock<Error>>,
    subprotocol: Option<Box<str>>,
    deflate: Option<DeflateParameters>,
}

/// Those who were let in and have no stream yet.
pub(crate) struct Invitations<S> {
    next: u64,
    by_ticket: HashMap<u64, (Accepted<S>, SocketAddr, Permit)>,
}

impl<S> Default for Invitations<S> {
    fn default() -> Self {
        Self { next: 0, by_ticket: HashMap::new() }
    }
}

impl<S> Invitations<S> {
    fn put(&mut self, accepted: Accepted<S>, from: SocketAddr, permit: Permit) -> u64 {
        self.next += 1;
        self.by_ticket.insert(self.next, (accepted, from, permit));
        self.next
    }

    pub(crate) fn take(&mut self, ticket: u64) -> Option<(Accepted<S>, SocketAddr, Permit)> {
        self.by_ticket.remove(&ticket)
    }
}

impl<H: Handler> OpeningTask<H> {
    /// Lets it in if it may: its ticket, and the headers of its answer.
    async fn invite(
        &self,
        mut request: Request<()>,
        from: SocketAddr,
        permit: Permit,
    ) -> Result<(u64, HeaderMap), Refusal> {
        let from = arrive(&self.options, &mut request, from)?;
        self.run_request_hook(&mut request, from).await?;
        let (accepted, headers) = let_in_unanswered(&self.options, request, from)?;
        Ok((self.tasks.invited.borrow_mut().put(accepted, from, permit), headers))
    }
}

impl<H: Handler> Loop<H> {
    pub(crate) fn invite(&self, invite: Invite) {
        let Invite { request, from, permit, mut reply } = invite;
        let (task, at) = (self.task(), self.local.at);
        self.spawn(async move {
            let closing = task.tasks.closing.clone();
            let asked =
                super::event_loop::admission::unless(task.invite(request, from, permit), reply.closed());
            let Some(Some(invited)) = closing.run_until_cancelled(Box::pin(asked)).await else { return };
            // Should nobody take it any more, it is dropped, and says so to this loop.
            let engine = Some(task.engine.clone());
            let invitation = invited.map(|(ticket, headers)| Invitation { engine, at, ticket, headers });
            drop(reply.send(invitation));
        });
    }

    pub(crate) fn adopt(&mut self, adoption: Adoption) {
        let Adoption { ticket, socket, failed, subprotocol, deflate } = adoption;
        let invited = self.tasks.invited.borrow_mut().take(ticket);
        let Some((mut accepted, from, permit)) = invited else { return };
        accepted.subprotocol = subprotocol;
        accepted.deflate = deflate;
        let layer = Some(Layer::Carried(Box::new(Carried { from, failed })));
        self.take_in(Admission { stream: socket, layer, accepted, input: Bytes::new(), permit });
    }
}

/// Carries the bytes of a stream to a loop and back, until both directions have ended.
async fn carry<S>(stream: S, socket: UnixStream, failed: Arc<OnceLock<Error>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_peer, mut to_peer) = tokio::io::split(stream);
    let (mut from_loop, mut to_loop) = socket.into_split();
    let mut inward = pin!(async {
        if let Err(Stopped::Reading(error)) = copy(&mut from_peer, &mut to_loop, None).await {
            let _ = failed.set(error.into());
        }
        // If it fails the loop has gone.
        let _ = to_loop.shutdown().await;
    });
    let mut outward = pin!(async {
        match copy(&mut from_loop, &mut to_peer, Some(STUCK)).await {
            Err(Stopped::Writing(error)) => {
                let _ = failed.set(error.into());
                false
            }
            // The loop has said all that it has to say.
            Ok(()) | Err(Stopped::Reading(_)) => {
                matches!(timeout(STUCK, to_peer.shutdown()).await, Ok(Ok(())))
            }
        }
    });
    let mut said_all = false;
    let well = poll_fn(|cx| {
        said_all = said_all || inward.as_mut().poll(cx).is_ready();
        outward.as_mut().poll(cx)
    })
    .await;
    if well && !said_all {
        let _ = timeout(AFTERWARDS, inward).await;
    }
}

/// Which side of a copy has failed.
enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies until the end, by way of the thread's blocks; each write may wait for so long.
async fn copy<R, W>(from: &mut R, to: &mut W, stuck: Option<Duration>) -> Result<(), Stopped>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let mut block = read_block(from).await.map_err(Stopped::Reading)?;
        if block.is_empty() {
            return Ok(());
        }
        while block.has_remaining() {
            let write = to.write_buf(&mut block);
            let written = match stuck {
                Some(time) => {
                    timeout(time, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
                None => write.await,
            };
            match written {
                Ok(0) => return Err(Stopped::Writing(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) => return Err(Stopped::Writing(error)),
            }
        }
        scratch::give_back(block);
        to.flush().await.map_err(Stopped::Writing)?;
    }
}

/// Reads once; empty at the end. Queued holds no block.
async fn read_block<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<BytesMut> {
    poll_fn(|cx| {
        let mut block = scratch::block();
        match poll_read_buf(Pin::new(&mut *from), cx, &mut block) {
            Poll::Ready(read) => Poll::Ready(read.map(|_| block)),
            Poll::Pending => {
                scratch::give_back(block);
                Poll::Pending
            }
        }
    })
    .await
}
