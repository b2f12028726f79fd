//! The command line: which command, and how its end becomes an exit status.

mod client_options;
mod config;
mod connect;
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

/// A WebSocket server and client in one program.
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
      Serve on http://127.0.0.1:8080: a page for browsers, and a channel on every path.

  longwire connect ws://127.0.0.1:8080/lobby
      Join the channel /lobby: what you type is sent, what others say is shown.

  longwire config check longwire.toml
      Say what is wrong with the settings, or what holds.

  longwire help serve
      All about a command.";

/// Why a command did not succeed.
struct Failure {
    /// Its exit status.
    status: u8,
    /// What happened, in one line; empty where there is nothing to say.
    text: String,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self { status: 1, text: text.into() }
    }

    /// The options do not go together.
    #[cfg(unix)]
    fn usage(text: impl Into<String>) -> Self {
        Self { status: 2, text: text.into() }
    }

    /// Ended by a signal for the second time: at once and without a word.
    fn signal(status: u8) -> Self {
        Self { status, text: String::new() }
    }
}

/// Runs what the command line asks for.
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
fn run_server(_: serve::Serve) -> Result<(), Failure> {
    Err(Failure::new("serve needs a Unix system, such as Linux or macOS"))
}

/// Help and version are no failures. A value that was refused is one line, for its reason holds the
/// advice; all else is said as clap says it.
fn usage(error: &clap::Error) -> ExitCode {
    let text = match (error.get(ContextKind::InvalidArg), error.source()) {
        // Its value may be a secret, which clap would repeat.
        (Some(ContextValue::String(name)), Some(reason)) if name.starts_with("--header") => {
            format!("invalid value for '{name}': {reason}")
        }
        _ => error.render().to_string(),
    };
    match text.lines().next() {
        Some(line) if error.kind() == ErrorKind::ValueValidation => {
            terminal::failure(line.strip_prefix("error: ").unwrap_or(line));
        }
        // Nobody is left to read it where even this cannot be printed.
        _ => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A subprotocol is a token (RFC 6455 4.1, RFC 9110 5.6.2).
fn subprotocol(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("a subprotocol is one word of letters, digits and !#$%&'*+-.^_`|~, as in chat.v2".into());
    }
    Ok(text.to_owned())
}
