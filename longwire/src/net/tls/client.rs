//! TLS of the client: whom it trusts, who it is, and how the two agree.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use url::Host;

use super::error::TlsError;
use super::pin::{Fingerprint, Pin, fingerprint, hex};
use crate::net::transport::{Negotiated, Transport};

/// What a [`Client`](crate::Client) wants of TLS: whom it trusts and who it is.
///
/// By default it trusts whom the platform trusts, shows no certificate of its own, speaks TLS 1.2 and 1.3,
/// and offers `http/1.1` by ALPN. An idle connection holds 9 KiB over TLS, most of it rustls' keys and a
/// buffer of 4 KiB for records. Of several choices whom to trust the last one holds.
///
/// A client certificate is shown to every server that asks for one, behind a redirect too.
///
/// ```
/// # fn example() -> Result<(), longwire::TlsError> {
/// use longwire::{Client, Tls};
///
/// let tls = Tls::new().roots_file("company.pem")?.identity_files("me.pem", "me.key")?;
/// let client = Client::new().tls(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    trust: Trust,
    identity: Option<Arc<CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
    server_name: Option<ServerName<'static>>,
}

#[derive(Clone)]
enum Trust {
    Platform,
    Roots(Arc<RootCertStore>),
    /// The certificate with this SHA-256.
    Pinned(Fingerprint),
    Anyone,
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = match &self.trust {
            Trust::Platform => "the platform's roots".into(),
            Trust::Roots(roots) => format!("{} roots", roots.len()),
            Trust::Pinned(fingerprint) => format!("SHA-256 {}", hex(fingerprint)),
            Trust::Anyone => "ANY CERTIFICATE".into(),
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
    /// The defaults.
    pub fn new() -> Self {
        Self {
            trust: Trust::Platform,
            identity: None,
            // RFC 6455 knows HTTP/1.1 only; a server that is not told so may choose HTTP/2 (RFC 7301 3.2).
            alpn: vec![b"http/1.1".to_vec()],
            server_name: None,
        }
    }

    /// Trusts these roots, and no longer the platform's: one or more certificates as PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if there is no certificate, or one that cannot be a root.
    pub fn roots_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let mut roots = match self.trust {
            Trust::Roots(roots) => Arc::unwrap_or_clone(roots),
            _ => RootCertStore::empty(),
        };
        for certificate in certificates(pem.as_ref())? {
            roots.add(certificate).map_err(|error| TlsError::Unusable(format!("a root: {error}")))?;
        }
        self.trust = Trust::Roots(Arc::new(roots));
        Ok(self)
    }

