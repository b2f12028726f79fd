//! `longwire`: a ready-to-run WebSocket server and client.
//!
//! `cli/` is what a person types; `server` is what the library's engine calls, with each connection on a
//! channel or at the echo; `serving` and `http` are what else is served. Everything of RFC 6455 is the library's.

mod cli;
#[cfg(unix)]
mod health;
#[cfg(unix)]
mod http_server;
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
