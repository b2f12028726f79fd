//! Counts attempts and failures, and decides what follows a failure. It has no clock: times are counted from any
//! fixed moment.

use std::time::Duration;

use super::backoff::{Backoff, Pause};
use super::cause::Retry;
use super::event::{Attempt, GaveUp};

#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Number of attempts since the start or the last stable connection.
    number: u32,
    /// Number of failures in a row: attempts that failed, and connections that did not become stable.
    failures: u32,
    /// Number of connections that were open.
    opened: u64,
    /// When there was last a stable connection, or when the first attempt began.
    since: Option<Duration>,
    /// When a cause that is probably permanent first occurred since the last open connection.
    doubtful_since: Option<Duration>,
}

/// How long a feed goes on without a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_attempts: Option<u32>,
    pub(super) give_up_after: Option<Duration>,
    /// For causes that are probably permanent: before a connection was open, and after one was.
    pub(super) patience: [Duration; 2],
}

impl Limits {
    pub(super) const fn new() -> Self {
        let patience = [Duration::from_secs(60), Duration::from_secs(600)];
        Self { max_attempts: None, give_up_after: None, patience }
    }
}

impl Attempts {
    /// Begins an attempt. Returns which one it is, and how long it may take.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        open_timeout: Duration,
        limits: Limits,
    ) -> (Attempt, Duration) {
        let since = *self.since.get_or_insert(now);
        self.number = self.number.saturating_add(1);
        let left = limits.give_up_after.map(|time| time.saturating_sub(now.saturating_sub(since)));
        (self.current(), open_timeout.min(left.unwrap_or(Duration::MAX)))
    }

    /// The attempt has led to an open connection.
    pub(super) fn opened(&mut self) -> Attempt {
        let attempt = self.current();
        self.opened += 1;
        self.doubtful_since = None;
        attempt
    }

    /// Whether to try again, as far as the cause itself decides. `is_renewed`: the cause is a rejected request, and the
    /// next attempt computes another one.
    pub(super) fn may_retry(
        &mut self,
        retry: Retry,
        is_renewed: bool,
        now: Duration,
        limits: Limits,
    ) -> bool {
        let was_open = self.opened > 0;
        match retry {
            Retry::Always => true,
            Retry::LimitedAfterOpen if !was_open && !is_renewed => false,
            Retry::Limited | Retry::LimitedAfterOpen => {
                let since = *self.doubtful_since.get_or_insert(now);
                now.saturating_sub(since) < limits.patience[usize::from(was_open)]
            }
            Retry::Never => false,
        }
    }

    /// The attempt failed, or the connection ended after it was open for the time `up`. Returns how long to wait before
    /// the next attempt.
    pub(super) fn lost(
        &mut self,
        now: Duration,
        up: Option<Duration>,
        pause: Pause,
        backoff: &Backoff,
        random: u64,
    ) -> Duration {
        if up.is_some_and(|up| backoff.is_stable(up)) {
            (self.number, self.failures, self.since) = (0, 0, Some(now));
        }
        self.failures = self.failures.saturating_add(1);
        backoff.delay(pause, self.failures, random)
    }

    /// Why there is no other attempt after this wait, if there is none.
    pub(super) fn exhausted(
        &self,
        is_permanent: bool,
        now: Duration,
        retry_in: Duration,
        limits: Limits,
    ) -> Option<GaveUp> {
        let waited = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if is_permanent {
            Some(GaveUp::Permanent)
        } else if limits.max_attempts.is_some_and(|most| self.number >= most) {
            Some(GaveUp::Attempts)
        } else if limits.give_up_after.is_some_and(|time| waited.saturating_add(retry_in) >= time) {
            Some(GaveUp::Time)
        } else {
            None
        }
    }

    const fn current(&self) -> Attempt {
        Attempt { number: self.number, opened: self.opened }
    }
}