    /// As [`roots_pem`](Self::roots_pem), from a file. It is read at once, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`], also if the file cannot be read.
    pub fn roots_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.roots_pem(read(path.as_ref())?)
    }

    /// Trusts this certificate of a server and no other, whatever names and dates are in it: a self-signed
    /// one of your own. The first certificate of `pem`.
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

    /// As [`pin_pem`](Self::pin_pem), for a certificate as DER.
    #[must_use]
    pub fn pin_der(self, der: impl AsRef<[u8]>) -> Self {
        self.pin_sha256(fingerprint(der.as_ref()))
    }

    /// As [`pin_pem`](Self::pin_pem), for the certificate whose DER has this SHA-256, as in
    /// `openssl x509 -noout -fingerprint -sha256`.
    #[must_use]
    pub fn pin_sha256(mut self, fingerprint: [u8; 32]) -> Self {
        self.trust = Trust::Pinned(fingerprint);
        self
    }

    /// Trusts whoever answers. **Anybody on the way to the server can read and change all that is said.**
    /// For trials; to reach a server with a certificate of its own, [pin](Self::pin_pem) that.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anyone;
        self
    }

    /// The certificate to show to a server that asks for one, with its chain, and its key, as PEM: PKCS #8,
    /// PKCS #1 or SEC 1, not encrypted.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if one of them is missing, or the key is not that of the certificate.
    pub fn identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let chain = certificates(chain.as_ref())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|error| {
            TlsError::Unusable(format!("no private key as PEM that is not encrypted: {error}"))
        })?;
        let identity = CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|error| TlsError::Unusable(format!("the key does not fit the certificate: {error}")))?;
        self.identity = Some(Arc::new(identity));
        Ok(self)
    }

    /// As [`identity_pem`](Self::identity_pem), from files. They are read at once, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`], also if a file cannot be read.
    pub fn identity_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.identity_pem(read(chain.as_ref())?, read(key.as_ref())?)
    }

    /// What is offered by ALPN (RFC 7301), the preferred one first; default `http/1.1`, and without any the
    /// extension is left out. The connection speaks HTTP/1.1 whatever is chosen.
    #[must_use]
    pub fn alpn<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Vec<u8>>>,
    {
        self.alpn = names.into_iter().map(Into::into).collect();
        self
    }

    /// The name, or IP address, that the server's certificate must have, and that is asked for by SNI,
    /// instead of the host of the URL. It holds for the server behind a redirect too.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if it is neither.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            TlsError::Unusable(format!("{name:?} is neither the name of a host nor an IP address"))
        })?;
        self.server_name = Some(name);
        Ok(self)
    }

    /// Reads the platform's roots, if they are wanted: some milliseconds of file access.
    fn connector(&self) -> Result<TlsConnector, TlsError> {
        // Given by hand, so that it does not matter what the process has installed, or has not.
        let provider = Arc::new(default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from)?;
        let config = match &self.trust {
            Trust::Platform => {
                let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(|error| {
                    TlsError::Unusable(format!(
                        "the platform's roots: {error}; install them (ca-certificates), or name your own"
                    ))
                })?;
                config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Trust::Roots(roots) => config.with_root_certificates(Arc::clone(roots)),
            Trust::Pinned(pin) => {
                config.dangerous().with_custom_certificate_verifier(Arc::new(Pin::one(*pin, provider)))
            }
            Trust::Anyone => {
                config.dangerous().with_custom_certificate_verifier(Arc::new(Pin::any(provider)))
            }
        };
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

/// The client's TLS, made when it is first needed.
#[derive(Default)]
pub(crate) struct Secure {
    tls: Tls,
    connector: OnceCell<TlsConnector>,
}

impl Secure {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { tls, connector: OnceCell::new() }
    }

    pub(crate) const fn choices(&self) -> &Tls {
        &self.tls
    }

    /// Agrees on TLS with `host`, or with the one whose name is asked for instead.
    pub(crate) async fn connect(
        &self,
        host: &Host<String>,
        stream: Transport,
    ) -> Result<Transport, TlsError> {
        let name = match &self.tls.server_name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        self.agree(name, self.tls.alpn.clone(), stream).await
    }

    /// As [`connect`](Self::connect), with a host on the way to the server.
    #[cfg(feature = "proxy")]
    pub(crate) async fn connect_to_proxy(
        &self,
        host: &Host<String>,
        stream: Transport,
    ) -> Result<Transport, TlsError> {
        // HTTP/1.1 is what is spoken with it, whatever the server is to be offered.
        self.agree(server_name(host)?, vec![b"http/1.1".to_vec()], stream).await
    }

    async fn agree(
        &self,
        name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
        stream: Transport,
    ) -> Result<Transport, TlsError> {
        let made = self.connector.get_or_try_init(async || {
            let tls = self.tls.clone();
            // Files are read.
            let made = tokio::task::spawn_blocking(move || tls.connector()).await;
            made.map_err(|error| TlsError::Other(error.to_string()))?
        });
        let connector = made.await?.clone();
        let peer = stream.peer_addr().ok();
        let stream =
            connector.with_alpn(alpn).connect(name, stream).await.map_err(|error| TlsError::of(&error))?;
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
            .map_err(|_| TlsError::Unusable(format!("{name:?} is no name that a certificate can have"))),
        Host::Ipv4(address) => Ok(std::net::IpAddr::from(*address).into()),
        Host::Ipv6(address) => Ok(std::net::IpAddr::from(*address).into()),
    }
}

const NO_CERTIFICATE: &str = "no certificate as PEM: it begins with -----BEGIN CERTIFICATE-----";

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::Unusable(NO_CERTIFICATE.into())),
        Err(error) => Err(TlsError::Unusable(format!("a certificate as PEM: {error}"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unusable(format!("{}: {error}", path.display())))
}
