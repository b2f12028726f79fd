//! What an application is told, and what it may say about its connections.

use std::io;
use std::net::SocketAddr;

use http::{HeaderMap, Request};
use longwire_proto::DeflateParameters;
use longwire_proto::MessageRef;
use longwire_proto::handshake::Refusal;

use super::conn::Conn;
use super::mailbox::handle::Handle;
use super::mailbox::id::Id;
use crate::end::Closed;
use crate::end::Error;

/// The callbacks of an [`Engine`](super::Engine): one value for all connections on all threads.
///
/// The callbacks of one connection come one after the other, on one thread, which runs the callbacks of
/// thousands of others: they must not block. What has to wait goes into a task,
/// [`spawn_local`](tokio::task::spawn_local) works in every callback, which tells its outcome to the
/// connection's [`ConnHandle`](super::ConnHandle).
///
/// In this order: [`on_request`](Self::on_request), [`opened`](Self::opened), then any of the others, and
/// [`closed`](Self::closed) exactly once. A callback that panics ends its connection with 1011, and no other. Only where
/// TLS, [a verdict](super::Engine::on_request) or [an invitation](super::Handle::invite) lies between may a state be dropped
/// that was made and never opened, for the engine has come to its end.
pub trait Handler: Send + Sync + 'static {
    /// What the application keeps with each connection. It stays on the connection's thread.
    type State: 'static;

    /// Sees an opening handshake that is otherwise good: makes the connection's state, or refuses it. May
    /// add headers to the answer.
    ///
    /// # Errors
    ///
    /// The answer to a client that is refused.
    fn on_request(
        &self,
        request: &Request<()>,
        from: SocketAddr,
        headers: &mut HeaderMap,
    ) -> Result<Self::State, Refusal>;

    /// The connection is open. What is sent here leaves together with the answer to the handshake.
    fn opened(&self, conn: &mut Conn<'_>, state: &mut Self::State, opening: &Opening<'_>) {
        let _ = (conn, state, opening);
    }

    /// A whole message was received. It is lent: [`MessageRef::into_message`] gives it bytes of its own.
    fn message(&self, conn: &mut Conn<'_>, state: &mut Self::State, message: MessageRef<'_>);

    /// A Ping was received; it is answered already.
    fn ping(&self, conn: &mut Conn<'_>, state: &mut Self::State, payload: &[u8]) {
        let _ = (conn, state, payload);
    }

    /// A Pong was received, to a Ping of the application's or of the keepalive.
    fn pong(&self, conn: &mut Conn<'_>, state: &mut Self::State, payload: &[u8]) {
        let _ = (conn, state, payload);
    }

    /// All that waited has gone out: after the peer took no more for a while, or [`Conn::send`] said
    /// [`Full`](crate::SendError::Full).
    fn drained(&self, conn: &mut Conn<'_>, state: &mut Self::State) {
        let _ = (conn, state);
    }

    /// The connection has ended, for this reason; its topics are left. `Ok` is a closing handshake. By way of
    /// `engine` others can be told.
    fn closed(&self, engine: &Handle, id: Id, state: Self::State, end: Result<Closed, Error>) {
        let _ = (engine, id, state, end);
    }

    /// A connection could not be accepted, for want of descriptors or the like. The listener is asked
    /// again after 100 ms.
    fn accept_failed(&self, error: &io::Error) {
        let _ = error;
    }
}

/// The opening handshake of a connection that has just been opened.
#[derive(Debug)]
pub struct Opening<'a> {
    pub(crate) request: &'a Request<()>,
    pub(crate) subprotocol: Option<&'a str>,
    pub(crate) deflate: Option<DeflateParameters>,
}

impl Opening<'_> {
    /// The request.
    pub const fn request(&self) -> &Request<()> {
        self.request
    }

    /// The subprotocol that was selected (RFC 6455 1.9).
    pub const fn subprotocol(&self) -> Option<&str> {
        self.subprotocol
    }

    /// How messages are compressed, if that was negotiated (RFC 7692).
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate
    }
}
