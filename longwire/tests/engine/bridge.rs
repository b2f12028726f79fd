//! Connects the raw peers of the tests with an engine that speaks TLS, each by a TLS connection of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use longwire::tls::ServerTls;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// A self-signed certificate for localhost, in PEM, and its key.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Self {
            certificate: made.cert.pem(),
            der: made.cert.der().clone(),
            key: made.signing_key.serialize_pem(),
        }
    }

    pub(crate) fn server(&self) -> ServerTls {
        ServerTls::from_pem(&self.certificate, &self.key).unwrap()
    }

    /// A client that trusts this one.
    pub(crate) fn client(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }
}

/// The certificate of all engines of the tests.
pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::new);

pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Carries connections to `engine` until the process ends. Returns the address to connect to.
pub(crate) fn to(engine: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let connector = TlsConnector::from(Arc::new(IDENTITY.client()));
            while let Ok((raw, _)) = listener.accept().await {
                tokio::spawn(carry(raw, engine, connector.clone()));
            }
        });
    });
    address
}

async fn carry(mut raw: TcpStream, engine: SocketAddr, connector: TlsConnector) -> io::Result<()> {
    raw.set_nodelay(true)?;
    let stream = TcpStream::connect(engine).await?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(localhost(), stream).await?;
    let copied = copy_bidirectional(&mut raw, &mut stream).await;
    // An engine that is stopped sends no close_notify.
    if copied.is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof) {
        // A reset on one side is passed on to the other.
        raw.set_zero_linger()?;
        stream.get_ref().0.set_zero_linger()?;
    }
    Ok(())
}
