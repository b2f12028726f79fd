//! What reconnecting needs of the operating system: random bits and the time of day.

use std::time::SystemTime;

/// Random bits of the operating system. If there are none, the wait is the longest.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

pub(super) fn time_of_day() -> SystemTime {
    SystemTime::now()
}
