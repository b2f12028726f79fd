//! Why connections end, and why they are not opened: the types, and their names for logs and metrics.

#[cfg(target_family = "wasm")]
mod absent;
mod closed;
mod error;
#[cfg(all(feature = "http2", not(target_family = "wasm")))]
mod http2_error;
mod not_opened;
pub(crate) mod outcome;
#[cfg(all(feature = "proxy", not(target_family = "wasm")))]
mod proxy_error;
mod redirect_error;
mod send_error;
#[cfg(all(feature = "tls", not(target_family = "wasm")))]
mod tls_alert;
#[cfg(all(feature = "tls", not(target_family = "wasm")))]
mod tls_error;

#[cfg(all(feature = "http2", target_family = "wasm"))]
pub use absent::Http2Error;
#[cfg(all(feature = "proxy", target_family = "wasm"))]
pub use absent::ProxyError;
#[cfg(all(feature = "tls", target_family = "wasm"))]
pub use absent::TlsError;
pub use closed::{Closed, Side};
pub use error::{AcceptError, ConnectError, Error, Phase, Response};
#[cfg(all(feature = "http2", not(target_family = "wasm")))]
pub use http2_error::Http2Error;
#[cfg(all(feature = "http2", not(target_family = "wasm")))]
pub(crate) use http2_error::stream_error;
pub(crate) use not_opened::{Failure, NotOpenedReason};
pub(crate) use outcome::cause_of;
#[cfg(all(feature = "proxy", not(target_family = "wasm")))]
pub use proxy_error::ProxyError;
pub use redirect_error::RedirectError;
pub use send_error::SendError;
#[cfg(all(feature = "tls", not(target_family = "wasm")))]
pub use tls_alert::TlsAlert;
#[cfg(all(feature = "tls", not(target_family = "wasm")))]
pub(crate) use tls_error::NotPinned;
#[cfg(all(feature = "tls", not(target_family = "wasm")))]
pub use tls_error::TlsError;

/// Writes the text of an error, and for `{:#}` those of its sources too: "cannot connect: Connection refused".
pub(crate) fn write_chain(
    f: &mut std::fmt::Formatter<'_>,
    text: &str,
    error: &dyn std::error::Error,
) -> std::fmt::Result {
    f.write_str(text)?;
    match error.source() {
        Some(source) if f.alternate() => write!(f, ": {source:#}"),
        _ => Ok(()),
    }
}
