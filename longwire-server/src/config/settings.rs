//! What can be set, and what holds where it is not.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ListenAddr, Network, Secret, Size, TimeSpan};
use crate::limits::{Rate, Rules};
use crate::pattern::{Pattern, Patterns};

/// All settings of a server. `docs/longwire.toml` says what each of them does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: ListenAddr,
    /// How many threads serve; 0 is one per core.
    pub threads: u16,
    /// Pages that may connect besides the server's own; `any` is all of them.
    pub allow_origin: Vec<String>,
    /// Names by which the server may be asked for ([`host_allowed`](crate::access::host_allowed)); `any` is all.
    pub allow_host: Vec<String>,
    /// Subprotocols that are spoken; of those that a client offers, the first one here is chosen.
    pub subprotocol: Vec<String>,
    /// Proxies that are believed when they say whom they speak for.
    pub trust_proxy: Vec<Network>,
    /// Connections at a time; 0 is as many as the system gives.
    pub max_connections: u32,
    /// The largest message that is taken, in bytes of payload.
    pub max_message: Size,
    /// Whether messages are compressed for clients that offer it (RFC 7692).
    pub deflate: bool,
    /// Smaller messages are sent as they are.
    pub deflate_threshold: Size,
    /// Over how long connections are closed when the server is to end.
    pub drain: TimeSpan,
    /// Whether they are closed with 1012 (come again) instead of 1001.
    pub restarts: bool,
    /// How the log is written.
    pub log: Log,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter of `tracing`.
    pub log_level: String,
    /// Where history is kept; without it, in memory only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// A folder of pages that is served, `index.html` at `/`; it is read at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<PathBuf>,
    /// When what is kept reaches the disk.
    pub sync: Sync,
    /// TLS.
    pub tls: Tls,
    /// Who may do what.
    pub access: Access,
    /// How much of it.
    pub limits: Rules,
    /// What holds on which channels; the first whose pattern matches.
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
            limits: Rules::default(),
            channel: Vec::new(),
        }
    }
}

impl Config {
    /// What holds on the channel of this name: of the sections in their order the first whose pattern matches.
    /// `None` is a channel for which no section was written: [`Channel::default`] holds.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channel.iter().find(|channel| {
            channel.pattern.as_ref().is_some_and(|pattern| {
                // The channel at `/` has no segments: what means every channel means it too.
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
    /// Its key, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whose certificates clients must show, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether a certificate is made up at each start, for trying things out.
    pub self_signed: bool,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// Not at all.
    Off,
    /// For people.
    Text,
    /// For programs: an object on each line.
    Json,
}

/// When what is kept reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the operating system likes: it survives the end of the process, not of the machine.
    Os,
    /// At least this often.
    Every(TimeSpan),
    /// Before it is acknowledged.
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
                _ => Err("write os, always, or a time, as in 1s".into()),
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

/// Who may do what. Without any rule everybody may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// That everybody may do everything is meant, also where others than this machine reach the server.
    pub open: bool,
    /// Whose certificates are believed besides those that the system believes, when keys are fetched and webhooks are
    /// asked; as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What those may who show nothing.
    pub anonymous: Anonymous,
    /// Tokens (JWT).
    pub token: Token,
    /// The backend that is asked.
    pub webhook: Webhook,
    /// Keys of programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<ApiKey>,
}

impl Access {
    /// Whether there is any rule.
    pub fn has_rules(&self) -> bool {
        self.token.is_on() || self.webhook.url.is_some() || !self.key.is_empty()
    }
}

/// What those may who show neither token nor key, where there are rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anonymous {
    /// The channels that they may hear.
    pub subscribe: Patterns,
    /// The channels that they may speak on.
    pub publish: Patterns,
}

