//! Counters: each connection or event loop counts for itself and publishes its counts now and then, and any thread can
//! read them.

use std::array::from_fn;
use std::cell::Cell;
#[cfg(all(unix, feature = "engine"))]
use std::slice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire_proto::{Cause, CauseClass, Counted, Kind};

use crate::end::{Failure, NotOpenedReason};

/// Shards of the counters: threads that use different ones do not contend for a cache line.
const SHARDS: usize = 16;

/// Counts what connections do. Any number of [`Acceptor`](crate::Acceptor::counters)s, including those of engines, and
/// [`Client`](crate::Client::counters)s can share one. Clones share the same counts.
///
/// A connection counts for itself and publishes its counts whenever its task waits. A message therefore costs only a
/// few additions, and everything received or sent before a wait is in the next [`snapshot`](Self::snapshot). A counted
/// connection needs 384 bytes more, an uncounted one a pointer. An engine always counts, without a cost per
/// connection.
///
/// ```
/// use longwire::{Acceptor, Counters};
///
/// let counters = Counters::new();
/// let acceptor = Acceptor::new().counters(&counters);
/// // Elsewhere, in the handler of /metrics:
/// print!("{}", counters.snapshot().prometheus("chat"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    shards: [Shard; SHARDS],
    /// The counters of engines' event loops.
    loops: Mutex<Vec<Arc<Totals>>>,
}

/// Aligned, so that no two shards share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Totals);

/// The counts published so far by one event loop, or by the connections of some threads.
#[derive(Debug)]
pub(crate) struct Totals {
    opened: AtomicU64,
    simple: [AtomicU64; 6],
    received: [AtomicU64; 7],
    sent: [AtomicU64; 7],
    ended: [AtomicU64; Cause::COUNT],
    not_opened: [AtomicU64; NotOpenedReason::COUNT],
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

/// What an event loop has counted since it started.
#[cfg(all(unix, feature = "engine"))]
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
    /// On the wire, without TLS.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

/// Messages and bytes in one direction.
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
    /// Pings. Sent Pings do not include those of the keepalive.
    pub pings: u64,
    /// Pongs received. Sent Pongs are not counted.
    pub pongs: u64,
    /// Bytes on the wire: compressed payload, frame headers and control frames. TLS and the opening handshake are not
    /// included, except an engine's response to the handshake.
    pub wire_bytes: u64,
}

impl Traffic {
    /// Messages of both kinds.
    pub const fn messages(&self) -> u64 {
        self.texts + self.binaries
    }

    /// Bytes of messages of both kinds, before compression. [`wire_bytes`](Self::wire_bytes) divided by this is the
    /// compression ratio, unless messages are small.
    pub const fn payload_bytes(&self) -> u64 {
        self.text_bytes + self.binary_bytes
    }

    /// Counts `length` bytes of a message, and the message itself with its last part.
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

    /// Counts `times` deliveries of `each`.
    #[cfg(all(unix, feature = "engine"))]
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
    /// Replaces what was published before. Only the loop that owns these counters calls it.
    #[cfg(all(unix, feature = "engine"))]
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

    pub(crate) fn ended(&self, cause: Cause) {
        add_one(&self.ended[cause.index()]);
    }

