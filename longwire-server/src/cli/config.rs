//! `longwire config`: checks the settings, shows the effective values, and generates API keys.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use longwire_server::access::{Access, generate_key};
use longwire_server::config::{Loaded, Sources};
use longwire_server::pattern::Pattern;

use super::Failure;
use crate::terminal;

/// Check the server's settings, or generate API keys
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(Check),
    Key(Key),
}

/// Check the settings and show the effective values.
///
/// Reads the file and the environment (LONGWIRE_LISTEN and so on), and shows where each value comes from.
/// Secrets are masked. Key files for tokens are read; nothing is fetched over the network. The exit status is
/// 0 if the settings are valid.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct Check {
    /// Settings file in TOML (see docs/longwire.toml)
    ///
    /// Without a file, only the defaults and the environment are checked.
    #[arg(value_name = "PATH")]
    file: Option<PathBuf>,

    /// Print the settings as JSON
    #[arg(long)]
    json: bool,
}

/// Generate an API key and print its section for the settings file.
///
/// The key is printed once, on standard error. The settings file contains only its SHA-256.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct Key {
    /// Name of the key in the settings file
    name: String,

    /// Channels that the key may subscribe to (repeatable)
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<Pattern>,

    /// Channels that the key may publish to (repeatable)
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<Pattern>,
}

const EXAMPLES: &str = "\
Examples:
  longwire config check longwire.toml
      Check a file; shows errors with line and column, or the effective settings.

  LONGWIRE_MAX_MESSAGE=4M longwire config check --json
      Check the environment only, and print JSON.

  longwire config key backend --publish 'quotes.>' >> longwire.toml
      Add an API key that may publish; prints the key on standard error.";

impl Config {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = match self.command {
            Command::Check(check) => check.run()?,
            Command::Key(key) => key.run()?,
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::new(format!("cannot write to standard output: {error}")))
    }
}

impl Check {
    fn run(self) -> Result<String, Failure> {
        let loaded = self.load().map_err(|error| Failure::new(terminal::escaped(&error)))?;
        for warning in &loaded.warnings {
            terminal::warn(&terminal::escaped(warning));
        }
        Ok(if self.json { format!("{:#}\n", loaded.to_json()) } else { loaded.to_toml() })
    }

    fn load(&self) -> Result<Loaded, String> {
        let mut sources = Sources::new();
        let settings = match &self.file {
            Some(path) => sources.file(path),
            None => Ok(()),
        };
        let loaded = settings
            .and_then(|()| sources.environment(std::env::vars_os()))
            .and_then(|()| sources.load())
            .map_err(|error| error.to_string())?;
        Access::new(&loaded.config.access)?;
        Ok(loaded)
    }
}

impl Key {
    fn run(self) -> Result<String, Failure> {
        let (key, sha256) = generate_key()
            .map_err(|error| Failure::new(format!("cannot get random bytes from the system: {error}")))?;
        let list = |patterns: &[Pattern]| {
            toml::Value::from(patterns.iter().map(Pattern::as_str).collect::<Vec<_>>())
        };
        let name = toml::Value::from(self.name);
        terminal::warn(&format!("the API key, which is not shown again: {key}"));
        Ok(format!(
            "\n[[access.key]]\nname = {name}\nsha256 = \"{sha256}\"\nsubscribe = {}\npublish = {}\n",
            list(&self.subscribe),
            list(&self.publish)
        ))
    }
}
