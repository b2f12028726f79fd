//! The command line: parses the command, runs it, and returns the exit status.

mod client_options;
mod config;
mod connect;
// Its checks of a request are for `serve`, which needs Unix.
#[cfg_attr(not(unix), allow(dead_code))]
mod origin;
mod output;
mod reconnect;
mod serve;
#[cfg(unix)]
mod start;
mod stdin;
#[cfg(unix)]
mod tls;

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::terminal;

/// A WebSocket server and client in one program
#[derive(Parser)]
#[command(name = "longwire", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Connect(connect::Connect),
    Config(config::Config),
}

const EXAMPLES: &str = "\
Examples:
  longwire serve
      Serve a chat page on http://127.0.0.1:8080, and a channel at every path.

  longwire connect ws://127.0.0.1:8080/lobby
      Join the channel /lobby; sends your input and shows messages of others.

  longwire config check longwire.toml
      Check a settings file.

  longwire help serve
      Show all options of a command.";

/// Why a command failed.
struct Failure {
    /// The exit status.
    status: u8,
    /// The message in one line; empty if there is nothing to print.
    text: String,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self { status: 1, text: text.into() }
    }

    /// The options contradict each other.
    fn usage(text: impl Into<String>) -> Self {
        Self { status: 2, text: text.into() }
    }

    /// A second signal: exits immediately and silently.
    fn signal(status: u8) -> Self {
        Self { status, text: String::new() }
    }
}

/// Runs the command of the command line.
pub(crate) fn run() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(Cli { command: Command::Serve(serve) }) => run_server(serve),
        Ok(Cli { command: Command::Connect(connect) }) => connect.run(),
        Ok(Cli { command: Command::Config(config) }) => config.run(),
        Err(error) => return usage(&error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, text }) => {
            if !text.is_empty() {
                terminal::failure(&text);
            }
            ExitCode::from(status)
        }
    }
}

#[cfg(unix)]
fn run_server(serve: serve::Serve) -> Result<(), Failure> {
    serve.run()
}

#[cfg(not(unix))]
fn run_server(serve: serve::Serve) -> Result<(), Failure> {
    // Invalid options are reported on every system.
    serve.settings()?;
    Err(Failure::new("`serve` requires a Unix system, such as Linux or macOS"))
}

/// Prints help, the version or a usage error. An invalid value is reported in one line, because its reason
/// contains the advice; everything else is printed as clap does.
fn usage(error: &clap::Error) -> ExitCode {
    let text = match (error.get(ContextKind::InvalidArg), error.source()) {
        // The value may be a secret, and clap would print it.
        (Some(ContextValue::String(name)), Some(reason)) if name.starts_with("--header") => {
            format!("invalid value for '{name}': {reason}")
        }
        _ => error.render().to_string(),
    };
    match text.lines().next() {
        Some(line) if error.kind() == ErrorKind::ValueValidation => {
            terminal::failure(line.strip_prefix("error: ").unwrap_or(line));
        }
        // If this fails as well, there is nowhere to report it.
        _ => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A subprotocol is a token (RFC 6455 4.1, RFC 9110 5.6.2).
fn subprotocol(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(
            "invalid subprotocol; use letters, digits and !#$%&'*+-.^_`|~ only, such as chat.v2".into()
        );
    }
    Ok(text.to_owned())
}
