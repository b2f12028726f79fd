//! One loop: waits for its sockets, gives each that has something a turn, delivers what was published.

mod admission;
mod admitted;
mod drain;
mod fan_out;
mod invited;
#[cfg(test)]
mod lifecycle_tests;
mod listener;
mod opening;
mod place;
#[cfg(feature = "tls")]
mod secure;
mod turn;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll as TaskPoll;
use std::time::{Duration, Instant};

use longwire_proto::{Assembler, BatchClass, Outbox};
use mio::event::Events;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token};
use tokio::io::unix::AsyncFd;

use self::admitted::TaskState;
use self::drain::Draining;
use self::listener::Listener;
use self::place::{PendingRequest, Place, Stage};
use self::turn::{After, Shared, Turn};
use crate::connection::timer::{Timer, now};
use crate::end::outcome::outcome;
use crate::end::{Error, cause_of};
use crate::engine::conn::Conn;
use crate::engine::entry::Local;
use crate::engine::handler::Handler;
use crate::engine::mailbox::Mailboxes;
use crate::engine::mailbox::command::Command;
use crate::engine::mailbox::handle::Handle;
use crate::engine::mailbox::id::Id;
use crate::engine::options::Options;
use crate::engine::slab::{Key, Slab};
use crate::engine::socket::BUFFER;
use crate::engine::socket::writer::Writer;
use crate::engine::wheel::{Tick, Wheel};
use crate::observe::counters::Totals;
use crate::observe::trace;

const LISTENER: Token = Token(usize::MAX);
pub(super) const WAKER: Token = Token(usize::MAX - 1);

/// Memory that is kept for what is written, in bytes.
const GATHER: u32 = 256 * 1024;

/// Events that one call of the system reports.
const EVENTS: usize = 1024;

/// Rounds before the other tasks of the thread get their turn.
const ROUNDS: usize = 16;

/// Commands that are executed in a round, and deadlines that are checked.
const COMMANDS: usize = 4096;
const DEADLINES: usize = 4096;

pub(super) struct Loop<H: Handler> {
    registry: Registry,
    slab: Slab<Place<H::State>>,
    shared: Shared<H>,
    /// The queue of the round before, empty but for its memory.
    spare_queue: Vec<u32>,
    /// Connections with a deadline that may have passed, and the tick for which they were in the wheel.
    expired: Vec<(u32, Tick)>,
    /// Events that were reported since all deadlines were checked.
    events_since_check: usize,
    has_more_commands: bool,
    listener: Option<Listener>,
    /// Each task has a clone of it.
    tasks: Rc<TaskState<H::State>>,
    draining: Option<Draining>,
    is_stopped: bool,
    /// Connections to which the same bytes are written, and how many each has taken; empty but for their memory.
    batch_members: Vec<(u32, BatchClass)>,
    batch_taken: Vec<usize>,
    writer: Writer,
    totals: Arc<Totals>,
}

impl<H: Handler> Loop<H> {
    /// Creates loop number `at` of an engine, whose sockets `poll` waits for.
    pub(super) fn new(
        at: u16,
        options: Arc<Options<H>>,
        mailboxes: Arc<Mailboxes>,
        poll: &Poll,
        listener: Option<std::net::TcpListener>,
    ) -> io::Result<Self> {
        let registry = poll.registry().try_clone()?;
        let listener = listener.map(|listener| Listener::new(listener, &registry)).transpose()?;
        let totals = Arc::clone(&mailboxes.of(at).totals);
        if let Some(counters) = &options.acceptor.settings().counters {
            counters.join(Arc::clone(&totals));
        }
        let local = Local {
            at,
            now: now(),
            out: Outbox::keeping(GATHER),
            topics: Default::default(),
            log: Default::default(),
            individual: Vec::new(),
            counters: Default::default(),
            slow: options.slow_policy(),
            engine: Handle::new(mailboxes),
        };
        Ok(Self {
            registry,
            slab: Slab::new(),
            spare_queue: Vec::new(),
            expired: Vec::new(),
            events_since_check: 0,
            has_more_commands: false,
            listener,
            tasks: Rc::default(),
            draining: None,
            is_stopped: false,
            batch_members: Vec::new(),
            batch_taken: Vec::new(),
            writer: Writer::new(options.io_uring),
            totals,
            shared: Shared {
                options,
                wheel: Wheel::new(local.now),
                local,
                buffer: vec![0; BUFFER].into(),
                assembler: Assembler::default(),
                queue: Vec::new(),
                is_delivering: false,
            },
        })
    }

