//! Below WebSocket: the heads of HTTP/1.1, the stream that carries a connection, and TLS.

pub(crate) mod http_head;
pub(crate) mod maybe_tls;
pub(crate) mod peer_addr;
pub(crate) mod read_block;
#[cfg(feature = "tls")]
pub mod tls;
pub(crate) mod transport;

use std::any::Any;
use std::io;

use tokio::net::TcpStream;

/// Treats the end of TLS without close_notify as the end of TCP: `read` becomes `end`.
///
/// Many peers close TCP without close_notify (RFC 8446 6.1). The protocol above detects whether data was cut off: a
/// WebSocket has its closing handshake, a head its empty line. rustls reports [`io::ErrorKind::UnexpectedEof`], which no
/// socket does.
pub(crate) fn end_without_close_notify<T>(read: io::Result<T>, end: T) -> io::Result<T> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(end),
        read => read,
    }
}

/// Sets `TCP_NODELAY` if the stream is a TCP socket.
pub(crate) fn set_nodelay<S: 'static>(stream: &S) {
    if let Some(socket) = (stream as &dyn Any).downcast_ref::<TcpStream>() {
        // It fails only if the connection has ended already, and reading reports that.
        let _ = socket.set_nodelay(true);
    }
}
