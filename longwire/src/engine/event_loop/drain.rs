//! The end in peace: no new connections, and a word to each that is there.

use std::time::{Duration, Instant};

use super::Loop;
use super::place::{Place, Stage};
use crate::connection::Shutdown;
use crate::engine::handler::Handler;
use crate::engine::slab::Key;

/// How often it is looked whether all have gone.
const LOOK: Duration = Duration::from_millis(20);

/// A drain under way.
pub(crate) struct Draining {
    drain: Shutdown,
    since: Instant,
    /// Those to be closed, and how many of them are.
    keys: Vec<Key>,
    closed: usize,
}

impl Draining {
    pub(crate) fn next_due(&self, now: Instant) -> Instant {
        let left = self.keys.len() - self.closed;
        let step = if left > 0 { self.drain.spread / self.keys.len() as u32 } else { LOOK };
        now + step.clamp(Duration::from_millis(1), LOOK)
    }

    /// How many are to be closed by now.
    fn wanted(&self, now: Instant) -> usize {
        let gone = now.saturating_duration_since(self.since);
        if gone >= self.drain.spread {
            return self.keys.len();
        }
        let share = gone.as_secs_f64() / self.drain.spread.as_secs_f64();
        (self.keys.len() as f64 * share) as usize
    }
}

impl<H: Handler> Loop<H> {
    pub(crate) fn begin_to_drain(&mut self, drain: Shutdown) {
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
        self.draining = Some(Draining { drain, since: self.local.now, keys, closed: 0 });
        self.drain_on();
    }

    /// Closes those whose time has come.
    pub(crate) fn drain_on(&mut self) {
        let Some(mut draining) = self.draining.take() else { return };
        let now = self.local.now;
        let wanted = draining.wanted(now);
        for &key in &draining.keys[draining.closed..wanted] {
            // Code and reason were checked.
            self.on(key, |conn| drop(conn.close_with(draining.drain.frame.clone())));
        }
        draining.closed = wanted;
        let Shutdown { spread, timeout, .. } = draining.drain;
        let end = draining.since.checked_add(spread).and_then(|end| end.checked_add(timeout));
        self.stopped |= end.is_some_and(|end| now >= end);
        self.draining = Some(draining);
    }
}
