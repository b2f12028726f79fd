//! What lies between a socket and its WebSocket, where that is not nothing: TLS, or a stream of somebody else's that
//! a task carries to and fro. Who has a layer never lets go of its `Held`, so whoever has none pays nothing for it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::end::Error;

#[derive(Debug)]
pub(crate) enum Layer {
    #[cfg(feature = "tls")]
    Tls(Box<crate::engine::socket::tls::TlsSession>),
    Carried(Box<Carried>),
}

/// The socket is one end of a pair, and a task carries what comes of it to where the peer is.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) from: SocketAddr,
    /// How that stream has failed.
    pub(crate) failed: Arc<OnceLock<Error>>,
}
