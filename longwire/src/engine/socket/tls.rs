//! TLS of a connection behind its handshake: rustls, which does no I/O, is fed from the loop's buffer.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::Outbox;
use rustls::ServerConnection;

use super::{Flushed, ReadOutcome, SLICES};

/// Bytes that one call of the system reads, at the end of the loop's buffer. What they decrypt to goes to its front.
const SEALED: usize = 32 * 1024;

/// More than the largest record (RFC 8446 5.2), of which the beginning may have come before.
const RECORD: usize = 18 * 1024;

/// Reads in a turn. Records may bring nothing, and a peer that sends such records gets no more of the loop than others.
const READS: usize = 4;

/// A connection's TLS, behind its handshake. It holds the beginning of a record that is not complete, and at most 64 KiB
/// of encrypted bytes that the socket has not taken, and what ends a handshake.
#[derive(Debug)]
pub(in crate::engine) struct TlsSession {
    tls: ServerConnection,
    /// What has ended reading, behind bytes that were good and are processed first.
    failure: Option<io::Error>,
}

/// How far reading has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The peer has ended its direction.
    Ended,
    /// There may be more that no event reports.
    MayHaveMore,
    /// There is no more until an event reports it.
    Exhausted,
}

impl TlsSession {
    pub(in crate::engine) const fn new(tls: ServerConnection) -> Self {
        Self { tls, failure: None }
    }

    /// Something is encrypted that the socket has not taken.
    pub(in crate::engine) fn is_behind(&self) -> bool {
        self.tls.wants_write()
    }

    /// Reads behind the first `before` bytes of the buffer.
    pub(in crate::engine) fn read(
        &mut self,
        stream: &TcpStream,
        buffer: &mut [u8],
        before: usize,
    ) -> ReadOutcome {
        let mut length = before;
        let progress = self.read_into(stream, buffer, &mut length);
        // Answers of TLS itself: to a request for other keys, or the alert that says what was wrong. What the socket
        // does not take now goes in front of what is written next.
        while self.tls.wants_write() && self.tls.write_tls(&mut &*stream).is_ok_and(|count| count > 0) {}
        let has_some = length > before;
        match progress {
            Ok(progress) if has_some => {
                // The end is found again by the next read.
                ReadOutcome::InBuffer { length, may_have_more: progress != Progress::Exhausted }
            }
            Ok(Progress::Ended) => ReadOutcome::End,
            Ok(Progress::MayHaveMore) => ReadOutcome::Again,
            Ok(Progress::Exhausted) => ReadOutcome::Nothing,
            Err(error) if has_some => {
                self.failure = Some(error);
                ReadOutcome::InBuffer { length, may_have_more: true }
            }
            Err(error) => ReadOutcome::Failed(error),
        }
    }

    fn read_into(
        &mut self,
        mut stream: &TcpStream,
        buffer: &mut [u8],
        length: &mut usize,
    ) -> io::Result<Progress> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let (opened, sealed) = buffer.split_at_mut(buffer.len() - SEALED);
        for _ in 0..READS {
            // What came with the handshake is there already.
            if self.take(opened, length)? {
                return Ok(Progress::Ended);
            }
            // Without this room for what one more read may decrypt to, rustls would have to keep it.
            if opened.len() - *length < SEALED + RECORD {
                return Ok(Progress::MayHaveMore);
            }
            let count = match stream.read(sealed) {
                Ok(0) => return Ok(Progress::Ended),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Exhausted),
                Err(error) => return Err(error),
            };
            let mut rest = &sealed[..count];
            while !rest.is_empty() {
                if self.tls.read_tls(&mut rest)? == 0 {
                    return Ok(Progress::Ended);
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
                    return Ok(Progress::Ended);
                }
            }
        }
        Ok(Progress::MayHaveMore)
    }

    /// Takes what was decrypted, for which there is room. Whether the peer has ended TLS behind it (RFC 8446 6.1).
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

    /// Writes what waits, as far as the socket takes it.
    pub(in crate::engine) fn flush(
        &mut self,
        mut stream: &TcpStream,
        out: &mut Outbox,
        now: Instant,
    ) -> io::Result<Flushed> {
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut stream) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(_) => out.unblock(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        out.block(now);
                        return Ok(Flushed::Blocked);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if !out.has_remaining() {
                return Ok(Flushed::All);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = out.chunks_vectored(&mut slices);
            // rustls takes as much as its buffer holds.
            let count = self.tls.writer().write_vectored(&slices[..filled])?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            out.advance(count);
        }
    }

    /// Queues the alert that ends our direction (RFC 8446 6.1), behind what waits. Only the first call does something.
    pub(in crate::engine) fn close_notify(&mut self) {
        self.tls.send_close_notify();
    }
}
