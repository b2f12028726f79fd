//! Counters of the server, for the metrics and the dashboard.

use std::sync::LazyLock;

use longwire::Counters;

/// The counters of this process.
pub(crate) static COUNTERS: LazyLock<Counters> = LazyLock::new(Counters::new);
