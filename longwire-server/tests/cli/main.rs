//! The binary as users run it: real processes and sockets.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod arguments;
mod client_options;
mod config;
mod connect;
mod http;
mod metrics_and_log;
mod proxies;
mod reconnect;
mod serve;
mod shutdown;
mod tls;

#[path = "../process/mod.rs"]
mod process;
