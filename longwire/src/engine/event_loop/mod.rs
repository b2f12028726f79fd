//! One loop: waits for its sockets, works them off one after the other, delivers what was published.

pub(crate) mod admission;
mod drain;
mod fan_out;
pub(crate) mod opening;
pub(crate) mod place;
pub(crate) mod turn;

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
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token};
use tokio::io::unix::AsyncFd;

use self::admission::TaskState;
use self::drain::Draining;
use self::opening::PendingRequest;
use self::place::{Place, Stage};
use crate::connection::timer::{Timer, now};
use crate::engine::conn::Conn;
use crate::engine::entry::{Local, guard, lend_outbox};
use crate::engine::handler::Handler;
use crate::engine::mailbox::Mailboxes;
use crate::engine::mailbox::command::Command;
use crate::engine::mailbox::handle::Handle;
use crate::engine::options::Options;
use crate::engine::slab::{Key, Slab};
use crate::engine::socket::writer::Writer;
use crate::engine::wheel::{Tick, Wheel};
use crate::observe::counters::Told;

pub(crate) const LISTENER: Token = Token(usize::MAX);
pub(crate) const WAKER: Token = Token(usize::MAX - 1);

/// Bytes that one read takes. Large enough for a message of 64 KiB, small enough to stay in the cache.
pub(crate) const READ: usize = 128 * 1024;

/// What may be left of the read before: a header and a control frame.
pub(crate) const REST: usize = 256;

/// Memory that is kept for what is written.
const GATHER: u32 = 256 * 1024;

/// Sockets that one wait tells of.
const EVENTS: usize = 1024;

/// Rounds before the other tasks of the thread get their turn.
const ROUNDS: usize = 16;

/// Connections that are accepted in a round.
const ACCEPTS: usize = 64;

/// Commands that are obeyed in a round, and deadlines that are looked at.
const COMMANDS: usize = 4096;
const DEADLINES: usize = 4096;

/// The pause after an error of the listener that the next call would meet again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Loop<H: Handler> {
    pub(crate) options: Arc<Options<H>>,
    pub(crate) registry: Registry,
    pub(crate) slab: Slab<Place<H::State>>,
    wheel: Wheel,
    /// Whose turn it is.
    ready: Vec<u32>,
    /// The list of the round before, empty but for its memory.
    worked: Vec<u32>,
    /// Whose deadline may have passed.
    expired: Vec<(u32, Tick)>,
    /// Of how many sockets the system has told since all deadlines were looked at.
    told_of: usize,
    more_commands: bool,
    pub(crate) buffer: Box<[u8]>,
    /// That of all connections that have nothing half received.
    pub(crate) assembler: Assembler,
    pub(crate) local: Local,
    listener: Option<TcpListener>,
    accepting: bool,
    accept_again: Option<Instant>,
    /// Held by each task.
    pub(crate) tasks: Rc<TaskState<H::State>>,
    pub(crate) draining: Option<Draining>,
    pub(crate) stopped: bool,
    /// What was published is being delivered: nobody is called.
    pub(crate) delivering: bool,
    /// To whom the same bytes are written, and what became of it; empty but for their memory.
    pub(crate) alike: Vec<(u32, BatchClass)>,
    pub(crate) written: Vec<io::Result<usize>>,
    pub(crate) writer: Writer,
    pub(crate) told: Arc<Told>,
}

