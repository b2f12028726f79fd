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
pub(crate) type HttpService = dyn Fn(HttpStream, Bytes) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// Decides about a request, in a task.
pub(crate) type RequestHook = dyn Fn(Request<()>, SocketAddr) -> Pin<Box<dyn Future<Output = Result<Extensions, Refusal>>>>
    + Send
    + Sync;

/// The policy for slow consumers of a topic, by its name.
pub(crate) type SlowPolicy = dyn Fn(&str) -> SlowConsumer + Send + Sync;

/// What all loops of an engine share.
pub(crate) struct Options<H> {
    pub(crate) handler: H,
    pub(crate) acceptor: Acceptor,
    pub(crate) slow: Option<Arc<SlowPolicy>>,
    pub(crate) http: Option<Arc<HttpService>>,
    pub(crate) on_request: Option<Arc<RequestHook>>,
    pub(crate) proxies: Option<TrustedProxies>,
    pub(crate) max_connections: Option<usize>,
    /// WebSockets that are open, if they are limited.
    pub(crate) connections: Arc<AtomicUsize>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ServerTls>,
    pub(crate) io_uring: bool,
}

impl<H> Options<H> {
    pub(crate) fn new(handler: H) -> Self {
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

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.acceptor.settings().handshake_timeout
    }

    /// The policy for slow consumers: the application's, or to close a connection whose write buffer is full.
    pub(crate) fn slow_policy(&self) -> Arc<SlowPolicy> {
        let write_buffer = self.acceptor.settings().config.write_buffer.get();
        self.slow.clone().unwrap_or_else(|| Arc::new(move |_| SlowConsumer::close(write_buffer)))
    }
}
