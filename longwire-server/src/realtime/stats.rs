//! The data of the dashboard: samples of the last hour, and totals. Samples contain totals; the reader
//! computes the rates.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longwire::Snapshot;
use serde::Serialize;

use crate::hub::Hub;

/// Interval between samples.
const INTERVAL: Duration = Duration::from_secs(5);

/// The samples of an hour.
const SAMPLES: usize = 720;

/// Counters and samples.
#[derive(Debug, Default)]
pub(super) struct Stats {
    published: AtomicU64,
    published_bytes: AtomicU64,
    samples: Mutex<VecDeque<Sample>>,
}

/// A sample: current values, and totals since the start of the server.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    /// Milliseconds since 1970.
    time: u64,
    open: u64,
    channels: usize,
    history_bytes: usize,
    /// Resident memory in bytes; `None` if the system does not report it.
    memory: Option<u64>,
    /// Messages published by any transport.
    published: u64,
    published_bytes: u64,
    /// WebSocket messages, and their bytes on the wire.
    received: u64,
    received_bytes: u64,
    sent: u64,
    sent_bytes: u64,
    dropped: u64,
    opened: u64,
    refused: u64,
    closed: u64,
    slow_consumers: u64,
    protocol_errors: u64,
    timeouts: u64,
    lost: u64,
}

/// The data of the dashboard.
#[derive(Debug, Serialize)]
pub(super) struct StatsReport {
    /// Seconds between samples.
    every: u64,
    /// The names of the columns of `samples`.
    fields: Vec<String>,
    samples: Vec<Vec<serde_json::Value>>,
    now: Sample,
    /// Closed connections by cause and code.
    ended: Vec<Ended>,
}

#[derive(Debug, Serialize)]
struct Ended {
    cause: &'static str,
    code: &'static str,
    count: u64,
}

impl Sample {
    fn take(stats: &Stats, now: SystemTime, snapshot: &Snapshot, hub: &Hub) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (received, sent) = (&snapshot.received, &snapshot.sent);
        Self {
            time: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            open: snapshot.open,
            channels: hub.channels(),
            history_bytes: hub.history_memory(),
            memory: resident(),
            published: stats.published.load(Ordering::Relaxed),
            published_bytes: stats.published_bytes.load(Ordering::Relaxed),
            received: received.texts + received.binaries,
            received_bytes: received.wire_bytes,
            sent: sent.texts + sent.binaries,
            sent_bytes: sent.wire_bytes,
            dropped: snapshot.dropped + snapshot.replaced,
            opened: snapshot.opened,
            refused: snapshot.refused,
            closed: snapshot.closed,
            slow_consumers: snapshot.slow_consumers,
            protocol_errors: snapshot.protocol_errors,
            timeouts: snapshot.timeouts,
            lost: snapshot.lost,
        }
    }
}

impl Stats {
    /// Counts a published message.
    pub(super) fn published(&self, bytes: usize) {
        self.published.fetch_add(1, Ordering::Relaxed);
        self.published_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes a sample, if one is due.
    pub(super) fn sample(&self, now: SystemTime, snapshot: impl FnOnce() -> Snapshot, hub: &Hub) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |last: &Sample| {
            let last = UNIX_EPOCH + Duration::from_millis(last.time);
            // If the clock was set back, take a sample immediately.
            now.duration_since(last).map_or(true, |since| since >= INTERVAL)
        };
        if !samples.back().is_none_or(due) {
            return;
        }
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Sample::take(self, now, &snapshot(), hub));
    }

    /// Returns the data. `after` excludes the samples up to this time, in milliseconds since 1970.
    pub(super) fn report(&self, now: SystemTime, after: u64, snapshot: &Snapshot, hub: &Hub) -> StatsReport {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Sample::take(self, now, snapshot, hub);
        let columns = |sample: &Sample| match serde_json::to_value(sample) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        StatsReport {
            every: INTERVAL.as_secs(),
            fields: columns(&now).into_iter().map(|(name, _)| name).collect(),
            samples: samples
                .iter()
                .filter(|sample| sample.time > after)
                .map(|sample| columns(sample).into_iter().map(|(_, value)| value).collect())
                .collect(),
            now,
            ended: snapshot
                .ended
                .iter()
                .filter(|ended| ended.count > 0)
                .map(|ended| Ended { cause: ended.cause, code: ended.code, count: ended.count })
                .collect(),
        }
    }
}

/// Returns the resident memory of this process in bytes (Linux).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hub::{ChannelOptions, Limits};

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let options = Arc::new(ChannelOptions::default());
        let hub = Hub::new(Limits::default(), move |_| options.clone());
        let (stats, start) = (Stats::default(), UNIX_EPOCH + Duration::from_secs(1_764_201_600));
        let sample = |at: f64| stats.sample(start + Duration::from_secs_f64(at), Snapshot::default, &hub);
        let kept = |after| stats.report(start, after, &Snapshot::default(), &hub).samples.len();
        sample(0.0);
        sample(4.999);
        assert_eq!(kept(0), 1);
        sample(5.0);
        assert_eq!(kept(0), 2);
        for n in 2..SAMPLES {
            stats.published(n);
            sample(n as f64 * 5.0);
        }
        assert_eq!(kept(0), SAMPLES);
        // One more than an hour.
        sample(3600.0);
        assert_eq!(kept(0), SAMPLES);
        assert_eq!(kept(1_764_201_600_000 + 3_595_000), 1);
        let report = stats.report(start, 0, &Snapshot::default(), &hub);
        assert_eq!(
            (report.now.published, report.samples[0].len()),
            (SAMPLES as u64 - 2, report.fields.len())
        );
        // The clock was set back.
        sample(0.0);
        assert_eq!(kept(0), SAMPLES);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_known() {
        assert!(resident().is_some_and(|bytes| bytes > 100_000));
    }
}