    /// Runs until it is shut down or stopped.
    pub(super) async fn run(mut self, mut poll: Poll) -> io::Result<()> {
        let watched = watch(&poll)?;
        let mut events = Events::with_capacity(EVENTS);
        let mut timer = Timer::default();
        let mut is_idle = true;
        while !self.is_finished() {
            if !is_idle {
                tokio::task::yield_now().await;
            } else {
                let due = self.next_due();
                poll_fn(|cx| match (watched.poll_read_ready(cx), due) {
                    (TaskPoll::Ready(ready), _) => TaskPoll::Ready(ready.map(drop)),
                    (TaskPoll::Pending, Some(due)) => timer.poll(due, cx).map(|_| Ok(())),
                    (TaskPoll::Pending, None) => TaskPoll::Pending,
                })
                .await?;
            }
            for _ in 0..ROUNDS {
                self.poll_sockets(&watched, &mut poll, &mut events)?;
                self.round(&events);
                is_idle = events.is_empty() && !self.is_busy();
                if is_idle {
                    break;
                }
            }
        }
        self.end();
        Ok(())
    }

    /// Asks the system which sockets have something.
    fn poll_sockets(
        &self,
        watched: &AsyncFd<OwnedFd>,
        poll: &mut Poll,
        events: &mut Events,
    ) -> io::Result<()> {
        if self.is_busy() {
            return poll_now(poll, events);
        }
        // The answer that there are none lets the runtime wait for the next one.
        let polled = watched.try_io(tokio::io::Interest::READABLE, |_| {
            poll_now(poll, events)?;
            if events.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match polled {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                events.clear();
                Ok(())
            }
            polled => polled,
        }
    }

    /// There is something to do that no event reports.
    fn is_busy(&self) -> bool {
        !self.shared.queue.is_empty()
            || !self.expired.is_empty()
            || self.has_more_commands
            || self.listener.as_ref().is_some_and(Listener::is_accepting)
    }

    fn is_finished(&self) -> bool {
        let drained = self.draining.is_some() && self.slab.len() == 0 && Rc::strong_count(&self.tasks) == 1;
        self.is_stopped || drained
    }

    fn next_due(&mut self) -> Option<Instant> {
        let draining = self.draining.as_ref().map(|draining| draining.next_due(self.shared.local.now));
        let accepting = self.listener.as_ref().and_then(Listener::due);
        self.shared.wheel.next_due().into_iter().chain(accepting).chain(draining).min()
    }

    /// Gives each connection that has something one turn.
    fn round(&mut self, events: &Events) {
        self.shared.local.now = now();
        let mut reported = 0;
        for event in events {
            reported += 1;
            match event.token() {
                LISTENER => self.listener.iter_mut().for_each(Listener::accept_again),
                // The commands are looked at in each round anyway.
                WAKER => {}
                // No place has changed hands since the system was asked: the event is this connection's.
                Token(index) => {
                    if let Some(Place { ready, .. }) = self.slab.at(index as u32) {
                        // The end of the stream and errors are found by reading.
                        ready.read_closed |= event.is_read_closed() || event.is_error();
                        ready.readable |= event.is_readable() || ready.read_closed;
                        ready.writable |= event.is_writable() || event.is_write_closed();
                        self.queue(index as u32);
                    }
                }
            }
        }
        self.execute_commands();
        self.accept();
        let spare = std::mem::take(&mut self.spare_queue);
        let mut queue = std::mem::replace(&mut self.shared.queue, spare);
        for index in queue.drain(..) {
            self.run_turn(index);
            if self.shared.local.log.is_full() {
                self.deliver();
            }
        }
        self.spare_queue = queue;
        // Input proves that its peer is alive: deadlines are checked once all input that had come was read. A peer that
        // never ceases to send is reported again only after the others were.
        self.events_since_check += reported;
        if reported < EVENTS || self.events_since_check > self.slab.len() {
            self.events_since_check = 0;
            self.check_deadlines();
        }
        self.deliver();
        self.collect_task_counts();
        self.totals.replace_with(&self.shared.local.counters);
    }

    /// Puts a connection into the queue for a turn.
    fn queue(&mut self, index: u32) {
        if let Some(place) = self.slab.at(index)
            && !std::mem::replace(&mut place.ready.queued, true)
        {
            self.shared.queue.push(index);
        }
    }

    fn run_turn(&mut self, index: u32) {
        let Some((key, place)) = self.slab.find(index) else { return };
        place.ready.queued = false;
        match Turn::new(key, place, &mut self.shared) {
            Some(mut turn) => {
                let after = turn.run();
                self.conclude(index, after);
            }
            None => self.read_request(index),
        }
    }

    /// The open connection in this place, for a turn.
    fn turn(&mut self, index: u32) -> Option<Turn<'_, H>> {
        let (key, place) = self.slab.find(index)?;
        Turn::new(key, place, &mut self.shared)
    }

