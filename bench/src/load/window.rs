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

    /// The window is over: nothing new is to be sent.
    fn stop(&mut self) {}

    /// Nothing is under way any more that has to arrive; asked after `stop`.
    fn is_at_rest(&self) -> bool {
        true
    }
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

    /// Keeps the load going for the warm-up and the window, which both last on until enough messages are finished; then
    /// waits for what must not be lost.
    pub(super) fn run<L: Load>(
        mut self,
        load: &mut L,
        server: &Server,
        pace: &Pace,
    ) -> Result<Traffic, Failure> {
        self.keep_up_for(pace.warmup, load)?;

        self.round_trips.clear();
        let (finished, received, begin) = (self.finished, self.received, Instant::now());
        let (server_cpu, server_waited, idle) = (server.cpu()?, server.waited(), self.idle);
        self.keep_up_for(pace.window, load)?;
        let traffic = Traffic {
            server_cpu: server.cpu()? - server_cpu,
            server_waited: server.waited().saturating_sub(server_waited),
            window: begin.elapsed(),
            load_idle: self.idle - idle,
            messages: self.finished - finished,
            bytes: self.received - received,
            p50: self.round_trips.quantile(0.5),
            p99: self.round_trips.quantile(0.99),
            agreement: None,
        };

        load.stop();
        self.keep_up(load, |_, load, _| load.is_at_rest())?;
        Ok(traffic)
    }

    fn keep_up_for(&mut self, seconds: f64, load: &mut impl Load) -> Result<(), Failure> {
        let duration = Duration::try_from_secs_f64(seconds)?;
        let finished = self.finished;
        self.keep_up(load, |board, _, elapsed| {
            elapsed >= duration && board.finished - finished >= board.enough
        })
    }

    fn keep_up<L: Load>(
        &mut self,
        load: &mut L,
        is_over: impl Fn(&Self, &L, Duration) -> bool,
    ) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 1024];
        let begin = Instant::now();
        let (mut last, mut progress, mut progress_at) = (begin, self.finished, begin);
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
            if is_over(self, load, now - begin) {
                return Ok(());
            }
            if now - progress_at > PATIENCE {
                return Err("the server has stopped answering".into());
            }
        }
    }
}
