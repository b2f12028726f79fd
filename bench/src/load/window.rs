//! The event loop, and the window in which both sides are timed.
//!
//! The loop never sleeps. Waking a sleeper costs the one who wakes, so a load that slept would put some
//! microseconds a message on the account of the server, and more on that of a slower one.

use super::{Pace, Traffic, histogram::Histogram, opening::PATIENCE};
use crate::{Failure, server::Server};
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

/// The sockets under way, and what has come of them.
pub(super) struct Board {
    epoll: Epoll,
    started: Instant,
    /// Time spent looking for events when there were none.
    idle: Duration,
    /// Fewer messages than this say nothing: most of them were under way when the window began.
    enough: u64,
    /// Messages finished, warm-up included.
    pub(super) finished: u64,
    /// Bytes received, warm-up included.
    pub(super) received: u64,
    pub(super) round_trips: Histogram,
}

/// A kind of load: reacts to its sockets.
pub(super) trait Load {
    /// The socket watched under this number is readable or, after a write that had to stop, writable.
    fn ready(&mut self, socket: usize, readable: bool, board: &mut Board) -> Result<(), Failure>;
}

impl Board {
    /// For a load with this many messages in flight.
    pub(super) fn new(in_flight: usize) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            epoll,
            enough: 4 * in_flight as u64,
            started: Instant::now(),
            idle: Duration::ZERO,
            finished: 0,
            received: 0,
            round_trips: Histogram::new(),
        })
    }

    /// Watches a socket until it is closed, edge-triggered: `ready` is called at once, then on every change.
    pub(super) fn watch(&self, stream: &TcpStream, socket: usize) -> Result<(), Failure> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.epoll.add(stream, EpollEvent::new(flags, socket as u64))?)
    }

    /// Nanoseconds since the board was set up.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Keeps the load going for the warm-up and the window, which both last on until enough messages are finished.
    pub(super) fn run(
        mut self,
        load: &mut impl Load,
        server: &Server,
        pace: &Pace,
    ) -> Result<Traffic, Failure> {
        self.keep_up(load, Duration::try_from_secs_f64(pace.warmup)?)?;

        self.round_trips.clear();
        let (finished, received, begin) = (self.finished, self.received, Instant::now());
        let (server_cpu, server_waited, idle) = (server.cpu()?, server.waited(), self.idle);
        self.keep_up(load, Duration::try_from_secs_f64(pace.window)?)?;
        Ok(Traffic {
            server_cpu: server.cpu()? - server_cpu,
            server_waited: server.waited().saturating_sub(server_waited),
            window: begin.elapsed(),
            load_idle: self.idle - idle,
            messages: self.finished - finished,
            bytes: self.received - received,
            p50: self.round_trips.quantile(0.5),
            p99: self.round_trips.quantile(0.99),
            agreement: None,
        })
    }

    fn keep_up(&mut self, load: &mut impl Load, duration: Duration) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 1024];
        let (begin, finished) = (Instant::now(), self.finished);
        let (mut last, mut progress, mut progress_at) = (begin, finished, begin);
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            for event in &events[..ready] {
                let readable = event.events() != EpollFlags::EPOLLOUT;
                load.ready(event.data() as usize, readable, self)?;
            }

            let now = Instant::now();
            if ready == 0 {
                self.idle += now - last;
            }
            last = now;
            if self.finished > progress {
                (progress, progress_at) = (self.finished, now);
            }
            if now - begin >= duration && self.finished - finished >= self.enough {
                return Ok(());
            }
            if now - progress_at > PATIENCE {
                return Err("the server has stopped answering".into());
            }
        }
    }
}
