//! TLS under a connection. No type of rustls is in the public interface.

mod client;
mod error;
mod pin;

pub(crate) use client::Secure;
pub use client::Tls;
pub use error::TlsError;
