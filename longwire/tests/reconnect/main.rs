//! A client that connects again, over streams in memory, on a clock that is stopped; and once over a real
//! link that is cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod network;

mod attempts;
mod cancelled;
mod closing;
mod doubt;
mod hook;
mod link;
mod offline;
