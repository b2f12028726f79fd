//! The settings of `longwire serve`: a TOML file, then the environment, then options. Later sources override
//! earlier ones.
//!
//! Nothing is guessed. Unknown keys, invalid values and contradicting settings are errors. The message states
//! the location and the allowed values.

mod check;
mod error;
mod keys;
mod load;
mod settings;
mod show;
mod value;

pub use crate::value::Size;
pub(crate) use check::check_secret;
pub use error::{ConfigError, Location, Problem};
pub use load::{Loaded, Source, Sources};
pub use settings::{
    Access, Anonymous, ApiKey, Channel, Config, History, Log, Presence, PresenceDetail, Publishers,
    SlowConsumers, SlowPolicy, Sync, Tls, Token, Webhook, WhenDown,
};
pub use value::{ListenAddr, Network, Secret, TimeSpan, off};
