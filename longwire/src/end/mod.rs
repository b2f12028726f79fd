//! Why connections end, and why they are not opened: the types, and their names for logs and metrics.

pub(crate) mod cause;
mod closed;
mod error;
pub(crate) mod outcome;

pub use closed::{Closed, Side};
pub use error::{AcceptError, ConnectError, Error, Phase, Response};
