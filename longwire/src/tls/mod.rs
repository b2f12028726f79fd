//! TLS.

mod server;

pub use server::{CertificateError, Secured, ServerTls, TlsStream};
