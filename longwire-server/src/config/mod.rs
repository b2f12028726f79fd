//! The settings of `longwire serve`: one TOML file, then the environment, then flags; what comes later wins.
//!
//! Nothing is guessed. A key that does not exist, a value that is none and settings that contradict each other are
//! errors that say where and what is allowed instead.

mod check;
mod error;
mod keys;
mod load;
mod settings;
mod show;
mod value;

pub(crate) use check::check_secret;
pub use error::{ConfigError, Location, Problem};
pub use load::{Loaded, Source, Sources};
pub use settings::{
    Access, Anonymous, ApiKey, Channel, Config, History, Log, Presence, PresenceDetail, Publishers, Slow,
    SlowPolicy, Sync, Tls, Token, Webhook, WhenDown,
};
pub use value::{ListenAddr, Network, Secret, Size, TimeSpan, off};
