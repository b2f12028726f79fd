//! The deadlines of a loop's connections: a wheel of slots, each with a list of the connections to look at then.
//!
//! A deadline that moves away is left alone: a connection that is looked at too early is put in again. So a connection
//! costs four bytes here, and nothing when bytes come.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// How late a deadline is noticed at most.
const LATENESS: Duration = Duration::from_millis(64);

/// The distance of two slots. The unit tests compare the engine with drivers whose timers are exact.
const TICK: Duration = if cfg!(test) { Duration::from_millis(1) } else { LATENESS };

/// A deadline that is farther away than all slots is looked at when they have gone round, after 65 s, and put in again.
const SLOTS: u32 = 1024;

/// A wheel of connections, which are known by their indices.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    /// All ticks before this one are done.
    next: NonZeroU32,
    slots: Box<[Vec<u32>]>,
    len: usize,
    /// The first tick that has a connection; `None` if it is not known.
    first: Option<Tick>,
}

/// When a connection is looked at, counted from the start of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(NonZeroU32);

impl Tick {
    const fn slot(self) -> usize {
        (self.0.get() % SLOTS) as usize
    }
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { start: now, next: NonZeroU32::MIN, slots, len: 0, first: None }
    }

    /// The first tick at or after `time` of those that have a slot; ticks count for eight years.
    fn tick(&self, time: Instant) -> Tick {
        let since = time.saturating_duration_since(self.start).as_nanos();
        let tick = u32::try_from(since.div_ceil(TICK.as_nanos())).unwrap_or(u32::MAX);
        let last = self.next.saturating_add(SLOTS - 1);
        Tick(NonZeroU32::new(tick).unwrap_or(NonZeroU32::MIN).clamp(self.next, last))
    }

    /// Puts `index` in, to be looked at once `due` has passed, unless it is in for an earlier tick. `armed` is the tick
    /// that it is in for.
    pub(super) fn arm(&mut self, index: u32, armed: &mut Option<Tick>, due: Instant) {
        let tick = self.tick(due);
        if armed.is_none_or(|armed| tick < armed) {
            *armed = Some(tick);
            self.slots[tick.slot()].push(index);
            self.first = if self.len == 0 { Some(tick) } else { self.first.map(|first| first.min(tick)) };
            self.len += 1;
        }
    }

    /// The connections to look at by `now`: all that were put in for one tick, and that tick. A connection that is armed
    /// for another tick by now is not meant.
    pub(super) fn expired(&mut self, now: Instant) -> Option<(Tick, Vec<u32>)> {
        let since = now.saturating_duration_since(self.start).as_nanos();
        let over = u32::try_from(since / TICK.as_nanos()).unwrap_or(u32::MAX);
        while self.next.get() <= over {
            if self.len == 0 {
                self.next = NonZeroU32::MIN.saturating_add(over);
                break;
            }
            let tick = Tick(self.next);
            self.next = self.next.saturating_add(1);
            // Taken with its memory: after a wave of connections nothing of them stays.
            let indexes = std::mem::take(&mut self.slots[tick.slot()]);
            self.len -= indexes.len();
            self.first = None;
            if !indexes.is_empty() {
                return Some((tick, indexes));
            }
        }
        None
    }

    /// When there will be a connection to look at.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        if self.first.is_none() {
            let ticks = (0..SLOTS).map(|ahead| Tick(self.next.saturating_add(ahead)));
            self.first = ticks.into_iter().find(|tick| !self.slots[tick.slot()].is_empty());
        }
        self.start.checked_add(TICK * self.first?.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut Wheel, now: Instant, armed: &mut [Option<Tick>]) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some((tick, indexes)) = wheel.expired(now) {
            for index in indexes {
                if armed[index as usize] == Some(tick) {
                    armed[index as usize] = None;
                    all.push(index);
                }
            }
        }
        all
    }

    #[test]
    fn a_deadline_is_noticed_within_a_tick_and_never_too_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for millis in (0..70_000).step_by(331) {
            let mut wheel = Wheel::new(start);
            let (due, mut armed) = (start + Duration::from_millis(millis), [None]);
            wheel.arm(0, &mut armed[0], due);
            let seen = wheel.next_due().unwrap();
            assert!(seen >= due.min(start + TICK * (SLOTS - 1)) && seen < due + 2 * TICK, "{millis}");
            assert!(expired(&mut wheel, seen - Duration::from_nanos(1), &mut armed).is_empty());
            assert_eq!(expired(&mut wheel, seen, &mut armed), [0], "{millis}");
            assert_eq!(wheel.next_due(), None);
        }
        assert!(wheel.expired(start + Duration::from_secs(1000)).is_none());
        assert!(wheel.next.get() > 15_000, "it does not step through what is empty");
    }

    #[test]
    fn an_earlier_deadline_counts_and_the_later_one_is_not_meant() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut armed = [None, None];
        wheel.arm(0, &mut armed[0], start + TICK * 320);
        wheel.arm(1, &mut armed[1], start + TICK * 320);
        wheel.arm(0, &mut armed[0], start + TICK * 80);
        wheel.arm(0, &mut armed[0], start + TICK * 160);
        assert_eq!(wheel.len, 3);
        assert_eq!(expired(&mut wheel, start + TICK * 90, &mut armed), [0]);
        assert_eq!(expired(&mut wheel, start + TICK * 400, &mut armed), [1]);
        assert_eq!(wheel.len, 0);
    }

    #[test]
    fn who_is_due_already_is_looked_at_at_the_next_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut armed = [None];
        assert!(wheel.expired(start + Duration::from_secs(9)).is_none());
        wheel.arm(0, &mut armed[0], start);
        assert!(wheel.expired(start + Duration::from_secs(9)).is_none());
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(9) + TICK, &mut armed), [0]);
    }
}
