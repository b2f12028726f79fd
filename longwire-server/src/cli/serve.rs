//! `longwire serve`: its options, and the settings from options, environment and file.

use std::path::PathBuf;

use clap::Args;
use longwire::TrustedProxies;
use longwire_server::config::{ConfigError, ListenAddr, Loaded, Log, Size, Sources, TimeSpan};

use super::{Failure, origin};
use crate::log;

/// Serve channels over WebSocket, SSE, long polling and POST.
///
/// Connecting to a path joins the channel of that name. Each message is delivered to everyone else on the
/// channel, as text or binary, as it was sent. With the subprotocol longwire.v1, one connection subscribes to
/// many channels and resumes after an interruption (docs/protocol.md).
///
/// `GET /` serves a chat page, /-/raw a page that shows a single connection, and /-/ the dashboard. Other
/// paths under /-/ are reserved as well. /-/echo returns each message. /-/healthy responds with 200; so does
/// /-/ready while the server accepts connections. /-/metrics serves metrics for Prometheus.
///
/// Settings come from a file, the environment (LONGWIRE_LISTEN and so on) and these options; later sources
/// override earlier ones. Use `longwire config check` to show the effective settings.
///
/// Ctrl-C or SIGTERM closes all connections with 1001 and exits with status 0. A second signal exits
/// immediately.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// Read settings from this TOML file (see docs/longwire.toml)
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,

    /// Listen on this address [default: 127.0.0.1:8080]
    ///
    /// Port 0 selects a free port. 0.0.0.0 and [::] listen on all interfaces.
    #[arg(long, value_name = "ADDR")]
    listen: Option<ListenAddr>,

    #[cfg(unix)]
    #[command(flatten)]
    pub(super) tls: super::tls::Tls,

    /// Trust a reverse proxy or network, such as 10.0.0.0/8 (repeatable)
    ///
    /// The headers X-Forwarded-For, -Proto and -Host of trusted proxies determine the client's address,
    /// scheme and host.
    #[arg(long, value_name = "ADDR", value_parser = network)]
    trust_proxy: Vec<String>,

    /// Read Forwarded (RFC 7239) from the trusted proxies instead
    #[arg(long)]
    pub(super) forwarded: bool,

    /// Limit the number of open WebSockets [default: unlimited]
    ///
    /// Further requests get 503.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// Use this many threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Allow web pages of another origin, or `any` (repeatable)
    ///
    /// Write the origin as https://example.org. Pages of the server's own origin may always connect.
    #[arg(long, value_name = "ORIGIN", value_parser = origin::validate)]
    allow_origin: Vec<String>,

    /// Accept another host name on a loopback address (repeatable)
    ///
    /// By default, only localhost and loopback addresses are accepted. `any` accepts all names.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// Confirm that anyone who can reach the server may do anything
    ///
    /// Required to listen on a non-loopback address without access rules.
    #[arg(long)]
    open: bool,

    /// Support a subprotocol in addition to longwire.v1 (repeatable)
    ///
    /// The first subprotocol in this order that a client offers is selected.
    #[arg(long, value_name = "NAME", value_parser = super::subprotocol)]
    subprotocol: Vec<String>,

    /// Limit the size of a message, such as 64K or 4M [default: 1M]
    ///
    /// A larger message closes its sender's connection with 1009.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_message: Option<Size>,

    /// Store the history of channels in this directory
    ///
    /// Acknowledged messages survive a restart of the process.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,

    /// Serve the static files in this directory, index.html at /
    ///
    /// The files are read once, at startup.
    #[arg(long, value_name = "PATH")]
    pages: Option<PathBuf>,

    /// Sync history to disk: os, always, or every 1s [default: os]
    ///
    /// `os` leaves it to the operating system, `always` syncs before each acknowledgement, and a duration
    /// syncs at that interval.
    #[arg(long, value_name = "WHEN")]
    sync: Option<String>,

    /// Compress messages if the client offers it (RFC 7692)
    #[arg(long)]
    deflate: bool,

    /// Compress only messages of at least this size [default: 256]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    deflate_threshold: Option<Size>,

    /// Spread the closing of connections over this time [default: 0s]
    ///
    /// Up to 1h. On shutdown, this prevents all clients from reconnecting at once.
    #[arg(long, value_name = "DURATION")]
    drain: Option<TimeSpan>,

    /// Close with 1012 (service restart) instead of 1001 on shutdown
    #[arg(long)]
    restarts: bool,

    /// Log to standard error, one line per event [default: off]
    #[arg(long, value_name = "FORMAT")]
    log: Option<log::Format>,

    /// Set the log level [default: info]
    ///
    /// `warn`: problems that need attention; `info`: every closed or rejected connection; `debug`: every
    /// opened connection as well.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<log::Level>,
}

