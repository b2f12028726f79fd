//! Sending on the current connection of a feed, and the state that a feed shares with its senders.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::task::Waker;

use longwire_proto::{CloseCode, CloseFrame, Outgoing};

use super::super::socket::{Socket, check_close};
use super::super::websocket::send;
use super::not_sent::NotSent;
use super::offline::{Held, NotHeld, Offline};
use crate::end::SendError;

/// Sends on the current connection of a [`Feed`](super::Feed). Clone it for each task that sends.
///
/// A message is sent **at most once**: it is never handed to a second connection. `Ok` means that the browser has it,
/// or that it is held until there is a connection. Messages that have not arrived are lost with their connection, as
/// with TCP; let the peer confirm those that matter.
///
/// Order is kept: a message is queued behind those that are held.
#[derive(Clone, Debug)]
pub struct Sender(pub(super) Rc<Shared>);

/// What the feed and its senders share.
#[derive(Debug)]
pub(super) struct Shared(RefCell<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) link: Link,
    pub(super) held: Held,
    /// The feed is asked to close.
    pub(super) close: Option<CloseFrame>,
    /// The feed is asked not to wait longer.
    pub(super) retry: bool,
    /// The task that polls the feed.
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Link {
    Down,
    Up(Rc<Socket>),
    Over,
}

impl Shared {
    pub(super) const fn new(offline: Offline) -> Self {
        let held = Held::new(offline);
        Self(RefCell::new(State { link: Link::Down, held, close: None, retry: false, waker: None }))
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Changes the state, and wakes the feed to act on it.
    fn ask(&self, ask: impl FnOnce(&mut State)) {
        let mut state = self.state();
        ask(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection to send on; none when the message is held.
    fn link(&self, message: &Outgoing<'_>) -> Result<Option<Rc<Socket>>, NotSent> {
        let state = self.state();
        match &state.link {
            Link::Up(socket) if state.held.len() == 0 => Ok(Some(Rc::clone(socket))),
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

    /// What to do with a message that was not sent for this reason.
    fn refused(&self, error: SendError, message: &Outgoing<'_>) -> Result<(), NotSent> {
        match error {
            SendError::Full => Err(NotSent::Full),
            // The connection has ended, which the feed has not seen yet.
            error if error.is_closed() => self.hold(message),
            error => Err(NotSent::Failed(error.into())),
        }
    }
}

impl Sender {
    /// Sends or holds a message without waiting.
    ///
    /// # Errors
    ///
    /// [`NotSent`]. Nothing was sent then.
    pub fn try_send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        let message = message.into();
        let Some(socket) = self.0.link(&message)? else { return Ok(()) };
        socket.try_send(&message.clone().into_message()).or_else(|error| self.0.refused(error, &message))
    }

    /// Sends a message, as [`WebSocket::send`](crate::WebSocket::send). If there is no connection, holds it without
    /// waiting.
    ///
    /// # Errors
    ///
    /// [`NotSent`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has sent the whole message or nothing of it.
    pub async fn send<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), NotSent> {
        let message = message.into();
        let Some(socket) = self.0.link(&message)? else { return Ok(()) };
        match send(&socket, message.clone()).await {
            Ok(()) => Ok(()),
            Err(error) => self.0.refused(error, &message),
        }
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
    /// [`SendError::InvalidCloseCode`] or [`SendError::ReasonTooLong`], by the rules of
    /// [`WebSocket::close`](crate::WebSocket::close); the feed then goes on.
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), SendError> {
        let frame = CloseFrame::new(code, reason);
        check_close(&frame)?;
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
