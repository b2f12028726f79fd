//! `longwire serve`: its options, its start and its end.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use longwire::engine::{Drain, Engine};
use longwire::tls::ServerTls;
use longwire::{Acceptor, CloseCode, Config, Deflate, TrustedProxies};
use tokio::runtime;

use super::{Failure, origin};
use crate::server::Channels;
use crate::serving::Site;
use crate::stop::Signals;
use crate::{http, log, metrics};

/// Serve channels over WebSocket, and a page that talks on them.
///
/// The path is the channel: who connects to ws://HOST/anything hears what all others there send, text
/// as text and binary as binary. `GET /` is a page to talk and to watch the connection with. Paths
/// under /-/ are the server's own: /-/echo sends back what it gets, /-/healthy answers 200,
/// /-/metrics says what was done, as Prometheus reads it.
///
/// Ctrl-C or SIGTERM closes every connection with 1001 and ends with status 0; a second one ends at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// Where to listen; port 0 takes a free one, 0.0.0.0 or [::] is every interface
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: Listen,

    #[cfg(unix)]
    #[command(flatten)]
    tls: super::tls::Tls,

    /// A proxy before this server, or a network of them, as 10.0.0.0/8: what it says of the client is believed
    /// (X-Forwarded-For, -Proto and -Host). May be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    trust_proxy: Vec<String>,

    /// The trusted proxies write Forwarded (RFC 7239) instead
    #[arg(long, requires = "trust_proxy")]
    forwarded: bool,

    /// How many WebSockets may be open at once; one more is answered 503 [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// How many threads serve [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Which pages may connect besides the server's own, as https://example.org; `any` allows all.
    /// May be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<origin::AllowedOrigin>,

    /// A subprotocol that the server speaks; of those that a client offers, the first one here is
    /// chosen. May be given several times
    #[arg(long, value_name = "NAME", value_parser = super::subprotocol)]
    subprotocol: Vec<String>,

    /// The largest message that is taken, in bytes, or with K, M or G; a larger one closes its sender
    /// with 1009
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = bytes)]
    max_message: usize,

    /// Compress messages for clients that offer it (permessage-deflate, RFC 7692)
    #[arg(long)]
    deflate: bool,

    /// Send smaller messages as they are, in bytes, or with K, M or G
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = bytes, requires = "deflate")]
    deflate_threshold: usize,

    /// When the server is to end, close the connections one after the other over this many seconds, so
    /// that those who come again elsewhere do not come all at once
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=3600))]
    drain: u32,

    /// When the server is to end, close with 1012 (restart: come again) instead of 1001 (going away)
    #[arg(long)]
    restarts: bool,

    #[command(flatten)]
    log: log::Options,
}

/// How long closing handshakes and HTTP requests may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  longwire serve
      Serve this machine only, on http://127.0.0.1:8080.

  longwire serve --listen 0.0.0.0:8080 --threads 4
      Serve every interface, with four threads.

  longwire serve --allow-origin https://example.org --allow-origin http://localhost:3000
      Let the scripts of these pages connect as well.

  longwire serve --subprotocol chat.v2 --subprotocol chat.v1 --max-message 16M
      Agree on a subprotocol, and take messages of up to 16 MiB.

  longwire serve --deflate --deflate-threshold 1K
      Compress messages of 1 KiB and more.

  longwire serve --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem
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
    #[cfg(unix)]
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
        runtime.block_on(self.serve())
    }

    #[cfg(not(unix))]
    pub(super) fn run(self) -> Result<(), Failure> {
        Err(Failure::new("serve needs a Unix system, such as Linux or macOS".into()))
    }

    #[cfg(unix)]
    async fn serve(self) -> Result<(), Failure> {
        let mut signals =
            Signals::listen().map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
        let tls = self.tls.server(&self.listen.host)?;
        let listener = self.listen.bind()?;
        let address = listener.local_addr().map_err(|error| self.listen.failure(&error))?;
        let (site, close) = Site::new(None);
        let log = self.log.start(address);
        let _log = log.map_err(|error| Failure::new(format!("cannot start the log: {error}")))?;
        let mut running = self
            .engine(address, tls.clone(), site)?
            .start(listener)
            .map_err(|error| Failure::new(format!("cannot start the threads: {error}")))?;
        announce(address, tls.is_some())
            .map_err(|error| Failure::new(format!("cannot write to standard output: {error}")))?;

        let failed = |error: io::Error| Failure::new(format!("the server failed: {error}"));
        tokio::select! {
            ended = running.ended() => return ended.map_err(failed),
            _ = signals.next() => {}
            () = watch(tls) => {}
        }
        // Those of HTTP end when their requests are answered.
        let _ = close.send(true);
        let code = if self.restarts { CloseCode::RESTART } else { CloseCode::GOING_AWAY };
        let drain = Drain::new(code, "the server stops").spread(Duration::from_secs(self.drain.into()));
        running.handle().drain(&drain.timeout(FAREWELL));
        tokio::select! {
            ended = running.ended() => ended.map_err(failed),
            status = signals.next() => Err(Failure::signal(status)),
        }
    }

    #[cfg(unix)]
    fn engine(
        &self,
        address: SocketAddr,
        tls: Option<ServerTls>,
        site: Site,
    ) -> Result<Engine<Channels>, Failure> {
        // A listener may be behind by four of the largest messages before it counts as slow.
        let behind = self.max_message.saturating_mul(4).max(1024 * 1024);
        let mut config = Config::server().max_message(self.max_message).write_buffer(behind);
        if self.deflate {
            config = config.deflate(Deflate::new().threshold(self.deflate_threshold));
        }
        let acceptor = Acceptor::new()
            .config(config)
            .counters(&metrics::COUNTERS)
            .subprotocols(self.subprotocol.iter().map(String::as_str));
        let acceptor = origin::policy(acceptor, &self.allow_origin, address, tls.is_some());
        let mut engine = Engine::new(Channels::default()).acceptor(acceptor);
        engine = engine.http(move |stream, read| site.clone().serve(stream, read));
        if !self.trust_proxy.is_empty() {
            // Each was checked when the command line was read.
            let proxies =
                TrustedProxies::new(&self.trust_proxy).map_err(|error| Failure::usage(error.to_string()))?;
            engine = engine.trusted_proxies(proxies.rfc7239(self.forwarded));
        }
        if let Some(tls) = tls {
            engine = engine.tls(tls);
        }
        if let Some(most) = self.max_connections {
            engine = engine.max_connections(most as usize);
        }
        if let Some(threads) = self.threads {
            engine = engine.threads(threads.into());
        }
        Ok(engine)
    }
}

