//! What a client's connection runs on: TCP, or what was put on top of it on the way.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The stream of a connection that a [`Client`](crate::Client) has opened.
pub struct Transport {
    inner: Inner,
    /// The other end of TCP: the server, or the proxy before it.
    peer: Option<SocketAddr>,
    secured: Option<Box<Negotiated>>,
}

/// What TLS was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// The protocol that the server chose by ALPN (RFC 7301), if it did.
    pub alpn: Option<Vec<u8>>,
}

enum Inner {
    Tcp(TcpStream),
    /// TLS, or a tunnel within TLS.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "TLS is not built in"))]
    Other(Box<dyn Stream>),
}

/// What may carry a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

impl Transport {
    /// Any stream, at whose other end is `peer`.
    #[cfg(feature = "tls")]
    pub(crate) fn new(stream: impl Stream + 'static, peer: Option<SocketAddr>) -> Self {
        Self { inner: Inner::Other(Box::new(stream)), peer, secured: None }
    }

    /// A stream within TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn secured(
        stream: impl Stream + 'static,
        peer: Option<SocketAddr>,
        secured: Negotiated,
    ) -> Self {
        Self { secured: Some(Box::new(secured)), ..Self::new(stream, peer) }
    }

    /// The same within a tunnel: its TLS ends at the proxy.
    #[cfg(feature = "proxy")]
    pub(crate) fn tunnelled(self) -> Self {
        Self { secured: None, ..self }
    }

    /// The TLS under the connection to the server, if there is any (`wss://`).
    pub fn tls(&self) -> Option<&Negotiated> {
        self.secured.as_deref()
    }

    /// Returns the address at the other end of TCP: that of the server, or of the proxy in between.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotConnected`] if the socket was no longer connected when it was handed over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The TCP socket, if the connection runs on nothing but TCP: for its options.
    pub const fn tcp(&self) -> Option<&TcpStream> {
        match &self.inner {
            Inner::Tcp(stream) => Some(stream),
            Inner::Other(_) => None,
        }
    }
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        let peer = stream.peer_addr().ok();
        Self { inner: Inner::Tcp(stream), peer, secured: None }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.inner {
            Inner::Tcp(_) => "TCP",
            Inner::Other(_) => "other",
        };
        f.debug_struct("Transport")
            .field("kind", &kind)
            .field("peer", &self.peer)
            .field("tls", &self.secured)
            .finish()
    }
}

impl Transport {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        match &mut self.get_mut().inner {
            Inner::Tcp(stream) => Pin::new(stream),
            Inner::Other(stream) => Pin::new(&mut **stream),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Tcp(stream) => stream.is_write_vectored(),
            Inner::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
