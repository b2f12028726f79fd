//! Why connections end, and why they are not opened: the types, and their names for logs and metrics.

mod closed;
mod error;
#[cfg(feature = "http2")]
mod http2_error;
mod not_opened;
pub(crate) mod outcome;
#[cfg(feature = "proxy")]
mod proxy_error;
mod redirect_error;
mod send_error;
#[cfg(feature = "tls")]
mod tls_alert;
#[cfg(feature = "tls")]
mod tls_error;

pub use closed::{Closed, Side};
pub use error::{AcceptError, ConnectError, Error, Phase, Response};
#[cfg(feature = "http2")]
pub use http2_error::Http2Error;
#[cfg(feature = "http2")]
pub(crate) use http2_error::stream_error;
pub(crate) use not_opened::{Failure, NotOpenedReason};
pub(crate) use outcome::cause_of;
#[cfg(feature = "proxy")]
pub use proxy_error::ProxyError;
pub use redirect_error::RedirectError;
pub use send_error::SendError;
#[cfg(feature = "tls")]
pub use tls_alert::TlsAlert;
#[cfg(feature = "tls")]
pub(crate) use tls_error::NotPinned;
#[cfg(feature = "tls")]
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
