//! What an engine was configured with, as its loops see it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request};
use longwire_proto::handshake::Refusal;

use super::socket::http_stream::HttpStream;
use super::topics::backlog::SlowConsumer;
use crate::server::accept::Acceptor;
use crate::server::forwarded::TrustedProxies;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

/// Takes a connection that asks for no WebSocket, and the bytes that were read from it.
pub(crate) type HttpService = dyn Fn(HttpStream, Bytes) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// Finds out whether a client is let in, by asking somebody who has to be waited for.
pub(crate) type RequestHook = dyn Fn(Request<()>, SocketAddr) -> Pin<Box<dyn Future<Output = Result<Extensions, Refusal>>>>
    + Send
    + Sync;

/// What becomes of those who read too slowly, by the name of the topic.
pub(crate) type SlowPolicy = dyn Fn(&str) -> SlowConsumer + Send + Sync;

/// What all loops of an engine share.
pub(crate) struct Options<H> {
    pub(crate) handler: H,
    pub(crate) acceptor: Acceptor,
    pub(crate) slow: Arc<SlowPolicy>,
    pub(crate) http: Option<Arc<HttpService>>,
    pub(crate) on_request: Option<Arc<RequestHook>>,
    pub(crate) proxies: Option<TrustedProxies>,
    pub(crate) max_connections: Option<usize>,
    /// WebSockets that are open, if they are bounded.
    pub(crate) connections: Arc<AtomicUsize>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ServerTls>,
    pub(crate) io_uring: bool,
}

impl<H> Options<H> {
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.acceptor.settings().handshake_timeout
    }
}
