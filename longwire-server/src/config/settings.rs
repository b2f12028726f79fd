//! All settings and their defaults.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ListenAddr, Network, Secret, Size, TimeSpan};
use crate::limits::{LimitRules, Rate};
use crate::pattern::{Pattern, Patterns};

/// All settings of a server. `docs/longwire.toml` documents each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on.
    pub listen: ListenAddr,
    /// Number of threads; 0 means one per core.
    pub threads: u16,
    /// Origins whose pages may connect, in addition to the server's own; `any` allows all.
    pub allow_origin: Vec<String>,
    /// Host names that the server accepts ([`host_allowed`](crate::access::host_allowed)); `any` accepts all.
    pub allow_host: Vec<String>,
    /// Supported subprotocols, in order of preference.
    pub subprotocol: Vec<String>,
    /// Reverse proxies whose forwarding headers are trusted.
    pub trust_proxy: Vec<Network>,
    /// Maximum number of open connections; 0 means unlimited.
    pub max_connections: u32,
    /// Maximum size of a message, in bytes of payload.
    pub max_message: Size,
    /// Whether messages are compressed for clients that offer it (RFC 7692).
    pub deflate: bool,
    /// Minimum size of a message to compress.
    pub deflate_threshold: Size,
    /// The time over which the closing of connections is spread on shutdown.
    pub drain: TimeSpan,
    /// Whether connections are closed with 1012 (service restart) instead of 1001.
    pub restarts: bool,
    /// The format of the log.
    pub log: Log,
    /// The log level: `error`, `warn`, `info`, `debug`, `trace`, or a filter of `tracing`.
    pub log_level: String,
    /// The directory for history; without it, history is kept in memory only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// A directory of static files, with `index.html` served at `/`. It is read at startup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<PathBuf>,
    /// When history is synced to disk.
    pub sync: Sync,
    /// TLS.
    pub tls: Tls,
    /// Access rules.
    pub access: Access,
    /// Rate limits and connection limits.
    pub limits: LimitRules,
    /// Settings of channels; the first section whose pattern matches applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channel: Vec<Channel>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ListenAddr { host: "127.0.0.1".into(), port: 8080 },
            threads: 0,
            allow_origin: Vec::new(),
            allow_host: Vec::new(),
            subprotocol: Vec::new(),
            trust_proxy: Vec::new(),
            max_connections: 0,
            max_message: Size::new(1 << 20),
            deflate: false,
            deflate_threshold: Size::new(256),
            drain: TimeSpan::seconds(0),
            restarts: false,
            log: Log::Off,
            log_level: "info".into(),
            data: None,
            pages: None,
            sync: Sync::Os,
            tls: Tls::default(),
            access: Access::default(),
            limits: LimitRules::default(),
            channel: Vec::new(),
        }
    }
}

impl Config {
    /// Returns the settings of a channel: the first section whose pattern matches. `None` means that
    /// [`Channel::default`] applies.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channel.iter().find(|channel| {
            channel.pattern.as_ref().is_some_and(|pattern| {
                // The channel at `/` has no segments, but `>` is meant to match every channel.
                pattern.matches(name) || (name == "/" && pattern.as_str() == ">")
            })
        })
    }
}

/// TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The private key, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The CAs whose client certificates are required, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether a certificate is generated at each start, for development.
    pub self_signed: bool,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// No log.
    Off,
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// When history is synced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the operating system does. History survives a crash of the process, but not of the machine.
    Os,
    /// At this interval.
    Every(TimeSpan),
    /// Before each message is acknowledged.
    Always,
}

impl FromStr for Sync {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "os" => Ok(Self::Os),
            "always" => Ok(Self::Always),
            other => match other.parse::<TimeSpan>() {
                Ok(every) if every > TimeSpan::seconds(0) => Ok(Self::Every(every)),
                _ => Err("invalid value; write os, always, or a duration such as 1s".into()),
            },
        }
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os => f.write_str("os"),
            Self::Every(every) => every.fmt(f),
            Self::Always => f.write_str("always"),
        }
    }
}

/// Access rules. Without any rule, everything is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Confirms that access without rules is intended on an address that other machines can reach.
    pub open: bool,
    /// Additional root certificates for fetching keys and for webhooks, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Rights of clients without credentials.
    pub anonymous: Anonymous,
    /// Tokens (JWT).
    pub token: Token,
    /// The webhook.
    pub webhook: Webhook,
    /// API keys of programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<ApiKey>,
}

impl Access {
    /// Returns whether there are access rules.
    pub fn has_rules(&self) -> bool {
        self.token.is_on() || self.webhook.url.is_some() || !self.key.is_empty()
    }
}

/// Rights of clients without a token or key, if there are access rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anonymous {
    /// The channels that they may subscribe to.
    pub subscribe: Patterns,
    /// The channels that they may publish to.
    pub publish: Patterns,
}

