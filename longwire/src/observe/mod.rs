//! What can be seen of connections from outside: counters, how they are exported, and traces.

pub(crate) mod counters;
mod prometheus;
pub(crate) mod recorder;
pub(crate) mod trace;

pub use counters::{Counters, Ended, NotOpened, Snapshot, Traffic};
