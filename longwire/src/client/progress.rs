//! What a client does on its way to a connection, for those who want to watch.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::net::transport::Negotiated;

/// A step on the way to a connection, as [`Client::on_step`](crate::Client::on_step) tells it. None holds a
/// credential of ours; what the server answers may hold some of its own, as Set-Cookie does.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// The name of the server, or of the proxy, has these addresses.
    Resolved(&'a str, &'a [SocketAddr]),
    /// TCP to this address is tried.
    Dialing(SocketAddr),
    /// TCP to this address has failed.
    Failed(SocketAddr, &'a io::Error),
    /// The address that TCP is connected to.
    Connected(Option<SocketAddr>),
    /// The proxy, such as `http://proxy:3128`, has opened a tunnel to the server.
    Tunnelled(&'a str),
    /// TLS is agreed on, with the server or the proxy.
    Secured(&'a Negotiated),
    /// The server has answered the opening handshake.
    Answered(StatusCode, &'a HeaderMap),
    /// The server leads to this URL, and the client follows.
    Redirected(&'a str),
}

type Watcher = dyn Fn(Step<'_>) + Send + Sync;

/// Who is told.
#[derive(Clone, Default)]
pub(super) struct Watch(Option<Arc<Watcher>>);

impl Watch {
    pub(super) fn new(watch: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    pub(super) fn tell(&self, step: Step<'_>) {
        if let Some(watch) = &self.0 {
            watch(step);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watch" } else { "none" })
    }
}
