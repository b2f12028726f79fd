//! The stream that an engine's HTTP service gets, with TLS or without.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Layer;
use crate::net::maybe_tls::MaybeTls;

#[cfg(feature = "tls")]
type TlsStream = crate::tls::TlsStream<TcpStream>;
/// Never used: without the feature `tls` there is only TCP.
#[cfg(not(feature = "tls"))]
type TlsStream = TcpStream;

/// A connection that asked for no WebSocket, for the HTTP service.
pub struct HttpStream(MaybeTls<TlsStream>);

impl fmt::Debug for HttpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpStream").field("peer", &self.peer_addr()).field("tls", &self.is_tls()).finish()
    }
}

impl HttpStream {
    /// Returns the TCP socket, also the one under TLS.
    pub fn tcp(&self) -> &TcpStream {
        match &self.0 {
            MaybeTls::Tcp(stream) => stream,
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => stream.stream(),
            #[cfg(not(feature = "tls"))]
            MaybeTls::Tls(stream) => stream,
        }
    }

    /// Returns the peer's address.
    ///
    /// # Errors
    ///
    /// The error of the operating system, for example if the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// Returns whether the connection uses TLS.
    pub const fn is_tls(&self) -> bool {
        matches!(self.0, MaybeTls::Tls(_))
    }

    /// Returns whether HTTP/2 was negotiated in the TLS handshake.
    pub fn is_http2(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => stream.is_http2(),
            _ => false,
        }
    }

    /// Returns what the TLS handshake says about the client, if there was one.
    #[cfg(feature = "tls")]
    pub fn secured(&self) -> Option<crate::tls::Secured> {
        match &self.0 {
            MaybeTls::Tcp(_) => None,
            MaybeTls::Tls(stream) => Some(stream.secured()),
        }
    }

    /// The socket, and what is between it and the WebSocket.
    pub(in crate::engine) fn into_parts(self) -> io::Result<(std::net::TcpStream, Option<Layer>)> {
        match self.0 {
            MaybeTls::Tcp(stream) => Ok((stream.into_std()?, None)),
            #[cfg(feature = "tls")]
            MaybeTls::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                let session = Box::new(super::TlsSession::new(session));
                Ok((stream.into_std()?, Some(Layer::Tls(session))))
            }
            #[cfg(not(feature = "tls"))]
            MaybeTls::Tls(stream) => Ok((stream.into_std()?, None)),
        }
    }
}

impl From<TcpStream> for HttpStream {
    fn from(stream: TcpStream) -> Self {
        Self(MaybeTls::Tcp(stream))
    }
}

#[cfg(feature = "tls")]
impl From<TlsStream> for HttpStream {
    fn from(stream: TlsStream) -> Self {
        Self(MaybeTls::Tls(Box::new(stream)))
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
