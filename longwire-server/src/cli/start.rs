//! Startup and shutdown of `longwire serve`.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use longwire::Shutdown;
use longwire::engine::Engine;
use longwire::tls::ServerTls;
use longwire::{Acceptor, CloseCode, Config as Limits, Deflate, TrustedProxies};
use longwire_server::config::{Config, ListenAddr, Loaded};
use longwire_server::realtime::http::Http;
use longwire_server::realtime::{ConnectionHandler, Realtime, SUBPROTOCOL};
use tokio::runtime;

use super::serve::Serve;
use super::{Failure, origin};
use crate::http_server::HttpServer;
use crate::signals::Signals;
use crate::{log, metrics, terminal};

/// Timeout for closing handshakes and HTTP requests on shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Minimum interval between warnings about a persistent problem.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Minimum write buffer of a connection. It holds a replay, in which JSON may need six bytes for one byte of
/// a message.
const MIN_WRITE_BUFFER: usize = 4 << 20;

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = self.settings()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?;
        runtime.block_on(self.serve(loaded))
    }

    async fn serve(self, Loaded { config, warnings, .. }: Loaded) -> Result<(), Failure> {
        warnings.iter().for_each(|warning| terminal::warn(warning));
        let mut signals = Signals::listen()
            .map_err(|error| Failure::new(format!("cannot register signal handlers: {error}")))?;
        let tls = self.tls.server(&config.tls, &config.listen.host)?;
        let listener = bind(&config.listen)?;
        let address = listener.local_addr().map_err(|error| cannot_listen(&config.listen, &error))?;
        let _log = log::start(&config, address)
            .map_err(|error| Failure::new(format!("cannot start the log: {error}")))?;
        let files = open_files(&config);
        let realtime = Realtime::new(config).map_err(Failure::new)?;
        realtime.set_counters(&metrics::COUNTERS);
        if let Err(error) = realtime.fetch_keys().await {
            // The key server may be unavailable for a moment. The keys are fetched again when a token
            // arrives.
            terminal::warn(&error);
        }

        let server =
            Server { realtime: realtime.clone(), address, tls: tls.clone(), rfc7239: self.forwarded };
        let acceptor = server.acceptor()?;
        let drain = realtime.config().drain.duration();
        let (http_server, close) = HttpServer::new(server.http(&acceptor)?, drain);
        let mut running = server
            .engine(acceptor, http_server.clone())?
            .start(listener)
            .map_err(|error| Failure::new(format!("cannot start the threads: {error}")))?;
        realtime.set_engine(running.handle());
        announce(address, tls.is_some())
            .map_err(|error| Failure::new(format!("cannot write to standard output: {error}")))?;
        if let Some(files) = files {
            terminal::event("ready", &format!(" for up to about {files} connections (ulimit -n)"));
        }

        let failed = |error: io::Error| Failure::new(format!("the server failed: {error}"));
        let mut reports = ThrottledWarnings::default();
        tokio::select! {
            ended = running.ended() => return ended.map_err(failed),
            _ = signals.next() => {}
            () = watch(tls) => {}
            () = realtime.upkeep(|error| reports.warn(&error.to_string())) => {}
        }
        // HTTP connections end when their requests are answered.
        let _ = close.send(true);
        let config = realtime.config();
        let code = if config.restarts { CloseCode::RESTART } else { CloseCode::GOING_AWAY };
        let shutdown = Shutdown::new(code, "the server is shutting down").spread(config.drain.duration());
        running.handle().shutdown(shutdown.timeout(SHUTDOWN_TIMEOUT));
        tokio::select! {
            ended = running.ended() => {
                realtime.sync().map_err(|error| Failure::new(error.to_string()))?;
                ended.map_err(failed)
            }
            status = signals.next() => Err(Failure::signal(status)),
            // This never completes.
            () = realtime.upkeep(|error| reports.warn(&error.to_string())) => Ok(()),
        }
    }
}

/// The parts of a server.
struct Server {
    realtime: Realtime,
    address: SocketAddr,
    tls: Option<ServerTls>,
    rfc7239: bool,
}

impl Server {
    fn acceptor(&self) -> Result<Acceptor, Failure> {
        let config = self.realtime.config();
        let largest = config.max_message.in_memory();
        // In a session, a message is published as JSON, which may need six bytes for one byte of text.
        let frame = largest.saturating_mul(6).saturating_add(4096);
        let mut limits =
            Limits::server().max_message(frame).write_buffer(largest.saturating_mul(4).max(MIN_WRITE_BUFFER));
        if config.deflate {
            limits = limits.deflate(Deflate::new().threshold(config.deflate_threshold.in_memory()));
        }
        let subprotocols = [SUBPROTOCOL].into_iter().chain(config.subprotocol.iter().map(String::as_str));
        let acceptor = Acceptor::new().config(limits).counters(&metrics::COUNTERS).subprotocols(subprotocols);
        let origins = origin::origins(&config.allow_origin, self.address, self.tls.is_some());
        Ok(acceptor
            .origins(origins)
            .on_request(origin::check_host(self.address.ip(), config.allow_host.clone())))
    }

