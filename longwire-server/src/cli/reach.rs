//! How `longwire connect` reaches its server: TLS, proxies, redirects, credentials, patience; and `--verbose`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use longwire::{Client, Config, Proxy, Step, Tls, TlsError};

use super::Failure;
use crate::terminal;

/// Values that may be secrets are plain text here: clap would repeat one that it refuses.
#[derive(Args)]
#[command(next_help_heading = "Reaching the server")]
pub(super) struct Reach {
    /// Trust the roots in this PEM file instead of the system's. May be given several times
    #[arg(long, value_name = "FILE")]
    cacert: Vec<PathBuf>,

    /// Show this certificate (PEM, with its chain) to a server that asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The private key of --cert (PEM, not encrypted)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Accept any certificate: whoever is on the way can read and change what is said
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,

    /// Reach the server by this proxy: http://, https:// or socks5://, with USER:PASSWORD@ before the host if
    /// it wants that. By default the environment says: http_proxy, https_proxy, all_proxy, no_proxy
    #[arg(long, value_name = "URL", conflicts_with = "no_proxy")]
    proxy: Option<String>,

    /// Reach the server directly, whatever the environment says
    #[arg(long)]
    no_proxy: bool,

    /// Say who you are with Basic; so does ws://NAME:PASSWORD@HOST
    #[arg(short, long, value_name = "NAME:PASSWORD", conflicts_with = "bearer")]
    user: Option<String>,

    /// Show a token with Bearer
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<String>,

    /// Send a cookie. May be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    cookie: Vec<String>,

    /// Give up when the server is not reached, or has not answered, after this long each
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    connect_timeout: Duration,

    /// Give up when no message has come for this long, though the server lives
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    read_timeout: Option<Duration>,

    /// Follow so many redirects in a row
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_redirects: usize,

    /// Follow no redirect
    #[arg(long, conflicts_with = "max_redirects")]
    no_redirect: bool,

    /// Show what is done until the connection is open: addresses, TLS, and the server's answer
    #[arg(short, long)]
    verbose: bool,
}

impl Reach {
    /// A client that reaches servers so.
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
                cookie.split_once('=').ok_or_else(|| Failure::new("write a cookie as NAME=VALUE"))?;
            client = client.cookie(name, value);
        }
        if self.insecure {
            terminal::warn(
                "--insecure accepts any certificate: whoever is on the way can read and change all",
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

/// A step as `curl -v` shows it.
fn show(step: Step<'_>) {
    let text = match step {
        Step::Resolved(name, addresses) => {
            let all: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            format!("{name} has {}", all.join(", "))
        }
        Step::Dialing(address) => format!("trying {address}"),
        Step::Failed(address, error) => format!("{address}: {error}"),
        Step::Connected(Some(address)) => format!("connected to {address}"),
        Step::Tunnelled(proxy) => format!("in a tunnel through {proxy}"),
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

/// A URL without its user and password. Where it has none, what is behind the last @ is all of it.
pub(super) fn shown(url: &str) -> String {
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

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a number of seconds above 0, as in 2.5".into())
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
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn patience() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for text in ["", "0", "-1", "NaN", "inf", "1e300", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
