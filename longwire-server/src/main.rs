//! `longwire`: a ready-to-run WebSocket server and client.
//!
//! `cli` is the command line. `http_server` serves plain HTTP connections with `health` and the library's
//! channels. The library implements RFC 6455.

mod cli;
#[cfg(unix)]
mod health;
#[cfg(unix)]
mod http_server;
// Only `serve` logs, and it needs Unix.
#[cfg_attr(not(unix), allow(dead_code))]
mod log;
#[cfg(unix)]
mod metrics;
mod signals;
mod terminal;
#[cfg(unix)]
mod write_timeout;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
