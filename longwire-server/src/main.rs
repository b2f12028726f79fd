//! `longwire`: a ready-to-run WebSocket server and client.
//!
//! `cli/` is what a person types; `server` takes connections and sends each to a channel (`session`
//! and `hub`), to the echo, or to plain `http`. Everything of RFC 6455 is the library's.

mod cli;
mod http;
mod hub;
mod server;
mod session;
mod stop;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
