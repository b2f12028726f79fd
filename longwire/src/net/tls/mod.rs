//! TLS of the client ([`Tls`]) and of the server ([`ServerTls`]). The public interface contains no type of rustls.

mod accept_error;
mod alert;
mod client;
mod error;
mod provider;
mod server;
mod verify;

pub use accept_error::TlsAcceptError;
pub use alert::TlsAlert;
pub(crate) use client::Secure;
pub use client::Tls;
pub use error::TlsError;
pub use server::{CertificateError, Secured, ServerTls, TlsStream};
