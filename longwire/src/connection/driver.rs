//! What an open connection does when it is polled: the only place that reads and writes its stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Buf;
use longwire_proto::{CloseCode, CloseFrame, Incoming, Outbox, ProtocolError, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::connection::WebSocket;
use crate::connection::receive_mode::Wanted;
use crate::connection::scratch;
use crate::connection::timer::{Timer, now};
use crate::end::Error;
use crate::end::{Closed, Side};

/// How a connection ends, as it becomes known.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// The Close frame that we sent first.
    sent: Option<CloseFrame>,
    /// The stream takes no more bytes. What the peer said before may still be read.
    pub(crate) broken: Option<Error>,
    /// Known once nothing more is processed.
    pub(crate) result: Option<Result<Closed, Error>>,
    /// Everything is written, or will never be.
    written: bool,
    /// The peer's direction of TCP has ended.
    eof: bool,
    /// Not worth waiting for the peer.
    hopeless: bool,
    finished: bool,
    /// A `Stream` has yielded the error.
    reported: bool,
}

static NOTHING: Outbox = Outbox::new();

impl<S> WebSocket<S> {
    /// The connection has come to its end, for this reason.
    fn end(&mut self, result: Result<Closed, Error>) {
        let ending = self.ending.get_or_insert_default();
        if ending.result.is_none() {
            if let Some(watch) = &mut self.watch {
                watch.ends(result.clone());
            }
            ending.hopeless = !matches!(result, Ok(_) | Err(Error::Protocol(_)));
            ending.result = Some(result);
        }
    }

