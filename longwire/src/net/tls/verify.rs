//! One certificate that is trusted and no other, or any at all.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme, SupportedCipherSuite};

/// The SHA-256 of a certificate's DER.
pub(super) type Fingerprint = [u8; 32];

/// Accepts the one certificate, or any; that its owner is there is checked in both cases.
#[derive(Debug)]
pub(super) struct Pin {
    certificate: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    pub(super) const fn one(certificate: Fingerprint, provider: Arc<CryptoProvider>) -> Self {
        Self { certificate: Some(certificate), provider }
    }

    pub(super) const fn any(provider: Arc<CryptoProvider>) -> Self {
        Self { certificate: None, provider }
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.certificate {
            Some(pin) if pin != fingerprint(end_entity) => {
                let other = NotPinned(fingerprint(end_entity));
                Err(CertificateError::Other(OtherError(Arc::new(other))).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The server has a certificate with this SHA-256 instead.
#[derive(Debug)]
pub(super) struct NotPinned(Fingerprint);

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::error::Error for NotPinned {}

pub(super) fn fingerprint(der: &[u8]) -> Fingerprint {
    let sha256 = match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
    };
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(sha256.hash(der).as_ref());
    fingerprint
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
