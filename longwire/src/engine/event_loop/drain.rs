//! Graceful shutdown of a loop: no new connections, and a Close frame for each that is there.

use std::time::{Duration, Instant};

use super::Loop;
use super::place::{Place, Stage};
use crate::connection::Shutdown;
use crate::engine::handler::Handler;
use crate::engine::slab::Key;

/// How often the loop checks whether all connections have gone.
const CHECK: Duration = Duration::from_millis(20);

/// A shutdown under way.
pub(super) struct Draining {
    shutdown: Shutdown,
    since: Instant,
    /// The connections to close. The first `closed` of them were sent the Close frame.
    keys: Vec<Key>,
    closed: usize,
}

impl Draining {
    pub(super) fn next_due(&self, now: Instant) -> Instant {
        let left = self.keys.len() - self.closed;
        let step = if left > 0 { self.shutdown.spread / self.keys.len() as u32 } else { CHECK };
        now + step.clamp(Duration::from_millis(1), CHECK)
    }

    /// How many connections are to be closed by now.
    fn due_by(&self, now: Instant) -> usize {
        let gone = now.saturating_duration_since(self.since);
        if gone >= self.shutdown.spread {
            return self.keys.len();
        }
        let share = gone.as_secs_f64() / self.shutdown.spread.as_secs_f64();
        (self.keys.len() as f64 * share) as usize
    }
}

impl<H: Handler> Loop<H> {
    /// Starts a shutdown. A second one changes nothing.
    pub(super) fn start_draining(&mut self, shutdown: Shutdown) {
        if self.draining.is_some() {
            return;
        }
        self.stop_accepting();
        self.tasks.closing.cancel();
        self.tasks.invited.take();
        let mut keys = Vec::new();
        for key in self.slab.keys().collect::<Vec<_>>() {
            match self.slab.get(key) {
                Some(Place { stage: Stage::Open(..), .. }) => keys.push(key),
                _ => self.drop_pending(key.index),
            }
        }
        self.draining = Some(Draining { shutdown, since: self.shared.local.now, keys, closed: 0 });
        self.drain();
    }

    /// Closes the connections whose time has come, if a shutdown is under way.
    pub(super) fn drain(&mut self) {
        let Some(mut draining) = self.draining.take() else { return };
        let now = self.shared.local.now;
        let due = draining.due_by(now);
        for &key in &draining.keys[draining.closed..due] {
            // `Shutdown::new` has checked code and reason.
            self.act(key, |conn| drop(conn.close_with(draining.shutdown.frame.clone())));
        }
        draining.closed = due;
        let Shutdown { spread, timeout, .. } = draining.shutdown;
        let end = draining.since.checked_add(spread).and_then(|end| end.checked_add(timeout));
        self.is_stopped |= end.is_some_and(|end| now >= end);
        self.draining = Some(draining);
    }
}
