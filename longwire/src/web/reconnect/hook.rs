//! A new connection that is lent to the hook that prepares it.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::super::websocket::WebSocket;

/// A new connection, for the hook of [`Reconnect::on_open`](super::Reconnect::on_open): use it as the [`WebSocket`] that
/// it dereferences to. When the hook drops it, the feed goes on with it.
#[derive(Debug)]
pub struct NewConnection {
    /// `None` only while it is dropped.
    ws: Option<WebSocket>,
    slot: Slot,
}

/// Where the connection is returned to.
#[derive(Debug)]
pub(super) struct Slot(Rc<RefCell<Option<WebSocket>>>);

impl NewConnection {
    /// Lends a connection to a hook. It is in the slot again once the hook has dropped it.
    pub(super) fn lend(ws: WebSocket) -> (Self, Slot) {
        let slot = Rc::default();
        (Self { ws: Some(ws), slot: Slot(Rc::clone(&slot)) }, Slot(slot))
    }
}

impl Slot {
    pub(super) fn take(&self) -> Option<WebSocket> {
        self.0.borrow_mut().take()
    }
}

impl Drop for NewConnection {
    fn drop(&mut self) {
        self.slot.0.replace(self.ws.take());
    }
}

impl Deref for NewConnection {
    type Target = WebSocket;

    fn deref(&self) -> &WebSocket {
        match &self.ws {
            Some(ws) => ws,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl DerefMut for NewConnection {
    fn deref_mut(&mut self) -> &mut WebSocket {
        match &mut self.ws {
            Some(ws) => ws,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}
