//! Processes, as the browser's driver uses them.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// No single step of a test takes longer than this, on a busy machine either.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a child to end; one that does not is killed, and the test fails.
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return status;
        }
        if began.elapsed() > TIMEOUT {
            child.kill().expect("the child can be killed");
            panic!("the process did not end in {TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
