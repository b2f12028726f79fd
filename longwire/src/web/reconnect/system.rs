//! What reconnecting needs of the browser: random bits and the time of day.

use std::time::{Duration, SystemTime};

/// Random bits: 53 of them, which is enough to spread waits.
pub(super) fn random() -> u64 {
    // Below 1, so the product is below 2⁶⁴.
    (js_sys::Math::random() * 2.0_f64.powi(64)) as u64
}

pub(super) fn time_of_day() -> SystemTime {
    // `SystemTime::now` panics here.
    SystemTime::UNIX_EPOCH + Duration::from_millis(js_sys::Date::now() as u64)
}
