//! The address at the other end of a stream.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::net::transport::Transport;
#[cfg(feature = "tls")]
use crate::tls::TlsStream;

/// A stream that knows the address at the other end of its TCP connection.
///
/// Implement it for a stream of your own, and [`WebSocket::peer_addr`](crate::WebSocket::peer_addr) works over it.
pub trait PeerAddr {
    /// Returns the address of the peer, or of the proxy in between.
    ///
    /// # Errors
    ///
    /// The error of the operating system, such as when the socket is no longer connected.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}

impl PeerAddr for TcpStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Self::peer_addr(self)
    }
}

impl PeerAddr for Transport {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Self::peer_addr(self)
    }
}

#[cfg(feature = "tls")]
impl<S: PeerAddr> PeerAddr for TlsStream<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream().peer_addr()
    }
}

impl<S: PeerAddr + ?Sized> PeerAddr for Box<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        (**self).peer_addr()
    }
}
