//! Checks that need all settings: ranges, and settings that contradict each other.

use std::time::Duration;

use hyper::Uri;
use longwire::Origins;
use longwire::http::HeaderName;

use super::{ApiKey, Config, TimeSpan, Token, Webhook};

/// Maximum number of channel sections and of API keys. All of them are searched for each channel or key.
const SECTIONS_MAX: usize = 1000;

/// RFC 7518 3.2: a secret is at least as long as the output of its hash.
const SECRET_MIN: usize = 32;

/// The problems found, by setting.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) errors: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

impl Problems {
    fn error(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.errors.push((key.into(), text.into()));
    }

    fn within(&mut self, key: &str, value: TimeSpan, min: Duration, max: Duration) {
        if value.duration() < min || value.duration() > max {
            self.error(key, format!("must be from {} to {}", TimeSpan::from(min), TimeSpan::from(max)));
        }
    }
}

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn check(config: &Config, problems: &mut Problems) {
    if config.threads > 1024 {
        problems.error("threads", "must be at most 1024; 0 means one per core");
    }
    if config.max_message.bytes() == 0 {
        problems.error("max_message", "must be at least 1 byte");
    }
    problems.within("drain", config.drain, Duration::ZERO, HOUR);
    for (index, origin) in config.allow_origin.iter().enumerate() {
        if !origin.eq_ignore_ascii_case("any")
            && let Err(error) = Origins::list([origin])
        {
            problems.error(
                format!("allow_origin.{index}"),
                format!("{error}; write an origin such as https://example.org, or any"),
            );
        }
    }
    for (index, host) in config.allow_host.iter().enumerate() {
        if host.is_empty() || host.contains(['/', ':', '@', ' ']) {
            problems.error(
                format!("allow_host.{index}"),
                "invalid host; write a name without a port, such as example.org, or any",
            );
        }
    }
    for (index, name) in config.subprotocol.iter().enumerate() {
        if !is_token(name) {
            let advice = "invalid subprotocol; use letters, digits and !#$%&'*+-.^_`|~ only, such as chat.v2";
            problems.error(format!("subprotocol.{index}"), advice);
        }
    }
    tls(config, problems);
    access(config, problems);
    channels(config, problems);
}

fn tls(config: &Config, problems: &mut Problems) {
    let tls = &config.tls;
    match (&tls.cert, &tls.key) {
        (Some(_), None) => {
            problems.error("tls.cert", "the certificate requires its private key; set tls.key")
        }
        (None, Some(_)) => {
            problems.error("tls.key", "the private key requires its certificate; set tls.cert")
        }
        (Some(_), Some(_)) if tls.self_signed => {
            problems.error(
                "tls.self_signed",
                "conflicts with tls.cert; remove tls.self_signed, or tls.cert and tls.key",
            );
        }
        (None, None) if tls.client_ca.is_some() && !tls.self_signed => {
            problems.error("tls.client_ca", "client certificates require TLS; set tls.cert and tls.key");
        }
        _ => {}
    }
}

fn access(config: &Config, problems: &mut Problems) {
    let access = &config.access;
    if access.open && access.has_rules() {
        problems.error("access.open", "conflicts with the access rules; remove access.open or the rules");
    }
    let anonymous = &access.anonymous;
    if !(access.has_rules() || anonymous.subscribe.is_empty() && anonymous.publish.is_empty()) {
        let advice = "has no effect without access rules; add a token, a key or a webhook";
        problems.error("access.anonymous", advice);
    }
    if !access.has_rules() && !access.open && !config.listen.is_loopback() {
        let advice = format!(
            "without access rules, anyone who can reach {} may do anything; set access.token, access.key or access.webhook, or \
             confirm that this is intended with --open or access.open = true",
            config.listen
        );
        problems.error("listen", advice);
    }
    if access.token.cookie.is_some()
        && config.allow_origin.iter().any(|origin| origin.eq_ignore_ascii_case("any"))
    {
        problems.warnings.push(
            "with access.token.cookie and allow_origin = [\"any\"], any website can act as its visitor, because browsers send \
             the cookie; list the allowed origins"
                .into(),
        );
    }
    token(&access.token, problems);
    webhook(&access.webhook, problems);
    if access.key.len() > SECTIONS_MAX {
        problems.error("access.key", format!("too many keys; the maximum is {SECTIONS_MAX}"));
    }
    for (index, ApiKey { name, sha256, .. }) in access.key.iter().enumerate() {
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let advice = "invalid hash; write the SHA-256 of the key as 64 hexadecimal digits (`longwire config key` generates both)";
            problems.error(format!("access.key.{index}.sha256"), advice);
        }
        if access.key.iter().take(index).any(|other| other.name == *name) {
            problems.error(format!("access.key.{index}.name"), "another key has the same name");
        }
    }
}

