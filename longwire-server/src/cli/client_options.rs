//! The connection options of `longwire connect`: TLS, proxies, redirects, credentials, timeouts, and
//! `--verbose`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use longwire::{Client, Config, Proxy, Step, Tls, TlsError};
use longwire_server::config::TimeSpan;

use super::Failure;
use crate::terminal;

/// Values that may be secrets are plain strings: clap would print a value that it rejects.
#[derive(Args)]
#[command(next_help_heading = "Connection options")]
pub(super) struct ClientOptions {
    /// Trust the root certificates in this PEM file only (repeatable)
    ///
    /// By default, the platform's root certificates are trusted.
    #[arg(long, value_name = "PATH")]
    cacert: Vec<PathBuf>,

    /// Present this client certificate (PEM, with its chain)
    #[arg(long, value_name = "PATH", requires = "key")]
    cert: Option<PathBuf>,

    /// Use this private key for --cert (PEM, not encrypted)
    #[arg(long, value_name = "PATH", requires = "cert")]
    key: Option<PathBuf>,

    /// Accept any certificate; allows eavesdropping and tampering
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,

    /// Connect through this proxy: http://, https:// or socks5://
    ///
    /// USER:PASSWORD@ before the host is sent to the proxy. By default, the environment variables http_proxy,
    /// https_proxy, all_proxy and no_proxy apply.
    #[arg(long, value_name = "URL", conflicts_with = "no_proxy")]
    proxy: Option<String>,

    /// Connect directly and ignore proxies in the environment
    #[arg(long)]
    no_proxy: bool,

    /// Send Basic credentials, like ws://NAME:PASSWORD@HOST
    #[arg(short, long, value_name = "NAME:PASSWORD", conflicts_with = "bearer")]
    user: Option<String>,

    /// Send a Bearer token
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<String>,

    /// Send a cookie (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    cookie: Vec<String>,

    /// Limit the time to connect, and for the opening handshake
    ///
    /// Applies to each of them separately.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,

    /// Close the connection if no message arrives for this long
    ///
    /// Replies to pings do not count.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    read_timeout: Option<Duration>,

    /// Follow at most this many redirects
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_redirects: usize,

    /// Do not follow redirects
    #[arg(long, conflicts_with = "max_redirects")]
    no_redirect: bool,

    /// Show each step of connecting: addresses, TLS, and the response
    #[arg(short, long)]
    verbose: bool,
}

impl ClientOptions {
    /// Creates a client with these options.
    pub(super) fn client(&self, config: Config) -> Result<Client, Failure> {
        let mut client = Client::new()
            .config(config.read_timeout(self.read_timeout))
            .tls(self.tls().map_err(|error| Failure::new(error.to_string()))?)
            .connect_timeout(self.connect_timeout)
            .handshake_timeout(self.connect_timeout)
            .redirects(if self.no_redirect { 0 } else { self.max_redirects });
        if let Some(url) = &self.proxy {
            client = client.proxy(Proxy::parse(url).map_err(|error| Failure::new(error.to_string()))?);
        }
        if self.proxy.is_none() && !self.no_proxy {
            client = client.proxy_from_env();
        }
        if let Some(user) = &self.user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            client = client.basic_auth(name, password);
        }
        if let Some(token) = &self.bearer {
            client = client.bearer_auth(token);
        }
        for cookie in &self.cookie {
            let (name, value) =
                cookie.split_once('=').ok_or_else(|| Failure::new("invalid cookie; write NAME=VALUE"))?;
            client = client.cookie(name, value);
        }
        if self.insecure {
            terminal::warn(
                "--insecure accepts any certificate; others on the network can read and change the traffic",
            );
        }
        Ok(if self.verbose { client.on_step(show) } else { client })
    }

    fn tls(&self) -> Result<Tls, TlsError> {
        let mut tls = Tls::new();
        for file in &self.cacert {
            tls = tls.roots_file(file)?;
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity_files(cert, key)?;
        }
        Ok(if self.insecure { tls.danger_accept_any_certificate() } else { tls })
    }
}

/// Prints a step as `curl -v` does.
fn show(step: Step<'_>) {
    let text = match step {
        Step::Resolved(name, addresses) => {
            let all: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            format!("{name} resolves to {}", all.join(", "))
        }
        Step::Dialing(address) => format!("trying {address}"),
        Step::Failed(address, error) => format!("{address}: {error}"),
        Step::Connected(Some(address)) => format!("connected to {address}"),
        Step::Tunnelled(proxy) => format!("tunnelled through {proxy}"),
        Step::Secured(tls) => match &tls.alpn {
            Some(alpn) => format!("{}, ALPN {}", tls.version, alpn.escape_ascii()),
            None => format!("{}, no ALPN", tls.version),
        },
        Step::Answered(status, headers) => {
            terminal::detail('<', &format!("HTTP/1.1 {status}"));
            for (name, value) in headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                terminal::detail('<', &terminal::excerpt(&format!("{name}: {value}")));
            }
            return;
        }
        Step::Redirected(url) => format!("redirected to {url}"),
        _ => return,
    };
    terminal::detail('*', &terminal::excerpt(&text));
}

/// Returns a URL without user and password. In an authority, everything before the last @ is user
/// information.
pub(super) fn without_credentials(url: &str) -> String {
    let plain: String = url.chars().filter(|c| !c.is_ascii_control()).collect();
    let scheme = plain.find(':').map_or(0, |colon| colon + 1);
    let is_slash = |c: char| matches!(c, '/' | '\\');
    let start = plain.len() - plain[scheme..].trim_start_matches(is_slash).len();
    let end =
        plain[start..].find(|c| is_slash(c) || matches!(c, '?' | '#')).map_or(plain.len(), |at| start + at);
    match plain[start..end].rfind('@') {
        Some(at) => format!("{}{}", &plain[..start], &plain[start + at + 1..]),
        None => plain,
    }
}

/// Parses seconds, possibly with a fraction, or a number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let fractional = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    fractional
        .or_else(|| text.parse::<TimeSpan>().ok().map(TimeSpan::duration))
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "invalid duration; write one above 0, such as 2.5, 500ms or 30s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_passwords() {
        for (url, expected) in [
            ("ws://a/b@c", "ws://a/b@c"),
            ("wss://u:geheim@a:1/b@c?d@e", "wss://a:1/b@c?d@e"),
            ("ws://u:ge@heim@a", "ws://a"),
            ("ws:u:geheim@a/", "ws:a/"),
            ("ws:\\\\u:geheim@a\\b", "ws:\\\\a\\b"),
            ("ws:\n//u:geheim@a/", "ws://a/"),
            ("ws://a?x@y", "ws://a?x@y"),
            ("", ""),
            ("聊天@天", "天"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [("2.5", 2500), ("500ms", 500), ("30s", 30_000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "0s", "-1", "NaN", "inf", "1e300", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