impl<H: Handler> Loop<H> {
    /// The `at`th loop of an engine, whose sockets `poll` waits for.
    pub(crate) fn new(
        at: u16,
        options: Arc<Options<H>>,
        mailboxes: Arc<Mailboxes>,
        poll: &Poll,
        listener: Option<std::net::TcpListener>,
    ) -> io::Result<Self> {
        let registry = poll.registry().try_clone()?;
        let mut listener = listener.map(TcpListener::from_std);
        if let Some(listener) = &mut listener {
            registry.register(listener, LISTENER, Interest::READABLE)?;
        }
        let local = Local {
            at,
            now: now(),
            out: Outbox::keeping(GATHER),
            topics: Default::default(),
            log: Default::default(),
            apart: Vec::new(),
            counters: Default::default(),
            slow: Arc::clone(&options.slow),
            engine: Handle::new(Arc::clone(&mailboxes)),
        };
        let told = Arc::clone(&mailboxes.of(at).told);
        if let Some(counters) = &options.acceptor.settings().counters {
            counters.join(Arc::clone(&told));
        }
        Ok(Self {
            writer: Writer::new(options.io_uring),
            options,
            registry,
            slab: Slab::new(),
            wheel: Wheel::new(local.now),
            ready: Vec::new(),
            worked: Vec::new(),
            expired: Vec::new(),
            told_of: 0,
            more_commands: false,
            buffer: vec![0; READ + REST].into(),
            assembler: Assembler::default(),
            told,
            local,
            listener,
            accepting: true,
            accept_again: None,
            tasks: Rc::default(),
            draining: None,
            stopped: false,
            delivering: false,
            alike: Vec::new(),
            written: Vec::new(),
        })
    }

