//! TLS: what a client asks for ([`Tls`]) and what a server shows ([`ServerTls`]). No type of rustls is in the public
//! interface.

mod accept_error;
mod client;
mod error;
mod pin;
mod server;

pub use accept_error::TlsAcceptError;
pub(crate) use client::Secure;
pub use client::Tls;
pub use error::TlsError;
pub use server::{CertificateError, Secured, ServerTls, TlsStream};
