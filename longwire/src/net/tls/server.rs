//! TLS of a server: its certificate and key, how they are replaced while it runs, and client certificates.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::TlsAcceptError;
use super::provider::provider;
use crate::net::{end_without_close_notify, set_nodelay};

/// The certificate and the TLS settings of a server: TLS 1.2 and 1.3.
///
/// Clones share the certificate, so that [`reload`](Self::reload) applies to all of them. An idle stream in TLS holds
/// about 8 KiB.
///
/// ```no_run
/// use std::time::Duration;
/// use longwire::{Acceptor, tls::ServerTls};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ServerTls::from_files("chain.pem", "key.pem")?;
/// let acceptor = Acceptor::new();
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// loop {
///     let (stream, _) = listener.accept().await?;
///     let (tls, acceptor) = (tls.clone(), acceptor.clone());
///     tokio::spawn(async move {
///         let stream = tls.accept(stream, Duration::from_secs(10)).await?;
///         let mut ws = acceptor.accept(stream).await?;
///         while let Some(message) = ws.recv().await? {
///             ws.send(message).await?;
///         }
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///     });
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct ServerTls {
    identity: Arc<Identity>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("files", &self.identity.files)
            .field("asks_for_certificates", &self.clients.is_some())
            .field("http2", &self.is_http2())
            .finish_non_exhaustive()
    }
}

/// The certificate and the key, which can be replaced.
struct Identity {
    key: ArcSwap<CertifiedKey>,
    files: Option<Files>,
    /// The state of the files before the key was read from them. A change after it, even before
    /// [`ServerTls::watch`] is called, is noticed by comparison.
    loaded: ArcSwap<[Stamp; 2]>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

/// The files that contain the certificate and the key.
#[derive(Clone, Debug)]
struct Files {
    certificates: PathBuf,
    key: PathBuf,
}

/// The time when a file was changed, and its length. A file that cannot be read has none.
type Stamp = Option<(SystemTime, u64)>;

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        [&self.certificates, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    /// Reads the key, and the state of the files before.
    fn load(&self) -> Result<(CertifiedKey, [Stamp; 2]), CertificateError> {
        let stamps = self.stamps();
        Ok((certified(&read(&self.certificates)?, &read(&self.key)?)?, stamps))
    }
}

impl ServerTls {
    /// Uses a certificate with its chain, and its private key (PKCS#8, SEC1 or PKCS#1), in PEM.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, CertificateError> {
        Self::of(certified(certificates.as_ref(), key.as_ref())?, None, [None; 2])
    }

    /// Like [`from_pem`](Self::from_pem), from files, which can be [reloaded](Self::reload).
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_files(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, CertificateError> {
        let files = Files { certificates: certificates.into(), key: key.into() };
        let (key, stamps) = files.load()?;
        Self::of(key, Some(files), stamps)
    }

    fn of(key: CertifiedKey, files: Option<Files>, loaded: [Stamp; 2]) -> Result<Self, CertificateError> {
        let (key, loaded) = (ArcSwap::from_pointee(key), ArcSwap::from_pointee(loaded));
        let identity = Arc::new(Identity { key, files, loaded });
        let config = configure(&identity, None)?;
        Ok(Self { identity, clients: None, config })
    }

    /// Requires a client certificate that one of these roots, in PEM, has signed (mutual TLS). Clients without one are
    /// rejected.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if the text contains no certificate, or one that cannot be a root.
    pub fn client_roots(mut self, roots: impl AsRef<[u8]>) -> Result<Self, CertificateError> {
        let mut store = RootCertStore::empty();
        for root in certificates(roots.as_ref())? {
            store.add(root).map_err(CertificateError::invalid)?;
        }
        let provider = provider().map_err(CertificateError::invalid)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        self.clients = Some(verifier.build().map_err(CertificateError::invalid)?);
        let mut config = configure(&self.identity, self.clients.as_ref())?;
        Arc::make_mut(&mut config).alpn_protocols.clone_from(&self.config.alpn_protocols);
        self.config = config;
        Ok(self)
    }

    /// Sets whether HTTP/2 is offered, before HTTP/1.1 (ALPN, RFC 7301). Default: no. For servers whose HTTP service
    /// supports it.
    #[must_use]
    pub fn http2(mut self, offered: bool) -> Self {
        let protocols: &[&[u8]] = if offered { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        self
    }

    fn is_http2(&self) -> bool {
        self.config.alpn_protocols.len() > 1
    }

    /// Reads the files again, for new connections. Does nothing if there are no files. It blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]; the previous certificate stays in use.
    pub fn reload(&self) -> Result<(), CertificateError> {
        if let Some(files) = &self.identity.files {
            let (key, stamps) = files.load()?;
            self.identity.key.store(Arc::new(key));
            self.identity.loaded.store(Arc::new(stamps));
        }
        Ok(())
    }

    /// Replaces the certificate and the key, in PEM, for new connections.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]; the previous certificate stays in use.
    pub fn replace(
        &self,
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<(), CertificateError> {
        self.identity.key.store(Arc::new(certified(certificates.as_ref(), key.as_ref())?));
        Ok(())
    }

    /// Checks the files at this interval, [reloads](Self::reload) them when one has changed, and reports the result to
    /// `report`. Notices every change since the files were loaded, even if it is called later.
    ///
    /// A reload that fails is repeated at each interval and reported once. Without files this waits forever.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: dropping the future stops the checks.
    pub async fn watch(&self, every: Duration, mut report: impl FnMut(Result<(), CertificateError>)) {
        if self.identity.files.is_none() {
            return std::future::pending().await;
        }
        let mut failed: Option<String> = None;
        loop {
            sleep(every).await;
            let (tls, has_failed) = (self.clone(), failed.is_some());
            // The disk may be slow.
            let checked = tokio::task::spawn_blocking(move || tls.reload_if_changed(has_failed)).await;
            let Ok(Some(reloaded)) = checked else { continue };
            let text = reloaded.as_ref().err().map(ToString::to_string);
            if reloaded.is_ok() || text != failed {
                report(reloaded);
            }
            failed = text;
        }
    }

    /// After a failure the files are read even if they are as they were when they were loaded: somebody may have moved
    /// them away and back.
    fn reload_if_changed(&self, has_failed: bool) -> Option<Result<(), CertificateError>> {
        let files = self.identity.files.as_ref()?;
        (has_failed || files.stamps() != **self.identity.loaded.load()).then(|| self.reload())
    }

    /// Performs the TLS handshake, which must be complete within `time`. If the stream is a
    /// [`TcpStream`], `TCP_NODELAY` is set.
    ///
    /// # Errors
    ///
    /// [`TlsAcceptError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept<S>(&self, stream: S, time: Duration) -> Result<TlsStream<S>, TlsAcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        set_nodelay(&stream);
        // Boxed, because it is large and the future of the caller lives as long as the connection.
        let accept = Box::pin(TlsAcceptor::from(Arc::clone(&self.config)).accept(stream));
        Ok(TlsStream(timeout(time, accept).await??))
    }
}

fn configure(
    identity: &Arc<Identity>,
    clients: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = provider().map_err(CertificateError::invalid)?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(CertificateError::invalid)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(identity) as _);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| malformed(&error))?;
    if all.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(all) }
}