const EXAMPLES: &str = "\
Examples:
  longwire serve
      Serve only this machine, on http://127.0.0.1:8080.

  longwire serve --listen 0.0.0.0:8080 --open --threads 4
      Serve all interfaces without access rules, with four threads.

  longwire serve --config longwire.toml --data /var/lib/longwire
      Use a settings file, and store the history of channels.

  longwire serve --allow-origin https://example.org --allow-origin http://localhost:3000
      Allow pages of these origins to connect.

  longwire serve --subprotocol chat.v2 --subprotocol chat.v1 --max-message 16M
      Support two subprotocols, and accept messages of up to 16 MiB.

  longwire serve --deflate --deflate-threshold 1K
      Compress messages of 1 KiB and more.

  longwire serve --listen 0.0.0.0:443 --open --tls-cert chain.pem --tls-key key.pem
      Serve https:// and wss://, and reload a renewed certificate.

  longwire serve --tls-self-signed
      Try TLS on this machine with a generated certificate.

  longwire serve --trust-proxy 127.0.0.1
      Run behind a TLS-terminating proxy on this machine.

  longwire serve --log json --log-level info
      Log each closed connection and its cause as JSON.

  longwire serve --drain 20s --restarts
      On shutdown, close all connections within 20 seconds; clients reconnect.";

impl Serve {
    /// Returns the effective settings.
    pub(super) fn settings(&self) -> Result<Loaded, Failure> {
        let wrong = |error: ConfigError| Failure::usage(error.to_string());
        let mut sources = Sources::new();
        if let Some(file) = &self.config {
            sources.file(file).map_err(wrong)?;
        }
        sources.environment(std::env::vars_os()).map_err(wrong)?;
        for (key, flag, value) in self.flags() {
            sources.flag(key, flag, &value).map_err(wrong)?;
        }
        let loaded = sources.load().map_err(wrong)?;
        let config = &loaded.config;
        let requires = |flag: &str, other: &str| {
            Err(Failure::usage(format!("{flag} has no effect without {other}; add {other}")))
        };
        if self.deflate_threshold.is_some() && !config.deflate {
            return requires("--deflate-threshold", "--deflate");
        }
        if self.forwarded && config.trust_proxy.is_empty() {
            return requires("--forwarded", "--trust-proxy");
        }
        if self.log_level.is_some() && config.log == Log::Off {
            return requires("--log-level", "--log");
        }
        Ok(loaded)
    }

    /// Returns the given options: setting, option and value.
    fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        let text = |value: &dyn ToString| Some(value.to_string());
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let list = |list: &[String]| (!list.is_empty()).then(|| list.join(","));
        let switch = |is_on: bool| is_on.then(|| "true".to_owned());
        let flags = [
            ("listen", "--listen", self.listen.as_ref().and_then(|listen| text(listen))),
            ("trust_proxy", "--trust-proxy", list(&self.trust_proxy)),
            ("max_connections", "--max-connections", self.max_connections.and_then(|most| text(&most))),
            ("threads", "--threads", self.threads.and_then(|threads| text(&threads))),
            ("allow_origin", "--allow-origin", list(&self.allow_origin)),
            ("allow_host", "--allow-host", list(&self.allow_host)),
            ("access.open", "--open", switch(self.open)),
            ("subprotocol", "--subprotocol", list(&self.subprotocol)),
            ("max_message", "--max-message", self.max_message.and_then(|size| text(&size))),
            ("data", "--data", path(&self.data)),
            ("pages", "--pages", path(&self.pages)),
            ("sync", "--sync", self.sync.clone()),
            ("deflate", "--deflate", switch(self.deflate)),
            ("deflate_threshold", "--deflate-threshold", self.deflate_threshold.and_then(|size| text(&size))),
            ("drain", "--drain", self.drain.and_then(|drain| text(&drain))),
            ("restarts", "--restarts", switch(self.restarts)),
            ("log", "--log", self.log.map(|format| format.name().to_owned())),
            ("log_level", "--log-level", self.log_level.map(|level| level.name().to_owned())),
        ];
        #[cfg(unix)]
        let flags = flags.into_iter().chain(self.tls.flags());
        flags.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect()
    }
}

/// Validates a network and returns it unchanged.
fn network(text: &str) -> Result<String, String> {
    TrustedProxies::new([text]).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Parses a number of bytes, at least one, optionally with K, M or G for powers of 1024.
fn bytes(text: &str) -> Result<Size, String> {
    match text.parse::<Size>()? {
        size if size.bytes() == 0 => Err("the size must be at least 1 byte".into()),
        size => Ok(size),
    }
}
