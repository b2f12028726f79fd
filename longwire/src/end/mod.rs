//! Why connections end, and why they are not opened: the types, and their names for logs and metrics.

mod closed;
mod error;
mod not_opened;
pub(crate) mod outcome;

pub use closed::{Closed, Side};
pub use error::{AcceptError, ConnectError, Error, Phase, Response};
pub(crate) use not_opened::{Failure, NotOpenedReason};
pub(crate) use outcome::cause_of;
