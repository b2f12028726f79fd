//! A new connection in the hands of the hook that prepares it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::connection::WebSocket;
use crate::net::transport::Transport;

/// A new connection, for the hook of [`Reconnect::on_open`](super::Reconnect::on_open): use it as the [`WebSocket`] that
/// it dereferences to. When the hook drops it, the feed goes on with it.
#[derive(Debug)]
pub struct NewConnection<S = Transport> {
    /// `None` only while it is dropped.
    ws: Option<WebSocket<S>>,
    slot: Slot<S>,
}

/// Where the connection is returned to.
#[derive(Debug)]
pub(super) struct Slot<S>(Arc<Mutex<Option<WebSocket<S>>>>);

impl<S> NewConnection<S> {
    /// Lends a connection to a hook. It is in the slot again once the hook has dropped it.
    pub(super) fn lend(ws: WebSocket<S>) -> (Self, Slot<S>) {
        let slot = Arc::new(Mutex::new(None));
        (Self { ws: Some(ws), slot: Slot(Arc::clone(&slot)) }, Slot(slot))
    }
}

impl<S> Slot<S> {
    pub(super) fn take(&self) -> Option<WebSocket<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S> Drop for NewConnection<S> {
    fn drop(&mut self) {
        *self.slot.0.lock().unwrap_or_else(PoisonError::into_inner) = self.ws.take();
    }
}

impl<S> Deref for NewConnection<S> {
    type Target = WebSocket<S>;

    fn deref(&self) -> &WebSocket<S> {
        match &self.ws {
            Some(ws) => ws,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl<S> DerefMut for NewConnection<S> {
    fn deref_mut(&mut self) -> &mut WebSocket<S> {
        match &mut self.ws {
            Some(ws) => ws,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}
