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

/// Serves a connection that asks for no WebSocket, with the bytes that were read from it.
pub(super) type HttpService = dyn Fn(HttpStream, Bytes) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// Decides about a request, in a task.
pub(super) type RequestHook = dyn Fn(Request<()>, SocketAddr) -> Pin<Box<dyn Future<Output = Result<Extensions, Refusal>>>>
    + Send
    + Sync;

/// The policy for slow consumers of a topic, by its name.
pub(super) type SlowPolicy = dyn Fn(&str) -> SlowConsumer + Send + Sync;

/// What all loops of an engine share.
pub(super) struct Options<H> {
    pub(super) handler: H,
    pub(super) acceptor: Acceptor,
    pub(super) slow: Option<Arc<SlowPolicy>>,
    pub(super) http: Option<Arc<HttpService>>,
    pub(super) on_request: Option<Arc<RequestHook>>,
    pub(super) proxies: Option<TrustedProxies>,
    pub(super) max_connections: Option<usize>,
    /// WebSockets that are open, if they are limited.
    pub(super) connections: Arc<AtomicUsize>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ServerTls>,
    pub(super) io_uring: bool,
}

impl<H> Options<H> {
    pub(super) fn new(handler: H) -> Self {
        Self {
            handler,
            acceptor: Acceptor::new(),
            slow: None,
            http: None,
            on_request: None,
            proxies: None,
            max_connections: None,
            connections: Arc::default(),
            #[cfg(feature = "tls")]
            tls: None,
            io_uring: true,
        }
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        self.acceptor.settings().handshake_timeout
    }

    /// The policy for slow consumers: the application's, or to close a connection whose write buffer is full.
    pub(super) fn slow_policy(&self) -> Arc<SlowPolicy> {
        let write_buffer = self.acceptor.settings().config.write_buffer.get();
        self.slow.clone().unwrap_or_else(|| Arc::new(move |_| SlowConsumer::close(write_buffer)))
    }
}
