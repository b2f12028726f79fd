//! The log of `longwire serve --log`: one line per event on standard error.
//!
//! A separate thread writes the lines, because the reader may be slow and the event loops must not wait. The
//! queue is bounded; further lines are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use clap::ValueEnum;
use longwire_server::config::{Config, Log as LogFormat};
use tracing_subscriber::EnvFilter;

/// Maximum number of queued lines.
const QUEUE_MAX: usize = 8192;

/// How long the program waits for the last lines at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The format of the log.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable lines
    Text,
    /// One JSON object per line
    Json,
}

impl Format {
    /// Returns the name used in the settings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The log level.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// Returns the name used in the settings.
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

/// Flushes the log when dropped.
pub(crate) struct Log(Option<SyncSender<Command>>);

enum Command {
    Write(Vec<u8>),
    /// The sender in it is dropped when everything before this is written.
    Flush(SyncSender<()>),
}

/// The queue of the log.
#[derive(Clone)]
struct Lines {
    to: SyncSender<Command>,
    dropped: Arc<AtomicU64>,
}

/// Starts the log, if enabled, and logs the listening address.
pub(crate) fn start(config: &Config, address: SocketAddr) -> io::Result<Log> {
    let format = match config.log {
        LogFormat::Off => return Ok(Log(None)),
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let lines = Lines::start(io::stderr(), format)?;
    let to = lines.to.clone();
    // Events of dependencies, such as hyper, are not logged.
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
            // If standard error is closed, there is nowhere to report it.
            Command::Write(line) => drop(to.write_all(&line)),
            Command::Flush(done) => drop(done),
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = match format {
                Format::Text => {
                    writeln!(to, "WARN dropped {count} log lines: standard error is read too slowly")
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
    /// Queues a whole line.
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
        // The queue is only full if nobody reads the log.
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

    /// Accepts a line when permitted.
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
    fn logging_never_blocks_and_reports_dropped_lines() {
        let (allow, allowed) = channel();
        let (taken, lines) = channel();
        let mut log = Lines::start(Slow { allowed, taken }, Format::Json).unwrap();
        log.write_all(b"first\n").unwrap();
        // The thread may or may not have taken the first line.
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