/// Tokens (JWT, RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// The secret for HS256, HS384 or HS512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// A file with the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// A file with public keys: PEM, JWK or JWKS (RFC 7517).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The URL of public keys (JWKS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The age at which fetched keys are fetched again.
    pub jwks_max_age: TimeSpan,
    /// Minimum interval between fetches caused by unknown keys.
    pub jwks_refresh: TimeSpan,
    /// The algorithm of keys that do not state one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Accepted audiences (`aud`).
    pub audience: Vec<String>,
    /// Accepted issuers (`iss`).
    pub issuer: Vec<String>,
    /// Whether tokens without `exp` are rejected.
    pub require_exp: bool,
    /// The tolerated difference between clocks.
    pub leeway: TimeSpan,
    /// The cookie that may contain a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Whether a token may be passed as `?token=`.
    pub query: bool,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            key_file: None,
            jwks_url: None,
            jwks_max_age: TimeSpan::seconds(600),
            jwks_refresh: TimeSpan::seconds(60),
            algorithm: None,
            audience: Vec::new(),
            issuer: Vec::new(),
            require_exp: true,
            leeway: TimeSpan::seconds(30),
            cookie: None,
            query: true,
        }
    }
}

impl Token {
    /// Returns whether there is a key that verifies tokens.
    pub fn is_on(&self) -> bool {
        self.secret.is_some()
            || self.secret_file.is_some()
            || self.key_file.is_some()
            || self.jwks_url.is_some()
    }
}

/// The API key of a program, mainly for POST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Its name, for the log.
    pub name: String,
    /// The SHA-256 of the key, in hexadecimal.
    pub sha256: String,
    /// The channels that it may subscribe to.
    #[serde(default)]
    pub subscribe: Patterns,
    /// The channels that it may publish to.
    #[serde(default)]
    pub publish: Patterns,
    /// Whether it may see the dashboard, the statistics and the metrics.
    #[serde(default)]
    pub operator: bool,
}

/// The webhook: an HTTP backend that decides about access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it decides about connections.
    pub connect: bool,
    /// Whether it decides about subscriptions that nothing else allows.
    pub subscribe: bool,
    /// Whether it decides about messages that nothing else allows.
    pub publish: bool,
    /// The request headers that it is sent.
    pub headers: Vec<String>,
    /// Whether it is sent the content of messages.
    pub body: bool,
    /// Timeout of a request.
    pub timeout: TimeSpan,
    /// Maximum number of concurrent requests.
    pub concurrency: u16,
    /// The decision when the webhook is unavailable.
    pub when_down: WhenDown,
    /// How long a decision is cached; 0 disables the cache.
    pub cache: TimeSpan,
    /// The secret that signs the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            connect: true,
            subscribe: false,
            publish: false,
            headers: vec!["authorization".into(), "cookie".into()],
            body: false,
            timeout: TimeSpan::seconds(2),
            concurrency: 64,
            when_down: WhenDown::Deny,
            cache: TimeSpan::seconds(0),
            secret: None,
        }
    }
}

/// The decision when the webhook is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// Deny.
    Deny,
    /// Allow. Anyone who can make the webhook unavailable gets access.
    Allow,
}

/// Settings of a group of channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channel {
    /// The pattern of the channels; required in a section of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// How much history is kept.
    pub history: History,
    /// What subscribers learn about other subscribers.
    pub presence: Presence,
    /// Who may publish, in addition to the access rules.
    pub publish: Publishers,
    /// What happens to slow consumers.
    pub slow: SlowConsumers,
    /// Maximum size of a message; by default, that of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message: Option<Size>,
    /// Maximum rate of messages from all publishers together.
    #[serde(with = "super::off")]
    pub rate: Option<Rate>,
}

/// Limits of the history; all of them apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Number of messages; 0 keeps no history.
    pub messages: u32,
    /// Bytes of payload.
    pub bytes: Size,
    /// Age of the oldest message.
    pub age: TimeSpan,
}

impl Default for History {
    fn default() -> Self {
        Self { messages: 100, bytes: Size::new(1 << 20), age: TimeSpan::seconds(300) }
    }
}

/// What subscribers learn about other subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// The level of detail.
    pub show: PresenceDetail,
    /// Maximum number of members that are listed; above it, only their number is reported.
    pub max: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self { show: PresenceDetail::Members, max: 1000 }
    }
}

/// The level of detail of presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceDetail {
    /// Nothing.
    Off,
    /// The number of members.
    Counts,
    /// The members by name.
    Members,
}

/// Who may publish, in addition to the access rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Publishers {
    /// Everyone whom the access rules allow.
    #[default]
    Anyone,
    /// Clients with a user name.
    Users,
    /// Clients with a token or an API key.
    Tokens,
    /// Nobody.
    Nobody,
}

/// What happens to slow consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlowConsumers {
    /// The policy.
    pub policy: SlowPolicy,
    /// Maximum size of a subscriber's queue.
    pub bytes: Size,
    /// Maximum age of a message in a subscriber's queue.
    #[serde(with = "super::off")]
    pub age: Option<TimeSpan>,
}

impl Default for SlowConsumers {
    fn default() -> Self {
        Self { policy: SlowPolicy::Close, bytes: Size::new(4 << 20), age: None }
    }
}

/// What happens to a subscriber that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowPolicy {
    /// It is disconnected with 1013.
    Close,
    /// The oldest messages in its queue are dropped.
    DropOldest,
    /// Only the latest message is kept in its queue.
    KeepLatest,
}