    fn is_ended(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.result.is_some())
    }

    /// How far the end has come: when it changes, all who wait have something to learn.
    pub(crate) fn stage(&self) -> u8 {
        let Some(ending) = &self.ending else { return 0 };
        u8::from(ending.broken.is_some()) + u8::from(ending.result.is_some()) + u8::from(ending.finished)
    }

    /// Why nothing more can be sent, if it is not for a closing handshake.
    pub(crate) fn failure(&self) -> Option<Error> {
        let ending = self.ending.as_ref()?;
        match (&ending.result, &ending.broken) {
            (Some(Err(error)), _) | (_, Some(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// The reset that a write has met. The system tells of it once: reading ends as if TCP had.
    fn reset(&self) -> Option<Error> {
        match self.ending.as_ref()?.broken.as_ref()? {
            Error::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Some(Error::Io(Arc::clone(error)))
            }
            _ => None,
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

    /// Takes what was wanted out of the input, and acts on control frames on the way. After much work for
    /// nothing it leaves the rest of the input for another call.
    #[inline]
    fn take_input<T: Wanted>(&mut self) -> Option<T> {
        loop {
            let lent = self.lent.as_mut()?;
            if !T::waits(lent) {
                return None;
            }
            let read_at = *lent.read_at.get_or_insert_with(now);
            match T::take(lent, &mut self.core, read_at) {
                Ok(Some(Incoming::Data(data))) => {
                    lent.work.found(lent.assembler.take_inflated());
                    lent.begun = None;
                    self.data_at = Some(read_at);
                    if let Some(watch) = &mut self.watch {
                        data.note(watch);
                    }
                    return Some(data);
                }
                other => {
                    if !self.goes_on(other) {
                        return None;
                    }
                }
            }
        }
    }

    /// Acts on what is no data; whether there is more to take.
    #[cold]
    #[inline(never)]
    fn goes_on<T>(&mut self, taken: Result<Option<Incoming<T>>, ProtocolError>) -> bool {
        let Some(lent) = &mut self.lent else { return false };
        lent.work.inflated(lent.assembler.take_inflated());
        if let Some(watch) = &mut self.watch {
            match taken {
                Ok(Some(Incoming::Ping)) => watch.ping_received(),
                Ok(Some(Incoming::Pong(_))) => watch.pong_received(),
                _ => {}
            }
        }
        match taken {
            Ok(Some(Incoming::Close(frame))) => {
                self.closed_by(frame);
                false
            }
            Ok(Some(Incoming::Progress)) => false,
            Ok(Some(_)) => {
                lent.work.found(0);
                true
            }
            Ok(None) => {
                // What is left is not given to the core again before more of it has come: that would
                // tell it that the peer lives.
                lent.is_fresh = false;
                false
            }
            Err(error) => {
                self.core.restart_close_deadline(now());
                self.end(Err(error.into()));
                false
            }
        }
    }

    /// Both Close frames have passed: the first of them says by whom and why.
    #[cold]
    fn closed_by(&mut self, frame: Option<CloseFrame>) {
        let sent = self.ending.as_mut().and_then(|ending| ending.sent.take());
        let closed = match sent {
            // The handshake that we began has one deadline, which it keeps.
            Some(sent) => {
                let frame = (sent.code != CloseCode::NO_STATUS).then_some(sent);
                Closed { by: Side::Us, frame }
            }
            None => {
                self.core.restart_close_deadline(now());
                Closed { by: Side::Peer, frame }
            }
        };
        self.end(Ok(closed));
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.reported)
    }

    pub(crate) fn set_reported(&mut self) {
        self.ending.get_or_insert_default().reported = true;
    }

    fn broke(&mut self, error: io::Error) -> Error {
        let error = Error::from(error);
        if let Some(lent) = &mut self.lent {
            lent.out = Outbox::new();
            lent.unflushed = false;
        }
        // The first says why.
        let error = self.ending.get_or_insert_default().broken.get_or_insert(error).clone();
        if let Some(watch) = &mut self.watch {
            watch.ends(Err(error.clone()));
        }
        error
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// What a read brought is handed out at once; else it is the poll loop's.
    #[inline]
    pub(crate) fn poll_recv<T: Wanted>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        if !self.is_paid(cx) {
            return Poll::Pending;
        }
        if !self.is_ended()
            && let Some(data) = self.take_input()
        {
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
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.broke(error))),
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
        if !self.core.is_open() || self.is_ended() {
            return Ok(());
        }
        let lent = self.lent.get_or_insert_with(scratch::take);
        self.core.close(&frame, &mut lent.out, now())?;
        self.ending.get_or_insert_default().sent = Some(frame);
        Ok(())
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
    fn poll_receive<T: Wanted>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        loop {
            if self.is_ended() {
                return self.poll_finish(cx).map_ok(|()| None);
            }
            self.leave();
            if self.lent.as_ref().is_some_and(|lent| lent.unflushed || !lent.out.is_empty())
                && let Poll::Ready(Err(error)) = self.poll_write(cx)
            {
                // The peer may have said why before it stopped reading: read on.
                self.broke(error);
            }
            match if self.is_paid(cx) { self.poll_read(cx) } else { Poll::Pending } {
                Poll::Ready(Some(data)) => return Poll::Ready(Ok(Some(data))),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    self.note_begun(T::IS_WHOLE);
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

    /// Reads once, unless something is left of the last read: into the message's own buffer if much of it is
    /// to come, else into a block.
    fn poll_read<T: Wanted>(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let lent = self.lent.get_or_insert_with(scratch::take);
        if !T::waits(lent) {
            let stream = Pin::new(&mut self.stream);
            if let Some(mut landing) = T::landing(lent, &self.core) {
                let read = ready!(poll_read_buf(stream, cx, &mut landing));
                return Poll::Ready(self.check_read(read).and_then(|(count, now)| self.landed(count, now)));
            }
            lent.take_block();
            let read = ready!(poll_read_buf(stream, cx, &mut lent.input));
            let Some((count, now)) = self.check_read(read) else { return Poll::Ready(None) };
            if let Some(lent) = &mut self.lent {
                if self.core.deflate().is_some() {
                    lent.work.read_compressed(count);
                }
                lent.is_fresh = true;
                lent.read_at = Some(now);
            }
        }
        let data = self.take_input();
        if let Some(lent) = &mut self.lent {
            // Who handles what came may take long, and needs no block for it.
            lent.give_back_whole_block();
        }
        Poll::Ready(data)
    }

    fn landed<T: Wanted>(&mut self, count: usize, now: Instant) -> Option<T> {
        let lent = self.lent.as_mut()?;
        match T::landed(count, lent, &mut self.core, now) {
            Ok(data) => {
                if let Some(data) = &data {
                    lent.begun = None;
                    self.data_at = Some(now);
                    if let Some(watch) = &mut self.watch {
                        data.note(watch);
                    }
                }
                data
            }
            Err(error) => {
                self.end(Err(error.into()));
                None
            }
        }
    }

    /// How many bytes were read, and when; `None` if the connection has ended instead.
    fn check_read(&mut self, read: io::Result<usize>) -> Option<(usize, Instant)> {
        let now = now();
        let lent = self.lent.get_or_insert_with(scratch::take);
        match read {
            Ok(0) => {
                // Not clean, or reading would have ended before.
                let _ = self.core.receive_eof(&mut lent.out, now);
                self.end(Err(self.reset().unwrap_or(Error::Eof)));
                None
            }
            Ok(count) => {
                if let Some(watch) = &mut self.watch {
                    watch.read(count);
                }
                // Input that never pauses must not keep a deadline from being seen: while we only
                // listen every byte moves it, otherwise not.
                if (!self.core.is_open() || lent.out.blocked().is_some())
                    && let Err(timed_out) = self.core.handle_timeout(&mut lent.out, now)
                {
                    self.end(Err(timed_out.into()));
                    return None;
                }
                Some((count, now))
            }
            // TLS cut off without close_notify: the closing handshake says better what was an end.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.check_read(Ok(0)),
            Err(error) => {
                self.end(Err(error.into()));
                None
            }
        }
    }

    /// Writes what waits, all of it in as few calls as the stream takes.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(lent) = &mut self.lent else { return Poll::Ready(Ok(())) };
        let mut stream = Pin::new(&mut self.stream);
        while lent.out.has_remaining() {
            match poll_write_once(stream.as_mut(), cx, &mut lent.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
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

    /// Notes since when a message or a header is half received, if one is.
    fn note_begun(&mut self, is_whole: bool) {
        let within_message = is_whole && self.core.is_within_message();
        if let Some(lent) = &mut self.lent {
            let begun = lent.begun.or(lent.read_at);
            // What was not looked at yet may be whole.
            let within_header = !lent.input.is_empty() && !lent.is_fresh;
            lent.begun = if within_message || within_header { begun } else { None };
        }
    }

    /// When data is given up, and as what: the message that is half received, or else the next one.
    fn data_due(&mut self) -> Option<(Instant, &'static str, Error)> {
        let config = self.core.config();
        let begun = self.lent.as_ref().and_then(|lent| lent.begun);
        if let (Some(begun), Some(limit)) = (begun, config.message_time_limit()) {
            return Some((begun.checked_add(limit)?, "message timeout", Error::MessageTimeout));
        }
        let limit = config.read_time_limit().filter(|_| self.core.is_open())?;
        let due = self.data_at.get_or_insert_with(now).checked_add(limit)?;
        Some((due, "read timeout", Error::ReadTimeout))
    }

    /// Ready when a deadline has passed and was acted upon.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let data_due = self.data_due();
        let out = self.lent.as_ref().map_or(&NOTHING, |lent| &lent.out);
        let earliest = data_due.as_ref().map(|(due, ..)| *due);
        let leave_due = self.member.as_ref().and_then(|member| member.due());
        let Some(due) = self.core.poll_timeout(out).into_iter().chain(earliest).chain(leave_due).min() else {
            return Poll::Pending;
        };
        let now = ready!(self.timer.poll(due, cx));
        let lent = self.lent.get_or_insert_with(scratch::take);
        if let Some((due, reason, error)) = data_due
            && now >= due
        {
            self.core.fail(CloseCode::POLICY, reason, &mut lent.out, now);
            self.end(Err(error));
            return Poll::Ready(());
        }
        if let Err(timed_out) = self.core.handle_timeout(&mut lent.out, now) {
            self.end(Err(timed_out.into()));
        }
        Poll::Ready(())
    }

    /// Ends TCP: writes the Close frame, shuts our direction where that is our part, and reads and drops
    /// what the peer still sends. A socket closed with unread input would be reset, and the reset may
    /// overtake the Close frame that tells the peer why (RFC 6455 7.1.1).
    #[cold]
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut ending = self.ending.take().unwrap_or_default();
        let polled = if ending.finished { Poll::Ready(()) } else { self.poll_end_tcp(cx, &mut ending) };
        if polled.is_ready() && !ending.finished {
            ending.finished = true;
            let waits = self.lent.as_ref().is_some_and(|lent| lent.unflushed || !lent.out.is_empty());
            if waits && matches!(ending.result, Some(Ok(_))) {
                // What waited was not taken in time: that is no clean end.
                ending.result = Some(Err(Error::CloseTimeout));
            }
            // Best effort: whoever keeps this value must not keep the peer waiting.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            self.lent = None;
            self.timer = Timer::default();
            if let (Some(mut watch), Some(end)) = (self.watch.take(), &ending.result) {
                watch.ends(end.clone());
                watch.over();
            }
        }
        let result = match &ending.result {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        };
        self.ending = Some(ending);
        if polled.is_ready() {
            return Poll::Ready(result);
        }
        if let Some(lent) = &mut self.lent {
            lent.give_back_block();
        }
        Poll::Pending
    }

    fn poll_end_tcp(&mut self, cx: &mut Context<'_>, ending: &mut Ending) -> Poll<()> {
        if !ending.written {
            ending.written = match self.poll_write(cx) {
                Poll::Ready(Ok(())) if self.lent.as_ref().is_some_and(|lent| lent.out.ends()) => {
                    Pin::new(&mut self.stream).poll_shutdown(cx).is_ready()
                }
                Poll::Ready(Ok(())) => true,
                // The peer has gone without waiting for the answer to its Close frame.
                Poll::Ready(Err(error)) => {
                    self.lent = None;
                    ending.broken.get_or_insert(error.into());
                    true
                }
                Poll::Pending => false,
            };
        }
        // The server ends TCP and is done; a client waits for that. Who failed the connection lingers.
        let waits = !matches!(ending.result, Some(Ok(_))) || self.core.role() == Role::Client;
        while !ending.eof && (waits || !ending.written) && !ending.hopeless {
            let lent = self.lent.get_or_insert_with(scratch::take);
            lent.input.clear();
            lent.take_block();
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut lent.input) {
                // The clock is asked here, for input that never pauses never lets the timer be asked.
                Poll::Ready(Ok(count)) if count > 0 => {
                    ending.hopeless = self.core.poll_timeout(&lent.out).is_some_and(|due| now() >= due);
                }
                Poll::Ready(_) => ending.eof = true,
                Poll::Pending => break,
            }
        }
        if ending.hopeless || (ending.written && (ending.eof || !waits)) {
            return Poll::Ready(());
        }
        let out = self.lent.as_ref().map_or(&NOTHING, |lent| &lent.out);
        match self.core.poll_timeout(out) {
            Some(due) => self.timer.poll(due, cx).map(drop),
            None => Poll::Pending,
        }
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
