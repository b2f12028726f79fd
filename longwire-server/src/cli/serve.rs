//! `longwire serve`: its options, and the settings that come of them, of the environment and of a file.

use std::path::PathBuf;

use clap::Args;
use longwire::TrustedProxies;
use longwire_server::config::{ConfigError, ListenAddr, Loaded, Log, Size, Sources};

use super::{Failure, origin};
use crate::log;

/// Serve channels over WebSocket, SSE, long polling and POST, and a page that talks on them.
///
/// The path is the channel: who connects to ws://HOST/anything hears what all others there send, text
/// as text and binary as binary. With the subprotocol longwire.v1 a connection has many channels, and resumes where it
/// was (docs/protocol.md). `GET /` is a page to talk with, /-/raw one to watch a connection with, /-/ the dashboard. Paths
/// under /-/ are the server's own: /-/echo sends back what it gets, /-/healthy answers 200, /-/ready too while
/// connections are taken, /-/metrics says what was done, as Prometheus reads it.
///
/// Settings come from a file, then from the environment (LONGWIRE_LISTEN and so on), then from these flags; what comes
/// later wins. `longwire config check` shows what holds.
///
/// Ctrl-C or SIGTERM closes every connection with 1001 and ends with status 0; a second one ends at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// A file of settings, as docs/longwire.toml describes it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen; port 0 takes a free one, 0.0.0.0 or [::] is every interface [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<ListenAddr>,

    #[cfg(unix)]
    #[command(flatten)]
    pub(super) tls: super::tls::Tls,

    /// A proxy before this server, or a network of them, as 10.0.0.0/8: what it says of the client is believed
    /// (X-Forwarded-For, -Proto and -Host). May be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    trust_proxy: Vec<String>,

    /// The trusted proxies write Forwarded (RFC 7239) instead
    #[arg(long)]
    pub(super) forwarded: bool,

    /// How many WebSockets may be open at once; one more is answered 503 [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// How many threads serve [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Which pages may connect besides the server's own, as https://example.org; `any` allows all.
    /// May be given several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin::validate)]
    allow_origin: Vec<String>,

    /// Names besides localhost by which a server on the loopback address may be asked for; `any` allows all. May be
    /// given several times
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// Everybody may do everything, and others than this machine reach the server: that is meant
    #[arg(long)]
    open: bool,

    /// A subprotocol that the server speaks besides longwire.v1; of those that a client offers, the first one here is
    /// chosen. May be given several times
    #[arg(long, value_name = "NAME", value_parser = super::subprotocol)]
    subprotocol: Vec<String>,

    /// The largest message that is taken, in bytes, or with K, M or G; a larger one closes its sender
    /// with 1009 [default: 1M]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_message: Option<Size>,

    /// Keep the history of channels in this folder: what was acknowledged survives the end of the process
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Serve this folder of pages beside the channels, its index.html at /; it is read once, at the start
    #[arg(long, value_name = "FOLDER")]
    pages: Option<PathBuf>,

    /// When what is kept reaches the disk: os, always, or a time, as in 1s [default: os]
    #[arg(long, value_name = "WHEN")]
    sync: Option<String>,

    /// Compress messages for clients that offer it (permessage-deflate, RFC 7692)
    #[arg(long)]
    deflate: bool,

    /// Send smaller messages as they are, in bytes, or with K, M or G [default: 256]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    deflate_threshold: Option<Size>,

    /// When the server is to end, close the connections one after the other over this many seconds, so
    /// that those who come again elsewhere do not come all at once [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3600))]
    drain: Option<u32>,

    /// When the server is to end, close with 1012 (restart: come again) instead of 1001 (going away)
    #[arg(long)]
    restarts: bool,

    /// Log to standard error, a line for each event: connections that end and why, requests that are
    /// refused [default: off]
    #[arg(long, value_name = "FORMAT")]
    log: Option<log::Format>,

    /// What is logged: `warn` is what somebody should look at, `info` each end and refusal, `debug` each
    /// beginning too [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<log::Level>,
}

const EXAMPLES: &str = "\
Examples:
  longwire serve
      Serve this machine only, on http://127.0.0.1:8080.

  longwire serve --listen 0.0.0.0:8080 --open --threads 4
      Serve everybody on every interface, with four threads.

  longwire serve --config longwire.toml --data /var/lib/longwire
      Serve as a file says, and keep the history of channels.

  longwire serve --allow-origin https://example.org --allow-origin http://localhost:3000
      Let the scripts of these pages connect as well.

  longwire serve --subprotocol chat.v2 --subprotocol chat.v1 --max-message 16M
      Agree on a subprotocol, and take messages of up to 16 MiB.

  longwire serve --deflate --deflate-threshold 1K
      Compress messages of 1 KiB and more.

  longwire serve --listen 0.0.0.0:443 --open --tls-cert chain.pem --tls-key key.pem
      Serve https:// and wss://; a certificate that is renewed is noticed.

  longwire serve --tls-self-signed
      Try the same on this machine, without a certificate of one's own.

  longwire serve --trust-proxy 127.0.0.1
      Stand behind a proxy on this machine that ends TLS.

  longwire serve --log json --log-level info
      Write a line of JSON for each connection that ends, with its cause.

  longwire serve --drain 20 --restarts
      When it is asked to end, tell everyone within 20 seconds to come again.";

impl Serve {
    /// What holds.
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
            Err(Failure::usage(format!("{flag} says nothing alone: give {other} as well")))
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

    /// The flags that were given: their keys, their names and what they say.
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
            ("drain", "--drain", self.drain.map(|seconds| format!("{seconds}s"))),
            ("restarts", "--restarts", switch(self.restarts)),
            ("log", "--log", self.log.map(|format| format.name().to_owned())),
            ("log_level", "--log-level", self.log_level.map(|level| level.name().to_owned())),
        ];
        #[cfg(unix)]
        let flags = flags.into_iter().chain(self.tls.flags());
        flags.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect()
    }
}

/// A network, as it is written.
fn network(text: &str) -> Result<String, String> {
    TrustedProxies::new([text]).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// A number of bytes, with K, M or G for the powers of 1024; at least one.
fn bytes(text: &str) -> Result<Size, String> {
    match text.parse::<Size>()? {
        size if size.bytes() == 0 => Err("at least one byte is needed".into()),
        size => Ok(size),
    }
}
