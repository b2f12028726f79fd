//! Certificates of a test: an authority of its own, and a server's for `localhost`, as strict verifiers want them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// The authority's certificate in files, and a server that has one of it.
pub(crate) struct Authority {
    folder: TempDir,
    pub(crate) acceptor: TlsAcceptor,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "longwire's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, key()).expect("signed");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.use_authority_key_identifier_extension = true;
        let server_key = key();
        let server = params.signed_by(&server_key, &authority).expect("signed");

        let chain: Vec<CertificateDer<'static>> = vec![server.der().clone()];
        let private = PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .expect("a key and its certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("authority.pem"), authority.pem()).expect("written");
        Self { folder, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn pem(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Makes a program trust it that heeds OpenSSL's variable, or Node's.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let pem = self.pem().display().to_string();
        vec![("SSL_CERT_FILE", pem.clone()), ("NODE_EXTRA_CA_CERTS", pem)]
    }

    /// As [`environment`](Self::environment), of a JVM.
    pub(crate) fn environment_of_java(&self) -> Vec<(&'static str, String)> {
        let (store, password) = (self.folder.path().join("trusted.p12"), "longwire");
        if !store.exists() {
            let made = Command::new("keytool")
                .args(["-importcert", "-noprompt", "-alias", "longwire", "-storetype", "PKCS12"])
                .args(["-storepass", password])
                .arg("-keystore")
                .arg(&store)
                .arg("-file")
                .arg(self.pem())
                .stderr(Stdio::null())
                .status();
            assert!(made.is_ok_and(|status| status.success()), "keytool makes a store");
        }
        let store = store.display();
        let options =
            format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword={password}");
        vec![("JDK_JAVA_OPTIONS", options)]
    }
}
