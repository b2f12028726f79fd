//! A connection's socket, with what lies between it and the WebSocket: nothing, TLS, or a stream that a task carries.

pub(crate) mod http_stream;
pub(crate) mod layer;
pub(crate) mod plain;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(target_os = "linux")]
mod uring;
pub(crate) mod writer;