fn token(token: &Token, problems: &mut Problems) {
    let sources = [
        ("access.token.secret", token.secret.is_some()),
        ("access.token.secret_file", token.secret_file.is_some()),
        ("access.token.key_file", token.key_file.is_some()),
        ("access.token.jwks_url", token.jwks_url.is_some()),
    ];
    let mut given = sources.iter().filter(|(_, given)| *given);
    if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
        problems.error(*second, format!("conflicts with {first}; keep one of them"));
    }
    if let Some(secret) = &token.secret
        && let Err(advice) = check_secret(secret.reveal().as_bytes())
    {
        problems.error("access.token.secret", advice);
    }
    if let Some(url) = &token.jwks_url {
        check_url("access.token.jwks_url", url, problems);
        if url.starts_with("http:") {
            let text = "access.token.jwks_url is fetched without TLS, so others on the network can replace the keys; use https";
            problems.warnings.push(text.into());
        }
    }
    if let Some(algorithm) = &token.algorithm {
        let symmetric = token.secret.is_some() || token.secret_file.is_some();
        let allowed: &[&str] = if symmetric {
            &["HS256", "HS384", "HS512"]
        } else {
            &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
        };
        if !allowed.contains(&algorithm.as_str()) {
            problems.error(
                "access.token.algorithm",
                format!("invalid algorithm for this kind of key; use one of {}", allowed.join(", ")),
            );
        }
    }
    problems.within("access.token.leeway", token.leeway, Duration::ZERO, SECOND * 300);
    problems.within("access.token.jwks_refresh", token.jwks_refresh, SECOND, HOUR);
    problems.within("access.token.jwks_max_age", token.jwks_max_age, token.jwks_refresh.duration(), DAY);
    if token.cookie.as_deref().is_some_and(|name| !is_token(name)) {
        problems.error("access.token.cookie", "invalid cookie name (RFC 6265 4.1.1)");
    }
}

/// Checks a secret, whatever its source.
pub(crate) fn check_secret(secret: &[u8]) -> Result<(), &'static str> {
    if secret.starts_with(b"-----BEGIN") {
        return Err("this is a PEM file, not a secret; use access.token.key_file");
    }
    if secret.len() < SECRET_MIN {
        return Err(
            "a secret must have at least 32 bytes (RFC 7518 3.2); generate one with `openssl rand -base64 32`",
        );
    }
    Ok(())
}

fn webhook(webhook: &Webhook, problems: &mut Problems) {
    match &webhook.url {
        Some(url) => check_url("access.webhook.url", url, problems),
        None if webhook.subscribe || webhook.publish || webhook.secret.is_some() => {
            problems.error("access.webhook", "has no effect without access.webhook.url; set it");
        }
        None => {}
    }
    if webhook.url.is_some() && !(webhook.connect || webhook.subscribe || webhook.publish) {
        problems.error(
            "access.webhook.url",
            "the webhook is never asked; set connect, subscribe or publish to true",
        );
    }
    problems.within("access.webhook.timeout", webhook.timeout, MILLI * 50, SECOND * 60);
    problems.within("access.webhook.cache", webhook.cache, Duration::ZERO, HOUR);
    if !(1..=4096).contains(&webhook.concurrency) {
        problems.error("access.webhook.concurrency", "must be from 1 to 4096");
    }
    for (index, name) in webhook.headers.iter().enumerate() {
        if name.parse::<HeaderName>().is_err() {
            problems.error(format!("access.webhook.headers.{index}"), "invalid header name");
        }
    }
}

