//! `longwire config`: checks the settings, shows what holds, and makes keys for programs.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use longwire_server::access::{Access, generate_key};
use longwire_server::config::{Loaded, Sources};
use longwire_server::pattern::Pattern;

use super::Failure;
use crate::terminal;

/// Check the settings of the server, and make keys for programs.
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

/// Say what is wrong with the settings, or what holds and where each value comes from.
///
/// The settings are those of the file and of the environment (LONGWIRE_LISTEN and so on). Secrets are not shown. Files of keys
/// for tokens are read as well; nothing is fetched and nobody is asked. The exit status is 0 if all is well.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct Check {
    /// The file, as docs/longwire.toml describes it; without it, the defaults and the environment
    file: Option<PathBuf>,

    /// Write what holds as JSON
    #[arg(long)]
    json: bool,
}

/// Make a key for a program, and print the section of the file that lets it in.
///
/// The key is shown here and nowhere else: the file holds its SHA-256.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct Key {
    /// What it is called in the file
    name: String,

    /// A pattern of channels that it may hear. May be given several times
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<Pattern>,

    /// A pattern of channels that it may speak on. May be given several times
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<Pattern>,
}

const EXAMPLES: &str = "\
Examples:
  longwire config check longwire.toml
      What is wrong, with line and column; or what holds, and where it comes from.

  LONGWIRE_MAX_MESSAGE=4M longwire config check --json
      The same of the environment alone, for programs.

  longwire config key backend --publish 'quotes.>' >> longwire.toml
      Let a program publish; its key is shown on standard error.";

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
        let said = match &self.file {
            Some(path) => sources.file(path),
            None => Ok(()),
        };
        let loaded = said
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
            .map_err(|error| Failure::new(format!("the system gives no random bytes: {error}")))?;
        let list = |patterns: &[Pattern]| {
            toml::Value::from(patterns.iter().map(Pattern::as_str).collect::<Vec<_>>())
        };
        let name = toml::Value::from(self.name);
        terminal::warn(&format!("the key, which is shown only now: {key}"));
        Ok(format!(
            "\n[[access.key]]\nname = {name}\nsha256 = \"{sha256}\"\nsubscribe = {}\npublish = {}\n",
            list(&self.subscribe),
            list(&self.publish)
        ))
    }
}
