//! The load: one thread, one epoll set, no WebSocket library. Requests are masked and framed before the clock
//! starts; a reply costs one `recv`, a look at its header and one `send`, so the server's core fills up first.

pub(crate) mod broadcast;
pub(crate) mod connect;
mod deflate;
pub(crate) mod echo;
mod histogram;
pub(crate) mod idle;
mod opening;
mod replies;
mod script;
mod socket;
pub(crate) mod ticks;
mod window;

use std::{fmt, time::Duration};

/// How long to load, how long to measure, and how closely to look.
pub(crate) struct Pace {
    /// Seconds before the window.
    pub(crate) warmup: f64,
    /// Seconds of the window.
    pub(crate) window: f64,
    pub(crate) verify: bool,
}

/// What one measurement gave.
pub(crate) enum Outcome {
    Traffic(Traffic),
    Memory(Memory),
}

/// One window of traffic. A message is a reply or a delivery received, or a connection opened and closed.
pub(crate) struct Traffic {
    pub(crate) messages: u64,
    /// What the server sent, frame headers included.
    pub(crate) bytes: u64,
    pub(crate) window: Duration,
    pub(crate) server_cpu: Duration,
    /// Time the server waited for other processes to leave its core.
    pub(crate) server_waited: Duration,
    /// Time in which the load had nothing to do.
    pub(crate) load_idle: Duration,
    /// Round trips; of broadcasts, from a publish to its last delivery.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// What the server said to permessage-deflate.
    pub(crate) agreement: Option<String>,
}

/// Resident memory of the server in bytes: before the first connection, then what each connection adds.
pub(crate) struct Memory {
    pub(crate) base: u64,
    /// At each of the stages of [`idle::stages`].
    pub(crate) per_connection: Vec<f64>,
}

impl Traffic {
    /// Server CPU per message in nanoseconds.
    pub(crate) fn cost(&self) -> f64 {
        self.server_cpu.as_nanos() as f64 / self.messages as f64
    }

    pub(crate) fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.messages as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.window.as_secs_f64()
    }

    /// Shares of the window in percent: the server running, the server waiting for its core, the load busy.
    /// The first two make 100 if the server is what holds the messages up.
    pub(crate) fn shares(&self) -> [f64; 3] {
        let busy = self.window.saturating_sub(self.load_idle);
        [self.server_cpu, self.server_waited, busy]
            .map(|time| 100.0 * time.as_secs_f64() / self.window.as_secs_f64())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Traffic(traffic) => {
                let (cost, rate, [running, waiting, load]) =
                    (traffic.cost(), traffic.per_second(), traffic.shares());
                write!(f, "{cost:.0} ns a message, {rate:.0} messages/s; ")?;
                write!(f, "server {running:.0} % running, {waiting:.0} % waiting; load {load:.0} % busy")
            }
            Self::Memory(memory) => write!(f, "{:.0?} bytes a connection", memory.per_connection),
        }
    }
}