    /// Does what outlives a turn.
    fn conclude(&mut self, index: u32, after: After) {
        if after == After::Gone {
            self.drop_connection(index);
        }
    }

    fn execute_commands(&mut self) {
        let (commands, has_more) = self.shared.local.mailbox().take(COMMANDS);
        self.has_more_commands = has_more;
        for command in commands {
            self.execute(command);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Serve(stream, from) => self.serve(stream, from),
            Command::OpenAdmitted => self.open_admitted(),
            Command::Invite(invite) => self.invite(*invite),
            Command::Adopt(adoption) => self.adopt(adoption),
            Command::Forget(ticket) => drop(self.tasks.invited.borrow_mut().take(ticket)),
            Command::Send(key, message) => self.act(key, |conn| {
                if conn.send(message).is_err() {
                    conn.local.counters.dropped += 1;
                }
            }),
            // Code and reason were checked.
            Command::Close(key, frame) => self.act(key, |conn| drop(conn.close_with(frame))),
            Command::Subscribe(key, topic) => self.act(key, |conn| {
                conn.subscribe(&topic);
            }),
            Command::Unsubscribe(key, topic) => self.act(key, |conn| {
                conn.unsubscribe(&topic);
            }),
            Command::Publish { topic, key, frame, except } => {
                let except = except.filter(|except| self.is_alive(*except));
                match except {
                    Some(except) => {
                        self.act(except, |conn| conn.publish_to_others_in_loop(&topic, key, &frame));
                    }
                    None => self.shared.local.publish(&topic, key, frame),
                }
                if self.shared.local.log.is_full() {
                    self.deliver();
                }
            }
            Command::Run(key, act) => self.act(key, act),
            Command::Shutdown(shutdown) => self.start_draining(shutdown),
            Command::Stop => self.is_stopped = true,
        }
    }

    /// Whether the connection is open, and has not ended.
    fn is_alive(&mut self, key: Key) -> bool {
        matches!(self.slab.get(key), Some(Place { stage: Stage::Open(entry, _), .. }) if !entry.core.is_done())
    }

