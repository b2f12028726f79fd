//! Connections whose opening handshake the caller answers, for example streams of HTTP/2 (RFC 8441).

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Request, StatusCode};
use longwire_proto::handshake::Refusal;
use longwire_proto::{Config, DeflateParameters};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::carry::carry;
use super::mailbox::command::Command;
use super::mailbox::handle::Handle;
use super::permit::Permit;

impl Handle {
    /// Asks the engine to accept a connection whose opening handshake the caller answers, and whose bytes come on any
    /// stream: a stream of HTTP/2 (RFC 8441), or what hyper has upgraded. Such a connection has the same callbacks, topics
    /// and limits as all others.
    ///
    /// [`Engine::on_request`](super::Engine::on_request) and [`Handler::on_request`](super::Handler::on_request) decide about
    /// `request`, on the thread of the loop with the fewest connections. The caller has to check the rules of the handshake
    /// before, including the Origin. Answer with [`Invitation::headers`], then hand over the stream:
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
    /// The response to a client that is rejected; 503 if the engine is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection's state.
    pub async fn invite(&self, request: Request<()>, from: SocketAddr) -> Result<Invitation, Refusal> {
        let ends = || {
            let text = "The server is shutting down; try again later.";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
        };
        let mailbox = self.mailbox(self.mailboxes().least_busy());
        let (reply, replied) = oneshot::channel();
        let permit = Permit::acquire(Arc::clone(&mailbox.connections));
        let invite = Invite { request, from, permit, reply };
        mailbox.push(Command::Invite(Box::new(invite))).map_err(|_| ends())?;
        replied.await.map_err(|_| ends())?
    }
}

/// A connection that an engine has accepted, and that has no stream yet. Dropping it drops the connection's state.
pub struct Invitation {
    /// `None` once it is adopted.
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
    pub(super) const fn new(engine: Handle, at: u16, ticket: u64, headers: HeaderMap) -> Self {
        Self { engine: Some(engine), at, ticket, headers }
    }

    /// Returns the headers that [`Handler::on_request`](super::Handler::on_request) has added to the response.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Hands over the stream and what was negotiated, once the response is on its way.
    ///
    /// A task on the caller's runtime carries the bytes. It holds no buffer while there are none. It drops a stream that
    /// takes no byte, or does not flush, for 30 s, and one that does not end within 10 s after the connection.
    ///
    /// # Errors
    ///
    /// The error of the operating system if there is no pair of sockets, which connects the task with the loop.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn adopt<S>(
        self,
        stream: S,
        subprotocol: Option<&str>,
        deflate: Option<DeflateParameters>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.adopt_with(stream, subprotocol, deflate, None)
    }

    /// Like [`adopt`](Self::adopt), with a configuration other than that of the engine's acceptor.
    pub(crate) fn adopt_with<S>(
        mut self,
        stream: S,
        subprotocol: Option<&str>,
        deflate: Option<DeflateParameters>,
        config: Option<Arc<Config>>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let far = UnixStream::from_std(far)?;
        let failure = Arc::default();
        let adoption = Adoption {
            ticket: self.ticket,
            // A loop makes the same calls of the system for TCP and for a pair.
            socket: TcpStream::from(OwnedFd::from(near)),
            failure: Arc::clone(&failure),
            subprotocol: subprotocol.map(Into::into),
            deflate,
            config,
        };
        if let Some(engine) = self.engine.take() {
            // An engine that has stopped drops its end of the pair, which ends the task.
            let _ = engine.mailbox(self.at).push(Command::Adopt(adoption));
        }
        tokio::spawn(carry(stream, far, failure));
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

/// A request that a loop is to decide about.
pub(super) struct Invite {
    pub(super) request: Request<()>,
    pub(super) from: SocketAddr,
    pub(super) permit: Permit,
    pub(super) reply: oneshot::Sender<Result<Invitation, Refusal>>,
}

/// The stream of a connection that was accepted.
pub(super) struct Adoption {
    pub(super) ticket: u64,
    pub(super) socket: TcpStream,
    /// Where the task that carries the bytes puts the error of the stream.
    pub(super) failure: Arc<OnceLock<Arc<io::Error>>>,
    pub(super) subprotocol: Option<Box<str>>,
    pub(super) deflate: Option<DeflateParameters>,
    pub(super) config: Option<Arc<Config>>,
}
