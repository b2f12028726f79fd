//! Sending on the current connection of a feed, and the state that a feed shares with its senders.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use longwire_proto::{CloseCode, CloseFrame, Outgoing};
use tokio::io::{AsyncRead, AsyncWrite};

use super::not_sent::NotSent;
use super::offline::{Held, NotHeld, Offline};
use crate::connection::split;
use crate::end::SendError;
use crate::net::transport::Transport;

/// Sends on the current connection of a [`Feed`](super::Feed). Clone it for each task that sends.
///
/// A message is sent **at most once**: it is never queued on a second connection. `Ok` means that it was written
/// to a connection, or is held until there is one. Messages that were written and have not arrived are lost when a
/// connection is lost, as with TCP; let the peer confirm those that matter.
///
/// Order is kept: a message is queued behind those that are held.
#[derive(Debug)]
pub struct Sender<S = Transport>(pub(super) Arc<Shared<S>>);

/// What the feed and its senders share. Its lock is taken before that of a connection, never after.
#[derive(Debug)]
pub(super) struct Shared<S>(Mutex<State<S>>);

#[derive(Debug)]
pub(super) struct State<S> {
    pub(super) link: Link<S>,
    pub(super) held: Held,
    /// The feed is asked to close.
    pub(super) close: Option<CloseFrame>,
    /// The feed is asked not to wait longer.
    pub(super) retry: bool,
    /// The task that polls the feed.
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Link<S> {
    Down,
    Up(split::Sender<S>),
    Over,
}

impl<S> Shared<S> {
    pub(super) const fn new(offline: Offline) -> Self {
        let held = Held::new(offline);
        Self(Mutex::new(State { link: Link::Down, held, close: None, retry: false, waker: None }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the feed to act on it.
    fn ask(&self, ask: impl FnOnce(&mut State<S>)) {
        let mut state = self.state();
        ask(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection to send on; none when the message is held.
    fn link(&self, message: &Outgoing<'_>) -> Result<Option<split::Sender<S>>, NotSent> {
        let state = self.state();
        match &state.link {
            Link::Up(sender) if state.held.len() == 0 => Ok(Some(sender.clone())),
            _ => {
                drop(state);
                self.hold(message).map(|()| None)
            }
        }
    }

    /// Holds a message that no connection has taken; the feed is woken, for by now it may have another.
    fn hold(&self, message: &Outgoing<'_>) -> Result<(), NotSent> {
        let mut held = Err(NotSent::Over);
        self.ask(|state| {
            if !matches!(state.link, Link::Over) {
                held = state.held.push(message.clone()).map_err(|not_held| match not_held {
                    NotHeld::Never => NotSent::Offline,
                    NotHeld::Full => NotSent::Full,
                });
            }
        });
        held
    }

    /// What to do with a message that was not queued for this reason.
    fn refused(&self, error: SendError, message: &Outgoing<'_>) -> Result<(), NotSent> {
        match error {
            SendError::Full => Err(NotSent::Full),
            // The connection has ended, which the feed has not seen yet.
            error if error.is_closed() => self.hold(message),
            error => Err(NotSent::Failed(error.into())),
        }
    }
}

impl<S> Clone for Sender<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Sender<S> {
    /// Queues or holds a message without waiting; [`Feed::next`](super::Feed::next) writes it.
    ///
    /// # Errors
    ///
    /// [`NotSent`]. Nothing was queued then.
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        let message = message.into();
        let Some(sender) = self.0.link(&message)? else { return Ok(()) };
        sender.try_send(message.clone()).or_else(|error| self.0.refused(error, &message))
    }

    /// Makes the feed stop waiting and connect at once, for example when the network is back. Has no effect while it
    /// does not wait. The count of failures goes on.
    pub fn retry_now(&self) {
        self.0.ask(|state| state.retry = true);
    }

    /// Ends the feed: it does not connect again. An open connection is closed with this code and reason, behind the
    /// messages that are held; without a connection they are dropped. [`Feed::next`](super::Feed::next) completes the
    /// closing handshake and returns [`Event::Closed`](super::Event::Closed).
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`]; the feed then goes on.
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        self.0.ask(|state| state.close = state.close.take().or(Some(frame)));
        Ok(())
    }

    /// Returns whether there is an open connection, as far as is known.
    pub fn is_open(&self) -> bool {
        matches!(self.0.state().link, Link::Up(_))
    }

    /// Returns whether nothing can be sent any more: the feed has given up, or was closed or dropped.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.state().link, Link::Over)
    }

    /// Returns how many messages are held.
    pub fn held(&self) -> usize {
        self.0.state().held.len()
    }

    /// Returns how many held messages were dropped for newer ones ([`Offline::HoldNewest`]) so far.
    pub fn dropped(&self) -> u64 {
        self.0.state().held.dropped()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Sends a message and waits until it is written. If there is no connection, holds it without waiting.
    ///
    /// # Errors
    ///
    /// [`NotSent`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the whole message or nothing of it.
    pub async fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        let message = message.into();
        let Some(sender) = self.0.link(&message)? else { return Ok(()) };
        match sender.feed(message.clone()).await {
            Ok(()) => sender.flush().await.map_err(|error| NotSent::Failed(error.into())),
            Err(error) => self.0.refused(error, &message),
        }
    }
}
