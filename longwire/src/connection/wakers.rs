//! The tasks that wait for one connection, and the one waker that its stream and its timer know.
//!
//! A stream keeps one waker for each direction and a timer keeps one at all, while several tasks may use a
//! connection: the halves of `StreamExt::split`, or a `Receiver` and its `Sender`s. Each of them registers its own
//! waker here and polls with [`Wakers::waker`], which wakes them all. Otherwise the task that polled last would
//! be the only one to be woken, and the others would wait for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::connection::WebSocket;

/// Which task polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Receiver,
    /// One of the calls that send, by its ticket.
    Sender(u64),
}

impl Half {
    /// The `Sink` of a connection, of which there is one.
    pub(crate) const SINK: Self = Self::Sender(0);
}

/// The wakers of all tasks that wait for a connection.
#[derive(Debug)]
pub(crate) struct Wakers {
    waiting: Arc<Waiting>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<Tasks>);

#[derive(Debug, Default)]
struct Tasks {
    receiver: Option<Waker>,
    senders: Vec<(u64, Waker)>,
    tickets: u64,
}

impl Default for Wakers {
    fn default() -> Self {
        let waiting = Arc::new(Waiting::default());
        let waker = Waker::from(Arc::clone(&waiting));
        Self { waiting, waker }
    }
}

impl Wakers {
    /// Registers the task of `half`, polls with the waker of all, and wakes all when a Pong has come, or the connection
    /// has come to another stage of its end: what they wait for may never come then.
    #[inline]
    pub(crate) fn poll<S, T>(
        &self,
        ws: &mut WebSocket<S>,
        half: Half,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut WebSocket<S>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Before polling, so that a wake-up in between is not lost.
        self.register(half, cx.waker());
        let before = (ws.stage(), ws.pongs());
        let polled = poll(ws, &mut Context::from_waker(&self.waker));
        if (ws.stage(), ws.pongs()) != before {
            self.wake_all();
        }
        polled
    }

    /// A ticket for a call that sends; [`forget`](Self::forget) it when the call is over.
    pub(crate) fn ticket(&self) -> u64 {
        let mut tasks = self.waiting.tasks();
        // The first is 1: 0 is the `Sink`.
        tasks.tickets += 1;
        tasks.tickets
    }

    fn register(&self, half: Half, waker: &Waker) {
        let mut tasks = self.waiting.tasks();
        match half {
            Half::Receiver => match &mut tasks.receiver {
                Some(registered) => registered.clone_from(waker),
                none => *none = Some(waker.clone()),
            },
            Half::Sender(ticket) => match tasks.senders.iter_mut().find(|(of, _)| *of == ticket) {
                Some((_, registered)) => registered.clone_from(waker),
                None => tasks.senders.push((ticket, waker.clone())),
            },
        }
    }

    pub(crate) fn forget(&self, ticket: u64) {
        self.waiting.tasks().senders.retain(|(of, _)| *of != ticket);
    }

    /// Wakes the task that receives: it writes what was queued, and has deadlines of its own to look at.
    pub(crate) fn wake_receiver(&self) {
        let receiver = self.waiting.tasks().receiver.take();
        if let Some(waker) = receiver {
            waker.wake();
        }
    }

    /// Wakes all tasks.
    pub(crate) fn wake_all(&self) {
        self.waker.wake_by_ref();
    }
}

impl Waiting {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut tasks = self.tasks();
        let receiver = tasks.receiver.take();
        let senders = std::mem::take(&mut tasks.senders);
        drop(tasks);
        receiver.into_iter().chain(senders.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
    }
}