    /// Runs until it is drained or stopped.
    pub(crate) async fn run(mut self, mut poll: Poll) -> io::Result<()> {
        let watched = watch(&poll)?;
        let mut events = Events::with_capacity(EVENTS);
        let mut timer = Timer::default();
        let mut idle = true;
        while !self.is_done() {
            if !idle {
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
                self.ask(&watched, &mut poll, &mut events)?;
                self.round(&events);
                idle = events.is_empty() && !self.is_busy();
                if idle {
                    break;
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Asks the system which sockets have something.
    fn ask(&self, watched: &AsyncFd<OwnedFd>, poll: &mut Poll, events: &mut Events) -> io::Result<()> {
        if self.is_busy() {
            return ask(poll, events);
        }
        // The answer that there are none lets the runtime wait for the next one.
        let asked = watched.try_io(tokio::io::Interest::READABLE, |_| {
            ask(poll, events)?;
            if events.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match asked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                events.clear();
                Ok(())
            }
            asked => asked,
        }
    }

    fn is_busy(&self) -> bool {
        !self.ready.is_empty()
            || !self.expired.is_empty()
            || self.more_commands
            || (self.accepting && self.listener.is_some())
    }

    fn is_done(&self) -> bool {
        let drained = self.draining.is_some() && self.slab.len() == 0 && Rc::strong_count(&self.tasks) == 1;
        self.stopped || drained
    }

    fn next_due(&mut self) -> Option<Instant> {
        let draining = self.draining.as_ref().map(|draining| draining.next_due(self.local.now));
        self.wheel.next_due().into_iter().chain(self.accept_again).chain(draining).min()
    }

    /// Everyone who has something gets one turn.
    fn round(&mut self, events: &Events) {
        self.local.now = now();
        let mut told = 0;
        for event in events {
            told += 1;
            match event.token() {
                LISTENER => self.accepting = true,
                // The commands are looked at in each round anyway.
                WAKER => {}
                // Nobody has come or gone since the system told it: it is who is there now.
                Token(index) => {
                    if let Some(place) = self.slab.at(index as u32) {
                        // The end of the stream and errors are found by reading.
                        place.read_closed |= event.is_read_closed() || event.is_error();
                        place.readable |= event.is_readable() || place.read_closed;
                        place.writable |= event.is_writable() || event.is_write_closed();
                        self.queue(index as u32);
                    }
                }
            }
        }
        self.obey_all();
        self.accept();
        let mut working = std::mem::replace(&mut self.ready, std::mem::take(&mut self.worked));
        for index in working.drain(..) {
            if let Some(place) = self.slab.at(index) {
                place.queued = false;
                self.work(index);
            }
            if self.local.log.is_full() {
                self.deliver();
            }
        }
        self.worked = working;
        // Who has something to be read lives: deadlines are looked at when all that had come was. Those who
        // never cease to send are told of again only when the others have been.
        self.told_of += told;
        if told < EVENTS || self.told_of > self.slab.len() {
            self.told_of = 0;
            self.look_at_the_clock();
        }
        self.deliver();
        self.count_beside();
        self.told.tell(&self.local.counters);
    }

    /// Gives it a turn.
    pub(crate) fn queue(&mut self, index: u32) {
        if let Some(place) = self.slab.at(index)
            && !place.queued
        {
            place.queued = true;
            self.ready.push(index);
        }
    }

    fn work(&mut self, index: u32) {
        match self.slab.at(index).map(|place| &place.stage) {
            Some(Stage::Pending(_)) => self.read_request(index),
            Some(Stage::Open(..)) => self.turn(index),
            None => {}
        }
    }

    fn obey_all(&mut self) {
        let (commands, more) = self.local.engine.mailbox(self.local.at).take(COMMANDS);
        self.more_commands = more;
        for command in commands {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Serve(stream, from) => self.begin(stream, from),
            Command::OpenAdmitted => self.look_beside(),
            Command::Invite(invitation) => self.invite(*invitation),
            Command::Adopt(adoption) => self.adopt(adoption),
            Command::Forget(ticket) => drop(self.tasks.invited.borrow_mut().take(ticket)),
            Command::Send(key, message) => self.on(key, |conn| {
                if conn.send(message).is_err() {
                    conn.local.counters.dropped += 1;
                }
            }),
            // Code and reason were checked, and closing what is closed is no error.
            Command::Close(key, frame) => self.on(key, |conn| drop(conn.close_with(frame))),
            Command::Subscribe(key, topic) => self.on(key, |conn| {
                conn.subscribe(&topic);
            }),
            Command::Unsubscribe(key, topic) => self.on(key, |conn| {
                conn.unsubscribe(&topic);
            }),
            Command::Publish { topic, key, frame, except } => {
                match except.filter(|except| self.is_up(*except)) {
                    Some(except) => self.on(except, |conn| conn.publish_to_others(&topic, key, &frame)),
                    None => crate::engine::entry::publish_here(&mut self.local, &topic, key, frame),
                }
                if self.local.log.is_full() {
                    self.deliver();
                }
            }
            Command::Run(key, act) => self.on(key, act),
            Command::Shutdown(drain) => self.begin_to_drain(drain),
            Command::Stop => self.stopped = true,
        }
    }

    /// It is open, and not about to end.
    fn is_up(&mut self, key: Key) -> bool {
        matches!(self.slab.get(key), Some(Place { stage: Stage::Open(entry, _), .. }) if !entry.is_ending())
    }

    /// Does something with an open connection that is not worked on.
    pub(crate) fn on(&mut self, key: Key, act: impl FnOnce(&mut Conn<'_>)) {
        let Some(Place { stage: Stage::Open(entry, _), stream, .. }) = self.slab.get(key) else { return };
        if entry.is_ending() {
            return;
        }
        let aside = lend_outbox(entry, &mut self.local);
        guard(&mut Conn { key, entry, stream, local: &mut self.local }, act);
        self.settle(key.index, aside);
    }

    fn accept(&mut self) {
        if self.accept_again.is_some_and(|again| self.local.now >= again) {
            self.accept_again = None;
            self.accepting = true;
        }
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listener else { return };
            if !self.accepting || self.accept_again.is_some() {
                return;
            }
            match listener.accept() {
                Ok((stream, from)) => {
                    let stream = TcpStream::from(stream);
                    let mailboxes = self.local.engine.mailboxes();
                    match mailboxes.less_busy(self.local.at) {
                        Some(other) => {
                            let mailbox = mailboxes.of(other);
                            mailbox.connections.fetch_add(1, Ordering::Relaxed);
                            // A loop that has stopped drops the connection, as this loop is about to.
                            let _ = mailbox.push(Command::Serve(stream, from));
                        }
                        None => {
                            mailboxes.of(self.local.at).connections.fetch_add(1, Ordering::Relaxed);
                            self.begin(stream, from);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.accepting = false,
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    self.local.counters.accept_errors += 1;
                    let handler = &self.options.handler;
                    // The panic hook has said what there is to say.
                    let _ = catch_unwind(AssertUnwindSafe(|| handler.accept_failed(&error)));
                    self.accept_again = Some(self.local.now + ACCEPT_PAUSE);
                    self.accepting = false;
                }
            }
        }
    }

    /// A connection begins here. It is counted already.
    fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.draining.is_some() {
            return self.uncount();
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.options.tls {
            return self.secure(tls.clone(), stream, from);
        }
        match self.put(stream, Stage::Pending(PendingRequest::new(from, self.local.now))) {
            Some(index) => self.arm(index),
            None => self.uncount(),
        }
    }

    /// Puts a socket into a place of its own, and has it watched.
    pub(crate) fn put(&mut self, stream: TcpStream, stage: Stage<H::State>) -> Option<u32> {
        let fd = stream.as_raw_fd();
        let place = Place {
            stream,
            stage,
            armed: 0,
            mark: 0,
            queued: false,
            readable: false,
            writable: false,
            read_closed: false,
            again: false,
        };
        let key = self.slab.insert(place);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut SourceFd(&fd), Token(key.index as usize), interest).is_err() {
            // The system watches no more sockets.
            self.slab.remove(key.index);
            self.local.counters.accept_errors += 1;
            return None;
        }
        Some(key.index)
    }

    pub(crate) fn uncount(&self) {
        self.local.engine.mailbox(self.local.at).connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts a connection into the wheel for what is due first.
    pub(crate) fn arm(&mut self, index: u32) {
        let Some(place) = self.slab.at(index) else { return };
        let due = match &place.stage {
            Stage::Pending(pending) => pending.since.checked_add(self.options.handshake_timeout()),
            // A Pong may make the next Ping due before the peer would have been given up.
            Stage::Open(entry, _) => entry.due().map(|due| {
                let silence = entry.core.config().ping_after;
                let ping = silence.and_then(|silence| self.local.now.checked_add(silence));
                ping.map_or(due, |ping| due.min(ping))
            }),
        };
        if let Some(due) = due {
            self.wheel.arm(index, &mut place.armed, due);
        }
    }

    fn look_at_the_clock(&mut self) {
        if self.expired.is_empty() {
            while let Some((tick, indexes)) = self.wheel.expired(self.local.now) {
                self.expired.extend(indexes.into_iter().map(|index| (index, tick)));
            }
            if self.expired.is_empty() {
                return self.drain_on();
            }
        }
        for (index, tick) in self.expired.split_off(self.expired.len().saturating_sub(DEADLINES)) {
            let Some(place) = self.slab.at(index) else { continue };
            if place.armed != tick {
                continue;
            }
            place.armed = 0;
            // Whoever was told of has had a turn; another one that waits is no reason to live on, or who floods
            // would live for ever.
            match &place.stage {
                Stage::Pending(_) => self.check_request_deadline(index),
                Stage::Open(..) => self.due(index),
            }
            self.arm(index);
        }
        if self.expired.is_empty() {
            self.expired = Vec::new();
        }
        self.drain_on();
    }

    pub(crate) fn stop_accepting(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            // It is closed, and so forgotten in any case.
            let _ = self.registry.deregister(&mut listener);
        }
    }

    /// The end: whoever is still there is dropped.
    fn leave(&mut self) {
        self.local.engine.mailbox(self.local.at).close();
        let keys: Vec<Key> = self.slab.keys().collect();
        for key in keys {
            self.drop_connection(key.index);
        }
        // Whoever is waited for is dropped with the tasks.
        self.local.counters.opening = 0;
        self.told.tell(&self.local.counters);
        if let Some(counters) = &self.options.acceptor.settings().counters {
            counters.leave(&self.told);
        }
    }
}

fn ask(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        asked => asked,
    }
}

/// Lets the runtime of this thread watch all that `poll` watches.
#[expect(deprecated, reason = "what came instead is unsafe, for types that do not own their descriptor")]
fn watch(poll: &Poll) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = poll.registry().as_fd().try_clone_to_owned()?;
    AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE)
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