/// Never ends.
#[cfg(unix)]
async fn watch(tls: Option<ServerTls>) {
    match tls {
        Some(tls) => super::tls::watch(tls).await,
        None => std::future::pending().await,
    }
}

/// A network, as it is written.
fn network(text: &str) -> Result<String, String> {
    TrustedProxies::new([text]).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// The one line on standard output: programs read the port from it.
#[cfg(unix)]
fn announce(address: SocketAddr, secure: bool) -> io::Result<()> {
    let (http, ws) = if secure { ("https", "wss") } else { ("http", "ws") };
    let (mut reached, mut everywhere) = (address, "");
    if address.ip().is_unspecified() {
        // Browsers refuse the unspecified address; the loopback one always leads here.
        reached.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1].into()
        });
        everywhere = " and on every other address of this machine";
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "longwire listening on {http}://{reached}{everywhere}  (open it in a browser; channels are {ws}://{reached}/ANYTHING)"
    )?;
    out.flush()
}

/// Where to listen: a name or an address, and a port.
#[derive(Clone)]
struct Listen {
    host: String,
    port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write HOST:PORT, as in 127.0.0.1:8080, localhost:8080, 0.0.0.0:80 or [::]:8080";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("the port is missing: {advice}"))?;
        let port = port.parse().map_err(|_| format!("`{port}` is no port (0 to 65535): {advice}"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_ipv6 = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
        match bare {
            Some(bare) if is_ipv6(bare) => Ok(Self { host: bare.to_owned(), port }),
            Some(bare) => Err(format!("`{bare}` is no IPv6 address: {advice}")),
            None if host.is_empty() => Err(format!("the host is missing: {advice}")),
            None if host.contains(':') => Err(format!("an IPv6 address stands in brackets: {advice}")),
            None if host.contains('/') => Err(format!("this is a URL: {advice}")),
            None => Ok(Self { host: host.to_owned(), port }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Listen {
    fn bind(&self) -> Result<TcpListener, Failure> {
        TcpListener::bind((self.host.as_str(), self.port)).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program listens there already; choose another port, as in --listen {}, or 0 for a free one",
                Self { host: self.host.clone(), port: self.port.checked_add(1).unwrap_or(8080) }
            ),
            io::ErrorKind::PermissionDenied => format!(
                "ports below 1024 are for privileged programs; choose a higher one, as in --listen {}",
                Self { host: self.host.clone(), port: 8080 }
            ),
            io::ErrorKind::AddrNotAvailable => {
                "it is no address of this machine; 127.0.0.1 is this machine only, 0.0.0.0 all its interfaces"
                    .into()
            }
            _ => error.to_string(),
        };
        Failure::new(format!("cannot listen on {self}: {advice}"))
    }
}

/// A number of bytes, with K, M or G for the powers of 1024.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        _ => return Err("write a number of bytes, as in 65536, 64K, 16M or 1G".into()),
    };
    let number: usize =
        number.parse().map_err(|_| "write a number of bytes, as in 65536, 64K or 16M".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err("at least one byte is needed".into()),
        Some(bytes) => Ok(bytes),
        None => Err("this is more than the machine can address".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost:0", "localhost:0"),
            ("[::1]:9", "[::1]:9"),
            ("0.0.0.0:65535", "0.0.0.0:65535"),
        ] {
            assert_eq!(text.parse::<Listen>().ok().map(|listen| listen.to_string()).as_deref(), Some(shown));
        }
        for text in [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:70000",
            "::1:80",
            "[x]:80",
            "http://h:80",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        for text in ["", "0", "K", "1T", "-1", "1.5M", "99999999999999999999", "99999999999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
