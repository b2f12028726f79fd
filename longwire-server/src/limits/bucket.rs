//! Rates, and the leaky bucket that enforces them.
//!
//! It is the leaky bucket as a meter, that is, the generic cell rate algorithm (ITU-T I.371). The bucket has
//! a level, leaks at the rate and overflows at the burst. All numbers are integers, so bursts are exact and
//! no time is lost to rounding.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::value::Size;

/// A rate with an optional burst: `100/s`, `1M/s burst 4M`, `5/m burst 20`.
///
/// Without a burst, the amount of one period may arrive at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The amount per `period`; never 0.
    count: u64,
    period: Duration,
    /// The amount that may arrive at once after a pause; never 0.
    burst: u64,
}

impl Rate {
    /// Creates a rate of `count` per second, at least 1, with a burst of the same size.
    pub fn per_second(count: u64) -> Self {
        Self { count: count.max(1), period: Duration::from_secs(1), burst: count.max(1) }
    }

    /// Sets the burst, at least 1.
    #[must_use]
    pub fn burst(mut self, burst: u64) -> Self {
        self.burst = burst.max(1);
        self
    }

    /// Returns the units per item: a bucket leaks `count` units per nanosecond.
    const fn weight(&self) -> u128 {
        self.period.as_nanos()
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "invalid rate; write an amount per second, minute or hour, such as 100/s, 1M/s or 20/h, optionally with a burst, \
                      such as 100/s burst 500";
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate.trim_end().trim_end_matches(','), Some(burst)),
            None => (text, None),
        };
        let number = |text: &str| match text.trim().parse::<Size>() {
            Ok(size) if size.bytes() > 0 => Ok(size.bytes()),
            _ => Err(advice.to_owned()),
        };
        let (count, unit) = rate.split_once('/').ok_or(advice)?;
        let period = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(advice.into()),
        };
        let count = number(count)?;
        let burst = burst.map_or(Ok(count), number)?;
        Ok(Self { count, period: Duration::from_secs(period), burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            3600 => "h",
            60 => "m",
            _ => "s",
        };
        write!(f, "{}/{unit}", Size::new(self.count))?;
        if self.burst != self.count {
            write!(f, " burst {}", Size::new(self.burst))?;
        }
        Ok(())
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The fill level of a rate. It has 32 bytes; the caller keeps the rate.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// The level at `at`. Each item counts as many units as the period has nanoseconds.
    level: u128,
    at: Instant,
}

impl Bucket {
    /// Creates an empty bucket, which accepts a full burst.
    pub const fn new(now: Instant) -> Self {
        Self { level: 0, at: now }
    }

