//! Accepting connections, and spreading them over the loops.

use std::io;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Interest, Registry};

use super::{LISTENER, Loop};
use crate::engine::handler::Handler;
use crate::engine::mailbox::command::Command;

/// Connections that are accepted in a round.
const ACCEPTS: usize = 64;

/// The pause after an error that the next call would meet again.
const PAUSE: Duration = Duration::from_millis(100);

/// The listener of a loop. All loops accept from the same socket.
pub(super) struct Listener {
    listener: TcpListener,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// There may be connections to accept.
    Accepting,
    /// There are none until an event reports one.
    Waiting,
    /// The system is out of descriptors or memory. An event changes nothing before this time.
    Paused(Instant),
}

impl Listener {
    pub(super) fn new(listener: std::net::TcpListener, registry: &Registry) -> io::Result<Self> {
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { listener, state: State::Accepting })
    }

    pub(super) const fn is_accepting(&self) -> bool {
        matches!(self.state, State::Accepting)
    }

    /// When the pause is over.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Paused(due) => Some(due),
            _ => None,
        }
    }

    /// An event has reported a connection.
    pub(super) const fn accept_again(&mut self) {
        if matches!(self.state, State::Waiting) {
            self.state = State::Accepting;
        }
    }

    pub(super) fn close(mut self, registry: &Registry) {
        // It is closed, and so forgotten in any case.
        let _ = registry.deregister(&mut self.listener);
    }
}

impl<H: Handler> Loop<H> {
    /// Accepts what has come, but no more than a round's share.
    pub(super) fn accept(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        if listener.due().is_some_and(|due| self.shared.local.now >= due) {
            listener.state = State::Accepting;
        }
        for _ in 0..ACCEPTS {
            let Some(listener) = &mut self.listener else { return };
            if !listener.is_accepting() {
                return;
            }
            match listener.listener.accept() {
                Ok((stream, from)) => {
                    let stream = TcpStream::from(stream);
                    let local = &self.shared.local;
                    let mailboxes = local.engine.mailboxes();
                    match mailboxes.less_busy(local.at) {
                        Some(other) => {
                            let mailbox = mailboxes.of(other);
                            mailbox.connections.fetch_add(1, Ordering::Relaxed);
                            // A loop that has stopped drops the connection, as this loop is about to.
                            let _ = mailbox.push(Command::Serve(stream, from));
                        }
                        None => {
                            local.mailbox().connections.fetch_add(1, Ordering::Relaxed);
                            self.serve(stream, from);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.state = State::Waiting,
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    listener.state = State::Paused(self.shared.local.now + PAUSE);
                    self.shared.local.counters.accept_errors += 1;
                    let handler = &self.shared.options.handler;
                    // The panic hook has reported a panic.
                    let _ = catch_unwind(AssertUnwindSafe(|| handler.accept_failed(&error)));
                }
            }
        }
    }
}

/// Whether the error concerns the connection that was to be accepted, and not the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
