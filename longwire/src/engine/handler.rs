//! The callbacks that an application implements.

use std::io;
use std::net::SocketAddr;

use http::{HeaderMap, Request};
use longwire_proto::handshake::Refusal;
use longwire_proto::{DeflateParameters, MessageRef};

use super::conn::Conn;
use super::mailbox::handle::Handle;
use super::mailbox::id::Id;
use crate::end::{Closed, Error};

/// The callbacks of an [`Engine`](super::Engine): one value for all connections on all threads.
///
/// The engine calls the callbacks of one connection one after the other, on one thread. The same thread serves thousands
/// of other connections, so callbacks must not block. Work that waits goes into a task: every callback can call
/// [`spawn_local`](tokio::task::spawn_local), and the task reaches the connection through its
/// [`ConnHandle`](super::ConnHandle).
///
/// The engine calls [`on_request`](Self::on_request) first, then [`opened`](Self::opened), then any of the others, and
/// [`closed`](Self::closed) exactly once at the end. A callback that panics closes its own connection with 1011, and no
/// other. If the engine stops between `on_request` and `opened`, the state is dropped without a call of `closed`; that can
/// happen with TLS, with [`Engine::on_request`](super::Engine::on_request) and with [`Handle::invite`].
pub trait Handler: Send + Sync + 'static {
    /// The application's state of one connection. It stays on the connection's thread, and need not be `Send`.
    type State: 'static;

    /// Accepts or rejects a request that is valid otherwise. Returns the connection's state, and can add headers to the
    /// response.
    ///
    /// # Errors
    ///
    /// The response to a client that is rejected.
    fn on_request(
        &self,
        request: &Request<()>,
        from: SocketAddr,
        headers: &mut HeaderMap,
    ) -> Result<Self::State, Refusal>;

    /// Called when the connection is open. Messages that are sent here leave together with the response.
    fn opened(&self, conn: &mut Conn<'_>, state: &mut Self::State, opening: &Opening<'_>) {
        let _ = (conn, state, opening);
    }

    /// Called with each message that was received. The message borrows the read buffer;
    /// [`MessageRef::into_message`] makes an owned one.
    fn message(&self, conn: &mut Conn<'_>, state: &mut Self::State, message: MessageRef<'_>);

    /// Called with the payload of each Ping that was received. The Pong is queued already.
    fn ping(&self, conn: &mut Conn<'_>, state: &mut Self::State, payload: &[u8]) {
        let _ = (conn, state, payload);
    }

    /// Called with the payload of each Pong that was received, whether the application or the keepalive sent the Ping.
    fn pong(&self, conn: &mut Conn<'_>, state: &mut Self::State, payload: &[u8]) {
        let _ = (conn, state, payload);
    }

    /// Called when everything that was queued has been written, after the peer was too slow for a while or
    /// [`Conn::send`] returned [`Full`](crate::SendError::Full).
    fn drained(&self, conn: &mut Conn<'_>, state: &mut Self::State) {
        let _ = (conn, state);
    }

    /// Called when the connection has ended, and why: `Ok` after a closing handshake. The connection is unsubscribed from
    /// its topics. Use `engine` to reach others.
    fn closed(&self, engine: &Handle, id: Id, state: Self::State, end: Result<Closed, Error>) {
        let _ = (engine, id, state, end);
    }

    /// Called when a connection could not be accepted, for example because the process is out of descriptors. The engine
    /// tries again after 100 ms.
    fn accept_failed(&self, error: &io::Error) {
        let _ = error;
    }
}

/// The opening handshake of a connection that has just been opened.
#[derive(Debug)]
pub struct Opening<'a> {
    pub(super) request: &'a Request<()>,
    pub(super) subprotocol: Option<&'a str>,
    pub(super) deflate: Option<DeflateParameters>,
}

impl Opening<'_> {
    /// Returns the request.
    pub const fn request(&self) -> &Request<()> {
        self.request
    }

    /// Returns the selected subprotocol (RFC 6455 1.9).
    pub const fn subprotocol(&self) -> Option<&str> {
        self.subprotocol
    }

    /// Returns the negotiated compression parameters (RFC 7692); `None` if compression was not negotiated.
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate
    }
}
