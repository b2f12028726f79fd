//! The settings that environment variables and options can set.

/// The prefix of environment variables.
pub(super) const PREFIX: &str = "LONGWIRE_";

/// How the text of a variable or option is converted to a TOML value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    Number,
    Switch,
    /// Separated by commas.
    List,
}

/// All settings except those in `[[channel]]` and `[[access.key]]`, which only a file can contain.
pub(super) const KEYS: &[(&str, ValueKind)] = &[
    ("listen", ValueKind::Text),
    ("threads", ValueKind::Number),
    ("allow_origin", ValueKind::List),
    ("allow_host", ValueKind::List),
    ("subprotocol", ValueKind::List),
    ("trust_proxy", ValueKind::List),
    ("max_connections", ValueKind::Number),
    ("max_message", ValueKind::Text),
    ("deflate", ValueKind::Switch),
    ("deflate_threshold", ValueKind::Text),
    ("drain", ValueKind::Text),
    ("restarts", ValueKind::Switch),
    ("log", ValueKind::Text),
    ("log_level", ValueKind::Text),
    ("data", ValueKind::Text),
    ("pages", ValueKind::Text),
    ("sync", ValueKind::Text),
    ("tls.cert", ValueKind::Text),
    ("tls.key", ValueKind::Text),
    ("tls.client_ca", ValueKind::Text),
    ("tls.self_signed", ValueKind::Switch),
    ("access.open", ValueKind::Switch),
    ("access.ca", ValueKind::Text),
    ("access.anonymous.subscribe", ValueKind::List),
    ("access.anonymous.publish", ValueKind::List),
    ("access.token.secret", ValueKind::Text),
    ("access.token.secret_file", ValueKind::Text),
    ("access.token.key_file", ValueKind::Text),
    ("access.token.jwks_url", ValueKind::Text),
    ("access.token.jwks_max_age", ValueKind::Text),
    ("access.token.jwks_refresh", ValueKind::Text),
    ("access.token.algorithm", ValueKind::Text),
    ("access.token.audience", ValueKind::List),
    ("access.token.issuer", ValueKind::List),
    ("access.token.require_exp", ValueKind::Switch),
    ("access.token.leeway", ValueKind::Text),
    ("access.token.cookie", ValueKind::Text),
    ("access.token.query", ValueKind::Switch),
    ("access.webhook.url", ValueKind::Text),
    ("access.webhook.connect", ValueKind::Switch),
    ("access.webhook.subscribe", ValueKind::Switch),
    ("access.webhook.publish", ValueKind::Switch),
    ("access.webhook.headers", ValueKind::List),
    ("access.webhook.body", ValueKind::Switch),
    ("access.webhook.timeout", ValueKind::Text),
    ("access.webhook.concurrency", ValueKind::Number),
    ("access.webhook.when_down", ValueKind::Text),
    ("access.webhook.cache", ValueKind::Text),
    ("access.webhook.secret", ValueKind::Text),
    ("limits.connection.messages", ValueKind::Text),
    ("limits.connection.bytes", ValueKind::Text),
    ("limits.address.connections", ValueKind::Number),
    ("limits.address.connects", ValueKind::Text),
    ("limits.address.messages", ValueKind::Text),
    ("limits.address.bytes", ValueKind::Text),
    ("limits.user.connections", ValueKind::Number),
    ("limits.user.connects", ValueKind::Text),
    ("limits.user.messages", ValueKind::Text),
    ("limits.user.bytes", ValueKind::Text),
];

/// Returns the environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))
}
