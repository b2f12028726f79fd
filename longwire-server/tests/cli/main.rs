//! The binary as its users meet it: real processes, real sockets.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod arguments;
mod config;
mod connect;
mod shutdown;
mod metrics_and_log;
mod http;
mod proxies;
mod client_options;
mod reconnect;
mod serve;
mod tls;

#[path = "../process/mod.rs"]
mod process;
