//! The stream of a client's connection: TCP, or TLS over TCP or over a tunnel.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::maybe_tls::MaybeTls;

/// TLS runs over TCP, or over the TLS of a proxy.
#[cfg(feature = "tls")]
type TlsStream = tokio_rustls::client::TlsStream<Transport>;
/// Never used: without the feature `tls` there is only TCP.
#[cfg(not(feature = "tls"))]
type TlsStream = TcpStream;

/// The stream of a connection that a [`Client`](crate::Client) has opened.
pub struct Transport {
    stream: MaybeTls<TlsStream>,
    peer: Option<SocketAddr>,
    negotiated: Option<Box<Negotiated>>,
}

/// What the TLS handshake with a server negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// The protocol that the server selected by ALPN (RFC 7301), if it selected one.
    pub alpn: Option<Vec<u8>>,
}

impl Transport {
    /// A TLS stream to the server.
    #[cfg(feature = "tls")]
    pub(crate) fn secured(stream: TlsStream, peer: Option<SocketAddr>, negotiated: Negotiated) -> Self {
        Self { stream: MaybeTls::Tls(Box::new(stream)), peer, negotiated: Some(Box::new(negotiated)) }
    }

    /// Makes it the tunnel through a proxy: its TLS, if any, ends at the proxy and is not that of the server.
    #[cfg(feature = "proxy")]
    pub(crate) fn tunnelled(self) -> Self {
        Self { negotiated: None, ..self }
    }

    /// Returns what the TLS handshake with the server negotiated, for `wss://`.
    pub fn tls(&self) -> Option<&Negotiated> {
        self.negotiated.as_deref()
    }

    /// Returns the address of the TCP peer: the server, or the proxy in front of it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if the socket was no longer connected when it was handed over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Returns the TCP socket, also the one under TLS, to set its options.
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            MaybeTls::Tcp(stream) => stream,
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => stream.get_ref().0.tcp(),
            #[cfg(not(feature = "tls"))]
            MaybeTls::Tls(stream) => stream,
        }
    }
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        let peer = stream.peer_addr().ok();
        Self { stream: MaybeTls::Tcp(stream), peer, negotiated: None }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.stream {
            MaybeTls::Tcp(_) => "TCP",
            MaybeTls::Tls(_) => "TLS",
        };
        f.debug_struct("Transport")
            .field("kind", &kind)
            .field("peer", &self.peer)
            .field("tls", &self.negotiated)
            .finish()
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
