//! A connection that is opened again when it is lost: its stages, and what it reports of them.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use longwire_proto::{CloseCode, CloseFrame, Outgoing};

use super::super::timer::{Instant, Sleep, timeout};
use super::super::websocket::WebSocket;
use super::Reconnect;
use super::attempts::Attempts;
use super::cause::Cause;
use super::event::Event;
use super::hook::NewConnection;
use super::not_sent::NotSent;
use super::sender::{Link, Sender, Shared};
use super::system::random;
use crate::end::{Closed, Error, SendError};

/// A connection that is opened again when it is lost. Made by [`Reconnect::start`](super::Reconnect::start).
///
/// All that it does, it does in [`next`](Self::next): it has no task of its own. Keep calling it; while nobody does,
/// messages wait ([`Client::receive_buffer`](crate::Client::receive_buffer)), and nothing reconnects. Dropped, it
/// closes the connection.
pub struct Feed {
    plan: Reconnect,
    shared: Rc<Shared>,
    stage: Stage,
    attempts: Attempts,
    /// When the first attempt began: `attempts` counts from there.
    began: Option<Instant>,
    closing: Option<CloseFrame>,
}

/// A new connection, prepared by the hook.
type Opening = Pin<Box<dyn Future<Output = Result<WebSocket, Cause>>>>;

enum Stage {
    /// An attempt is due.
    Due,
    Opening(Opening),
    Open {
        ws: WebSocket,
        since: Instant,
        /// Waits for room to send what is held.
        pause: Option<Sleep>,
    },
    Waiting(Sleep),
    Over,
}

impl fmt::Debug for Feed {
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

impl Drop for Feed {
    fn drop(&mut self) {
        self.over();
    }
}

impl Feed {
    pub(super) fn new(plan: Reconnect) -> Self {
        let shared = Rc::new(Shared::new(plan.offline));
        let attempts = Attempts::default();
        Self { plan, shared, stage: Stage::Due, attempts, began: None, closing: None }
    }

    /// Returns a [`Sender`] for this feed that another task can use.
    pub fn sender(&self) -> Sender {
        Sender(Rc::clone(&self.shared))
    }

    /// Sends or holds a message without waiting, as [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::try_send`].
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        self.sender().try_send(message)
    }

    /// Sends a message, as [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Sender::send`].
    pub async fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        self.sender().send(message).await
    }

    /// Makes the feed stop waiting and connect at once, as [`Sender::retry_now`].
    pub fn retry_now(&self) {
        self.sender().retry_now();
    }

    /// Waits for the next event; `None` after the last, [`Event::GivenUp`] or [`Event::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe, whatever the feed waits for: the next call goes on where this one stopped.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Ends the feed, as [`Sender::start_close`], and waits for the closing handshake, for at most
    /// [`Client::close_timeout`](crate::Client::close_timeout). Messages that arrive meanwhile are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] if the code or the reason cannot be sent; the feed then goes on. Otherwise the cause, if
    /// there was a connection and its closing handshake was not completed.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has begun to close; [`next`](Self::next) or another `close` goes on from there.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) -> Result<Option<Closed>, Error> {
        self.sender().start_close(code, reason)?;
        while let Some(event) = self.next().await {
            if let Event::Closed(result) = event {
                return result;
            }
        }
        Ok(None)
    }

    fn over(&mut self) {
        self.stage = Stage::Over;
        let mut state = self.shared.state();
        state.link = Link::Over;
        state.held.clear();
        state.waker = None;
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
                        ready!(Pin::new(sleep).poll(cx));
                    }
                    self.stage = Stage::Due;
                }
                Stage::Over => return Poll::Ready(None),
            }
        }
    }

    /// Takes what the senders ask for, and will be woken when they ask for more; whether to stop waiting.
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

    /// An attempt begins.
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

    /// The hook is done: what is held goes first, then what others send.
    fn open(&mut self, ws: WebSocket) -> Event {
        let attempt = self.attempts.opened();
        self.shared.state().link = Link::Up(Rc::clone(&ws.socket));
        self.stage = Stage::Open { ws, since: Instant::now(), pause: None };
        Event::Open(attempt)
    }

    /// Hands over what is held, closes if that is wanted, and receives.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Stage::Open { ws, since, pause } = &mut self.stage else { return Poll::Pending };
        // A failure here is one of the connection, of which receiving says more.
        if poll_hand_over(&self.shared, ws, cx, pause).is_ready()
            && let Some(frame) = &self.closing
        {
            // The frame was checked, and closing what is closing is no error.
            let _ = ws.socket.start_close(frame.clone());
        }
        let cause = match ready!(ws.poll_recv(cx)) {
            Ok(Some(message)) => return Poll::Ready(Event::Message(message)),
            Ok(None) => ws.closed().cloned().map_or(Cause::Failed(Error::Eof), Cause::Closed),
            Err(error) => Cause::Failed(error),
        };
        let up = since.elapsed();
        Poll::Ready(self.lost(cause, Some(up)))
    }

    /// The attempt has failed, or the connection has ended that was open for this time.
    fn lost(&mut self, cause: Cause, up: Option<Duration>) -> Event {
        if self.closing.is_some() {
            self.over();
            return Event::Closed(match cause {
                Cause::Closed(closed) => Ok(Some(closed)),
                Cause::Failed(error) => Err(error),
                // No other comes of an open connection.
                _ => Ok(None),
            });
        }
        let (now, plan) = (self.now(), &self.plan);
        let retry = (plan.retry_when)(&cause);
        let is_renewed = plan.computes_request && cause.is_unauthorized();
        let is_permanent = !self.attempts.may_retry(retry, is_renewed, now, plan.limits);
        let retry_in = self.attempts.lost(now, up, cause.pause(), &plan.backoff, random());
        let Some(why) = self.attempts.exhausted(is_permanent, now, retry_in, plan.limits) else {
            self.stage = Stage::Waiting(Sleep::new(retry_in));
            let mut state = self.shared.state();
            state.link = Link::Down;
            // A request from before the wait does not end it.
            state.retry = false;
            return Event::Lost { cause, retry_in };
        };
        self.over();
        Event::GivenUp { cause, why }
    }
}

impl Stream for Feed {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

/// How the connection ended says more than what the hook made of it.
fn failed_hook(ws: &WebSocket, error: Box<dyn std::error::Error + Send + Sync>) -> Cause {
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

/// Ready when nothing is held any more. A message counts as held until the browser has taken it.
fn poll_hand_over(
    shared: &Shared,
    ws: &WebSocket,
    cx: &mut Context<'_>,
    pause: &mut Option<Sleep>,
) -> Poll<Result<(), SendError>> {
    while shared.state().held.len() > 0 {
        ready!(ws.socket.poll_room(cx, pause))?;
        let mut state = shared.state();
        let Some(message) = state.held.oldest().cloned() else { break };
        ws.socket.try_send(&message.into_message())?;
        state.held.pop();
    }
    Poll::Ready(Ok(()))
}
