//! Sending on whichever connection there is, and what all hands on a feed share.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use longwire_proto::{CloseCode, CloseFrame, Message, SendError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::offline::{Held, NotHeld, Offline};
use crate::connection::split;
use crate::end::Error;
use crate::net::transport::Transport;

/// Sends on a [`Feed`](super::Feed), whichever connection it has. Clone it for each place that sends.
///
/// A message is sent **at most once**: what was handed to a connection is never handed to another. With
/// `Ok` it was written to a connection, or is held until there is one. A connection that dies takes with
/// it what was written and has not arrived, as TCP does: an application that must know lets the peer confirm.
///
/// Order is kept: while messages are held, those that come later stand behind them.
#[derive(Debug)]
pub struct Sender<S = Transport>(pub(super) Arc<Shared<S>>);

/// Why a message was not sent on a [`Feed`](super::Feed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection, and none is waited for ([`Offline::Refuse`]). Send it again after
    /// [`Event::Open`](super::Event::Open), or choose another [`Offline`].
    Offline,
    /// As much is held as [`Offline::Hold`] allows, or the message is larger than that; or
    /// [`try_send`](Sender::try_send) found the write buffer full. Nothing was queued.
    Full,
    /// The feed has given up, or was closed or dropped.
    Over,
    /// The connection failed while the message was under way: whether the peer has got it is not known.
    Failed(Error),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("not sent: there is no connection, and nothing is held meanwhile"),
            Self::Full => f.write_str("not sent: as many messages wait as may"),
            Self::Over => f.write_str("not sent: the feed has ended"),
            Self::Failed(error) => write!(f, "perhaps not sent: {error}"),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for NotSent {}

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

    /// The feed is to look at what it was asked for.
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
    fn link(&self, message: &Message) -> Result<Option<split::Sender<S>>, NotSent> {
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
    fn hold(&self, message: &Message) -> Result<(), NotSent> {
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
    fn refused(&self, error: Error, message: &Message) -> Result<(), NotSent> {
        match error {
            Error::Full => Err(NotSent::Full),
            Error::Send(error) if error != SendError::Closing => Err(NotSent::Failed(error.into())),
            // The connection has ended, which the feed has not seen yet.
            _ => self.hold(message),
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
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), NotSent> {
        let message = message.into();
        let Some(sender) = self.0.link(&message)? else { return Ok(()) };
        sender.try_send(message.clone()).or_else(|error| self.0.refused(error, &message))
    }

    /// The feed stops waiting and connects at once: the network is back, or a person does not want to
    /// wait. Without effect while it does not wait. Failures are counted on.
    pub fn retry_now(&self) {
        self.0.ask(|state| state.retry = true);
    }

    /// Ends the feed for good, whatever it does at the moment: it does not connect again. An open
    /// connection is closed with this code and reason, behind the messages that are held; without one, they are
    /// dropped. [`Feed::next`](super::Feed::next) sees it through, to [`Event::Closed`](super::Event::Closed).
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the code or the reason may not be sent (RFC 6455 7.4; a reason has at most 123
    /// bytes); the feed then goes on.
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        self.0.ask(|state| state.close = state.close.take().or(Some(frame)));
        Ok(())
    }

    /// There is an open connection, as far as is known.
    pub fn is_open(&self) -> bool {
        matches!(self.0.state().link, Link::Up(_))
    }

    /// How many messages are held.
    pub fn held(&self) -> usize {
        self.0.state().held.len()
    }

    /// How many held messages made room for newer ones ([`Offline::HoldNewest`]), since the beginning.
    pub fn dropped(&self) -> u64 {
        self.0.state().held.dropped()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Sends a message, and waits until it is written; or holds it, and does not wait.
    ///
    /// # Errors
    ///
    /// [`NotSent`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has queued the whole message or nothing of it.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), NotSent> {
        let message = message.into();
        let Some(sender) = self.0.link(&message)? else { return Ok(()) };
        match sender.feed(message.clone()).await {
            Ok(()) => sender.flush().await.map_err(NotSent::Failed),
            Err(error) => self.0.refused(error, &message),
        }
    }
}
