//! The life of a connection after its opening handshake: deadlines, why it ends, and how TCP ends.
//!
//! ```text
//!             silence: a Ping is sent
//!      ┌───────┐ ───────────────────────► ┌────────┐
//!   ──►│ Open  │                          │ Pinged │
//!      └───┬───┘ ◄─────────────────────── └───┬────┘
//!          │          any byte is read        │
//!          ├──────────────┬───────────────────┘
//!          │ close        │
//!          ▼              │ the peer's Close frame, a failure, the end of TCP, a deadline
//!    ┌───────────┐        │
//!    │ CloseSent │──────► │
//!    └───────────┘        ▼
//!                    ┌─────────┐  first step   ┌─────────┐
//!                    │  Ended  │ ────────────► │ Writing │  what waits is written
//!                    └─────────┘               └────┬────┘
//!                                                   │ all is written, this direction of TCP is ended
//!                                                   ▼
//!                    ┌─────────┐  the peer     ┌──────────┐
//!                    │  Over   │ ◄──────────── │ Draining │  what the peer still sends is discarded
//!                    └─────────┘  ends TCP     └──────────┘
//! ```
//!
//! From `Ended` on, the [`Cause`] is known. What follows depends on its [`Farewell`]:
//!
//! - A peer that is gone, or does not read, is abandoned: `Writing` is one attempt, then the connection is `Over`.
//! - A server that has completed a closing handshake skips `Draining`, for RFC 6455 7.1.1 has it end TCP first. A
//!   client waits there for the server to do so.
//! - A peer that was failed is drained, so that the Close frame reaches it.
//!
//! The close deadline leads from each of these stages to `Over`.

use std::io;
use std::time::{Duration, Instant};

use crate::cause::{Cause, Farewell, Initiator};
use crate::close::CloseFrame;
use crate::close_code::CloseCode;
use crate::config::Config;
use crate::role::Role;

/// Silence of this length ends a run of control frames.
const PAUSE: Duration = Duration::from_millis(100);

/// The most by which bytes in transit extend a deadline: a dead peer has to be noticed in the end.
const ALLOWANCE_MAX: Duration = Duration::from_secs(120);

/// What a driver does next to end TCP: see [`Connection::tcp_step`](crate::Connection::tcp_step).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpStep {
    /// Wait until the stream takes what is left, and write it.
    Write,
    /// End this direction of TCP (for TLS: send close_notify first), then call
    /// [`write_ended`](crate::Connection::write_ended).
    ShutdownWrite,
    /// Wait until the peer ends TCP.
    Drain,
    /// Drop the socket.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// `since`: when the peer was last heard.
    Open,
    /// A Ping was sent after silence; the peer has not been heard since. `since`: when it was sent.
    Pinged,
    /// This end's Close frame went first, and the peer's is awaited. `since`: when closing began.
    CloseSent,
    /// The cause is known. `since`: as in the stage before.
    Ended,
    /// What waits is being written. `since`, from here on: when the close deadline began.
    Writing,
    /// This direction of TCP is ended.
    Draining,
    /// The socket is to be dropped.
    Over,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// A Ping is to be sent.
    Ping,
    /// The connection has failed for this cause; a Close frame that names it is to be sent.
    Fail(Cause),
    /// The socket is to be dropped.
    Drop,
}

/// The deadlines, the cause and the end of TCP of one connection. It knows no frames: [`Connection`] sends what it
/// says.
///
/// [`Connection`]: crate::Connection
#[derive(Debug)]
pub(crate) struct Lifecycle {
    since: Instant,
    /// Boxed, for an idle connection without a [`Config::read_timeout`] needs none of it.
    cold: Option<Box<Cold>>,
    /// Bytes written since the peer was last heard. In `Pinged`, those in front of the Ping: bytes behind it do
    /// not delay the Pong, and must not delay its deadline.
    unanswered: u32,
    stage: Stage,
    role: Role,
}

#[derive(Debug, Default)]
struct Cold {
    cause: Option<Cause>,
    /// The Close frame that went first.
    close: Option<CloseFrame>,
    /// How writing failed first. What the peer sent before may still be read.
    broken: Option<io::ErrorKind>,
    /// The peer has ended its direction of TCP.
    eof: bool,
    /// This direction of TCP is ended.
    write_ended: bool,
    /// The message or the header that is half received.
    unfinished: Option<Unfinished>,
    /// When data was last received, where there is a [`Config::read_timeout`].
    data_at: Option<Instant>,
    /// Since when the driver does not read, because too much waits to be written.
    paused: Option<Instant>,
    /// Bytes that waited when the peer ended its direction of TCP.
    owed: usize,
}

#[derive(Debug)]
struct Unfinished {
    /// When the driver began to wait for the rest.
    begun: Instant,
    /// Bytes read since, of any frame.
    received: u64,
}

