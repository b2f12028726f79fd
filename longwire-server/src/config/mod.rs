//! The settings of `longwire serve`: one TOML file, then the environment, then flags; what comes later wins.
//!
//! Nothing is guessed. A key that does not exist, a value that is none and settings that contradict each other are
//! errors that say where and what is allowed instead.

mod check;
mod error;
mod load;
mod settings;
mod show;
mod value;

pub(crate) use check::check_secret;
pub use error::{ConfigError, Place, Problem};
pub use load::{Loaded, Origin, Sources};
pub use settings::{
    Access, Anonymous, ApiKey, Channel, Config, History, Log, OnSlow, Presence, Publishers, Show, Slow, Sync,
    Tls, Token, Webhook, WhenDown,
};
pub use value::{Age, Listen, Network, Secret, Size, off};
