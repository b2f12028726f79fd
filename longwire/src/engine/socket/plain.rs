//! Between a connection and its socket: one read, and writing what waits, by way of a layer where there is one.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::Buf;
use longwire_proto::Outbox;
use rustix::buffer::spare_capacity;

use crate::end::Error;
use crate::engine::entry::Held;
use crate::engine::event_loop::READ;
use crate::engine::event_loop::place::{Place, Stage};
#[cfg(feature = "tls")]
use crate::engine::socket::layer::Layer;

/// Buffers that one call writes.
pub(crate) const SLICES: usize = 64;

/// Writes what waits: whether that was all. What lies between is in `held`.
#[inline]
pub(crate) fn flush(
    stream: &TcpStream,
    held: &mut Option<Box<Held>>,
    out: &mut Outbox,
    sent: &mut u64,
    now: Instant,
) -> io::Result<bool> {
    #[cfg(feature = "tls")]
    if let Some(held) = held
        && let Some(Layer::Tls(session)) = &mut held.layer
    {
        return session.flush(stream, out, sent, now);
    }
    #[cfg(not(feature = "tls"))]
    let _ = held;
    flush_plain(stream, out, sent, now)
}

fn flush_plain(mut stream: &TcpStream, out: &mut Outbox, sent: &mut u64, now: Instant) -> io::Result<bool> {
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
                *sent += count as u64;
                if count < wanted {
                    // It is full: the system tells when it has room.
                    out.block(now);
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                out.block(now);
                return Ok(false);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// As [`flush`], for the last time: the layer is told of the end behind what waits.
pub(crate) fn flush_last(
    stream: &TcpStream,
    held: &mut Held,
    sent: &mut u64,
    now: Instant,
) -> io::Result<bool> {
    #[cfg(feature = "tls")]
    if let Held { layer: Some(Layer::Tls(session)), out, .. } = held {
        return Ok(session.flush(stream, out, sent, now)? && {
            session.close_notify();
            session.flush(stream, out, sent, now)?
        });
    }
    flush_plain(stream, &mut held.out, sent, now)
}

/// What a read brought.
pub(crate) enum ReadOutcome {
    Nothing,
    End(Error),
    /// Behind this many bytes that were there.
    InBuffer {
        length: usize,
        full: bool,
    },
    /// Right into the message's own buffer.
    Landed {
        count: usize,
        full: bool,
    },
}

/// Reads once: into the message's own buffer if much of it is to come, else behind what is left.
pub(crate) fn read<S>(place: &mut Place<S>, buffer: &mut [u8]) -> ReadOutcome {
    let Place { stage: Stage::Open(entry, _), stream, .. } = place else { return ReadOutcome::Nothing };
    let mut broken = false;
    let mut before = 0;
    let read = 'read: {
        if let Some(held) = &mut entry.held {
            broken = held.broken.is_some();
            before = held.input.len();
            #[cfg(feature = "tls")]
            if let Some(Layer::Tls(session)) = &mut held.layer {
                buffer[..before].copy_from_slice(&held.input);
                let read = session.read(stream, buffer, before);
                held.was_blocked |= session.is_behind();
                break 'read read
                    .map(|read| read.map(|(length, full)| ReadOutcome::InBuffer { length, full }));
            }
            if before == 0
                && let Some(landing) = held.assembler.landing_buffer(&entry.core)
            {
                let room = landing.capacity() - landing.len();
                break 'read match rustix::io::read(&*stream, spare_capacity(landing)) {
                    Ok(0) => Ok(None),
                    Ok(count) => Ok(Some(ReadOutcome::Landed { count, full: count == room })),
                    Err(error) => Err(io::Error::from(error)),
                };
            }
            buffer[..before].copy_from_slice(&held.input);
        }
        let mut stream = &*stream;
        match stream.read(&mut buffer[before..before + READ]) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(ReadOutcome::InBuffer { length: before + count, full: count == READ })),
            Err(error) => Err(error),
        }
    };
    match read {
        Ok(Some(brought)) => {
            if let Some(held) = &mut entry.held {
                held.input = Vec::new();
            }
            brought
        }
        Ok(None) => ReadOutcome::End(Error::Eof),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !broken => ReadOutcome::Nothing,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            place.readable = true;
            ReadOutcome::Nothing
        }
        Err(error) => ReadOutcome::End(error.into()),
    }
}