fn check_url(key: &str, url: &str, problems: &mut Problems) {
    let uri = url.parse::<Uri>().ok();
    if !uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    }) {
        problems.error(key, "invalid URL; write one such as https://example.org/path");
    } else if url.contains('@') {
        problems.error(key, "the URL must not contain a user or password");
    }
}

fn channels(config: &Config, problems: &mut Problems) {
    if config.channel.len() > SECTIONS_MAX {
        problems.error("channel", format!("too many sections; the maximum is {SECTIONS_MAX}"));
        return;
    }
    for (index, channel) in config.channel.iter().enumerate() {
        let key = format!("channel.{index}");
        let Some(pattern) = &channel.pattern else {
            problems.error(key, "the pattern is missing; add one, such as pattern = \"quotes.*\"");
            continue;
        };
        if config.channel.iter().take(index).any(|other| other.pattern.as_ref() == Some(pattern)) {
            problems.error(
                format!("{key}.pattern"),
                "an earlier section has the same pattern and takes precedence; remove one",
            );
        }
        if channel.max_message.is_some_and(|max| max.bytes() == 0 || max > config.max_message) {
            let advice = format!(
                "must be at least 1 byte and at most the server's max_message, {}",
                config.max_message
            );
            problems.error(format!("{key}.max_message"), advice);
        }
        if channel.slow.bytes.bytes() == 0 {
            problems.error(format!("{key}.slow.bytes"), "must be at least 1 byte");
        }
    }
}

