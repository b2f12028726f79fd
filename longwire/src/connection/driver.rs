//! The driver of an open connection: the only place that reads and writes its stream. It polls, owns the buffers
//! and hands out messages. When deadlines run, why the connection ends and how TCP ends are decided by the core.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Buf;
use longwire_proto::{CloseFrame, Incoming, Outbox, TcpStep};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::connection::WebSocket;
use crate::connection::receive_mode::ReceiveMode;
use crate::connection::scratch;
use crate::connection::timer::{Timer, now};
use crate::end::outcome::outcome;
use crate::end::{Closed, Error};
use crate::net::end_without_close_notify;

/// How a connection ends, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// The transport's error that is the reason, as far as is known.
    transport: Option<Error>,
    /// Known once nothing more is received.
    pub(crate) result: Option<Result<Closed, Error>>,
    /// TCP has ended, and all buffers are given back.
    finished: bool,
    /// A `Stream` has yielded the error.
    reported: bool,
}

/// What was taken out of the input.
enum Taken<T> {
    /// A message or a part.
    Data(T),
    /// Nothing yet: the task has to be charged for the work first.
    Later,
    /// Nothing: more has to be read.
    Nothing,
}

static NOTHING: Outbox = Outbox::new();

impl<S> WebSocket<S> {
    /// Notes why the connection has ended, if it has.
    fn note_end(&mut self) {
        let ending = self.ending.get_or_insert_default();
        let result = outcome(&self.core, ending.transport.as_ref());
        if let (Some(watch), Some(result)) = (&mut self.watch, &result) {
            watch.ends(result.clone());
        }
        ending.result = result;
    }

    /// A number that changes with every step to the end. Then all tasks that wait have to be woken.
    pub(crate) fn stage(&self) -> u8 {
        let Some(ending) = &self.ending else { return 0 };
        u8::from(ending.transport.is_some()) + u8::from(ending.result.is_some()) + u8::from(ending.finished)
    }

    /// Returns why nothing more can be sent, unless that is a closing handshake.
    pub(crate) fn failure(&self) -> Option<Error> {
        let ending = self.ending.as_ref()?;
        match &ending.result {
            Some(Err(error)) => Some(error.clone()),
            _ => ending.transport.clone(),
        }
    }

