//! TLS in a loop: handshakes in tasks beside it, then rustls, which does no I/O, fed from the loop's buffer.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Buf, Bytes};
use longwire_proto::Outbox;
use rustls::ServerConnection;
use tokio::net::TcpStream;

use crate::engine::event_loop::Loop;
use crate::engine::event_loop::admission::{Next, OpeningTask, count};
use crate::engine::event_loop::opening::{arrive, check, not_opened, upgrade_required};
use crate::engine::handler::Handler;
use crate::engine::socket::http_stream::HttpStream;
use crate::engine::socket::plain::SLICES;
use crate::tls::ServerTls;

/// Bytes that one call of the system reads, at the end of the loop's buffer; what they bring goes to its front.
const SEALED: usize = 32 * 1024;

/// More than the largest record (RFC 8446 5.2) of which a part was there before.
const RECORD: usize = 18 * 1024;

/// Calls in a turn. Records may bring nothing, and who sends them has no more of the loop than others.
const READS: usize = 4;

/// A connection's TLS, behind its handshake. It holds what has not come whole of a record, and at most 64 KiB, and
/// what ends a handshake, of what was sealed and not taken.
#[derive(Debug)]
pub(crate) struct TlsSession {
    tls: ServerConnection,
    /// What has ended reading, behind what was read before.
    failed: Option<io::Error>,
}

impl TlsSession {
    pub(crate) const fn new(tls: ServerConnection) -> Self {
        Self { tls, failed: None }
    }

    /// Something is sealed and not taken.
    pub(crate) fn is_behind(&self) -> bool {
        self.tls.wants_write()
    }

    /// Reads behind the first `before` bytes of the buffer: how many there are then, and whether there may be more
    /// that nothing tells of; `None` at the end.
    pub(crate) fn read(
        &mut self,
        stream: &std::net::TcpStream,
        buffer: &mut [u8],
        before: usize,
    ) -> io::Result<Option<(usize, bool)>> {
        let mut length = before;
        let ended = self.read_into(stream, buffer, &mut length);
        // Answers of TLS itself: to a request for other keys, or an alert that says what was wrong.
        while self.tls.wants_write() && self.tls.write_tls(&mut &*stream).is_ok_and(|count| count > 0) {}
        match ended {
            Ok(Ended::Yes) if length == before => Ok(None),
            Ok(ended) if length > before => Ok(Some((length, !matches!(ended, Ended::NoMore)))),
            Ok(Ended::NoMore) => Err(io::ErrorKind::WouldBlock.into()),
            // It has its next turn.
            Ok(_) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) if length == before => Err(error),
            Err(error) => {
                self.failed = Some(error);
                Ok(Some((length, true)))
            }
        }
    }

    fn read_into(
        &mut self,
        mut stream: &std::net::TcpStream,
        buffer: &mut [u8],
        length: &mut usize,
    ) -> io::Result<Ended> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (opened, sealed) = buffer.split_at_mut(buffer.len() - SEALED);
        for _ in 0..READS {
            // What came with the handshake is there already.
            if self.take(opened, length)? {
                return Ok(Ended::Yes);
            }
            if opened.len() - *length < SEALED + RECORD {
                return Ok(Ended::NotYet);
            }
            let count = match stream.read(sealed) {
                Ok(0) => return Ok(Ended::Yes),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Ended::NoMore),
                Err(error) => return Err(error),
            };
            let mut rest = &sealed[..count];
            while !rest.is_empty() {
                if self.tls.read_tls(&mut rest)? == 0 {
                    return Ok(Ended::Yes);
                }
                let state = match self.tls.process_new_packets() {
                    Ok(state) => state,
                    Err(error) => {
                        // What came before it is good.
                        self.take(opened, length)?;
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                };
                let has_some = state.plaintext_bytes_to_read() > 0 || state.peer_has_closed();
                if has_some && self.take(opened, length)? {
                    return Ok(Ended::Yes);
                }
            }
        }
        Ok(Ended::NotYet)
    }

    /// Takes what was opened, for which there is room; whether the peer has ended TLS behind it (RFC 8446 6.1).
    fn take(&mut self, opened: &mut [u8], length: &mut usize) -> io::Result<bool> {
        loop {
            match self.tls.reader().read(&mut opened[*length..]) {
                Ok(0) => return Ok(true),
                Ok(count) => *length += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what waits: whether that was all, and the socket has taken it.
    pub(crate) fn flush(
        &mut self,
        mut stream: &std::net::TcpStream,
        out: &mut Outbox,
        sent: &mut u64,
        now: Instant,
    ) -> io::Result<bool> {
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut stream) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(_) => out.unblock(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        out.block(now);
                        return Ok(false);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if !out.has_remaining() {
                return Ok(true);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = out.chunks_vectored(&mut slices);
            // It takes as much as it may hold.
            let count = self.tls.writer().write_vectored(&slices[..filled])?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            out.advance(count);
            *sent += count as u64;
        }
    }

    /// Says that nothing more comes (RFC 8446 6.1), behind what waits.
    pub(crate) fn close_notify(&mut self) {
        self.tls.send_close_notify();
    }
}

enum Ended {
    Yes,
    /// There may be more.
    NotYet,
    /// Until the system tells of more.
    NoMore,
}

impl<H: Handler> OpeningTask<H> {
    /// From a connection's first byte on: TLS, the request, the verdict.
    async fn receive(&self, tls: &ServerTls, stream: TcpStream, from: SocketAddr) -> Next<H::State> {
        let stream = match tls.accept(stream, self.options.handshake_timeout()).await {
            Ok(stream) => HttpStream::from(stream),
            Err(_) => {
                count(&self.tasks.tls_failed);
                return Next::Nothing;
            }
        };
        if stream.is_http2() {
            return Next::Http(stream, Bytes::new());
        }
        let mut handshake = match self.options.acceptor.read_request(stream).await {
            Ok(handshake) => handshake,
            Err(error) => {
                let told = &self.engine.mailbox(self.at).told;
                not_opened(told, Some(from), &error);
                return Next::Nothing;
            }
        };
        if !handshake.is_websocket() {
            if self.options.http.is_none() {
                return Next::Refuse(handshake, upgrade_required());
            }
            let (stream, read) = handshake.into_parts();
            return Next::Http(stream, read);
        }
        if let Some(secured) = handshake.stream.secured() {
            handshake.request.extensions_mut().insert(secured);
        }
        let checked = arrive(&self.options, &mut handshake.request, from)
            .and_then(|from| Ok((from, check(&self.options, &handshake.request)?)));
        match checked {
            Ok((from, checked)) => self.decide(handshake, from, checked).await,
            Err(refusal) => Next::Refuse(handshake, refusal),
        }
    }
}

impl<H: Handler> Loop<H> {
    /// A connection begins here that speaks TLS. It is counted already.
    pub(crate) fn secure(&self, tls: ServerTls, stream: std::net::TcpStream, from: SocketAddr) {
        let (task, permit) = (self.task(), self.permit());
        self.spawn(async move {
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            let closing = task.tasks.closing.clone();
            // Boxed, so that what is served behind it does not hold the room that it needs.
            let received = Box::pin(closing.run_until_cancelled(task.receive(&tls, stream, from))).await;
            if let Some(next) = received {
                task.go_on(next, permit).await;
            }
        });
    }
}
