//! The stream that an engine's HTTP service gets, with TLS or without.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Layer;
#[cfg(feature = "tls")]
use crate::tls::TlsStream;

/// A connection that asked for no WebSocket, for the HTTP service.
pub struct HttpStream(Inner);

enum Inner {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

impl fmt::Debug for HttpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpStream").field("peer", &self.peer_addr()).field("tls", &self.is_tls()).finish()
    }
}

impl HttpStream {
    /// Returns the socket.
    pub fn tcp(&self) -> &TcpStream {
        match &self.0 {
            Inner::Tcp(stream) => stream,
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => stream.stream(),
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
        match &self.0 {
            Inner::Tcp(_) => false,
            #[cfg(feature = "tls")]
            Inner::Tls(_) => true,
        }
    }

    /// Returns whether HTTP/2 was negotiated in the TLS handshake.
    pub fn is_http2(&self) -> bool {
        match &self.0 {
            Inner::Tcp(_) => false,
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => stream.is_http2(),
        }
    }

    /// Returns what the TLS handshake says about the client, if there was one.
    #[cfg(feature = "tls")]
    pub fn secured(&self) -> Option<crate::tls::Secured> {
        match &self.0 {
            Inner::Tcp(_) => None,
            Inner::Tls(stream) => Some(stream.secured()),
        }
    }

    /// The socket, and what is between it and the WebSocket.
    pub(in crate::engine) fn into_parts(self) -> io::Result<(std::net::TcpStream, Option<Layer>)> {
        match self.0 {
            Inner::Tcp(stream) => Ok((stream.into_std()?, None)),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                let session = Box::new(super::TlsSession::new(session));
                Ok((stream.into_std()?, Some(Layer::Tls(session))))
            }
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        match &mut self.get_mut().0 {
            Inner::Tcp(stream) => Pin::new(stream),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl From<TcpStream> for HttpStream {
    fn from(stream: TcpStream) -> Self {
        Self(Inner::Tcp(stream))
    }
}

#[cfg(feature = "tls")]
impl From<TlsStream<TcpStream>> for HttpStream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self(Inner::Tls(Box::new(stream)))
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for HttpStream {
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
        match &self.0 {
            Inner::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
