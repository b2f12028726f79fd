//! TLS of the client: which servers it trusts, its own certificate, and the handshake.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use url::Host;

use super::provider::provider;
use super::verify::{Accepts, Fingerprint, Roots, Verifier, hex};
use crate::end::TlsError;
use crate::net::transport::{Negotiated, Transport};

/// TLS settings of a [`Client`](crate::Client): which servers it trusts, and its own certificate.
///
/// By default it trusts the roots of the platform, has no certificate of its own, supports TLS 1.2 and 1.3, and offers
/// `http/1.1` by ALPN. If several settings say what to trust, the last one counts. An idle connection over TLS holds
/// 9 KiB, mostly keys and a buffer of 4 KiB for records.
///
/// The crypto provider is ring if the feature `ring` is on (the default), otherwise AWS-LC if the feature `aws-lc-rs` is
/// on, otherwise the one that the application installed for the process.
///
/// A client certificate is sent to every server that asks for one, including those behind a redirect.
///
/// ```
/// # fn example() -> Result<(), longwire::TlsError> {
/// use longwire::{Client, Tls};
///
/// let tls = Tls::new().add_roots_file("company.pem")?.identity_files("me.pem", "me.key")?;
/// let client = Client::new().tls(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    trust: Trust,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    server_name: Option<ServerName<'static>>,
}

/// The chain and the key of the client.
type Identity = Arc<CertifiedKey>;

#[derive(Clone)]
enum Trust {
    /// Roots of the application, and others.
    Roots(Vec<CertificateDer<'static>>, OtherRoots),
    /// The certificate with this SHA-256.
    Fingerprint(Fingerprint),
    Certificate(CertificateDer<'static>),
    All,
}

/// The roots besides those of the application.
#[derive(Clone, Copy, Debug)]
enum OtherRoots {
    None,
    Platform,
    #[cfg(feature = "webpki-roots")]
    Mozilla,
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = match &self.trust {
            Trust::Roots(own, others) => format!("{} own roots, others: {others:?}", own.len()),
            Trust::Fingerprint(fingerprint) => format!("SHA-256 {}", hex(fingerprint)),
            Trust::Certificate(_) => "one certificate".into(),
            Trust::All => "ANY CERTIFICATE".into(),
        };
        f.debug_struct("Tls")
            .field("trust", &trust)
            .field("has_identity", &self.identity.is_some())
            .field("alpn", &self.alpn.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>())
            .field("server_name", &self.server_name)
            .finish()
    }
}

impl Tls {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self {
            trust: Trust::Roots(Vec::new(), OtherRoots::Platform),
            identity: None,
            // RFC 6455 is for HTTP/1.1 only. Without ALPN a server may choose HTTP/2 (RFC 7301 3.2).
            alpn: vec![b"http/1.1".to_vec()],
            server_name: None,
        }
    }

    /// Trusts only these roots, not those of the platform: one or more certificates as PEM. Several calls add up.
    ///
    /// A root also stands for itself: a server that presents exactly this certificate is accepted, for example a
    /// self-signed one of `openssl req -x509`. Its names and dates must match; a certificate without names
    /// (subjectAltName) matches every name.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if there is no certificate, or one that cannot be a root.
    pub fn roots_pem(self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let others = match self.trust {
            Trust::Roots(_, OtherRoots::None) => return self.with_roots(pem.as_ref()),
            _ => OtherRoots::None,
        };
        Self { trust: Trust::Roots(Vec::new(), others), ..self }.with_roots(pem.as_ref())
    }

    /// Trusts these roots in addition to those of the platform, such as the root of a company whose proxy inspects TLS:
    /// one or more certificates as PEM. Several calls add up.
    ///
    /// # Errors
    ///
    /// As [`roots_pem`](Self::roots_pem).
    pub fn add_roots_pem(self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        match self.trust {
            Trust::Roots(..) => self.with_roots(pem.as_ref()),
            _ => {
                let trust = Trust::Roots(Vec::new(), OtherRoots::Platform);
                Self { trust, ..self }.with_roots(pem.as_ref())
            }
        }
    }

