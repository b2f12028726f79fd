//! What the server of this process has done, for all that ask: the metrics, the dashboard.

use std::sync::LazyLock;

use longwire::Counters;

/// What the server of this process has done.
pub(crate) static COUNTERS: LazyLock<Counters> = LazyLock::new(Counters::new);
