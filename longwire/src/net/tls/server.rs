//! The server's side of TLS: certificate and key, who may connect, and how they are exchanged while it runs.

use std::fmt;
use std::io;
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
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::provider::provider;

/// What a server shows its clients, and what it asks of them: TLS 1.2 and 1.3.
///
/// It clones, and all clones [`reload`](Self::reload) together. A stream in TLS that is idle holds some 8 KiB.
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
    shown: Arc<Shown>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("files", &self.shown.files)
            .field("asks_for_certificates", &self.clients.is_some())
            .field("http2", &self.is_http2())
            .finish_non_exhaustive()
    }
}

/// The certificate and the key, which may be exchanged for others.
struct Shown {
    key: ArcSwap<CertifiedKey>,
    files: Option<Files>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

/// Where certificate and key come from.
#[derive(Clone, Debug)]
struct Files {
    certificates: PathBuf,
    key: PathBuf,
}

/// What tells that a file is another one: when it was changed, and its length.
type Stamp = Option<(SystemTime, u64)>;

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        [&self.certificates, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    fn load(&self) -> Result<CertifiedKey, CertificateError> {
        certified(&read(&self.certificates)?, &read(&self.key)?)
    }
}

impl ServerTls {
    /// With a certificate and those that it is signed by, and its private key (PKCS#8, SEC1 or PKCS#1), in
    /// PEM.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, CertificateError> {
        Self::of(certified(certificates.as_ref(), key.as_ref())?, None)
    }

    /// As [`from_pem`](Self::from_pem), from files, which may be [read again](Self::reload).
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_files(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, CertificateError> {
        let files = Files { certificates: certificates.into(), key: key.into() };
        Self::of(files.load()?, Some(files))
    }

    fn of(key: CertifiedKey, files: Option<Files>) -> Result<Self, CertificateError> {
        let shown = Arc::new(Shown { key: ArcSwap::from_pointee(key), files });
        let config = configure(&shown, None)?;
        Ok(Self { shown, clients: None, config })
    }

    /// Asks clients for a certificate that one of these roots, in PEM, has signed (mutual TLS): who has none does not
    /// get in.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if there is none in it, or one that is no root.
    pub fn client_roots(mut self, roots: impl AsRef<[u8]>) -> Result<Self, CertificateError> {
        let mut store = RootCertStore::empty();
        for root in certificates(roots.as_ref())? {
            store.add(root).map_err(CertificateError::invalid)?;
        }
        let provider = provider().map_err(CertificateError::invalid)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        self.clients = Some(verifier.build().map_err(CertificateError::invalid)?);
        let mut config = configure(&self.shown, self.clients.as_ref())?;
        Arc::make_mut(&mut config).alpn_protocols.clone_from(&self.config.alpn_protocols);
        self.config = config;
        Ok(self)
    }

    /// Whether HTTP/2 is offered before HTTP/1.1 (ALPN, RFC 7301); default no. For servers whose HTTP service
    /// speaks it.
    #[must_use]
    pub fn http2(mut self, offered: bool) -> Self {
        let protocols: &[&[u8]] = if offered { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        self
    }

    fn is_http2(&self) -> bool {
        self.config.alpn_protocols.len() > 1
    }

    /// Reads the files again: new connections see what is in them. Without files it does nothing.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]: what was shown before stays.
    pub fn reload(&self) -> Result<(), CertificateError> {
        if let Some(files) = &self.shown.files {
            self.shown.key.store(Arc::new(files.load()?));
        }
        Ok(())
    }

    /// As [`reload`](Self::reload), with what stands here instead of the files.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]: what was shown before stays.
    pub fn replace(
        &self,
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<(), CertificateError> {
        self.shown.key.store(Arc::new(certified(certificates.as_ref(), key.as_ref())?));
        Ok(())
    }

    /// Looks at the files again and again, [reloads](Self::reload) when one has changed, and tells how that went. A
    /// reload that failed is tried again each time, and told of once. Without files it never has anything to do.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is reloaded any more.
    pub async fn watch(&self, every: Duration, mut tell: impl FnMut(Result<(), CertificateError>)) {
        let Some(files) = &self.shown.files else { return std::future::pending().await };
        let stamps = async || {
            let files = files.clone();
            // The disk may be slow.
            tokio::task::spawn_blocking(move || files.stamps()).await.unwrap_or_default()
        };
        let mut seen = stamps().await;
        let mut failed: Option<String> = None;
        loop {
            sleep(every).await;
            let now = stamps().await;
            if now == seen && failed.is_none() {
                continue;
            }
            seen = now;
            let tls = self.clone();
            let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
            let Ok(reloaded) = reloaded else { continue };
            let text = reloaded.as_ref().err().map(ToString::to_string);
            if reloaded.is_ok() || text != failed {
                tell(reloaded);
            }
            failed = text;
        }
    }

    /// The TLS handshake, which has to end within `time`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when it does not; [`io::ErrorKind::InvalidData`], with a text that says what
    /// is wrong, when what the client says is no TLS or not what is asked for; else that of the stream.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped drops the stream.
    pub async fn accept<S>(&self, stream: S, time: Duration) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Boxed, for it is large, and its caller's future lives as long as the connection.
        let accept = Box::pin(TlsAcceptor::from(Arc::clone(&self.config)).accept(stream));
        let accepted = timeout(time, accept).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "timed out in the TLS handshake");
        Ok(TlsStream(accepted.map_err(late)??))
    }
}

fn configure(
    shown: &Arc<Shown>,
    clients: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = provider().map_err(CertificateError::invalid)?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(CertificateError::invalid)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(shown) as _);
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

/// Its own text shows labels as numbers.
fn malformed(error: &pem::Error) -> CertificateError {
    CertificateError::Invalid(match error {
        pem::Error::MissingSectionEnd { .. } => "a section of PEM does not come to its -----END".into(),
        pem::Error::IllegalSectionStart { .. } => "a section of PEM begins with no label".into(),
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

/// Why a certificate or a key cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no certificate in it.
    NoCertificate,
    /// There is no private key in it, or one that is encrypted.
    NoKey,
    /// The private key is not that of the certificate.
    KeyMismatch,
    /// It is malformed, or of a kind that is not supported; the text says which.
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
                f.write_str("there is no certificate in it: PEM begins with -----BEGIN CERTIFICATE-----")
            }
            Self::NoKey => f.write_str(
                "there is no private key in it that can be used: PEM begins with -----BEGIN PRIVATE KEY-----, and is \
                 not encrypted",
            ),
            Self::KeyMismatch => f.write_str("the private key is not that of the certificate"),
            Self::Invalid(reason) => write!(f, "the certificate or the key is of no use: {reason}"),
        }
    }
}

