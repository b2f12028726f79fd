//! Counters: each connection or loop counts for itself, and adds to shared totals that any thread can read.

use std::array::from_fn;
use std::cell::Cell;
use std::slice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire_proto::Kind;

use crate::end::cause::{self, ENDS, NOT_STATUS, REASONS};

/// Threads that count beside each other without waiting for one another.
const SHARDS: usize = 16;

/// Counts what connections do: give it to as many [`Acceptor`](crate::Acceptor::counters)s and
/// [`Client`](crate::Client::counters)s as you like, of engines too. It clones, and all clones are one.
///
/// A connection counts for itself and tells what it has counted whenever its task waits, so a message costs
/// no more than a few additions, and all that has been received or sent before a wait is in the next
/// [`snapshot`](Self::snapshot). One that is counted holds 384 bytes more, one that is not a pointer; an engine
/// counts for itself in any case, at no cost for each connection.
///
/// ```
/// use longwire::{Acceptor, Counters};
///
/// let counters = Counters::new();
/// let acceptor = Acceptor::new().counters(&counters);
/// // Elsewhere, where a Prometheus asks:
/// print!("{}", counters.snapshot().prometheus("chat"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    shards: [Shard; SHARDS],
    /// The totals of engines' loops.
    loops: Mutex<Vec<Arc<Totals>>>,
}

/// Totals on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Totals);

/// The totals of one loop, or of the connections of some threads.
#[derive(Debug)]
pub(crate) struct Totals {
    opened: AtomicU64,
    simple: [AtomicU64; 6],
    received: [AtomicU64; 7],
    sent: [AtomicU64; 7],
    ended: [AtomicU64; ENDS],
    not_opened: [AtomicU64; REASONS.len()],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            opened: Default::default(),
            simple: Default::default(),
            received: Default::default(),
            sent: Default::default(),
            ended: from_fn(|_| AtomicU64::new(0)),
            not_opened: from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// What a loop has counted since it was started. Only the loop itself writes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopCounters {
    pub(crate) http: u64,
    pub(crate) accept_errors: u64,
    pub(crate) dropped: u64,
    pub(crate) replaced: u64,
    pub(crate) tls_failed: u64,
    pub(crate) opening: u64,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    /// On the wire.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Text messages.
    pub texts: u64,
    /// Binary messages.
    pub binaries: u64,
    /// Bytes of text, before compression.
    pub text_bytes: u64,
    /// Bytes of binary messages, before compression.
    pub binary_bytes: u64,
    /// Pings; of those that were sent, not those of the keepalive.
    pub pings: u64,
    /// Pongs that were received. Those that were sent are not counted.
    pub pongs: u64,
    /// Bytes on the wire: compressed, with headers of frames, control frames included. TLS and the opening
    /// handshake are not, but for the answer of an engine to it.
    pub wire_bytes: u64,
}

impl Traffic {
    /// Messages of both kinds.
    pub const fn messages(&self) -> u64 {
        self.texts + self.binaries
    }

    /// Bytes of messages of both kinds, before compression. [`wire_bytes`](Self::wire_bytes) by this is what
    /// compression makes of them, where messages are not small.
    pub const fn payload_bytes(&self) -> u64 {
        self.text_bytes + self.binary_bytes
    }

    /// Counts a part of a message, and the message with its last part.
    #[inline]
    pub(crate) const fn add(&mut self, kind: Kind, length: usize, last: bool) {
        match kind {
            Kind::Text => {
                self.texts += last as u64;
                self.text_bytes += length as u64;
            }
            Kind::Binary => {
                self.binaries += last as u64;
                self.binary_bytes += length as u64;
            }
        }
    }

    /// Counts `each` a number of times.
    pub(crate) const fn add_times(&mut self, each: &Self, times: u64) {
        self.texts += each.texts * times;
        self.binaries += each.binaries * times;
        self.text_bytes += each.text_bytes * times;
        self.binary_bytes += each.binary_bytes * times;
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let (now, before) = (self.to_array(), before.to_array());
        Self::from_array(from_fn(|at| now[at] - before[at]))
    }

    const fn to_array(self) -> [u64; 7] {
        let Self { texts, binaries, text_bytes, binary_bytes, pings, pongs, wire_bytes } = self;
        [texts, binaries, text_bytes, binary_bytes, pings, pongs, wire_bytes]
    }

    const fn from_array(array: [u64; 7]) -> Self {
        let [texts, binaries, text_bytes, binary_bytes, pings, pongs, wire_bytes] = array;
        Self { texts, binaries, text_bytes, binary_bytes, pings, pongs, wire_bytes }
    }
}

