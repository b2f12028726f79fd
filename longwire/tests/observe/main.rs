//! What is seen of connections from outside: counters, and events of `tracing`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod counted;
mod endings;
#[cfg(unix)]
mod engine;
mod shared;
#[cfg(feature = "tracing")]
mod traced;
