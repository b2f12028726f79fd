//! Reads and writes of a socket without TLS.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::Outbox;
use rustix::buffer::spare_capacity;

use super::{Flushed, READ, ReadOutcome, SLICES};

/// Writes what waits, as far as the socket takes it.
pub(super) fn flush(mut stream: &TcpStream, out: &mut Outbox, now: Instant) -> io::Result<Flushed> {
    while out.has_remaining() {
        let chunk = out.chunk();
        let (wanted, written) = if chunk.len() == out.remaining() {
            (chunk.len(), stream.write(chunk))
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.chunks_vectored(&mut slices);
            let wanted = slices[..count].iter().map(|slice| slice.len()).sum();
            (wanted, stream.write_vectored(&slices[..count]))
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                out.advance(count);
                if count < wanted {
                    // The socket is full: an event reports when it has room, and another call would find none.
                    out.block(now);
                    return Ok(Flushed::Blocked);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                out.block(now);
                return Ok(Flushed::Blocked);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Flushed::All)
}

/// Reads once, behind the first `before` bytes of the buffer.
#[inline]
pub(in crate::engine) fn read(mut stream: &TcpStream, buffer: &mut [u8], before: usize) -> ReadOutcome {
    match stream.read(&mut buffer[before..before + READ]) {
        Ok(0) => ReadOutcome::End,
        // A read that fills its room may have left something.
        Ok(count) => ReadOutcome::InBuffer { length: before + count, may_have_more: count == READ },
        Err(error) => error.into(),
    }
}

/// Reads once, into the spare capacity of a message's own buffer.
pub(in crate::engine) fn read_landing(stream: &TcpStream, landing: &mut Vec<u8>) -> ReadOutcome {
    let room = landing.capacity() - landing.len();
    match rustix::io::read(stream, spare_capacity(landing)) {
        Ok(0) => ReadOutcome::End,
        Ok(count) => ReadOutcome::Landed { count, may_have_more: count == room },
        Err(error) => io::Error::from(error).into(),
    }
}