/// The text says all of it: there is no `source` that would say it again.
impl std::error::Error for CertificateError {}

/// A stream in TLS, of a client that has connected.
pub struct TlsStream<S>(tokio_rustls::server::TlsStream<S>);

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("alpn", &self.alpn()).finish_non_exhaustive()
    }
}

impl<S> TlsStream<S> {
    /// The stream below.
    pub fn stream(&self) -> &S {
        self.0.get_ref().0
    }

    /// The protocol that was agreed on (ALPN, RFC 7301), such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// The client is going to speak HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.alpn() == Some(b"h2")
    }

    /// What the handshake has told about the client.
    pub fn secured(&self) -> Secured {
        let session = self.0.get_ref().1;
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        Secured {
            server_name: session.server_name().map(Into::into),
            certificate: certificate.map(|certificate| Bytes::copy_from_slice(certificate)),
        }
    }

    #[cfg(unix)]
    pub(crate) fn into_inner(self) -> (S, rustls::ServerConnection) {
        self.0.into_inner()
    }
}

/// What the TLS handshake of a connection has told. In the engine it is among the
/// [extensions](http::Request::extensions) of a request that came in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Secured {
    /// The name by which the client has asked for the server (SNI, RFC 6066 3), if it said one.
    pub server_name: Option<Box<str>>,
    /// The client's certificate, in DER, if it was [asked for](ServerTls::client_roots): it is verified.
    pub certificate: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            // Many end TCP without a word of TLS. That nothing was cut off is for the protocol above to tell: a
            // WebSocket has its closing handshake.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => read,
        }
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
