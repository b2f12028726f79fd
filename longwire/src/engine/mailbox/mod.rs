//! How other threads reach a loop: each loop has a mailbox of commands, and the handles write to it.

pub(super) mod command;
pub(super) mod handle;
pub(super) mod id;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use self::command::Command;
use crate::end::SendError;
use crate::observe::counters::Totals;

/// Bytes of commands that may wait in one mailbox before it refuses messages.
const WAITING_MAX: usize = 64 * 1024 * 1024;

/// One loop as other threads see it: its queue of commands, its counters, its number of connections.
pub(in crate::engine) struct Mailbox {
    queue: Mutex<Queue>,
    waker: Waker,
    pub(in crate::engine) totals: Arc<Totals>,
    /// The loop's connections, including those that were accepted for it and have not reached it.
    pub(in crate::engine) connections: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    bytes: usize,
    /// The loop has stopped.
    closed: bool,
}

impl Mailbox {
    pub(in crate::engine) fn new(waker: Waker) -> Self {
        Self { queue: Mutex::default(), waker, totals: Arc::default(), connections: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic cannot leave the queue half changed: pushing to the vector is the last thing that can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn push(&self, command: Command) -> Result<(), SendError> {
        let size = command.size();
        let mut queue = self.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        // Only messages are refused: the others are few, and losing one would leave a connection behind.
        if command.message_len().is_some() && queue.bytes + size > WAITING_MAX {
            return Err(SendError::Full);
        }
        queue.bytes += size;
        let first = queue.commands.is_empty();
        queue.commands.push(command);
        drop(queue);
        if first {
            // If this fails, the system is out of memory. The loop finds the command when something else wakes it.
            let _ = self.waker.wake();
        }
        Ok(())
    }

    /// Takes up to `most` commands. Returns whether more are left.
    pub(in crate::engine) fn take(&self, most: usize) -> (Vec<Command>, bool) {
        let mut queue = self.lock();
        if queue.commands.len() <= most {
            queue.bytes = 0;
            return (std::mem::take(&mut queue.commands), false);
        }
        let rest = queue.commands.split_off(most);
        let taken = std::mem::replace(&mut queue.commands, rest);
        queue.bytes -= taken.iter().map(Command::size).sum::<usize>();
        (taken, true)
    }

    /// Refuses all commands from now on, and drops those that wait.
    pub(in crate::engine) fn close(&self) {
        let mut queue = self.lock();
        *queue = Queue { closed: true, ..Queue::default() };
    }
}

/// The mailboxes of all loops of an engine.
pub(in crate::engine) struct Mailboxes(Box<[Mailbox]>);

impl Mailboxes {
    pub(in crate::engine) const fn new(mailboxes: Box<[Mailbox]>) -> Self {
        Self(mailboxes)
    }

    pub(in crate::engine) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::engine) fn iter(&self) -> std::slice::Iter<'_, Mailbox> {
        self.0.iter()
    }

    /// That of loop `at`, which is one of this engine's.
    pub(in crate::engine) fn of(&self, at: u16) -> &Mailbox {
        &self.0[usize::from(at)]
    }

    pub(in crate::engine) fn get(&self, at: u16) -> Option<&Mailbox> {
        self.0.get(usize::from(at))
    }

    /// The loop with the fewest connections.
    pub(in crate::engine) fn least_busy(&self) -> u16 {
        let connections = |(_, mailbox): &(u16, &Mailbox)| mailbox.connections();
        (0..).zip(&self.0).min_by_key(connections).map_or(0, |(at, _)| at)
    }

    /// Another loop that should serve a connection accepted by loop `at`, if one has clearly fewer connections. A small
    /// difference is not worth sending the connection to another thread.
    pub(in crate::engine) fn less_busy(&self, at: u16) -> Option<u16> {
        let least = self.least_busy();
        let fewest = self.of(least).connections();
        (self.of(at).connections() > fewest + 2 + fewest / 32).then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use longwire_proto::SharedFrame;

    use super::*;

    #[test]
    fn what_was_taken_makes_room() {
        let poll = mio::Poll::new().unwrap();
        let mailbox = Mailbox::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let frame = SharedFrame::new("x".repeat(1000));
        let publish = || {
            mailbox.push(Command::Publish {
                topic: "题".into(),
                key: None,
                frame: frame.clone(),
                except: None,
            })
        };
        let fit = std::iter::from_fn(|| publish().ok()).count();
        assert!(matches!(publish(), Err(SendError::Full)));
        let (taken, more) = mailbox.take(100);
        assert_eq!((taken.len(), more), (100, true));
        assert_eq!(std::iter::from_fn(|| publish().ok()).count(), 100);
        mailbox.push(Command::Stop).unwrap();
        assert_eq!(mailbox.take(usize::MAX).0.len(), fit + 1);
        assert_eq!(mailbox.lock().bytes, 0);
    }
}