    fn http(&self, acceptor: &Acceptor) -> Result<Http, Failure> {
        let config = self.realtime.config();
        let origins = origin::origins(&config.allow_origin, self.address, self.tls.is_some());
        let http = Http::new(self.realtime.clone())
            .origins(origins)
            .listening(self.address.ip())
            .websockets(acceptor.clone());
        Ok(match self.proxies()? {
            Some(proxies) => http.trusted_proxies(proxies),
            None => http,
        })
    }

    fn proxies(&self) -> Result<Option<TrustedProxies>, Failure> {
        let networks = &self.realtime.config().trust_proxy;
        if networks.is_empty() {
            return Ok(None);
        }
        let networks = networks.iter().map(ToString::to_string);
        let proxies = TrustedProxies::new(networks).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Some(proxies.rfc7239(self.rfc7239)))
    }

    fn engine(
        self,
        acceptor: Acceptor,
        http_server: HttpServer,
    ) -> Result<Engine<ConnectionHandler>, Failure> {
        let proxies = self.proxies()?;
        let config = self.realtime.config();
        let mut engine = self
            .realtime
            .engine(accept_failed())
            .acceptor(acceptor)
            .http(move |stream, read| http_server.clone().serve(stream, read));
        if let Some(proxies) = proxies {
            engine = engine.trusted_proxies(proxies);
        }
        if let Some(tls) = self.tls {
            engine = engine.tls(tls);
        }
        if config.max_connections > 0 {
            engine = engine.max_connections(config.max_connections as usize);
        }
        if config.threads > 0 {
            engine = engine.threads(config.threads.into());
        }
        Ok(engine)
    }
}

/// Watches the certificate files. Never completes.
async fn watch(tls: Option<ServerTls>) {
    match tls {
        Some(tls) => super::tls::watch(tls).await,
        None => std::future::pending().await,
    }
}

/// Logs a persistent problem at most once per interval.
#[derive(Default)]
struct ThrottledWarnings {
    last: Option<Instant>,
}

impl ThrottledWarnings {
    fn warn(&mut self, text: &str) {
        if self.last.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            self.last = Some(Instant::now());
            terminal::warn(text);
        }
    }
}

fn accept_failed() -> impl Fn(&io::Error) + Send + Sync {
    let reports = std::sync::Mutex::new(ThrottledWarnings::default());
    move |error| {
        let advice =
            "open connections are not affected; raising the limit of open files (ulimit -n) may help";
        let mut reports = reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reports.warn(&format!("cannot accept a connection: {error}; {advice}"));
    }
}

/// Raises the limit of open files to the maximum, because each connection needs one. Returns the limit.
fn open_files(config: &Config) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If this fails, the previous limit stays in force.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current?;
    if u64::from(config.max_connections) > files {
        terminal::warn(&format!(
            "max_connections is {}, but the system allows {files} open files; raise ulimit -n, or LimitNOFILE in systemd",
            config.max_connections
        ));
    }
    Some(files)
}

/// Prints the only line on standard output; programs read the port from it.
fn announce(address: SocketAddr, secure: bool) -> io::Result<()> {
    let (http, ws) = if secure { ("https", "wss") } else { ("http", "ws") };
    let (mut reached, mut everywhere) = (address, "");
    if address.ip().is_unspecified() {
        // Browsers reject the unspecified address; the loopback address reaches the same server.
        reached.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1].into()
        });
        everywhere = " and on all other addresses of this machine";
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "longwire listening on {http}://{reached}{everywhere}  (open it in a browser; channels are at {ws}://{reached}/NAME)"
    )?;
    out.flush()
}

fn bind(listen: &ListenAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind((listen.host.as_str(), listen.port)).map_err(|error| cannot_listen(listen, &error))
}

fn cannot_listen(listen: &ListenAddr, error: &io::Error) -> Failure {
    let at = |port| ListenAddr { host: listen.host.clone(), port };
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "address already in use; choose another port, such as --listen {}, or 0 for a free one",
            at(listen.port.checked_add(1).unwrap_or(8080))
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 require privileges; choose a higher one, such as --listen {}",
            at(8080)
        ),
        io::ErrorKind::AddrNotAvailable => {
            "not an address of this machine; use 127.0.0.1 for this machine only, or 0.0.0.0 for all interfaces"
                .into()
        }
        _ => error.to_string(),
    };
    Failure::new(format!("cannot listen on {listen}: {advice}"))
}
