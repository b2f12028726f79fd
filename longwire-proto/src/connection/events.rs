//! What a driver reports to a connection, and what it asks: liveness, deadlines, and the end of TCP.

use std::io;
use std::time::Instant;

use bytes::Buf;

use super::Connection;
use crate::cause::Cause;
use crate::close::CloseFrame;
use crate::lifecycle::{Due, TcpStep};
use crate::outgoing::outbox::Outbox;

impl Connection {
    /// Reports that `count` bytes were read at `now`. Any byte proves that the peer is alive, so this is
    /// called once for each read, before the bytes are [received](Self::receive).
    #[inline]
    pub fn heard(&mut self, count: usize, now: Instant) {
        if self.lifecycle.heard(count, &self.config, now) {
            self.receiving.paused();
        }
    }

    /// Reports that the stream has taken `count` bytes. A peer behind a slow link gets time to read them
    /// before it has to answer a Ping: see [`Config::pong_timeout`](crate::Config::pong_timeout).
    #[inline]
    pub fn wrote(&mut self, count: usize) {
        self.lifecycle.wrote(count);
    }

    /// Reports that the input was worked off: `delivered`, a message or a part was handed out since the
    /// last call; `unfinished`, the driver keeps the beginning of a frame, or of a message that it joins,
    /// and waits for the rest. [`Config::message_timeout`](crate::Config::message_timeout) counts from `now`,
    /// [`Config::read_timeout`](crate::Config::read_timeout) from the read before.
    #[inline]
    pub fn note_input(&mut self, delivered: bool, unfinished: bool, now: Instant) {
        self.lifecycle.note_input(delivered, unfinished, now);
    }

    /// Reports that the driver stops reading, because too much waits to be written. The peer is not held
    /// to any deadline but the write deadline until [`resume_reading`](Self::resume_reading).
    pub fn pause_reading(&mut self, now: Instant) {
        if !self.is_done() {
            self.lifecycle.pause(now);
        }
    }

    /// Reports that the driver reads again. Does nothing if it was not paused.
    pub fn resume_reading(&mut self, now: Instant) {
        self.lifecycle.resume(now);
    }

    /// Reports that the peer has ended its direction of TCP. Without a closing handshake this ends the
    /// connection (RFC 6455 7.1.5); a peer that still reads gets what waits.
    pub fn read_eof(&mut self, out: &Outbox, now: Instant) {
        self.lifecycle.read_eof(out.remaining(), now);
        self.end_halves();
    }

    /// Reports that reading has failed, which ends the connection. Returns whether this error is the
    /// reason; if not, the connection had ended before, or an error of writing is the reason.
    pub fn read_failed(&mut self, kind: io::ErrorKind, out: &Outbox, now: Instant) -> bool {
        let counts = self.lifecycle.read_failed(kind, out.remaining(), now);
        self.end_halves();
        counts
    }

    /// Reports that writing has failed: nothing more is written, and what the outbox holds is to be
    /// dropped. What the peer sent before may still be read, and says better why it ended. Returns whether
    /// this error is the reason as far as is known.
    pub fn write_failed(&mut self, kind: io::ErrorKind) -> bool {
        self.lifecycle.write_failed(kind)
    }

    /// Fails the connection for a cause that the driver or the application has found (RFC 6455 7.1.7). The
    /// Close frame that names it is queued, unless one was sent before. Does nothing to a connection that
    /// has ended.
    pub fn fail(&mut self, cause: Cause, out: &mut Outbox, now: Instant) {
        if self.is_done() {
            return;
        }
        self.send_failure(cause.close_code(), cause.reason(), out);
        self.lifecycle.end_at(cause, now);
        self.end_halves();
    }

    /// Returns why the connection ended, once it [is done](Self::is_done).
    pub fn cause(&self) -> Option<Cause> {
        self.lifecycle.cause()
    }

    /// Returns why nothing more can be sent: the [`cause`](Self::cause), or how writing has failed.
    pub fn write_failure(&self) -> Option<Cause> {
        self.cause().or_else(|| self.lifecycle.broken())
    }

    /// Returns the Close frame that went first, once the closing handshake has begun; `None` if it has no code.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.lifecycle.close_frame()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), unless something happens before.
    ///
    /// It moves with every byte that comes; a timer that fires early may just ask again.
    pub fn poll_timeout(&self, out: &Outbox) -> Option<Instant> {
        match (self.lifecycle.deadline(&self.config), self.write_deadline(out)) {
            (Some(own), Some(write)) => Some(own.min(write)),
            (own, write) => own.or(write),
        }
    }

    /// Returns when the connection is dropped because the peer accepts nothing of what waits; part of
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn write_deadline(&self, out: &Outbox) -> Option<Instant> {
        out.blocked()?.checked_add(self.config.write_timeout)
    }

    /// Does what is due at `now`: sends a Ping, fails the connection, or gives up the end of TCP.
    ///
    /// # Errors
    ///
    /// Why the connection has ended. [`tcp_step`](Self::tcp_step) says what is left to do.
    pub fn handle_timeout(&mut self, out: &mut Outbox, now: Instant) -> Result<(), Cause> {
        match self.lifecycle.due(out.remaining(), out.blocked(), &self.config, now) {
            Due::Nothing => Ok(()),
            Due::Ping => {
                self.sending.ping(&[], out);
                Ok(())
            }
            Due::Fail(cause) => {
                self.fail(cause, out, now);
                Err(cause)
            }
            Due::Drop => Err(self.cause().unwrap_or(Cause::Aborted)),
        }
    }

    /// Returns what to do next to end TCP behind a connection that [is done](Self::is_done). Try to write what
    /// waits before each call; `is_written`: all of it was written and flushed. While [`drains`](Self::drains)
    /// says so, also read.
    ///
    /// The first call starts the deadline, unless [`close`](Self::close) has:
    /// [`Config::close_timeout`](crate::Config::close_timeout), as part of
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn tcp_step(&mut self, is_written: bool, now: Instant) -> TcpStep {
        self.lifecycle.tcp_step(is_written, &self.config, now)
    }

    /// Returns whether what the peer sends is still to be read and discarded, and its end reported to
    /// [`read_eof`](Self::read_eof). Ask [`tcp_step`](Self::tcp_step) behind each read, for input that never
    /// pauses must not keep the deadline from being seen.
    pub fn drains(&self) -> bool {
        self.lifecycle.drains()
    }

    /// Reports that this direction of TCP is ended, or cannot be.
    pub fn write_ended(&mut self) {
        self.lifecycle.write_ended();
    }
}
