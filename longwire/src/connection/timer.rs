//! One timer for all deadlines of a connection, which move with every byte that is received.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Sleep, sleep_until};

/// A timer that is not touched while its deadline moves away, for resetting it costs more than a read. When it
/// fires too early it is set again.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Armed>>>);

pin_project! {
    #[derive(Debug)]
    struct Armed {
        #[pin]
        sleep: Sleep,
        // The task that it wakes.
        waker: Waker,
    }
}

impl Timer {
    /// Returns the time once `due` has passed. Otherwise the task is woken then, or earlier.
    pub(crate) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<Instant> {
        let mut fresh = false;
        let armed = self.0.get_or_insert_with(|| {
            fresh = true;
            Box::pin(Armed { sleep: sleep_until(due.into()), waker: cx.waker().clone() })
        });
        let mut armed = armed.as_mut().project();
        if armed.sleep.deadline().into_std() > due {
            armed.sleep.as_mut().reset(due.into());
        } else if !fresh && armed.waker.will_wake(cx.waker()) && !armed.sleep.is_elapsed() {
            return Poll::Pending;
        }
        armed.waker.clone_from(cx.waker());
        loop {
            // Outside the task's budget: a poll that is refused for lack of budget would register no waker, and
            // the deadline would be missed.
            ready!(pin!(coop::unconstrained(armed.sleep.as_mut())).poll(cx));
            let now = now();
            if now >= due {
                return Poll::Ready(now);
            }
            armed.sleep.as_mut().reset(due.into());
        }
    }
}

/// Returns the time of Tokio's clock, which tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