/// Tokens (JWT, RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// The secret of HS256, HS384 or HS512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// A file that holds the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// A file of public keys: PEM, JWK or JWKS (RFC 7517).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Where to fetch public keys (JWKS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// After how long fetched keys are fetched again.
    pub jwks_max_age: TimeSpan,
    /// How often they are fetched at most, when tokens come with keys that are not known.
    pub jwks_refresh: TimeSpan,
    /// The algorithm of keys that do not say theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// For whom a token must be (`aud`): one of these.
    pub audience: Vec<String>,
    /// Of whom it must be (`iss`): one of these.
    pub issuer: Vec<String>,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// By how much clocks may differ.
    pub leeway: TimeSpan,
    /// The cookie in which a token may come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Whether a token may come as `?token=`.
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
    /// Whether there is a key to check tokens with.
    pub fn is_on(&self) -> bool {
        self.secret.is_some()
            || self.secret_file.is_some()
            || self.key_file.is_some()
            || self.jwks_url.is_some()
    }
}

/// The key of a program, for POST above all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// For the log.
    pub name: String,
    /// The SHA-256 of the key, in hexadecimal.
    pub sha256: String,
    /// The channels that it may hear.
    #[serde(default)]
    pub subscribe: Patterns,
    /// The channels that it may speak on.
    #[serde(default)]
    pub publish: Patterns,
    /// Whether it may see the dashboard, the statistics and the metrics.
    #[serde(default)]
    pub operator: bool,
}

/// The backend that is asked by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it is asked about connections.
    pub connect: bool,
    /// Whether it is asked about subscriptions that nothing else allows.
    pub subscribe: bool,
    /// Whether it is asked about messages that nothing else allows.
    pub publish: bool,
    /// Which headers of the request it is told.
    pub headers: Vec<String>,
    /// Whether it is told what a message says.
    pub body: bool,
    /// How long an answer may take.
    pub timeout: TimeSpan,
    /// How many questions may be open at a time.
    pub concurrency: u16,
    /// What holds when there is no answer.
    pub when_down: WhenDown,
    /// How long an answer is remembered; 0 is not at all.
    pub cache: TimeSpan,
    /// Signs the questions.
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

/// What holds when the webhook gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// No.
    Deny,
    /// Yes: whoever can keep it from answering gets in.
    Allow,
}

/// What holds on some channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channel {
    /// On which; required in a section of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// What is kept for those who come later.
    pub history: History,
    /// What is told of who is there.
    pub presence: Presence,
    /// Who may speak, of those whom access lets.
    pub publish: Publishers,
    /// What becomes of subscribers that read too slowly.
    pub slow: Slow,
    /// The largest message; without it, that of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message: Option<Size>,
    /// How many messages are taken, of all who speak together.
    #[serde(with = "super::off")]
    pub rate: Option<Rate>,
}

/// What is kept: as many, as much and as old as all of these allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Messages; 0 keeps nothing.
    pub messages: u32,
    /// Bytes of payload.
    pub bytes: Size,
    /// The oldest.
    pub age: TimeSpan,
}

impl Default for History {
    fn default() -> Self {
        Self { messages: 100, bytes: Size::new(1 << 20), age: TimeSpan::seconds(300) }
    }
}

/// What is told of who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Nothing, how many, or who.
    pub show: PresenceDetail,
    /// Above so many members only how many they are.
    pub max: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self { show: PresenceDetail::Members, max: 1000 }
    }
}

/// Nothing, how many, or who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceDetail {
    /// Nothing.
    Off,
    /// How many.
    Counts,
    /// Who.
    Members,
}

/// Who may speak, of those whom access lets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Publishers {
    /// All of them.
    #[default]
    Anyone,
    /// Who is known by name.
    Users,
    /// Who has shown a token or a key.
    Tokens,
    /// None of them.
    Nobody,
}

/// What becomes of subscribers that read too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    /// What becomes of them.
    pub policy: SlowPolicy,
    /// As soon as more waits than this.
    pub bytes: Size,
    /// Or anything has waited for so long.
    #[serde(with = "super::off")]
    pub age: Option<TimeSpan>,
}

impl Default for Slow {
    fn default() -> Self {
        Self { policy: SlowPolicy::Close, bytes: Size::new(4 << 20), age: None }
    }
}

/// What becomes of a subscriber that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowPolicy {
    /// It is closed with 1013.
    Close,
    /// It misses the oldest messages.
    DropOldest,
    /// It gets the latest message only.
    KeepLatest,
}