/// Describes the error in words: its own text shows labels as numbers.
fn malformed(error: &pem::Error) -> CertificateError {
    CertificateError::Invalid(match error {
        pem::Error::MissingSectionEnd { .. } => "a section of the PEM file has no -----END line".into(),
        pem::Error::IllegalSectionStart { .. } => "a section of the PEM file has no label".into(),
        error => error.to_string(),
    })
}

fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, CertificateError> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey,
        error => malformed(&error),
    })?;
    let certified = CertifiedKey::from_der(chain, key, &*provider().map_err(CertificateError::invalid)?);
    certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch,
        error => CertificateError::invalid(error),
    })
}

/// Why a certificate or a private key of the server cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The text contains no certificate.
    NoCertificate,
    /// The text contains no private key, or an encrypted one.
    NoKey,
    /// The private key does not belong to the certificate.
    KeyMismatch,
    /// The text is malformed, or its kind is not supported; the string says which.
    Invalid(String),
}

impl CertificateError {
    fn invalid(error: impl fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::NoCertificate => {
                f.write_str("there is no certificate: expected PEM that begins with -----BEGIN CERTIFICATE-----")
            }
            Self::NoKey => f.write_str(
                "there is no private key: expected PEM that begins with -----BEGIN PRIVATE KEY----- and is not \
                 encrypted",
            ),
            Self::KeyMismatch => f.write_str("the private key does not belong to the certificate"),
            Self::Invalid(reason) => write!(f, "the certificate or the key is invalid: {reason}"),
        }
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The TLS stream of a client, after the handshake.
pub struct TlsStream<S>(tokio_rustls::server::TlsStream<S>);

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("alpn", &self.alpn()).finish_non_exhaustive()
    }
}

impl TlsStream<TcpStream> {
    /// Returns the peer's address.
    ///
    /// # Errors
    ///
    /// That of the operating system, for example if the socket is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream().peer_addr()
    }
}

impl<S> TlsStream<S> {
    /// Returns the stream under TLS.
    pub fn stream(&self) -> &S {
        self.0.get_ref().0
    }

    /// Returns the protocol that was negotiated (ALPN, RFC 7301), such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// Whether HTTP/2 was negotiated.
    pub fn is_http2(&self) -> bool {
        self.alpn() == Some(b"h2")
    }

    /// Returns what the handshake says about the client.
    pub fn secured(&self) -> Secured {
        let session = self.0.get_ref().1;
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        Secured {
            server_name: session.server_name().map(Into::into),
            certificate: certificate.map(|certificate| Bytes::copy_from_slice(certificate)),
        }
    }

    #[cfg(all(unix, feature = "engine"))]
    pub(crate) fn into_inner(self) -> (S, rustls::ServerConnection) {
        self.0.into_inner()
    }
}

/// What the TLS handshake says about a client. In the engine it is one of the
/// [extensions](http::Request::extensions) of a request over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Secured {
    /// The server name that the client asked for (SNI, RFC 6066 3), if any.
    pub server_name: Option<Box<str>>,
    /// The client's certificate in DER, if one is [required](ServerTls::client_roots). It has been verified.
    pub certificate: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf).map(|read| end_without_close_notify(read, ()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
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