impl Lifecycle {
    pub(crate) fn new(role: Role, config: &Config, now: Instant) -> Self {
        let cold = config.read_timeout.map(|_| Box::new(Cold { data_at: Some(now), ..Cold::default() }));
        Self { since: now, cold, unanswered: 0, stage: Stage::Open, role }
    }

    #[inline]
    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// Returns whether messages may be sent.
    #[inline]
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Pinged)
    }

    /// Returns whether the cause is known, so that nothing more is received.
    #[inline]
    pub(crate) const fn has_ended(&self) -> bool {
        !matches!(self.stage, Stage::Open | Stage::Pinged | Stage::CloseSent)
    }

    /// Returns whether this end's Close frame went first and the peer's is awaited.
    pub(crate) const fn is_close_sent(&self) -> bool {
        matches!(self.stage, Stage::CloseSent)
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.cold.as_ref()?.cause
    }

    pub(crate) fn close_frame(&self) -> Option<&CloseFrame> {
        self.cold.as_ref()?.close.as_ref()
    }

    pub(crate) fn broken(&self) -> Option<Cause> {
        Some(Cause::of_io(self.cold.as_ref()?.broken?))
    }

    /// Notes that bytes were read. Returns whether silence went before: a run of control frames ends then.
    #[inline]
    pub(crate) fn heard(&mut self, count: usize, config: &Config, now: Instant) -> bool {
        let silent = match self.stage {
            Stage::Open => now.saturating_duration_since(self.since) >= PAUSE,
            Stage::Pinged => true,
            _ => return false,
        };
        self.stage = Stage::Open;
        if self.cold.is_some() {
            self.progress(count, config, now);
        }
        self.since = now;
        self.unanswered = 0;
        silent
    }

    /// Notes that bytes of an unfinished message were read.
    #[cold]
    fn progress(&mut self, count: usize, config: &Config, now: Instant) {
        let late = self.message_deadline(config).filter(|due| now > *due).map(|due| now - due);
        let Some(cold) = &mut self.cold else { return };
        if let Some(unfinished) = &mut cold.unfinished {
            // The deadline passed and nobody asked for it: the driver did not read, because the application did
            // not receive. That is not the peer's fault, whose bytes may have waited in the socket.
            unfinished.begun += late.unwrap_or_default();
            unfinished.received = unfinished.received.saturating_add(count as u64);
        }
    }

    /// Notes that the stream has taken bytes.
    #[inline]
    pub(crate) fn wrote(&mut self, count: usize) {
        if self.stage == Stage::Open {
            self.unanswered = self.unanswered.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Notes that the input is worked off.
    #[inline]
    pub(crate) fn note_input(&mut self, delivered: bool, unfinished: bool, now: Instant) {
        if unfinished || self.cold.is_some() {
            self.note_unfinished(delivered, unfinished, now);
        }
    }

    #[cold]
    fn note_unfinished(&mut self, delivered: bool, unfinished: bool, now: Instant) {
        if self.stage > Stage::Pinged {
            return;
        }
        let since = self.since;
        let cold = self.cold();
        if delivered || !unfinished {
            cold.unfinished = None;
        }
        if unfinished {
            cold.unfinished.get_or_insert(Unfinished { begun: now, received: 0 });
        }
        if delivered && let Some(at) = &mut cold.data_at {
            *at = since;
        }
        self.give_back();
    }

    /// Gives the box back if nothing is in it.
    fn give_back(&mut self) {
        if let Some(cold) = &self.cold
            && cold.unfinished.is_none()
            && cold.data_at.is_none()
            && cold.paused.is_none()
            && cold.broken.is_none()
            && self.stage <= Stage::Pinged
        {
            self.cold = None;
        }
    }

    /// Notes that the driver stops reading.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.cold().paused.get_or_insert(now);
    }

    /// Notes that the driver reads again, and takes the pause out of the deadlines.
    pub(crate) fn resume(&mut self, now: Instant) {
        let Some(cold) = &mut self.cold else { return };
        let Some(paused) = cold.paused.take() else { return };
        let pause = now.saturating_duration_since(paused);
        if let Some(unfinished) = &mut cold.unfinished {
            unfinished.begun += pause;
        }
        if let Some(at) = &mut cold.data_at {
            *at += pause;
        }
        if self.stage <= Stage::Pinged {
            self.since += pause;
        }
        self.give_back();
    }

    /// Notes that this end's Close frame goes first.
    pub(crate) fn close_sent(&mut self, frame: CloseFrame, now: Instant) {
        self.cold().close = (!frame.is_empty()).then_some(frame);
        self.stage = Stage::CloseSent;
        self.since = now;
    }

    /// Notes the peer's Close frame. The first of the two names the initiator and the reason.
    pub(crate) fn close_received(&mut self, frame: Option<CloseFrame>) {
        let by = if self.is_close_sent() { Initiator::Local } else { Initiator::Remote };
        let cold = self.cold();
        if by == Initiator::Remote {
            cold.close = frame;
        }
        let code = cold.close.as_ref().map_or(CloseCode::NO_STATUS, |frame| frame.code);
        self.end(Cause::Closed { by, code });
    }

    /// Ends the connection. The first cause counts.
    pub(crate) fn end(&mut self, cause: Cause) {
        if self.has_ended() {
            return;
        }
        // A closing handshake that this end began keeps its one deadline.
        let stage = if self.is_close_sent() { Stage::Writing } else { Stage::Ended };
        let cold = self.cold();
        cold.unfinished = None;
        cold.data_at = None;
        cold.paused = None;
        cold.cause = Some(cause);
        if !matches!(cause, Cause::Closed { .. }) {
            cold.close = None;
        }
        self.stage = stage;
    }

    /// Like [`end`](Self::end); the close deadline begins now.
    pub(crate) fn end_at(&mut self, cause: Cause, now: Instant) {
        self.end(cause);
        if self.stage == Stage::Ended {
            self.stage = Stage::Writing;
            self.since = now;
        }
    }

    /// Notes that the peer has ended its direction of TCP while `waiting` bytes were to be written.
    pub(crate) fn read_eof(&mut self, waiting: usize, now: Instant) {
        self.read_ended(Cause::Eof, waiting, now);
    }

    /// Notes that reading has failed. Returns whether this error is the reason.
    pub(crate) fn read_failed(&mut self, kind: io::ErrorKind, waiting: usize, now: Instant) -> bool {
        self.read_ended(Cause::of_io(kind), waiting, now)
    }

    fn read_ended(&mut self, cause: Cause, waiting: usize, now: Instant) -> bool {
        // A write that failed before is the reason, for the system reports a reset only once. A broken pipe is
        // not: it only says that the peer was gone, and reading says why.
        let broken = self.cold().broken.filter(|kind| *kind != io::ErrorKind::BrokenPipe);
        let counts = !self.has_ended() && broken.is_none();
        if !self.has_ended() {
            self.end_at(broken.map_or(cause, Cause::of_io), now);
            // A peer that has only ended its own direction still reads.
            self.cold().owed = waiting;
        }
        self.cold().eof = true;
        counts
    }

    /// Notes that writing has failed. Returns whether this error is the reason, as far as is known.
    pub(crate) fn write_failed(&mut self, kind: io::ErrorKind) -> bool {
        let has_reason = self.cause().is_some_and(|cause| !matches!(cause, Cause::Closed { .. }));
        let counts = !has_reason && self.broken().is_none();
        self.cold().broken.get_or_insert(kind);
        counts
    }

    /// Returns whether what the peer sends is to be read and discarded.
    pub(crate) fn drains(&self) -> bool {
        self.has_ended()
            && self.stage != Stage::Over
            && self.cold.as_ref().is_some_and(|cold| {
                !cold.eof && cold.cause.is_some_and(|cause| cause.farewell() != Farewell::Abandon)
            })
    }

    /// Notes that this direction of TCP is ended.
    pub(crate) fn write_ended(&mut self) {
        self.cold().write_ended = true;
    }

    /// Returns what to do next to end TCP. Something was tried to be written before.
    pub(crate) fn tcp_step(&mut self, is_written: bool, config: &Config, now: Instant) -> TcpStep {
        if !self.has_ended() {
            return TcpStep::Write;
        }
        if self.stage == Stage::Ended {
            // Not when the Close frame was read: the application may have taken its time with the messages before
            // it, and the answer must not find its deadline passed.
            self.since = now;
            self.stage = Stage::Writing;
        }
        if self.close_deadline(config).is_some_and(|due| now >= due) {
            self.expire(is_written);
        }
        let (stage, role) = (self.stage, self.role);
        let cold = self.cold();
        let Some(cause) = cold.cause else { return TcpStep::Done };
        let is_written = is_written || cold.broken.is_some();
        let step = match (stage, cause.farewell()) {
            (Stage::Over, _) => TcpStep::Done,
            (_, Farewell::Abandon) => TcpStep::Done,
            _ if !is_written => TcpStep::Write,
            (_, farewell) => {
                // RFC 6455 7.1.1: the server ends TCP first. A client does too when it fails the connection.
                let is_closed = matches!(cause, Cause::Closed { .. });
                let waits = if is_closed { role == Role::Client } else { farewell == Farewell::Linger };
                if !(cold.write_ended || is_closed && role == Role::Client) && cold.broken.is_none() {
                    TcpStep::ShutdownWrite
                } else if waits && !cold.eof {
                    TcpStep::Drain
                } else {
                    TcpStep::Done
                }
            }
        };
        self.stage = match step {
            TcpStep::Done => Stage::Over,
            TcpStep::Drain => Stage::Draining,
            TcpStep::Write | TcpStep::ShutdownWrite => self.stage,
        };
        step
    }

    /// Gives up the end of TCP.
    fn expire(&mut self, is_written: bool) {
        if let Some(cold) = &mut self.cold
            && let Some(cause @ Cause::Closed { .. }) = &mut cold.cause
            && !is_written
        {
            // The peer has perhaps not received what waited, such as the answer to its Close frame.
            *cause = Cause::CloseTimeout;
        }
        self.stage = Stage::Over;
    }

    /// Returns when to ask [`due`](Self::due), the write deadline left out.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Instant> {
        let Some(cold) = &self.cold else { return self.keepalive(config) };
        match self.stage {
            // While the driver does not read, it cannot know that the peer is silent.
            Stage::Open | Stage::Pinged if cold.paused.is_some() => None,
            Stage::Open | Stage::Pinged => {
                let data = self.message_deadline(config).or_else(|| self.read_deadline(config));
                self.keepalive(config).into_iter().chain(data).min()
            }
            _ => self.close_deadline(config),
        }
    }

    #[inline]
    fn keepalive(&self, config: &Config) -> Option<Instant> {
        match self.stage {
            Stage::Open => self.since.checked_add(config.ping_after?),
            Stage::Pinged => {
                let allowed = allowance(self.unanswered.into(), config).min(ALLOWANCE_MAX);
                self.since.checked_add(config.pong_timeout)?.checked_add(allowed)
            }
            _ => self.close_deadline(config),
        }
    }

    fn message_deadline(&self, config: &Config) -> Option<Instant> {
        let Unfinished { begun, received } = self.cold.as_ref()?.unfinished.as_ref()?;
        // Control frames count too, so a flood of them must not keep a message for ever.
        let allowed = allowance((*received).min(config.max_message as u64), config);
        begun.checked_add(config.message_timeout?)?.checked_add(allowed)
    }

    fn read_deadline(&self, config: &Config) -> Option<Instant> {
        self.cold.as_ref()?.data_at?.checked_add(config.read_timeout?)
    }

    fn close_deadline(&self, config: &Config) -> Option<Instant> {
        if !(Stage::CloseSent..Stage::Over).contains(&self.stage) {
            return None;
        }
        let owed = self.cold.as_ref().map_or(0, |cold| cold.owed as u64);
        let allowed = allowance(owed, config).min(ALLOWANCE_MAX);
        self.since.checked_add(config.close_timeout)?.checked_add(allowed)
    }

    /// Returns what is due at `now`. `waiting` bytes are to be written, and the stream takes none since `blocked`.
    pub(crate) fn due(
        &mut self,
        waiting: usize,
        blocked: Option<Instant>,
        config: &Config,
        now: Instant,
    ) -> Due {
        let has_passed = |due: Option<Instant>| due.is_some_and(|due| now >= due);
        let write = blocked.and_then(|since| since.checked_add(config.write_timeout));
        match self.stage {
            Stage::Ended | Stage::Writing | Stage::Draining => {
                if has_passed(self.close_deadline(config)) || has_passed(write) {
                    self.expire(waiting == 0 && blocked.is_none());
                    return Due::Drop;
                }
            }
            Stage::Over => return Due::Drop,
            _ if has_passed(write) => return Due::Fail(Cause::WriteTimeout),
            Stage::CloseSent if has_passed(self.close_deadline(config)) => {
                return Due::Fail(Cause::CloseTimeout);
            }
            Stage::CloseSent => {}
            _ if self.cold.as_ref().is_some_and(|cold| cold.paused.is_some()) => {}
            _ if has_passed(self.message_deadline(config)) => return Due::Fail(Cause::MessageTimeout),
            // A message that is being received has the deadline above.
            _ if self.message_deadline(config).is_none() && has_passed(self.read_deadline(config)) => {
                return Due::Fail(Cause::ReadTimeout);
            }
            _ if !has_passed(self.keepalive(config)) => {}
            Stage::Open => {
                self.stage = Stage::Pinged;
                self.since = now;
                self.unanswered = self.unanswered.saturating_add(u32::try_from(waiting).unwrap_or(u32::MAX));
                return Due::Ping;
            }
            // The Ping may still wait behind other bytes. The peer has taken some of them since, so it is alive.
            Stage::Pinged if waiting > 0 && blocked.is_none_or(|blocked| blocked > self.since) => {
                self.since = now;
            }
            Stage::Pinged => return Due::Fail(Cause::PingTimeout),
        }
        Due::Nothing
    }
}

/// The time that this many bytes take at the lowest rate that counts as progress.
fn allowance(bytes: u64, config: &Config) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / u64::from(config.min_rate))
}
