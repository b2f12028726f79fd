//! A connection that reconnects: its stages and events.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use longwire_proto::{CloseCode, CloseFrame, Message, Outgoing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::backoff::random;
use super::cause::{Cause, Retry};
use super::hook::NewConnection;
use super::sender::{Link, NotSent, Sender, Shared};
use super::{Attempt, Reconnect};
use crate::connection::WebSocket;
use crate::connection::split::Receiver;
use crate::end::{Closed, Error, SendError};
use crate::net::transport::Transport;

/// An event of a [`Feed`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// An attempt begins.
    Connecting(Attempt),
    /// The connection is open and its hook has succeeded.
    Open(Attempt),
    /// A message arrived.
    Message(Message),
    /// The attempt failed, or the connection ended. The next attempt begins after `retry_in`.
    Lost {
        /// Why the connection was lost.
        cause: Cause,
        /// How long the feed waits now, unless [`retry_now`](Feed::retry_now) ends the wait.
        retry_in: Duration,
    },
    /// The feed makes no more attempts. This is the last event.
    GivenUp {
        /// How the last attempt or connection ended.
        cause: Cause,
        /// Why there is no other attempt.
        why: GaveUp,
    },
    /// The application [closed](Feed::close) the feed. This is the last event.
    ///
    /// `None` means that no connection was open, and an error that the closing handshake was not completed.
    Closed(Result<Option<Closed>, Error>),
}

/// Why a feed makes no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GaveUp {
    /// The cause is permanent, or has lasted longer than [`Reconnect::patience`](super::Reconnect::patience).
    Permanent,
    /// The feed made [`Reconnect::max_attempts`](super::Reconnect::max_attempts).
    Attempts,
    /// The next attempt would begin after [`Reconnect::give_up_after`](super::Reconnect::give_up_after).
    Time,
}

/// A connection that reconnects when it is lost. Created by [`Reconnect::start`](super::Reconnect::start).
///
/// A feed has no task of its own; all work happens in [`next`](Self::next). Call it in a loop: otherwise the feed
/// receives nothing, answers no Pings and does not reconnect. Dropping the feed closes the TCP connection.
pub struct Feed<S = Transport> {
    plan: Reconnect<S>,
    shared: Arc<Shared<S>>,
    stage: Stage<S>,
    /// Number of attempts since the start or the last stable connection.
    attempts: u32,
    /// Number of failures in a row: attempts that failed, and connections that did not become stable.
    failures: u32,
    /// Number of connections that were open.
    opened: u64,
    /// When there was last a stable connection, or when the first attempt began.
    since: Option<Instant>,
    /// When a cause that is probably permanent first occurred since the last open connection.
    doubtful_since: Option<Instant>,
    closing: Option<CloseFrame>,
}

/// A new connection, prepared by the hook.
type Opening<S> = Pin<Box<dyn Future<Output = Result<WebSocket<S>, Cause>> + Send>>;

enum Stage<S> {
    /// An attempt is due.
    Due,
    Opening(Opening<S>),
    Open {
        receiver: Receiver<S>,
        since: Instant,
    },
    Waiting(Pin<Box<Sleep>>),
    Over,
}

impl<S> fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Due => "due",
            Stage::Opening(_) => "opening",
            Stage::Open { .. } => "open",
            Stage::Waiting(_) => "waiting",
            Stage::Over => "over",
        };
        let (attempts, failures) = (self.attempts, self.failures);
        f.debug_struct("Feed")
            .field("stage", &stage)
            .field("attempts", &attempts)
            .field("failures", &failures)
            .finish_non_exhaustive()
    }
}

impl<S> Drop for Feed<S> {
    fn drop(&mut self) {
        self.over();
    }
}

impl<S> Feed<S> {
    /// Returns a [`Sender`] for this feed that another task can use.
    pub fn sender(&self) -> Sender<S> {
        Sender(Arc::clone(&self.shared))
    }

