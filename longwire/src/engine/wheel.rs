//! Deadlines of a loop's connections: a wheel of slots, each a list of those to look at then.
//!
//! A deadline that moves away is left alone: who is looked at too early is put in again. So a connection
//! costs four bytes here, and nothing when bytes come.

use std::time::{Duration, Instant};

/// How far apart two slots are: how late a deadline is noticed.
const TICK: Duration = Duration::from_millis(64);

/// Slots. What is due beyond them is looked at when they have gone round, after 65 s.
const SLOTS: u32 = 1024;

/// A wheel; who is in it is known by an index.
#[derive(Debug)]
pub(crate) struct Wheel {
    start: Instant,
    /// All ticks before this one are done.
    next: u32,
    slots: Box<[Vec<u32>]>,
    len: usize,
    /// The first tick that has someone; `0` if it has to be looked for.
    first: u32,
}

/// When someone is looked at next; `0` is never.
pub(crate) type Tick = u32;

impl Wheel {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, next: 1, slots: (0..SLOTS).map(|_| Vec::new()).collect(), len: 0, first: 0 }
    }

    /// The first tick at or after `time`; ticks count for eight years.
    fn tick(&self, time: Instant) -> u32 {
        let since = time.saturating_duration_since(self.start).as_nanos();
        u32::try_from(since.div_ceil(TICK.as_nanos())).unwrap_or(u32::MAX)
    }

    /// Puts `index` in, to be looked at when `due` is over, unless it is to be before.
    pub(crate) fn arm(&mut self, index: u32, armed: &mut Tick, due: Instant) {
        let tick = self.tick(due).clamp(self.next, self.next + SLOTS - 1);
        if *armed == 0 || tick < *armed {
            *armed = tick;
            self.slots[(tick % SLOTS) as usize].push(index);
            // What has to be looked for has to be still, unless there was none.
            self.first = if self.len == 0 { tick } else { self.first.min(tick) };
            self.len += 1;
        }
    }

    /// Whom to look at by `now`: all who were put in for one tick, and that tick. Whose own tick is another
    /// by now is not meant.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(Tick, Vec<u32>)> {
        let since = now.saturating_duration_since(self.start).as_nanos();
        let over = u32::try_from(since / TICK.as_nanos()).unwrap_or(u32::MAX);
        while self.next <= over {
            if self.len == 0 {
                self.next = over + 1;
                break;
            }
            let tick = self.next;
            self.next += 1;
            // Taken with its memory: after a wave of connections nothing of them stays.
            let indexes = std::mem::take(&mut self.slots[(tick % SLOTS) as usize]);
            self.len -= indexes.len();
            self.first = 0;
            if !indexes.is_empty() {
                return Some((tick, indexes));
            }
        }
        None
    }

    /// When there will be someone to look at.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        if self.first == 0 {
            let is_taken = |tick: &u32| !self.slots[(tick % SLOTS) as usize].is_empty();
            self.first = (self.next..self.next + SLOTS).find(is_taken)?;
        }
        self.start.checked_add(TICK * self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut Wheel, now: Instant, armed: &mut [Tick]) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some((tick, indexes)) = wheel.expired(now) {
            for index in indexes {
                if armed[index as usize] == tick {
                    armed[index as usize] = 0;
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
            let (due, mut armed) = (start + Duration::from_millis(millis), [0]);
            wheel.arm(0, &mut armed[0], due);
            let seen = wheel.next_due().unwrap();
            assert!(seen >= due.min(start + TICK * (SLOTS - 1)) && seen < due + 2 * TICK, "{millis}");
            assert!(expired(&mut wheel, seen - Duration::from_nanos(1), &mut armed).is_empty());
            assert_eq!(expired(&mut wheel, seen, &mut armed), [0], "{millis}");
            assert_eq!(wheel.next_due(), None);
        }
        assert!(wheel.expired(start + Duration::from_secs(1000)).is_none());
        assert!(wheel.next > 15_000, "it does not step through what is empty");
    }

    #[test]
    fn an_earlier_deadline_counts_and_the_later_one_is_not_meant() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut armed = [0, 0];
        wheel.arm(0, &mut armed[0], start + Duration::from_secs(20));
        wheel.arm(1, &mut armed[1], start + Duration::from_secs(20));
        wheel.arm(0, &mut armed[0], start + Duration::from_secs(5));
        wheel.arm(0, &mut armed[0], start + Duration::from_secs(10));
        assert_eq!(wheel.len, 3);
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(6), &mut armed), [0]);
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(30), &mut armed), [1]);
        assert_eq!(wheel.len, 0);
    }

    #[test]
    fn who_is_due_already_is_looked_at_at_the_next_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut armed = [0];
        assert!(wheel.expired(start + Duration::from_secs(9)).is_none());
        wheel.arm(0, &mut armed[0], start);
        assert!(wheel.expired(start + Duration::from_secs(9)).is_none());
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(9) + TICK, &mut armed), [0]);
    }
}
