//! Below WebSocket: the heads of HTTP/1.1, the stream that carries a connection, and TLS.

pub(crate) mod http_head;
pub(crate) mod peer_addr;
#[cfg(feature = "tls")]
pub mod tls;
pub(crate) mod transport;