impl Totals {
    /// Replaces the totals. Only the loop that they belong to calls this.
    pub(crate) fn replace_with(&self, counted: &LoopCounters) {
        let LoopCounters { http, accept_errors, dropped, replaced, tls_failed, opening, .. } = *counted;
        let received = Traffic { wire_bytes: counted.bytes_received, ..counted.received };
        let sent = Traffic { wire_bytes: counted.bytes_sent, ..counted.sent };
        store(&self.simple, [http, accept_errors, dropped, replaced, tls_failed, opening]);
        store(&self.received, received.to_array());
        store(&self.sent, sent.to_array());
    }

    pub(crate) fn opened(&self) {
        add_one(&self.opened);
    }

    pub(crate) fn ended(&self, end: usize) {
        add_one(&self.ended[end]);
    }

    pub(crate) fn not_opened(&self, reason: usize) {
        add_one(&self.not_opened[reason]);
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn store<const N: usize>(to: &[AtomicU64; N], from: [u64; N]) {
    to.iter().zip(from).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
}

fn load<const N: usize>(from: &[AtomicU64; N]) -> [u64; N] {
    from_fn(|at| from[at].load(Ordering::Relaxed))
}

fn sum<const N: usize>(totals: &[&Totals], part: impl Fn(&Totals) -> &[AtomicU64; N]) -> [u64; N] {
    let mut sum = [0; N];
    for one in totals {
        sum.iter_mut().zip(load(part(one))).for_each(|(sum, one)| *sum += one);
    }
    sum
}

impl Counters {
    /// Counters that begin at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Snapshot {
        let loops = self.loops();
        let shards = self.0.shards.iter().map(|shard| &shard.0);
        Snapshot::of(&shards.chain(loops.iter().map(|totals| &**totals)).collect::<Vec<_>>())
    }

    fn loops(&self) -> MutexGuard<'_, Vec<Arc<Totals>>> {
        self.0.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard of this thread, which other threads may share.
    fn shard(&self) -> &Totals {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static SHARD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS));
        // A thread that is ending has no shard of its own any more.
        &self.0.shards[SHARD.try_with(Cell::get).unwrap_or(0)].0
    }

    pub(crate) fn opened(&self) {
        self.shard().opened();
    }

    pub(crate) fn ended(&self, end: usize) {
        self.shard().ended(end);
    }

    pub(crate) fn not_opened(&self, reason: usize) {
        self.shard().not_opened(reason);
    }

    /// Adds what a connection has received and sent since the last call.
    pub(crate) fn add(&self, received: &Traffic, sent: &Traffic) {
        let shard = self.shard();
        for (to, counted) in [(&shard.received, received), (&shard.sent, sent)] {
            for (to, count) in to.iter().zip(counted.to_array()).filter(|(_, count)| *count > 0) {
                to.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Includes the totals of an engine's loop.
    #[cfg(unix)]
    pub(crate) fn join(&self, totals: Arc<Totals>) {
        self.loops().push(totals);
    }

    /// The loop has ended: its totals are kept.
    #[cfg(unix)]
    pub(crate) fn leave(&self, totals: &Arc<Totals>) {
        let mut loops = self.loops();
        let Some(at) = loops.iter().position(|of| Arc::ptr_eq(of, totals)) else { return };
        loops.swap_remove(at);
        let shard = self.shard();
        let move_to = |to: &[AtomicU64], from: &[AtomicU64]| {
            for (to, from) in to.iter().zip(from) {
                to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        };
        move_to(slice::from_ref(&shard.opened), slice::from_ref(&totals.opened));
        move_to(&shard.simple, &totals.simple);
        move_to(&shard.received, &totals.received);
        move_to(&shard.sent, &totals.sent);
        move_to(&shard.ended, &totals.ended);
        move_to(&shard.not_opened, &totals.not_opened);
    }
}

/// What [`Counters`] or an [engine](crate::engine::Handle::counters) have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// WebSockets that are open now.
    pub open: u64,
    /// WebSockets that were opened.
    pub opened: u64,
    /// Opening handshakes that were refused, or not complete in time. Clients count those that they were
    /// refused.
    pub refused: u64,
    /// Those of them that were not complete in time.
    pub handshake_timeouts: u64,
    /// Connections of an engine whose TLS handshake, request or verdict is waited for in a task now.
    pub opening: u64,
    /// TLS handshakes of an engine that failed, or were not complete in time.
    pub tls_failed: u64,
    /// Connections that an engine has handed to its HTTP service.
    pub http: u64,
    /// Connections that an engine could not accept, for want of descriptors or the like.
    pub accept_errors: u64,
    /// What was received.
    pub received: Traffic,
    /// What was sent or queued, each delivery of a message that an engine has published counted.
    pub sent: Traffic,
    /// Messages that a slow consumer of an engine did not get, for they were dropped.
    pub dropped: u64,
    /// Messages that a slow consumer of an engine did not get, for a later one of their key took their place.
    pub replaced: u64,
    /// Connections that were closed by a closing handshake.
    pub closed: u64,
    /// Connections that were given up because they read too slowly.
    pub slow_consumers: u64,
    /// Connections whose peer broke a rule or a limit.
    pub protocol_errors: u64,
    /// Connections that came to their end by a deadline.
    pub timeouts: u64,
    /// Connections that ended without a closing handshake, by the peer, the network or ourselves.
    pub lost: u64,
    /// All that ended, by their cause.
    pub ended: Vec<Ended>,
    /// All that were not opened, by the reason.
    pub not_opened: Vec<NotOpened>,
}

/// How many connections have ended for one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// [`Error::cause`](crate::Error::cause), [`Closed::cause`](crate::Closed::cause), or `dropped`.
    pub cause: &'static str,
    /// The code of the first Close frame: such as `1000`, or `4xxx` for all of the application's and `3xxx`
    /// for those of libraries; `1005` where it had none, `1006` where
    /// there was none.
    pub code: &'static str,
    /// How many.
    pub count: u64,
}

/// How many opening handshakes have failed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotOpened {
    /// The status, such as `403`, or `4xx` for rare ones; else
    /// [`AcceptError::cause`](crate::AcceptError::cause) or [`ConnectError::cause`](crate::ConnectError::cause).
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

impl Snapshot {
    pub(crate) fn of(totals: &[&Totals]) -> Self {
        // Ends first: a connection that ends meanwhile counts as open, and never as less than none.
        let ends = sum(totals, |totals| &totals.ended);
        let reasons = sum(totals, |totals| &totals.not_opened);
        let [http, accept_errors, dropped, replaced, tls_failed, opening] =
            sum(totals, |totals| &totals.simple);
        let opened = totals.iter().map(|totals| totals.opened.load(Ordering::Relaxed)).sum::<u64>();
        let ended: Vec<_> = (0..ENDS)
            .map(|at| {
                let (cause, code) = cause::end(at);
                Ended { cause, code, count: ends[at] }
            })
            .collect();
        let all = |wanted: &dyn Fn(&Ended) -> bool| {
            ended.iter().filter(|ended| wanted(ended)).map(|ended| ended.count).sum::<u64>()
        };
        let closed = all(&|ended| ended.cause.starts_with("closed_by_"));
        let slow_consumers = all(&|ended| ended.cause == "slow_consumer");
        let timeouts = all(&|ended| ended.cause.ends_with("_timeout"));
        let lost = all(&|ended| ended.code == "1006" || ended.cause == "panicked")
            - all(&|ended| ended.code == "1006" && ended.cause.ends_with("_timeout"));
        let total = all(&|_| true);
        let not_opened: Vec<_> =
            REASONS.into_iter().zip(reasons).map(|(reason, count)| NotOpened { reason, count }).collect();
        let handshake_timeouts = reasons[NOT_STATUS];
        Self {
            open: opened.saturating_sub(total),
            opened,
            refused: reasons[..NOT_STATUS].iter().sum::<u64>() + handshake_timeouts,
            handshake_timeouts,
            opening,
            tls_failed,
            http,
            accept_errors,
            received: Traffic::from_array(sum(totals, |totals| &totals.received)),
            sent: Traffic::from_array(sum(totals, |totals| &totals.sent)),
            dropped,
            replaced,
            closed,
            slow_consumers,
            protocol_errors: total - closed - slow_consumers - timeouts - lost,
            timeouts,
            lost,
            ended,
            not_opened,
        }
    }

    /// How many connections have ended for this cause, whatever the code.
    pub fn ended_by(&self, cause: &str) -> u64 {
        self.ended.iter().filter(|ended| ended.cause == cause).map(|ended| ended.count).sum()
    }

    /// How many opening handshakes have failed for this reason.
    pub fn not_opened_by(&self, reason: &str) -> u64 {
        self.not_opened.iter().filter(|one| one.reason == reason).map(|one| one.count).sum()
    }
}