    /// Takes `amount` from the rate, or returns the time until it is available and takes nothing.
    ///
    /// An amount above the burst is accepted when the bucket is empty, and delays the following ones. Large
    /// messages are therefore possible, and the average rate is kept.
    ///
    /// # Errors
    ///
    /// Returns the time to wait.
    pub fn take(&mut self, rate: &Rate, amount: u64, now: Instant) -> Result<(), Duration> {
        let level = self.level_at(rate, now);
        // At most 2^64 items of 3,600 s each fit easily into 128 bits.
        let room = u128::from(rate.burst) * rate.weight();
        let wanted = u128::from(amount) * rate.weight();
        let over = (level + wanted.min(room)).saturating_sub(room);
        if over > 0 {
            let wait = over.div_ceil(u128::from(rate.count));
            return Err(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)));
        }
        // Another thread may have read an earlier time; do not leak twice for it.
        *self = Self { level: level + wanted, at: self.at.max(now) };
        Ok(())
    }

    /// Returns whether the bucket equals a new one.
    pub fn is_idle(&self, rate: &Rate, now: Instant) -> bool {
        self.level_at(rate, now) == 0
    }

    fn level_at(&self, rate: &Rate, now: Instant) -> u128 {
        let leaked = now.saturating_duration_since(self.at).as_nanos().saturating_mul(u128::from(rate.count));
        self.level.saturating_sub(leaked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rates_are_parsed_and_displayed() {
        for (text, shown) in [
            ("100/s", "100/s"),
            (" 5 / m ", "5/m"),
            ("1M/s burst 4M", "1M/s burst 4M"),
            ("20/h, burst 3", "20/h burst 3"),
            ("10/s burst 10", "10/s"),
            ("64K/s", "64K/s"),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
        }
        for text in [
            "",
            "1",
            "0/s",
            "1/s burst 0",
            "1/d",
            "-1/s",
            "1.5/s",
            "/s",
            "1/s burst",
            "1/s 5",
            "99999999999999999999/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_is_small() {
        assert!(size_of::<Bucket>() <= 40);
    }

    #[test]
    fn the_burst_is_exact() {
        let now = Instant::now();
        // Rates that do not correspond to a whole number of nanoseconds.
        for (rate, burst) in [("3/s", 3), ("3/s burst 7", 7), ("7/m", 7), ("1/h", 1), ("3G/s", 3 << 30)] {
            let rate: Rate = rate.parse().expect(rate);
            let mut bucket = Bucket::new(now);
            if burst < 100 {
                for _ in 0..burst {
                    assert_eq!(bucket.take(&rate, 1, now), Ok(()));
                }
            } else {
                assert_eq!(bucket.take(&rate, burst, now), Ok(()));
            }
            let wait = bucket.take(&rate, 1, now).expect_err("the burst is over");
            assert!(!wait.is_zero());
            // Not a nanosecond earlier.
            assert!(bucket.take(&rate, 1, now + wait - Duration::from_nanos(1)).is_err());
            assert_eq!(bucket.take(&rate, 1, now + wait), Ok(()));
        }
    }

    #[test]
    fn it_refills_up_to_the_burst() {
        let (start, rate) = (Instant::now(), Rate::per_second(10).burst(20));
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(&rate, 20, start), Ok(()));
        assert_eq!(bucket.take(&rate, 1, start), Err(SECOND / 10));
        assert!(!bucket.is_idle(&rate, start + SECOND));
        assert_eq!(bucket.take(&rate, 10, start + SECOND), Ok(()));
        assert!(bucket.take(&rate, 1, start + SECOND).is_err());
        // A year without use allows one burst.
        let later = start + SECOND * 86_400 * 365;
        assert!(bucket.is_idle(&rate, later));
        assert_eq!(bucket.take(&rate, 20, later), Ok(()));
        assert!(bucket.take(&rate, 1, later).is_err());
    }

    #[test]
    fn rejected_amounts_are_not_counted() {
        let (now, rate) = (Instant::now(), Rate::per_second(1));
        let mut bucket = Bucket::new(now);
        assert_eq!(bucket.take(&rate, 1, now), Ok(()));
        for _ in 0..1000 {
            assert_eq!(bucket.take(&rate, 1, now), Err(SECOND));
        }
        assert_eq!(bucket.take(&rate, 1, now + SECOND), Ok(()));
    }

    #[test]
    fn time_going_backwards_grants_nothing() {
        let (start, rate) = (Instant::now(), Rate::per_second(1));
        let mut bucket = Bucket::new(start + SECOND);
        assert_eq!(bucket.take(&rate, 1, start + SECOND), Ok(()));
        assert!(bucket.take(&rate, 1, start).is_err());
        assert!(bucket.take(&rate, 1, start + SECOND).is_err());
        assert_eq!(bucket.take(&rate, 1, start + SECOND * 2), Ok(()));
    }

    #[test]
    fn an_amount_above_the_burst_is_accepted_when_empty() {
        let (start, rate) = (Instant::now(), Rate::per_second(10));
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(&rate, 100, start), Ok(()));
        assert!(bucket.take(&rate, 1, start + SECOND * 9).is_err());
        assert_eq!(bucket.take(&rate, 1, start + SECOND * 9 + SECOND / 10), Ok(()));
        assert!(bucket.take(&rate, 11, start + SECOND * 10).is_err());
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(&rate, u64::MAX, start), Ok(()));
        assert!(bucket.take(&rate, u64::MAX, start).is_err());
    }

    proptest! {
        /// The model counts tokens as fractions of a nanosecond.
        #[test]
        fn the_bucket_matches_the_model(
            count in 1_u64..50, burst in 1_u64..50, minutes in any::<bool>(),
            steps in prop::collection::vec((0_u64..2_000_000_000, 0_u64..60), 1..60),
        ) {
            let rate: Rate = format!("{count}/{} burst {burst}", if minutes { "m" } else { "s" }).parse().expect("a rate");
            let start = Instant::now();
            let mut bucket = Bucket::new(start);
            let period = i128::from(if minutes { 60 } else { 1 }) * 1_000_000_000;
            let (mut tokens, mut elapsed) = (i128::from(burst) * period, 0);
            for (passed, amount) in steps {
                elapsed += passed;
                tokens = (tokens + i128::from(passed) * i128::from(count)).min(i128::from(burst) * period);
                let needed = i128::from(amount.min(burst)) * period;
                let granted = tokens >= needed;
                if granted {
                    tokens -= i128::from(amount) * period;
                }
                let taken = bucket.take(&rate, amount, start + Duration::from_nanos(elapsed));
                prop_assert_eq!(taken.is_ok(), granted);
                if let Err(wait) = taken {
                    let missing = needed - tokens;
                    let wait = i128::try_from(wait.as_nanos()).expect("small");
                    prop_assert!(wait * i128::from(count) >= missing && (wait - 1) * i128::from(count) < missing);
                }
            }
        }
    }
}