/// Returns whether a text is an HTTP token (RFC 9110 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn found(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        let mut problems = Problems::default();
        check(&config, &mut problems);
        problems.errors.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn contradicting_settings_are_rejected() {
        let secret = "a".repeat(SECRET_MIN);
        let hash = "a".repeat(64);
        for (text, keys) in [
            ("threads = 1024\ndrain = '1h'", &[][..]),
            ("threads = 1025\ndrain = '3601s'\nmax_message = 0", &["threads", "max_message", "drain"]),
            ("allow_origin = ['any', 'https://a.example', 'a.example']", &["allow_origin.2"]),
            ("allow_host = ['a.example', 'any', 'a:80']", &["allow_host.2"]),
            ("subprotocol = ['a.v1', 'a b']", &["subprotocol.1"]),
            ("[tls]\ncert = 'c'\nkey = 'k'\nclient_ca = 'a'", &[]),
            ("[tls]\nkey = 'k'", &["tls.key"]),
            ("[tls]\ncert = 'c'\nkey = 'k'\nself_signed = true", &["tls.self_signed"]),
            ("[tls]\nclient_ca = 'c'", &["tls.client_ca"]),
            ("access.open = true", &[]),
            ("listen = '0.0.0.0:80'", &["listen"]),
            ("listen = 'example.org:80'", &["listen"]),
            ("listen = '[::1]:80'", &[]),
            ("listen = '0.0.0.0:80'\naccess.open = true", &[]),
            (&format!("listen = '0.0.0.0:80'\naccess.token.secret = '{secret}'"), &[]),
            (&format!("[access]\nopen = true\ntoken.secret = '{secret}'"), &["access.open"]),
            (&format!("[access.token]\nsecret = '{secret}'\nalgorithm = 'HS512'"), &[]),
            (
                &format!("[access.token]\nsecret = '{secret}'\nalgorithm = 'RS256'"),
                &["access.token.algorithm"],
            ),
            (&format!("[access.token]\nsecret = '{}'", &secret[1..]), &["access.token.secret"]),
            (
                "[access.token]\nsecret = '-----BEGIN PUBLIC KEY----- and so on, long enough'",
                &["access.token.secret"],
            ),
            ("[access.token]\nkey_file = 'k'\nalgorithm = 'HS256'", &["access.token.algorithm"]),
            ("[access.token]\nkey_file = 'k'\nalgorithm = 'none'", &["access.token.algorithm"]),
            ("[access.token]\nkey_file = 'k'\njwks_url = 'https://a.example'", &["access.token.jwks_url"]),
            ("[access.token]\njwks_url = 'ftp://a.example'", &["access.token.jwks_url"]),
            ("[access.token]\njwks_url = 'https://u:p@a.example'", &["access.token.jwks_url"]),
            ("[access.token]\nleeway = '5m'\njwks_refresh = 1\njwks_max_age = '1d'", &[]),
            (
                "[access.token]\nleeway = '301s'\njwks_refresh = '999ms'\njwks_max_age = '25h'",
                &["access.token.leeway", "access.token.jwks_refresh", "access.token.jwks_max_age"],
            ),
            ("[access.token]\ncookie = 'a b'", &["access.token.cookie"]),
            ("access.anonymous.subscribe = ['a']", &["access.anonymous"]),
            ("[access.webhook]\nurl = 'http://127.0.0.1:9/hook'\ntimeout = '50ms'\nconcurrency = 4096", &[]),
            ("[access.webhook]\nsubscribe = true", &["access.webhook"]),
            ("[access.webhook]\nurl = 'http://a'\nconnect = false", &["access.webhook.url"]),
            (
                "[access.webhook]\nurl = 'http://a'\ntimeout = '49ms'\ncache = '61m'\nconcurrency = 0",
                &["access.webhook.timeout", "access.webhook.cache", "access.webhook.concurrency"],
            ),
            ("[access.webhook]\nurl = 'http://a'\nheaders = ['a', 'a b']", &["access.webhook.headers.1"]),
            (
                &format!(
                    "[[access.key]]\nname = 'a'\nsha256 = '{hash}'\n[[access.key]]\nname = 'a'\nsha256 = 'x'"
                ),
                &["access.key.1.sha256", "access.key.1.name"],
            ),
            ("[[channel]]\npattern = 'a'\nmax_message = '1M'", &[]),
            (
                "[[channel]]\npattern = 'a'\nmax_message = '2M'\nslow.bytes = 0",
                &["channel.0.max_message", "channel.0.slow.bytes"],
            ),
            ("[[channel]]\npattern = 'a'\n[[channel]]\npattern = 'a'", &["channel.1.pattern"]),
        ] {
            assert_eq!(found(text), keys, "{text}");
        }
        let sections = |count| {
            (0..count).map(|index| format!("[[channel]]\npattern = 'a{index}'\n")).collect::<String>()
        };
        assert!(found(&sections(SECTIONS_MAX)).is_empty());
        assert_eq!(found(&sections(SECTIONS_MAX + 1)), ["channel"]);
        let key = |index| format!("[[access.key]]\nname = 'a{index}'\nsha256 = '{hash}'\n");
        assert!(found(&(0..SECTIONS_MAX).map(key).collect::<String>()).is_empty());
        assert_eq!(found(&(0..=SECTIONS_MAX).map(key).collect::<String>()), ["access.key"]);
    }

    #[test]
    fn risky_settings_yield_warnings() {
        for (text, warned) in [
            ("", false),
            ("listen = '0.0.0.0:80'\naccess.open = true", false),
            ("listen = '0.0.0.0:80'\naccess.webhook.url = 'http://a'", false),
            ("allow_origin = ['any']\n[access.token]\nkey_file = 'k'\ncookie = 'c'", true),
            ("access.token.jwks_url = 'http://a.example'", true),
            ("access.token.jwks_url = 'https://a.example'", false),
            ("allow_origin = ['https://a.example']\n[access.token]\nkey_file = 'k'\ncookie = 'c'", false),
        ] {
            let mut sources = Sources::new();
            sources.text("f.toml", text).expect("valid");
            assert_eq!(!sources.load().expect("valid").warnings.is_empty(), warned, "{text}");
        }
    }
}
