//! TLS under a connection. No type of rustls is in the public interface.

mod client;

pub(crate) use client::Secure;
pub use client::{Tls, TlsError};