    /// Like [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::try_send`].
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        self.sender().try_send(message)
    }

    /// Like [`Sender::retry_now`].
    pub fn retry_now(&self) {
        self.sender().retry_now();
    }

    fn over(&mut self) {
        self.stage = Stage::Over;
        let mut state = self.shared.state();
        state.link = Link::Over;
        state.held.clear();
        state.waker = None;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Feed<S> {
    pub(super) fn new(plan: Reconnect<S>) -> Self {
        let shared = Arc::new(Shared::new(plan.offline));
        let (stage, attempts, failures, opened) = (Stage::Due, 0, 0, 0);
        Self {
            plan,
            shared,
            stage,
            attempts,
            failures,
            opened,
            since: None,
            doubtful_since: None,
            closing: None,
        }
    }

    /// Waits for the next event. Returns `None` after [`Event::GivenUp`] or [`Event::Closed`], the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe, and suitable for `select!`: the attempt, the hook, the wait and the connection belong to the feed, and
    /// the next call continues them.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime with its clock enabled.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Like [`Sender::send`]. The feed receives nothing while this waits: if the peer may stop reading until its own
    /// messages are read, send from another task.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Sender::send`].
    pub async fn send<'m>(&self, message: impl Into<Outgoing<'m>> + Send) -> Result<(), NotSent> {
        self.sender().send(message).await
    }

    /// Closes the feed, like [`Sender::start_close`], and waits for the closing handshake, for at most
    /// [`Config::close_timeout`](crate::Config::close_timeout). Messages that arrive meanwhile are discarded.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] if the code or the reason is invalid; the feed then continues. Otherwise the cause, if a connection
    /// was open and its closing handshake was not completed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the close; [`next`](Self::next) or another `close` continues it.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<Option<Closed>, Error> {
        self.sender().start_close(code, reason)?;
        while let Some(event) = self.next().await {
            if let Event::Closed(result) = event {
                return result;
            }
        }
        Ok(None)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let retry = self.listen(cx);
            if self.closing.is_some() && !matches!(self.stage, Stage::Open { .. } | Stage::Over) {
                self.over();
                return Poll::Ready(Some(Event::Closed(Ok(None))));
            }
            match &mut self.stage {
                Stage::Due => return Poll::Ready(Some(self.begin())),
                Stage::Opening(opening) => {
                    return Poll::Ready(Some(match ready!(opening.as_mut().poll(cx)) {
                        Ok(ws) => self.open(ws),
                        Err(cause) => self.lost(cause, None),
                    }));
                }
                Stage::Open { .. } => return self.poll_open(cx).map(Some),
                Stage::Waiting(sleep) => {
                    if !retry {
                        ready!(sleep.as_mut().poll(cx));
                    }
                    self.stage = Stage::Due;
                }
                Stage::Over => return Poll::Ready(None),
            }
        }
    }

    /// Takes the requests of the senders and registers to be woken by the next one. Returns whether to end the wait.
    fn listen(&mut self, cx: &Context<'_>) -> bool {
        let mut state = self.shared.state();
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if let Some(frame) = state.close.take() {
            self.closing.get_or_insert(frame);
        }
        std::mem::take(&mut state.retry)
    }

    /// Begins an attempt.
    fn begin(&mut self) -> Event {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.attempts = self.attempts.saturating_add(1);
        let attempt = Attempt { number: self.attempts, opened: self.opened };
        let left = self.plan.give_up_after.map(|time| time.saturating_sub(since.elapsed()));
        let limit = self.plan.open_timeout.min(left.unwrap_or(Duration::MAX));
        let connecting = (self.plan.connect)(attempt, self.plan.prepare.clone());
        let hook = self.plan.hook.clone();
        self.stage = Stage::Opening(Box::pin(async move {
            let opening = async {
                let ws = connecting.await.map_err(Cause::from_connect)?;
                let Some(hook) = hook else { return Ok(ws) };
                let (lent, slot) = NewConnection::lend(ws);
                let prepared = hook(lent, attempt).await;
                let Some(ws) = slot.take() else {
                    return Err(Cause::Hook("the hook did not drop the connection".into()));
                };
                match prepared {
                    Ok(()) => Ok(ws),
                    Err(error) => Err(failed_hook(&ws, error)),
                }
            };
            timeout(limit, opening).await.unwrap_or(Err(Cause::OpenTimeout))
        }));
        Event::Connecting(attempt)
    }

    /// The hook succeeded. Held messages are sent first, then new ones.
    fn open(&mut self, ws: WebSocket<S>) -> Event {
        let (sender, receiver) = ws.split();
        let attempt = Attempt { number: self.attempts, opened: self.opened };
        self.opened += 1;
        self.doubtful_since = None;
        self.stage = Stage::Open { receiver, since: Instant::now() };
        self.shared.state().link = Link::Up(sender);
        Event::Open(attempt)
    }

    /// Sends held messages, closes if requested, and receives.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Stage::Open { receiver, since } = &mut self.stage else { return Poll::Pending };
        // If the connection failed, receiving returns the reason.
        if poll_hand_over(&self.shared, receiver, cx).is_ready()
            && let Some(frame) = &self.closing
        {
            // The frame was checked, and closing twice is not an error.
            let _ = receiver.with(cx, |ws, _| Poll::Ready(ws.start_close(frame.clone())));
        }
        let cause = match ready!(receiver.with(cx, |ws, cx| ws.poll_recv(cx))) {
            Ok(Some(message)) => return Poll::Ready(Event::Message(message)),
            Ok(None) => receiver.closed().map_or(Cause::Failed(Error::Eof), Cause::Closed),
            Err(error) => Cause::Failed(error),
        };
        let up = since.elapsed();
        Poll::Ready(self.lost(cause, Some(up)))
    }

    /// Whether to try again after this cause, as far as the cause itself decides.
    fn may_retry(&mut self, cause: &Cause, now: Instant) -> bool {
        let was_open = self.opened > 0;
        let retry = match (self.plan.retry_when)(cause) {
            Retry::LimitedAfterOpen if was_open => Retry::Limited,
            Retry::LimitedAfterOpen if self.plan.computes_request && cause.is_unauthorized() => {
                Retry::Limited
            }
            retry => retry,
        };
        match retry {
            Retry::Always => true,
            Retry::Limited => {
                let since = *self.doubtful_since.get_or_insert(now);
                now - since < self.plan.patience[usize::from(was_open)]
            }
            Retry::LimitedAfterOpen | Retry::Never => false,
        }
    }

    /// The attempt failed, or the connection ended after it was open for this time.
    fn lost(&mut self, cause: Cause, up: Option<Duration>) -> Event {
        if self.closing.is_some() {
            self.over();
            return Event::Closed(match cause {
                Cause::Closed(closed) => Ok(Some(closed)),
                Cause::Failed(error) => Err(error),
                // An open connection has no other cause.
                _ => Ok(None),
            });
        }
        let now = Instant::now();
        let is_permanent = !self.may_retry(&cause, now);
        let plan = &self.plan;
        if up.is_some_and(|up| plan.backoff.is_stable(up)) {
            (self.attempts, self.failures, self.since) = (0, 0, Some(now));
        }
        self.failures = self.failures.saturating_add(1);
        let retry_in = plan.backoff.delay(cause.pause(), self.failures, random());
        let waited = self.since.map_or(Duration::ZERO, |since| now - since);
        let why = if is_permanent {
            GaveUp::Permanent
        } else if plan.max_attempts.is_some_and(|most| self.attempts >= most) {
            GaveUp::Attempts
        } else if plan.give_up_after.is_some_and(|time| waited.saturating_add(retry_in) >= time) {
            GaveUp::Time
        } else {
            let mut state = self.shared.state();
            state.link = Link::Down;
            // A request from before the wait does not end it.
            state.retry = false;
            self.stage = Stage::Waiting(Box::pin(sleep(retry_in)));
            return Event::Lost { cause, retry_in };
        };
        self.over();
        Event::GivenUp { cause, why }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for Feed<S> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

/// The end of the connection says more than the error that the hook made of it.
fn failed_hook<S>(ws: &WebSocket<S>, error: Box<dyn std::error::Error + Send + Sync>) -> Cause {
    if let Some(closed) = ws.closed() {
        return Cause::Closed(closed.clone());
    }
    let error = match error.downcast::<Error>() {
        Ok(error) => return Cause::Failed(*error),
        Err(error) => error,
    };
    match error.downcast::<SendError>() {
        Ok(error) => Cause::Failed((*error).into()),
        Err(error) => Cause::Hook(error),
    }
}

/// Ready when no message is held. A message counts as held until a connection has queued it.
fn poll_hand_over<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared<S>,
    receiver: &mut Receiver<S>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), SendError>> {
    while shared.state().held.len() > 0 {
        ready!(receiver.with(cx, |ws, cx| ws.poll_room(cx)))?;
        let mut state = shared.state();
        let Some(message) = state.held.oldest().cloned() else { break };
        ready!(receiver.with(cx, |ws, _| Poll::Ready(ws.enqueue_message(message))))?;
        state.held.pop();
    }
    Poll::Ready(Ok(()))
}
