//! The binary as its users meet it: real processes, real sockets.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod arguments;
mod config;
mod connect;
mod endings;
mod observe;
mod plain_http;
mod proxies;
mod reach;
mod reconnect;
mod serve;
mod tls;

#[path = "../process/mod.rs"]
mod process;
