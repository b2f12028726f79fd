//! What a Prometheus reads at `/-/metrics`.

use std::sync::LazyLock;

use longwire::Counters;

/// Where they are.
pub(crate) const PATH: &str = "/-/metrics";

/// What stands before each name.
const PREFIX: &str = "longwire";

/// What the server of this process has done.
pub(crate) static COUNTERS: LazyLock<Counters> = LazyLock::new(Counters::new);

/// The page, in the text format of Prometheus.
pub(crate) fn page() -> String {
    COUNTERS.snapshot().prometheus(PREFIX)
}
