//! How long to wait before the next attempt. `cause` decides whether there is one.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};

/// How long a [`Feed`](super::Feed) waits before it reconnects.
///
/// After the n-th failure in a row it waits a random time between zero and `initial` · 2ⁿ⁻¹, at most `max`: exponential
/// backoff with *full jitter*, which spreads clients that lost their server at the same time.
///
/// ```
/// use std::time::Duration;
/// use longwire::reconnect::Backoff;
///
/// let patient = Backoff::new().initial(Duration::from_secs(2)).max(Duration::from_secs(300));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    stable_after: Duration,
    restart: RangeInclusive<Duration>,
    max_retry_after: Duration,
    jitter: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// The kind of wait after the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The delay of the backoff.
    Usual,
    /// Close code 1012.
    Restart,
    /// Close code 1013.
    Later,
    /// Retry-After (RFC 9110 10.2.3).
    After(Duration),
}

impl Backoff {
    /// Creates the defaults: 0.5 s, doubling up to 30 s, and reset after a connection that was open for 30 s.
    pub const fn new() -> Self {
        Self {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(30),
            stable_after: Duration::from_secs(30),
            restart: Duration::from_secs(5)..=Duration::from_secs(30),
            max_retry_after: Duration::from_secs(300),
            jitter: true,
        }
    }

    /// Sets the maximum wait after the first failure; default 0.5 s.
    #[must_use]
    pub const fn initial(mut self, time: Duration) -> Self {
        self.initial = time;
        self
    }

    /// Sets the maximum wait, unless the server requests a longer one; default 30 s.
    #[must_use]
    pub const fn max(mut self, time: Duration) -> Self {
        self.max = time;
        self
    }

    /// Sets how long a connection must be open to be stable; default 30 s. After a stable connection, failures and
    /// attempts count from one again.
    #[must_use]
    pub const fn stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// Sets the range of the random wait after close code 1012; default 5 s to 30 s, as its registration recommends (IANA
    /// WebSocket Close Code Number Registry).
    #[must_use]
    pub const fn restart(mut self, wait: RangeInclusive<Duration>) -> Self {
        self.restart = wait;
        self
    }

    /// Sets the maximum wait that a server can request with Retry-After; default 5 min.
    #[must_use]
    pub const fn max_retry_after(mut self, time: Duration) -> Self {
        self.max_retry_after = time;
        self
    }

    /// Waits the maximum time instead of a random one. For tests, and for a client that is the only one of its server:
    /// clients without jitter reconnect all at the same time.
    #[must_use]
    pub const fn no_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// Whether a connection that was open for this long is stable.
    pub(super) fn is_stable(&self, up: Duration) -> bool {
        up >= self.stable_after
    }

    /// The wait after this number of failures in a row, from 1; `random` is uniform over all of `u64`.
    pub(super) fn delay(&self, pause: Pause, failures: u32, random: u64) -> Duration {
        let random = if self.jitter { random } else { u64::MAX };
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.initial.saturating_mul(1 << doublings).min(self.max);
        match pause {
            Pause::Usual => within(Duration::ZERO, longest, random),
            Pause::Restart => within(*self.restart.start(), *self.restart.end(), random),
            Pause::Later => within(self.max, self.max.saturating_mul(2), random),
            // Not before the time that the server requests, and not all clients at that time.
            Pause::After(time) => {
                within(Duration::ZERO, longest, random).saturating_add(time.min(self.max_retry_after))
            }
        }
    }
}

