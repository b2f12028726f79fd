//! A connection's socket, with what is between it and the WebSocket: nothing, TLS, or a stream that a task carries.

pub(super) mod http_stream;
mod plain;
#[cfg(test)]
pub(super) mod scripted;
#[cfg(feature = "tls")]
mod tls;
// Elsewhere the crate io-uring has no bindings; Cargo.toml has the same list.
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(
            target_arch = "aarch64",
            target_arch = "loongarch64",
            target_arch = "powerpc64",
            target_arch = "riscv64",
            target_arch = "x86_64"
        )
    )),
    path = "no_uring.rs"
)]
mod uring;
pub(super) mod writer;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use longwire_proto::Outbox;

pub(in crate::engine) use plain::{read, read_landing};
#[cfg(feature = "tls")]
pub(in crate::engine) use tls::TlsSession;

/// Bytes that one read takes: enough for a message of 64 KiB, and few enough to stay in the processor's cache.
pub(in crate::engine) const READ: usize = 128 * 1024;

/// What may be left of the read before: a header and a control frame.
const REST: usize = 256;

/// The size of a loop's read buffer.
pub(in crate::engine) const BUFFER: usize = READ + REST;

/// Buffers that one call of the system writes.
const SLICES: usize = 64;

/// What is between a socket and its WebSocket.
#[derive(Debug)]
pub(in crate::engine) enum Layer {
    #[cfg(feature = "tls")]
    Tls(Box<TlsSession>),
    Carried(Box<Carried>),
    #[cfg(test)]
    Scripted(scripted::Scripted),
}

/// The socket is one end of a pair. A task carries the bytes between the other end and the peer's stream.
#[derive(Debug)]
pub(in crate::engine) struct Carried {
    pub(in crate::engine) from: SocketAddr,
    /// How the peer's stream has failed.
    pub(in crate::engine) failure: Arc<OnceLock<Arc<io::Error>>>,
}

/// What a write has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Flushed {
    /// The socket has taken everything.
    All,
    /// The socket takes no more for now, which the outbox has noted.
    Blocked,
}

/// What a read has brought.
#[derive(Debug)]
pub(in crate::engine) enum ReadOutcome {
    /// There is nothing to read: the system reports when there is.
    Nothing,
    /// Nothing yet, but no event may report more: read again in another turn.
    Again,
    /// The peer has ended its direction of TCP.
    End,
    Failed(io::Error),
    /// The buffer has `length` bytes now, those that were in front of the read included.
    InBuffer {
        length: usize,
        /// There may be more that no event reports.
        may_have_more: bool,
    },
    /// `count` bytes are in the message's own buffer.
    Landed {
        count: usize,
        /// There may be more that no event reports.
        may_have_more: bool,
    },
}

impl From<io::Error> for ReadOutcome {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Nothing,
            io::ErrorKind::Interrupted => Self::Again,
            _ => Self::Failed(error),
        }
    }
}

/// Writes what waits, as far as the socket takes it.
#[inline]
pub(in crate::engine) fn flush(
    stream: &TcpStream,
    layer: Option<&mut Layer>,
    out: &mut Outbox,
    now: Instant,
) -> io::Result<Flushed> {
    match layer {
        #[cfg(feature = "tls")]
        Some(Layer::Tls(session)) => session.flush(stream, out, now),
        #[cfg(test)]
        Some(Layer::Scripted(scripted)) => scripted.flush(out, now),
        _ => plain::flush(stream, out, now),
    }
}

/// Reads what nobody wants any more, into a buffer that nobody looks at.
pub(in crate::engine) fn discard(
    stream: &TcpStream,
    layer: Option<&Layer>,
    buffer: &mut [u8],
) -> ReadOutcome {
    match layer {
        #[cfg(test)]
        Some(Layer::Scripted(scripted)) => scripted.read(buffer, 0),
        // TLS too is discarded as it comes: decrypting it would be work for nothing.
        _ => read(stream, buffer, 0),
    }
}

/// Ends our direction of TCP, behind what waits; in TLS with close_notify (RFC 8446 6.1). It is not ended while the
/// answer is [`Flushed::Blocked`].
pub(in crate::engine) fn shut_down_writing(
    stream: &TcpStream,
    layer: Option<&mut Layer>,
    out: &mut Outbox,
    now: Instant,
) -> io::Result<Flushed> {
    #[cfg(feature = "tls")]
    if let Some(Layer::Tls(session)) = layer {
        session.close_notify();
        if session.flush(stream, out, now)? == Flushed::Blocked {
            return Ok(Flushed::Blocked);
        }
    }
    #[cfg(not(feature = "tls"))]
    let _ = (layer, out, now);
    // An error says that the peer has ended the connection: so it is shut down.
    let _ = stream.shutdown(Shutdown::Write);
    Ok(Flushed::All)
}
