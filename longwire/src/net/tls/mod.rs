//! TLS of the client ([`Tls`]) and of the server ([`ServerTls`]). The public interface contains no type of rustls.

mod accept_error;
mod client;
mod provider;
mod server;
mod verify;

pub use crate::end::{TlsAlert, TlsError};
pub use accept_error::TlsAcceptError;
pub(crate) use client::Secure;
pub use client::Tls;
pub use server::{CertificateError, Secured, ServerTls, TlsStream};