    /// Gives back the buffers that are not needed while the task waits.
    fn rest(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.tell();
        }
        if let Some(lent) = &mut self.lent {
            lent.give_back_block();
            if !lent.is_idle() {
                lent.out.release();
            } else if let Some(lent) = self.lent.take() {
                scratch::put(lent);
            }
        }
    }

    /// Takes the next message or part out of the input. After much work without a result it leaves the rest of
    /// the input for another call.
    #[inline]
    fn take_input<T: ReceiveMode>(&mut self) -> Taken<T> {
        loop {
            let Some(lent) = &mut self.lent else { return Taken::Nothing };
            match T::take(lent, &mut self.core) {
                Ok(Some(Incoming::Data(data))) => {
                    lent.work.found(lent.assembler.take_inflated());
                    lent.delivered = true;
                    if let Some(watch) = &mut self.watch {
                        data.note(watch);
                    }
                    return Taken::Data(data);
                }
                Ok(None) => {
                    lent.work.inflated(lent.assembler.take_inflated());
                    return Taken::Nothing;
                }
                Ok(Some(other)) => {
                    if !self.took_control(&other) {
                        return Taken::Later;
                    }
                }
                // The core has failed, which the caller asks it about.
                Err(_) => return Taken::Nothing,
            }
        }
    }

    /// Counts control frames. Returns whether to go on taking.
    #[cold]
    #[inline(never)]
    fn took_control<T>(&mut self, taken: &Incoming<T>) -> bool {
        let Some(lent) = &mut self.lent else { return false };
        lent.work.inflated(lent.assembler.take_inflated());
        let goes_on = !matches!(taken, Incoming::Progress);
        if goes_on {
            lent.work.found(0);
        }
        if let (Incoming::Pong(payload), Some(pings)) = (&taken, &mut self.pings) {
            pings.answered(payload, now());
        }
        if let Some(watch) = &mut self.watch {
            match taken {
                Incoming::Ping => watch.ping_received(),
                Incoming::Pong(_) => watch.pong_received(),
                _ => {}
            }
        }
        goes_on
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.reported)
    }

    pub(crate) fn set_reported(&mut self) {
        self.ending.get_or_insert_default().reported = true;
    }

    /// Notes that writing has failed. What the peer sent before may still be read, and may say why.
    fn write_failed(&mut self, error: io::Error) -> Error {
        if let Some(lent) = &mut self.lent {
            lent.out = Outbox::new();
            lent.unflushed = false;
        }
        let counts = self.core.write_failed(error.kind());
        let error = Error::from(error);
        if counts {
            self.ending.get_or_insert_default().transport = Some(error.clone());
            if let Some(watch) = &mut self.watch {
                watch.ends(Err(error.clone()));
            }
        }
        self.failure().unwrap_or(error)
    }

    /// Returns whether everything was written and flushed.
    fn is_written(&self) -> bool {
        self.lent.as_ref().is_none_or(|lent| !lent.unflushed && lent.out.is_empty())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Hands out what is in the input, without the poll loop.
    #[inline]
    pub(crate) fn poll_recv<T: ReceiveMode>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<T>, Error>> {
        if !self.is_paid(cx) {
            return Poll::Pending;
        }
        if let Taken::Data(data) = self.take_input() {
            return Poll::Ready(Ok(Some(data)));
        }
        self.poll_receive(cx)
    }

    /// Charges the task for its work. One read may bring thousands of messages, or a few that inflate to many
    /// megabytes, so the task has to yield between them as it does between reads.
    #[inline]
    fn is_paid(&mut self, cx: &mut Context<'_>) -> bool {
        self.lent.as_mut().is_none_or(|lent| lent.work.poll_paid(cx).is_ready())
    }

    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.has_room() {
            // A flush may make room and then have to wait for the rest.
            if self.poll_flush(cx)?.is_pending() && !self.has_room() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.failure() {
            return Poll::Ready(Err(error));
        }
        match self.poll_write(cx) {
            Poll::Ready(Ok(())) => {
                if self.lent.as_ref().is_some_and(|lent| lent.is_idle()) {
                    self.rest();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.write_failed(error))),
            Poll::Pending => {
                // Only the write deadline: this task does not read, so it cannot know that the peer is silent.
                let due = self.lent.as_ref().and_then(|lent| self.core.write_deadline(&lent.out));
                if let Some(due) = due {
                    ready!(self.timer.poll(due, cx));
                    ready!(self.poll_deadline(cx));
                    return Poll::Ready(Err(self.failure().unwrap_or(Error::WriteTimeout)));
                }
                Poll::Pending
            }
        }
    }

    /// Queues the Close frame, unless the connection is closing already.
    pub(crate) fn start_close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        if !self.core.is_open() {
            return Ok(());
        }
        let lent = self.lent.get_or_insert_with(scratch::take);
        Ok(self.core.close(&frame, &mut lent.out, now())?)
    }

    /// Starts to close the connection when a graceful shutdown has reached it.
    fn leave(&mut self) {
        if let Some(member) = &self.member
            && let Some(frame) = member.close_frame(now)
        {
            // Only a code that may not be sent fails, and that was checked when the shutdown began.
            let _ = self.start_close(frame);
            self.member = None;
        }
    }

    /// The poll loop: work off the input, write what that caused, read, wait.
    #[inline(never)]
    fn poll_receive<T: ReceiveMode>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        loop {
            if self.core.is_done() {
                return self.poll_finish(cx).map_ok(|()| None);
            }
            self.leave();
            if !self.is_written()
                && let Poll::Ready(Err(error)) = self.poll_write(cx)
            {
                self.write_failed(error);
            }
            if !self.is_paid(cx) {
                // The task is woken at once. No deadline is looked at, for the peer may have met it with bytes
                // that were not read yet.
                return Poll::Pending;
            }
            match self.take_input() {
                Taken::Data(data) => return Poll::Ready(Ok(Some(data))),
                Taken::Later => continue,
                Taken::Nothing if self.core.is_done() => continue,
                Taken::Nothing => {}
            }
            match self.poll_read(cx) {
                Poll::Ready(Some(data)) => return Poll::Ready(Ok(Some(data))),
                // It has brought nothing for the application, as a flood of Pongs does, or a message that dribbles.
                Poll::Ready(None) if !self.core.is_done() => {
                    self.note_input(T::IS_WHOLE);
                    self.handle_timeout(now());
                }
                Poll::Ready(None) => {}
                Poll::Pending => {
                    self.note_input(T::IS_WHOLE);
                    if let Some(member) = &mut self.member {
                        member.listen(cx);
                    }
                    if self.poll_deadline(cx).is_pending() {
                        self.rest();
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Reads once: into the message's own buffer if much of it is still to come, otherwise into a block.
    fn poll_read<T: ReceiveMode>(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let lent = self.lent.get_or_insert_with(scratch::take);
        let stream = Pin::new(&mut self.stream);
        if let Some(mut landing) = T::landing(lent, &self.core) {
            let read = ready!(poll_read_buf(stream, cx, &mut landing));
            return Poll::Ready(self.check_read(read).and_then(|count| self.landed(count)));
        }
        lent.take_block();
        let read = ready!(poll_read_buf(stream, cx, &mut lent.input));
        let Some(count) = self.check_read(read) else { return Poll::Ready(None) };
        if let Some(lent) = &mut self.lent
            && self.core.deflate().is_some()
        {
            lent.work.read_compressed(count);
        }
        let taken = self.take_input();
        if let Some(lent) = &mut self.lent {
            // The application may take long to handle the message, and must not hold a block meanwhile.
            lent.give_back_whole_block();
        }
        Poll::Ready(if let Taken::Data(data) = taken { Some(data) } else { None })
    }

    fn landed<T: ReceiveMode>(&mut self, count: usize) -> Option<T> {
        let lent = self.lent.as_mut()?;
        let data = T::landed(count, lent, &mut self.core).ok()??;
        lent.delivered = true;
        if let Some(watch) = &mut self.watch {
            data.note(watch);
        }
        Some(data)
    }

    /// Reports a read to the core. Returns how many bytes were read, or `None` if the connection has ended.
    fn check_read(&mut self, read: io::Result<usize>) -> Option<usize> {
        let now = now();
        let lent = self.lent.get_or_insert_with(scratch::take);
        match end_without_close_notify(read, 0) {
            Ok(0) => self.core.read_eof(&lent.out, now),
            Err(error) => {
                if self.core.read_failed(error.kind(), &lent.out, now) {
                    self.ending.get_or_insert_default().transport = Some(error.into());
                }
            }
            Ok(count) => {
                if let Some(watch) = &mut self.watch {
                    watch.read(count);
                }
                self.core.heard(count, now);
                // Input that never pauses would keep these deadlines from being looked at. The others depend on what
                // has just come, which is not processed yet.
                if !self.core.is_open() || lent.out.blocked().is_some() {
                    self.note_input(true);
                    return self.handle_timeout(now).then_some(count);
                }
                return Some(count);
            }
        }
        None
    }

    /// Writes and flushes everything that waits.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(lent) = &mut self.lent else { return Poll::Ready(Ok(())) };
        let mut stream = Pin::new(&mut self.stream);
        while lent.out.has_remaining() {
            match poll_write_once(stream.as_mut(), cx, &mut lent.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.core.wrote(count);
                    lent.unflushed = true;
                    if let Some(watch) = &mut self.watch {
                        watch.written(count);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    lent.out.block(now());
                    return Poll::Pending;
                }
            }
        }
        if lent.unflushed {
            if stream.poll_flush(cx)?.is_pending() {
                lent.out.block(now());
                return Poll::Pending;
            }
            lent.unflushed = false;
            lent.out.unblock();
        }
        Poll::Ready(Ok(()))
    }

    /// Reports to the core that the input is worked off, before the task waits for more.
    fn note_input(&mut self, joins: bool) {
        let Some(lent) = &mut self.lent else { return };
        let unfinished = !lent.input.is_empty() || (joins && self.core.is_within_message());
        self.core.note_input(std::mem::take(&mut lent.delivered), unfinished, now());
    }

    /// Ready when a deadline has passed and the core has acted on it.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let out = self.lent.as_ref().map_or(&NOTHING, |lent| &lent.out);
        let leave_due = self.member.as_ref().and_then(|member| member.due());
        let Some(due) = self.core.poll_timeout(out).into_iter().chain(leave_due).min() else {
            return Poll::Pending;
        };
        let now = ready!(self.timer.poll(due, cx));
        self.handle_timeout(now);
        Poll::Ready(())
    }

    /// Lets the core act on a deadline that has passed. Returns whether the connection goes on.
    fn handle_timeout(&mut self, now: Instant) -> bool {
        let lent = self.lent.get_or_insert_with(scratch::take);
        let goes_on = self.core.handle_timeout(&mut lent.out, now).is_ok();
        if !goes_on {
            self.note_end();
        }
        goes_on
    }

    /// Ends TCP as the core says, and then gives all buffers back.
    #[cold]
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.ending.as_ref().is_some_and(|ending| ending.finished) {
            self.note_end();
            if self.poll_end_tcp(cx).is_pending() {
                if let Some(lent) = &mut self.lent {
                    lent.give_back_block();
                }
                return Poll::Pending;
            }
            // The cause may have changed: what waited was perhaps not taken in time.
            self.note_end();
            self.ending.get_or_insert_default().finished = true;
            // Best effort: an application that keeps this value must not keep the peer waiting.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            self.lent = None;
            self.timer = Timer::default();
            if let Some(mut watch) = self.watch.take() {
                watch.over();
            }
        }
        let result = self.ending.as_ref().and_then(|ending| ending.result.as_ref());
        Poll::Ready(match result {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        })
    }

    fn poll_end_tcp(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_written = match self.poll_write(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => {
                    self.write_failed(error);
                    true
                }
                Poll::Pending => false,
            };
            match self.core.tcp_step(is_written, now()) {
                TcpStep::Done => return Poll::Ready(()),
                TcpStep::ShutdownWrite => {
                    if Pin::new(&mut self.stream).poll_shutdown(cx).is_ready() {
                        self.core.write_ended();
                        continue;
                    }
                }
                TcpStep::Write | TcpStep::Drain => {}
            }
            if self.core.drains() && self.poll_discard(cx).is_ready() {
                continue;
            }
            let lent = self.lent.get_or_insert_with(scratch::take);
            let Some(due) = self.core.poll_timeout(&lent.out) else { return Poll::Pending };
            let now = ready!(self.timer.poll(due, cx));
            // The next step asks whether it has given up.
            let _ = self.core.handle_timeout(&mut lent.out, now);
        }
    }

    /// Reads once, and discards it.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lent = self.lent.get_or_insert_with(scratch::take);
        lent.input.clear();
        lent.take_block();
        match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut lent.input)) {
            Ok(count) if count > 0 => {}
            // The cause is known already, so an error is an end like any other.
            _ => self.core.read_eof(&lent.out, now()),
        }
        Poll::Ready(())
    }
}

/// Writes once: a single buffer plainly, several gathered.
fn poll_write_once<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    out: &mut Outbox,
) -> Poll<io::Result<usize>> {
    let chunk = out.chunk();
    if chunk.len() < out.remaining() {
        return poll_write_buf(stream, cx, out);
    }
    let count = ready!(stream.poll_write(cx, chunk))?;
    out.advance(count);
    Poll::Ready(Ok(count))
}
