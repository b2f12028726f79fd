//! What an open connection does when it is polled: the only place that reads and writes its stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use longwire_proto::{CloseFrame, Compress, Incoming, Message, Outbox, TcpStep};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::connection::WebSocket;
use crate::connection::receive_mode::Received;
use crate::connection::scratch;
use crate::connection::timer::{Timer, now};
use crate::end::outcome::outcome;
use crate::end::{Closed, Error};

/// How a connection ends, as it becomes known.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// The error of the transport that counts so far.
    transport: Option<Error>,
    /// Known once nothing more is received.
    pub(crate) result: Option<Result<Closed, Error>>,
    /// TCP is ended, and nothing is held any more.
    finished: bool,
    /// A `Stream` has yielded the error.
    reported: bool,
}

/// What is left in the input.
enum Taken<T> {
    /// A message or a part.
    Data(T),
    /// More, once the task is charged for the work so far.
    Later,
    /// Nothing that could be taken before more is read.
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

    /// How far the end has come: when it changes, all who wait have something to learn.
    pub(crate) fn stage(&self) -> u8 {
        let Some(ending) = &self.ending else { return 0 };
        u8::from(ending.transport.is_some()) + u8::from(ending.result.is_some()) + u8::from(ending.finished)
    }

    /// Why nothing more can be sent, unless it is for a closing handshake.
    pub(crate) fn failure(&self) -> Option<Error> {
        let ending = self.ending.as_ref()?;
        match &ending.result {
            Some(Err(error)) => Some(error.clone()),
            _ => ending.transport.clone(),
        }
    }

    /// Gives back what an idle connection does not need.
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

    /// Takes the next message or part out of the input, and acts on control frames on the way. After much
    /// work for nothing it leaves the rest of the input for another call.
    #[inline]
    fn take_input<T: Received>(&mut self) -> Taken<T> {
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
                // The core knows it, and is asked about it.
                Err(_) => return Taken::Nothing,
            }
        }
    }

    /// Counts what is no data. Whether to go on taking.
    #[cold]
    #[inline(never)]
    fn took_control<T>(&mut self, taken: &Incoming<T>) -> bool {
        let Some(lent) = &mut self.lent else { return false };
        lent.work.inflated(lent.assembler.take_inflated());
        let goes_on = !matches!(taken, Incoming::Progress);
        if goes_on {
            lent.work.found(0);
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

    /// Writing has failed. What the peer said before may still be read.
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

    /// Everything was written and flushed.
    fn is_written(&self) -> bool {
        self.lent.as_ref().is_none_or(|lent| !lent.unflushed && lent.out.is_empty())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// What a read brought is handed out at once; else it is the poll loop's.
    #[inline]
    pub(crate) fn poll_recv<T: Received>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        if !self.is_paid(cx) {
            return Poll::Pending;
        }
        if let Taken::Data(data) = self.take_input() {
            return Poll::Ready(Ok(Some(data)));
        }
        self.poll_receive(cx)
    }

    /// One read may bring thousands of messages, or few that become large: the task yields among them as
    /// among reads, and is woken again.
    #[inline]
    fn is_paid(&mut self, cx: &mut Context<'_>) -> bool {
        self.lent.as_mut().is_none_or(|lent| lent.work.poll_paid(cx).is_ready())
    }

    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.has_room() {
            // A flush that has to wait may have made room before.
            if self.poll_flush(cx)?.is_pending() && !self.has_room() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Queues the message as soon as there is room for it.
    #[inline]
    pub(crate) fn poll_feed(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<Message>,
        compress: Compress,
    ) -> Poll<Result<(), Error>> {
        ready!(self.poll_room(cx))?;
        let Some(message) = message.take() else { return Poll::Ready(Ok(())) };
        Poll::Ready(self.enqueue_message(message, compress))
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
                // Only the write deadline: whether the peer lives is known to those who read.
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

    /// Closes the connection when its turn in a shutdown has come.
    fn leave(&mut self) {
        if let Some(member) = &self.member
            && let Some(frame) = member.farewell(now)
        {
            // Only a code that may not be sent fails, and that was looked at when the shutdown began.
            let _ = self.start_close(frame);
            self.member = None;
        }
    }

    /// The poll loop: work off the input, write what that caused, read, wait.
    #[inline(never)]
    fn poll_receive<T: Received>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
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
                // The task is woken at once. What was not read yet is not held against the peer.
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

    /// Reads once: into the message's own buffer if much of it is to come, else into a block.
    fn poll_read<T: Received>(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
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
            // The application may take long to handle what came, and needs no block for it.
            lent.give_back_whole_block();
        }
        Poll::Ready(if let Taken::Data(data) = taken { Some(data) } else { None })
    }

    fn landed<T: Received>(&mut self, count: usize) -> Option<T> {
        let lent = self.lent.as_mut()?;
        let data = T::landed(count, lent, &mut self.core).ok()??;
        lent.delivered = true;
        if let Some(watch) = &mut self.watch {
            data.note(watch);
        }
        Some(data)
    }

    /// How many bytes were read; `None` if the connection has ended instead.
    fn check_read(&mut self, read: io::Result<usize>) -> Option<usize> {
        let now = now();
        let lent = self.lent.get_or_insert_with(scratch::take);
        match read {
            Ok(0) => self.core.read_eof(&lent.out, now),
            // TLS cut off without close_notify: the closing handshake says better what was an end.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.core.read_eof(&lent.out, now),
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
                // Input that never pauses must not keep a deadline from being seen.
                return self.core.handle_timeout(&mut lent.out, now).is_ok().then_some(count);
            }
        }
        None
    }

    /// Writes what waits, all of it in as few calls as the stream takes.
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

    /// Tells the core what became of the input, now that all that came was worked off.
    fn note_input(&mut self, joins: bool) {
        let Some(lent) = &mut self.lent else { return };
        let unfinished = !lent.input.is_empty() || (joins && self.core.is_within_message());
        self.core.note_input(std::mem::take(&mut lent.delivered), unfinished, now());
    }

    /// Ready when a deadline has passed and was acted upon.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let out = self.lent.as_ref().map_or(&NOTHING, |lent| &lent.out);
        let leave_due = self.member.as_ref().and_then(|member| member.due());
        let Some(due) = self.core.poll_timeout(out).into_iter().chain(leave_due).min() else {
            return Poll::Pending;
        };
        let now = ready!(self.timer.poll(due, cx));
        let lent = self.lent.get_or_insert_with(scratch::take);
        if self.core.handle_timeout(&mut lent.out, now).is_err() {
            self.note_end();
        }
        Poll::Ready(())
    }

    /// Ends TCP as the core says, and then holds nothing any more.
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
            // It may be another one: what waited was not taken in time.
            self.note_end();
            self.ending.get_or_insert_default().finished = true;
            // Best effort: whoever keeps this value must not keep the peer waiting.
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
            // It says so to the next step.
            let _ = self.core.handle_timeout(&mut lent.out, now);
        }
    }

    /// Reads and discards, once.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lent = self.lent.get_or_insert_with(scratch::take);
        lent.input.clear();
        lent.take_block();
        match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut lent.input)) {
            Ok(count) if count > 0 => {}
            // How it ended says nothing any more.
            _ => self.core.read_eof(&lent.out, now()),
        }
        Poll::Ready(())
    }
}

/// Writes as much as the stream takes: one buffer plainly, several gathered.
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
