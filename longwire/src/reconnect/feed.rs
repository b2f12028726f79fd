//! A connection that reconnects: its stages and events.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use longwire_proto::{CloseCode, CloseFrame, Outgoing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::Reconnect;
use super::attempts::Attempts;
use super::cause::Cause;
use super::event::Event;
use super::hook::NewConnection;
use super::not_sent::NotSent;
use super::sender::{Link, Sender, Shared};
use super::system::random;
use crate::connection::WebSocket;
use crate::connection::split::Receiver;
use crate::end::{Closed, Error, SendError};
use crate::net::transport::Transport;

/// A connection that reconnects when it is lost. Created by [`Reconnect::start`](super::Reconnect::start).
///
/// A feed has no task of its own; all work happens in [`next`](Self::next). Call it in a loop: otherwise the feed
/// receives nothing, answers no Pings and does not reconnect. Dropping the feed closes the TCP connection.
pub struct Feed<S = Transport> {
    plan: Reconnect<S>,
    shared: Arc<Shared<S>>,
    stage: Stage<S>,
    attempts: Attempts,
    /// When the first attempt began: `attempts` counts from there.
    began: Option<Instant>,
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
        f.debug_struct("Feed")
            .field("stage", &stage)
            .field("attempts", &self.attempts)
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
        let attempts = Attempts::default();
        Self { plan, shared, stage: Stage::Due, attempts, began: None, closing: None }
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

    /// The time since the first attempt began.
    fn now(&mut self) -> Duration {
        self.began.get_or_insert_with(Instant::now).elapsed()
    }

    /// Begins an attempt.
    fn begin(&mut self) -> Event {
        let now = self.now();
        let (attempt, limit) = self.attempts.begin(now, self.plan.open_timeout, self.plan.limits);
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
        let attempt = self.attempts.opened();
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
        let (now, plan) = (self.now(), &self.plan);
        let retry = (plan.retry_when)(&cause);
        let is_renewed = plan.computes_request && cause.is_unauthorized();
        let is_permanent = !self.attempts.may_retry(retry, is_renewed, now, plan.limits);
        let retry_in = self.attempts.lost(now, up, cause.pause(), &plan.backoff, random());
        let Some(why) = self.attempts.exhausted(is_permanent, now, retry_in, plan.limits) else {
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