    fn with_roots(mut self, pem: &[u8]) -> Result<Self, TlsError> {
        let found = certificates(pem)?;
        for certificate in &found {
            let added = RootCertStore::empty().add(certificate.clone());
            added
                .map_err(|_| TlsError::Unusable("a root: the certificate is malformed (RFC 5280)".into()))?;
        }
        if let Trust::Roots(roots, _) = &mut self.trust {
            roots.extend(found);
        }
        Ok(self)
    }

    /// Like [`add_roots_pem`](Self::add_roots_pem), from a file. Reads the file at once, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`], also if the file cannot be read.
    pub fn add_roots_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.add_roots_pem(read(path.as_ref())?)
    }

    /// Trusts Mozilla's roots, which are compiled in, instead of those of the platform. Roots that
    /// [`add_roots_pem`](Self::add_roots_pem) adds afterwards are trusted too.
    #[cfg(feature = "webpki-roots")]
    #[must_use]
    pub fn webpki_roots(mut self) -> Self {
        self.trust = Trust::Roots(Vec::new(), OtherRoots::Mozilla);
        self
    }

    /// Like [`roots_pem`](Self::roots_pem), from a file. Reads the file at once, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`], also if the file cannot be read.
    pub fn roots_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.roots_pem(read(path.as_ref())?)
    }

    /// Trusts this certificate of a server and no other, whatever its names and dates. Of several certificates in `pem`
    /// the first one counts.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if there is no certificate.
    pub fn pin_pem(self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        match certificates(pem.as_ref())?.first() {
            Some(certificate) => Ok(self.pin_der(certificate)),
            None => Err(TlsError::Unusable(NO_CERTIFICATE.into())),
        }
    }

    /// Like [`pin_pem`](Self::pin_pem), for a certificate as DER.
    #[must_use]
    pub fn pin_der(mut self, der: impl AsRef<[u8]>) -> Self {
        self.trust = Trust::Certificate(CertificateDer::from(der.as_ref().to_vec()));
        self
    }

    /// Like [`pin_pem`](Self::pin_pem), for the certificate whose DER has this SHA-256. `openssl x509 -noout
    /// -fingerprint -sha256` prints it.
    #[must_use]
    pub fn pin_sha256(mut self, fingerprint: [u8; 32]) -> Self {
        self.trust = Trust::Fingerprint(fingerprint);
        self
    }

    /// Accepts every certificate. **Anyone between client and server can then read and change all messages.** Use it for
    /// experiments only; [pin](Self::pin_pem) the certificate of a server that has its own.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::All;
        self
    }

    /// Sets the certificate for servers that ask for one, with its chain, and its key, as PEM: PKCS #8, PKCS #1 or SEC 1,
    /// not encrypted.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if one of them is missing, or the key does not belong to the certificate.
    pub fn identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let chain = certificates(chain.as_ref())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|_| {
            TlsError::Unusable("the key: there is no private key as PEM that is not encrypted".into())
        })?;
        let identity = CertifiedKey::from_der(chain, key, &*provider().map_err(TlsError::from_rustls)?)
            .map_err(|_| TlsError::Unusable("the key: it does not belong to the certificate".into()))?;
        self.identity = Some(Arc::new(identity));
        Ok(self)
    }

    /// Like [`identity_pem`](Self::identity_pem), from files. Reads them at once, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`], also if a file cannot be read.
    pub fn identity_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.identity_pem(read(chain.as_ref())?, read(key.as_ref())?)
    }

    /// Sets the protocols that are offered by ALPN (RFC 7301), the preferred one first; default `http/1.1`. An empty list
    /// omits the extension. The connection uses HTTP/1.1 whatever the server selects. An HTTP/2 connection always offers
    /// `h2` alone.
    #[must_use]
    pub fn alpn<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Vec<u8>>>,
    {
        self.alpn = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the name or IP address that the server's certificate must have, and that SNI requests, instead of the host
    /// of the URL. It also applies to servers behind a redirect.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if it is neither a host name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            TlsError::Unusable(format!("{name:?}, which is neither a host name nor an IP address"))
        })?;
        self.server_name = Some(name);
        Ok(self)
    }

    /// Reads the platform's roots if they are trusted, which takes milliseconds of file access.
    fn connector(&self) -> Result<TlsConnector, TlsError> {
        let provider = provider().map_err(TlsError::from_rustls)?;
        let accepts = match &self.trust {
            Trust::Roots(roots, others) => {
                let others = other_roots(*others, &provider)?;
                Accepts::Roots(Roots::new(roots, others, &provider).map_err(TlsError::from_rustls)?)
            }
            Trust::Fingerprint(fingerprint) => Accepts::Fingerprint(*fingerprint),
            Trust::Certificate(certificate) => Accepts::Exactly(certificate.clone()),
            Trust::All => Accepts::All,
        };
        // The provider is passed explicitly, so that a default of the process makes no difference.
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from_rustls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { accepts, provider }));
        let mut config = match &self.identity {
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity))))
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn other_roots(
    roots: OtherRoots,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, TlsError> {
    match roots {
        OtherRoots::None => Ok(None),
        OtherRoots::Platform => {
            let verifier =
                rustls_platform_verifier::Verifier::new(Arc::clone(provider)).map_err(|error| {
                    TlsError::Unusable(format!(
                        "the platform's roots: {error}; install them (ca-certificates), or use your own roots"
                    ))
                })?;
            Ok(Some(Arc::new(verifier)))
        }
        #[cfg(feature = "webpki-roots")]
        OtherRoots::Mozilla => {
            let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            Ok(Some(super::verify::webpki(store, provider).map_err(TlsError::from_rustls)?))
        }
    }
}

/// The TLS of a client. Its connector is built when it is first needed.
#[derive(Default)]
pub(crate) struct Secure {
    tls: Tls,
    connector: OnceCell<TlsConnector>,
}

impl Secure {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { tls, connector: OnceCell::new() }
    }

    pub(crate) const fn settings(&self) -> &Tls {
        &self.tls
    }

    #[cfg(all(test, feature = "http2", feature = "ring"))]
    pub(crate) fn is_ready(&self) -> bool {
        self.connector.initialized()
    }

    /// Performs the TLS handshake with a server, by its host name or by the name that is set instead. `alpn` is offered
    /// instead of the protocols of the settings.
    pub(crate) async fn connect(
        &self,
        host: &Host<String>,
        stream: Transport,
        alpn: Option<&[u8]>,
    ) -> Result<Transport, TlsError> {
        let name = match &self.tls.server_name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let alpn = alpn.map_or_else(|| self.tls.alpn.clone(), |name| vec![name.to_vec()]);
        self.handshake(name, alpn, stream).await
    }

    /// Like [`connect`](Self::connect), with a proxy.
    #[cfg(feature = "proxy")]
    pub(crate) async fn connect_to_proxy(
        &self,
        host: &Host<String>,
        stream: Transport,
    ) -> Result<Transport, TlsError> {
        // The CONNECT request is HTTP/1.1, whatever is offered to the server.
        self.handshake(server_name(host)?, vec![b"http/1.1".to_vec()], stream).await
    }

    async fn handshake(
        &self,
        name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
        stream: Transport,
    ) -> Result<Transport, TlsError> {
        let made = self.connector.get_or_try_init(async || {
            let tls = self.tls.clone();
            // Reads files.
            let made = tokio::task::spawn_blocking(move || tls.connector()).await;
            made.map_err(|error| TlsError::Other(error.to_string()))?
        });
        let connector = made.await?.clone();
        let peer = stream.peer_addr().ok();
        let stream =
            connector.with_alpn(alpn).connect(name, stream).await.map_err(TlsError::from_handshake)?;
        let state = stream.get_ref().1;
        let secured = Negotiated {
            version: match state.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "TLS 1.2",
            },
            alpn: state.alpn_protocol().map(Into::into),
        };
        Ok(Transport::secured(stream, peer, secured))
    }
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, TlsError> {
    match host {
        // RFC 6066 3: without the trailing dot.
        Host::Domain(name) => ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned())
            .map_err(|_| {
                TlsError::Unusable(format!("the host {name:?}: a certificate cannot have this name"))
            }),
        Host::Ipv4(address) => Ok(std::net::IpAddr::from(*address).into()),
        Host::Ipv6(address) => Ok(std::net::IpAddr::from(*address).into()),
    }
}

const NO_CERTIFICATE: &str =
    "the certificate: the input has no certificate in PEM form (-----BEGIN CERTIFICATE-----)";

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::Unusable(NO_CERTIFICATE.into())),
        Err(_) => Err(TlsError::Unusable("a certificate: its PEM is malformed".into())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unusable(format!("{}: {error}", path.display())))
}
