//! Why connections end, and why they are not opened: the types, and their names for logs and metrics.

mod closed;
mod error;
mod not_opened;
pub(crate) mod outcome;
mod send_error;

pub use closed::{Closed, Side};
pub use error::{AcceptError, ConnectError, Error, Phase, Response};
pub(crate) use not_opened::{Failure, NotOpenedReason};
pub(crate) use outcome::cause_of;
pub use send_error::SendError;

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
