//! The steps of a client on its way to a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::net::transport::Negotiated;

/// A step on the way to a connection, for [`Client::on_step`](crate::Client::on_step).
///
/// No step contains credentials of the client. The response of the server may contain some, for example Set-Cookie.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A lookup found these addresses for the name of the server or of the proxy. IPv4 and IPv6 addresses are looked
    /// up separately, so this step can occur twice.
    Resolved(&'a str, &'a [SocketAddr]),
    /// The client tries to connect to this address by TCP.
    Dialing(SocketAddr),
    /// The TCP connection to this address failed.
    Failed(SocketAddr, &'a io::Error),
    /// TCP is connected to this address.
    Connected(Option<SocketAddr>),
    /// The proxy, such as `http://proxy:3128`, opened a tunnel to the server.
    Tunnelled(&'a str),
    /// The TLS handshake with the server or the proxy is complete.
    Secured(&'a Negotiated),
    /// The server answered the opening handshake.
    Answered(StatusCode, &'a HeaderMap),
    /// The server redirects to this URL, and the client follows.
    Redirected(&'a str),
}

type Callback = dyn Fn(Step<'_>) + Send + Sync;

/// The callback for the steps, if there is one.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<Callback>>);

impl Observer {
    pub(super) fn new(callback: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    pub(super) fn notify(&self, step: Step<'_>) {
        if let Some(callback) = &self.0 {
            callback(step);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer" } else { "none" })
    }
}
