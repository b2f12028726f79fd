//! What `longwire serve --log` writes to standard error: a line for each event.
//!
//! Lines are written by a thread of their own, for whoever reads them may be slow, and the loops that serve
//! must not wait for that. What it is behind by is bounded; lines beyond are dropped, and it says how many.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use clap::ValueEnum;
use longwire_server::config::{Config, Log as LogFormat};
use tracing_subscriber::EnvFilter;

/// Lines that may wait to be written.
const QUEUE_MAX: usize = 8192;

/// How long the end of the program waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How it is written.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// An object of JSON in each line
    Json,
}

impl Format {
    /// As the settings call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What is written.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// As the settings call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Dropped, it waits until the last lines are written.
pub(crate) struct Log(Option<SyncSender<Command>>);

enum Command {
    Write(Vec<u8>),
    /// Everything before this is written when the sender in it is dropped.
    Flush(SyncSender<()>),
}

/// Where the lines go to.
#[derive(Clone)]
struct Lines {
    to: SyncSender<Command>,
    dropped: Arc<AtomicU64>,
}

/// Logs from here on, if that is wanted, to begin with where the server listens.
pub(crate) fn start(config: &Config, address: SocketAddr) -> io::Result<Log> {
    let format = match config.log {
        LogFormat::Off => return Ok(Log(None)),
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let lines = Lines::start(io::stderr(), format)?;
    let to = lines.to.clone();
    // What others tell, such as hyper, is not for those who run a server.
    let is_level = config.log_level.bytes().all(|byte| byte.is_ascii_alphabetic());
    let filter = if is_level { format!("longwire={}", config.log_level) } else { config.log_level.clone() };
    let filter = EnvFilter::try_new(filter).map_err(io::Error::other)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
    match format {
        Format::Text => log.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => log.json().with_span_list(false).init(),
    }
    tracing::info!(target: "longwire", %address, "listening");
    Ok(Log(Some(to)))
}

impl Lines {
    fn start(to: impl Write + Send + 'static, format: Format) -> io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        let (sender, commands) = sync_channel(QUEUE_MAX);
        let lines = Self { to: sender, dropped: Arc::clone(&dropped) };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(to, &commands, &dropped, format))?;
        Ok(lines)
    }
}

fn write_all(mut to: impl Write, commands: &Receiver<Command>, dropped: &AtomicU64, format: Format) {
    for command in commands {
        match command {
            // Where standard error is closed there is nobody to tell.
            Command::Write(line) => drop(to.write_all(&line)),
            Command::Flush(done) => drop(done),
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = match format {
                Format::Text => {
                    writeln!(to, "WARN {count} lines of the log were dropped: it is read too slowly")
                }
                Format::Json => writeln!(
                    to,
                    r#"{{"level":"WARN","fields":{{"message":"lines dropped","count":{count}}},"target":"longwire"}}"#
                ),
            };
        }
    }
}

impl Write for Lines {
    /// A whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.to.try_send(Command::Write(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = sync_channel(0);
        // So much waits only where nobody reads.
        if let Some(to) = &self.0
            && to.try_send(Command::Flush(done)).is_ok()
        {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Takes a line whenever it is allowed to.
    struct Slow {
        allowed: Receiver<()>,
        taken: std::sync::mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.taken.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_is_dropped_is_told() {
        let (allow, allowed) = channel();
        let (taken, lines) = channel();
        let mut log = Lines::start(Slow { allowed, taken }, Format::Json).unwrap();
        log.write_all(b"first\n").unwrap();
        // The first may be with the thread, or not yet.
        for _ in 0..QUEUE_MAX + 10 {
            log.write_all("行\n".as_bytes()).unwrap();
        }
        let dropped = log.dropped.load(Ordering::Relaxed);
        assert!((10..=11).contains(&dropped), "{dropped}");
        allow.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"first\n");
        for _ in 0..QUEUE_MAX + 10 {
            let _ = allow.send(());
        }
        let mut warning = lines.recv().unwrap();
        while !warning.ends_with(b"\n") {
            warning.extend(lines.recv().unwrap());
        }
        let warning = String::from_utf8(warning).unwrap();
        assert!(
            warning.contains("lines dropped") && warning.contains(&format!("\"count\":{dropped}")),
            "{warning}"
        );
        assert_eq!(lines.recv().unwrap(), "行\n".as_bytes());
    }
}
