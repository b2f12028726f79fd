//! One timer for all deadlines of a connection, which move with every byte that comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// A timer that is left alone while its deadline moves away, and looks again when it fires.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready with the time it is once `due` has passed; else the task is woken by then or earlier.
    pub(crate) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<Instant> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
        if sleep.deadline().into_std() > due {
            sleep.as_mut().reset(due.into());
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            let now = now();
            if now >= due {
                return Poll::Ready(now);
            }
            sleep.as_mut().reset(due.into());
        }
    }
}

/// The time as Tokio's clock has it, which tests can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
