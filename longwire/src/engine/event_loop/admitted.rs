//! Connections on their way into the loop: accepted by the application, and not open yet.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use longwire_proto::{Config, DeflateParameters};
use tokio_util::sync::CancellationToken;

use crate::engine::permit::Permit;
use crate::engine::socket::Layer;

/// What a loop and its tasks share.
pub(super) struct TaskState<S> {
    pub(super) admitted: RefCell<Vec<Admission<S>>>,
    pub(super) invited: RefCell<Invitations<S>>,
    pub(super) opening: Cell<u64>,
    #[cfg(feature = "tls")]
    pub(super) http: Cell<u64>,
    #[cfg(feature = "tls")]
    pub(super) tls_failed: Cell<u64>,
    /// Nothing is admitted any more.
    pub(super) closing: CancellationToken,
}

impl<S> Default for TaskState<S> {
    fn default() -> Self {
        Self {
            admitted: RefCell::default(),
            invited: RefCell::default(),
            opening: Cell::default(),
            #[cfg(feature = "tls")]
            http: Cell::default(),
            #[cfg(feature = "tls")]
            tls_failed: Cell::default(),
            closing: CancellationToken::new(),
        }
    }
}

/// A connection that was admitted.
pub(super) struct Admission<S> {
    pub(super) stream: std::net::TcpStream,
    pub(super) layer: Option<Layer>,
    pub(super) accepted: Accepted<S>,
    /// What came behind the request.
    pub(super) input: Bytes,
    pub(super) permit: Permit,
}

/// A request that was accepted.
pub(super) struct Accepted<S> {
    pub(super) request: Request<()>,
    /// The response; empty if the caller of [`Handle::invite`](crate::engine::Handle::invite) writes it.
    pub(super) response: Vec<u8>,
    pub(super) subprotocol: Option<Box<str>>,
    pub(super) deflate: Option<DeflateParameters>,
    pub(super) config: Arc<Config>,
    pub(super) state: S,
    pub(super) from: SocketAddr,
    /// One of [`max_connections`](crate::engine::Engine::max_connections).
    pub(super) room: Permit,
}

/// The accepted connections that have no stream yet, by their tickets.
pub(super) struct Invitations<S> {
    next: u64,
    by_ticket: HashMap<u64, (Accepted<S>, SocketAddr, Permit)>,
}

impl<S> Default for Invitations<S> {
    fn default() -> Self {
        Self { next: 0, by_ticket: HashMap::new() }
    }
}

impl<S> Invitations<S> {
    pub(super) fn insert(&mut self, accepted: Accepted<S>, from: SocketAddr, permit: Permit) -> u64 {
        self.next += 1;
        self.by_ticket.insert(self.next, (accepted, from, permit));
        self.next
    }

    pub(super) fn take(&mut self, ticket: u64) -> Option<(Accepted<S>, SocketAddr, Permit)> {
        self.by_ticket.remove(&ticket)
    }
}