    /// Does something with an open connection outside of its turn.
    fn act(&mut self, key: Key, act: impl FnOnce(&mut Conn<'_>)) {
        let Some(place) = self.slab.get(key) else { return };
        let Some(mut turn) = Turn::new(key, place, &mut self.shared) else { return };
        let after = turn.act(|conn, _, _| act(conn));
        self.conclude(key.index, after);
    }

    /// Serves a connection, which is counted already.
    fn serve(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.draining.is_some() {
            return self.uncount();
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.shared.options.tls {
            return self.serve_tls(tls.clone(), stream, from);
        }
        match self.put(stream, Stage::Pending(PendingRequest::new(from, self.shared.local.now))) {
            Some(index) => self.schedule_request(index),
            None => self.uncount(),
        }
    }

    /// Puts a socket into a place of its own, and has the system watch it.
    fn put(&mut self, stream: TcpStream, stage: Stage<H::State>) -> Option<u32> {
        let fd = stream.as_raw_fd();
        let key = self.slab.insert(Place::new(stream, stage));
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut SourceFd(&fd), Token(key.index as usize), interest).is_err() {
            // The system watches no more sockets.
            self.slab.remove(key.index);
            self.shared.local.counters.accept_errors += 1;
            return None;
        }
        Some(key.index)
    }

    fn uncount(&self) {
        self.shared.local.mailbox().connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn check_deadlines(&mut self) {
        if self.expired.is_empty() {
            while let Some((tick, indexes)) = self.shared.wheel.expired(self.shared.local.now) {
                self.expired.extend(indexes.into_iter().map(|index| (index, tick)));
            }
        }
        for (index, tick) in self.expired.split_off(self.expired.len().saturating_sub(DEADLINES)) {
            let Some((key, place)) = self.slab.find(index) else { continue };
            // It was put in again for another tick, or is another connection.
            if place.armed != Some(tick) {
                continue;
            }
            place.armed = None;
            // That a turn is queued is no reason to wait for it: a flood would live for ever.
            match Turn::new(key, place, &mut self.shared) {
                Some(mut turn) => {
                    let after = turn.check_deadlines();
                    self.conclude(index, after);
                }
                None => self.check_request_deadline(index),
            }
        }
        if self.expired.is_empty() {
            // The memory of a wave of connections is not kept.
            self.expired = Vec::new();
        }
        self.drain();
    }

    /// Drops a connection that is over, and tells the application why.
    fn drop_connection(&mut self, index: u32) {
        let Some((key, _)) = self.slab.find(index) else { return };
        let Some(place) = self.slab.remove(index) else { return };
        self.uncount();
        let Stage::Open(mut entry, state) = place.stage else { return };
        let Shared { options, local, .. } = &mut self.shared;
        if options.max_connections.is_some() {
            options.connections.fetch_sub(1, Ordering::Relaxed);
        }
        local.topics.unsubscribe_all(&mut entry.subscriptions);
        let transport = entry.buffers.as_ref().and_then(|buffers| buffers.transport.as_ref());
        // A connection that has no cause yet is dropped because the engine was stopped.
        let result = outcome(&entry.core, transport)
            .unwrap_or_else(|| Err(Error::from(io::Error::from(io::ErrorKind::ConnectionAborted))));
        self.totals.ended(cause_of(Some(&result)));
        let id = Id { at: local.at, key };
        trace::engine_ended(id, || place.stream.peer_addr().ok(), &result);
        // Before the application is called: it may count descriptors.
        drop(place.stream);
        // The connection is gone in any case, and the panic hook has reported a panic.
        let _ = catch_unwind(AssertUnwindSafe(|| options.handler.closed(&local.engine, id, state, result)));
    }

    fn stop_accepting(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.close(&self.registry);
        }
    }

    /// The end: connections that are left are dropped.
    fn end(&mut self) {
        self.shared.local.mailbox().close();
        let keys: Vec<Key> = self.slab.keys().collect();
        for key in keys {
            self.drop_connection(key.index);
        }
        // The tasks end with the runtime.
        self.shared.local.counters.opening = 0;
        self.totals.replace_with(&self.shared.local.counters);
        if let Some(counters) = &self.shared.options.acceptor.settings().counters {
            counters.leave(&self.totals);
        }
    }
}

fn poll_now(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        polled => polled,
    }
}

/// Lets the runtime of this thread watch all that `poll` watches.
#[expect(deprecated, reason = "what came instead is unsafe, for types that do not own their descriptor")]
fn watch(poll: &Poll) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = poll.registry().as_fd().try_clone_to_owned()?;
    AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE)
}