    pub(crate) fn not_opened(&self, reason: NotOpenedReason) {
        add_one(&self.not_opened[reason.index()]);
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(unix, feature = "engine"))]
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
    /// Creates counters that start at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what was counted so far.
    pub fn snapshot(&self) -> Snapshot {
        let loops = self.loops();
        let shards = self.0.shards.iter().map(|shard| &shard.0);
        Snapshot::of(&shards.chain(loops.iter().map(|totals| &**totals)).collect::<Vec<_>>())
    }

    fn loops(&self) -> MutexGuard<'_, Vec<Arc<Totals>>> {
        self.0.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This thread's shard, which other threads may share.
    fn shard(&self) -> &Totals {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static SHARD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS));
        // A thread that is ending may have destroyed its thread-local already.
        &self.0.shards[SHARD.try_with(Cell::get).unwrap_or(0)].0
    }

    pub(crate) fn opened(&self) {
        self.shard().opened();
    }

    pub(crate) fn ended(&self, cause: Cause) {
        self.shard().ended(cause);
    }

    pub(crate) fn not_opened(&self, reason: NotOpenedReason) {
        self.shard().not_opened(reason);
    }

    /// Adds what a connection counted since it last published.
    pub(crate) fn add(&self, received: &Traffic, sent: &Traffic) {
        let shard = self.shard();
        for (to, counted) in [(&shard.received, received), (&shard.sent, sent)] {
            for (to, count) in to.iter().zip(counted.to_array()).filter(|(_, count)| *count > 0) {
                to.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Includes what an engine's event loop publishes.
    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn join(&self, totals: Arc<Totals>) {
        self.loops().push(totals);
    }

    /// Keeps the counts of an event loop that has ended.
    #[cfg(all(unix, feature = "engine"))]
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

/// The counts of [`Counters`] or of an [engine](crate::engine::Handle::counters) at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Open WebSockets.
    pub open: u64,
    /// WebSockets opened so far.
    pub opened: u64,
    /// Opening handshakes that were rejected or timed out. Clients count the rejections they received.
    pub refused: u64,
    /// Opening handshakes that timed out; included in [`refused`](Self::refused).
    pub handshake_timeouts: u64,
    /// Connections of an engine that are waiting for their TLS handshake, their request or an asynchronous decision.
    pub opening: u64,
    /// TLS handshakes of an engine that failed or timed out.
    pub tls_failed: u64,
    /// Connections that an engine has passed to its HTTP service.
    pub http: u64,
    /// Connections that an engine could not accept, for example because it had no descriptors left.
    pub accept_errors: u64,
    /// Received messages and bytes.
    pub received: Traffic,
    /// Sent or queued messages and bytes. Every delivery of a message published by an engine counts.
    pub sent: Traffic,
    /// Messages that an engine dropped because the subscriber was a slow consumer.
    pub dropped: u64,
    /// Messages that an engine replaced with a later one of the same key because the subscriber was a slow consumer.
    pub replaced: u64,
    /// Connections that ended with a closing handshake.
    pub closed: u64,
    /// Connections that were closed because they were slow consumers.
    pub slow_consumers: u64,
    /// Connections whose peer broke a rule or exceeded a limit.
    pub protocol_errors: u64,
    /// Connections that ended because a deadline passed.
    pub timeouts: u64,
    /// Connections that ended without a closing handshake, whether by the peer, by the network or by this end.
    pub lost: u64,
    /// Ended connections by cause and close code.
    pub ended: Vec<Ended>,
    /// Failed opening handshakes by reason.
    pub not_opened: Vec<NotOpened>,
}

/// The number of connections that ended for one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The [name of the cause](crate::Cause::name).
    pub cause: &'static str,
    /// The code of the first Close frame, such as `1000`; `3xxx` for all codes of libraries and `4xxx` for all codes of
    /// applications. `1005` if the frame had no code, `1006` if there was no frame.
    pub code: &'static str,
    /// The number of connections.
    pub count: u64,
}

/// The number of opening handshakes that failed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotOpened {
    /// The status, such as `403`, or `4xx` for rare ones. Without a status, the name of the
    /// [`AcceptError`](crate::AcceptError::name) or the [`ConnectError`](crate::ConnectError::name).
    pub reason: &'static str,
    /// The number of connections.
    pub count: u64,
}

impl Snapshot {
    pub(crate) fn of(totals: &[&Totals]) -> Self {
        // Ends are read first: a connection that ends meanwhile still counts as open, and `open` is never negative.
        let ends = sum(totals, |totals| &totals.ended);
        let reasons = sum(totals, |totals| &totals.not_opened);
        let [http, accept_errors, dropped, replaced, tls_failed, opening] =
            sum(totals, |totals| &totals.simple);
        let opened = totals.iter().map(|totals| totals.opened.load(Ordering::Relaxed)).sum::<u64>();
        let ended: Vec<_> = (0..Cause::COUNT)
            .map(|at| {
                let Counted { name, code, .. } = Cause::counted(at);
                Ended { cause: name, code, count: ends[at] }
            })
            .collect();
        let of = |class: CauseClass| -> u64 {
            ends.iter()
                .enumerate()
                .filter(|(at, _)| Cause::counted(*at).class == class)
                .map(|(_, count)| count)
                .sum()
        };
        let total = ends.iter().sum::<u64>();
        let not_opened: Vec<_> = reasons
            .iter()
            .enumerate()
            .map(|(at, count)| NotOpened { reason: NotOpenedReason::name(at), count: *count })
            .collect();
        let handshake_timeouts = reasons[NotOpenedReason::Failure(Failure::Timeout).index()];
        Self {
            open: opened.saturating_sub(total),
            opened,
            refused: reasons[..NotOpenedReason::STATUS_COUNT].iter().sum::<u64>() + handshake_timeouts,
            handshake_timeouts,
            opening,
            tls_failed,
            http,
            accept_errors,
            received: Traffic::from_array(sum(totals, |totals| &totals.received)),
            sent: Traffic::from_array(sum(totals, |totals| &totals.sent)),
            dropped,
            replaced,
            closed: of(CauseClass::Closed),
            slow_consumers: of(CauseClass::Slow),
            protocol_errors: of(CauseClass::Protocol),
            timeouts: of(CauseClass::Timeout),
            lost: of(CauseClass::Lost) + of(CauseClass::Internal),
            ended,
            not_opened,
        }
    }

    /// Returns the number of connections that ended for this cause, whatever the code.
    pub fn ended_by(&self, cause: &str) -> u64 {
        self.ended.iter().filter(|ended| ended.cause == cause).map(|ended| ended.count).sum()
    }

    /// Returns the number of opening handshakes that failed for this reason.
    pub fn not_opened_by(&self, reason: &str) -> u64 {
        self.not_opened.iter().filter(|one| one.reason == reason).map(|one| one.count).sum()
    }
}