/// A random time between two others.
fn within(from: Duration, to: Duration, random: u64) -> Duration {
    let span = to.saturating_sub(from).as_nanos();
    let nanos = (span.saturating_mul(u128::from(random))) >> 64;
    from.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// The wait that a response requests (RFC 9110 10.2.3): seconds, or a date. A date is compared with the Date of the
/// response, because the clocks of client and server differ, or with `now` if there is none.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large is cut like every long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?.trim()).ok();
    let until = httpdate::parse_http_date(text).ok()?;
    let now = headers.get(header::DATE).and_then(date).unwrap_or(now);
    // A date in the past means no wait.
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The lowest and the highest wait that a random number can give.
    fn bounds(backoff: &Backoff, pause: Pause, attempts: u32) -> (Duration, Duration) {
        let delay = |random| backoff.delay(pause, attempts, random);
        (delay(0), delay(u64::MAX))
    }

    fn about(time: Duration, expected: Duration) -> bool {
        time <= expected && expected - time <= Duration::from_micros(1)
    }

    #[test]
    fn the_longest_wait_doubles_to_its_bound() {
        let backoff = Backoff::new();
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        for (attempts, longest) in (1..).zip(expected) {
            let (low, high) = bounds(&backoff, Pause::Usual, attempts);
            assert_eq!(low, Duration::ZERO);
            assert!(about(high, Duration::from_millis(longest)), "{attempts}: {high:?}");
        }
        let (_, high) = bounds(&backoff, Pause::Usual, u32::MAX);
        assert!(about(high, 30 * SECOND), "{high:?}");
    }

    #[test]
    fn the_jitter_is_full_and_even() {
        let backoff = Backoff::new();
        let mut quarters = [0_u32; 4];
        let mut state = 1_u64;
        for _ in 0..4000 {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let delay = backoff.delay(Pause::Usual, 3, mixed ^ (mixed >> 31));
            assert!(delay < 2 * SECOND, "{delay:?}");
            quarters[delay.as_millis() as usize / 500] += 1;
        }
        assert!(quarters.iter().all(|count| (850..1150).contains(count)), "{quarters:?}");
    }

    #[test]
    fn what_the_server_asks_for_is_kept_and_bounded() {
        let backoff = Backoff::new();
        let rows = [
            (Pause::Restart, 5 * SECOND, 30 * SECOND),
            (Pause::Later, 30 * SECOND, 60 * SECOND),
            (Pause::After(Duration::ZERO), Duration::ZERO, Duration::from_millis(500)),
            (Pause::After(7 * SECOND), 7 * SECOND, Duration::from_millis(7500)),
            (Pause::After(300 * SECOND), 300 * SECOND, Duration::from_millis(300_500)),
            (Pause::After(301 * SECOND), 300 * SECOND, Duration::from_millis(300_500)),
            (Pause::After(Duration::MAX), 300 * SECOND, Duration::from_millis(300_500)),
        ];
        for (pause, lowest, highest) in rows {
            let (low, high) = bounds(&backoff, pause, 1);
            assert!(low == lowest && about(high, highest), "{pause:?}: {low:?} to {high:?}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_do_no_harm() {
        let backoff = Backoff::new().initial(Duration::MAX).max(Duration::MAX);
        for pause in [Pause::Usual, Pause::Later, Pause::After(Duration::MAX)] {
            let (low, high) = bounds(&backoff, pause, 32);
            assert!(low <= high);
        }
        let backwards = Backoff::new().restart(3 * SECOND..=SECOND);
        assert_eq!(bounds(&backwards, Pause::Restart, 1), (3 * SECOND, 3 * SECOND));
        let even = Backoff::new().no_jitter();
        assert_eq!(
            bounds(&even, Pause::Usual, 1),
            (even.delay(Pause::Usual, 1, 7), even.delay(Pause::Usual, 1, 9))
        );
        assert!(about(even.delay(Pause::Usual, 2, 0), SECOND));
        let none = Backoff::new().initial(Duration::ZERO);
        assert_eq!(bounds(&none, Pause::Usual, 9), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_connection_is_stable_after_its_time() {
        let backoff = Backoff::new();
        assert!(!backoff.is_stable(30 * SECOND - Duration::from_nanos(1)));
        assert!(backoff.is_stable(30 * SECOND));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = httpdate::parse_http_date(NOW).expect("a date");
        let rows: &[(&str, Option<&str>, Option<u64>)] = &[
            ("0", None, Some(0)),
            ("120", None, Some(120)),
            (" 120 ", None, Some(120)),
            ("18446744073709551615", None, Some(u64::MAX)),
            ("99999999999999999999999999", None, Some(u64::MAX)),
            // The three forms of RFC 9110 5.6.7.
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", None, Some(30)),
            ("Sun Nov  6 08:50:07 1994", None, Some(30)),
            // The server's clock is its own.
            ("Sun, 06 Nov 1994 09:50:07 GMT", Some("Sun, 06 Nov 1994 09:49:47 GMT"), Some(20)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some("no date"), Some(30)),
            // It has passed.
            ("Sun, 06 Nov 1994 08:49:36 GMT", None, Some(0)),
            ("", None, None),
            ("-1", None, None),
            ("+1", None, None),
            ("1.5", None, None),
            ("1s", None, None),
            ("soon", None, None),
            ("Sun, 06 Nov 1994 08:50:07 CET", None, None),
        ];
        for (value, date, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            if let Some(date) = date {
                headers.insert(header::DATE, HeaderValue::from_static(date));
            }
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{value:?} at {date:?}"
            );
        }
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers, now), None);
        headers.insert(header::RETRY_AFTER, HeaderValue::from_bytes(b"\xff").expect("opaque"));
        assert_eq!(retry_after(&headers, now), None);
    }
}
