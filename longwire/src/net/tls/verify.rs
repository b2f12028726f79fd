//! Which certificates of a server a client accepts.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    SupportedCipherSuite,
};

use crate::end::NotPinned;

/// The SHA-256 of a certificate's DER.
pub(super) type Fingerprint = [u8; 32];

/// Checks the certificate of a server. That the server has its key is checked in every case.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) accepts: Accepts,
    pub(super) provider: Arc<CryptoProvider>,
}

/// The certificates that are accepted.
#[derive(Debug)]
pub(super) enum Accepts {
    Roots(Roots),
    /// The certificate with this SHA-256 of its DER.
    Fingerprint(Fingerprint),
    /// This certificate.
    Exactly(CertificateDer<'static>),
    All,
}

/// Root certificates: those that the application gave, and those of the platform or of Mozilla.
#[derive(Debug)]
pub(super) struct Roots {
    given: Vec<CertificateDer<'static>>,
    /// Checks against `given`, unless that is empty.
    by_given: Option<Arc<WebPkiServerVerifier>>,
    others: Option<Arc<dyn ServerCertVerifier>>,
}

impl Roots {
    pub(super) fn new(
        given: &[CertificateDer<'static>],
        others: Option<Arc<dyn ServerCertVerifier>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let by_given = if given.is_empty() {
            None
        } else {
            let mut store = RootCertStore::empty();
            for certificate in given {
                store.add(certificate.clone())?;
            }
            Some(webpki(store, provider)?)
        };
        Ok(Self { given: given.to_vec(), by_given, others })
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = |verifier: &dyn ServerCertVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
        };
        let by_given = self.by_given.as_ref().map(|verifier| check(&**verifier));
        let by_given = match by_given {
            Some(result) if self.given.iter().any(|given| given == end_entity) => {
                return verify_given(result, end_entity, name);
            }
            by_given => by_given,
        };
        match (by_given, &self.others) {
            (Some(Ok(verified)), _) => Ok(verified),
            (Some(Err(error)), None) => Err(error),
            // Roots that know the issuer have the better reason.
            (Some(Err(error)), Some(others)) => match check(&**others) {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Err(error),
                result => result,
            },
            (None, Some(others)) => check(&**others),
            (None, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

/// Checks a certificate that is itself one of the roots, as `openssl req -x509` makes it. The rules for chains do not
/// matter then: such a certificate is marked as one of an authority, which webpki accepts from no server. Its dates and
/// its name do. webpki checks the dates before all else. A certificate without names is accepted for every name, because
/// the application trusts this very certificate.
fn verify_given(
    result: Result<ServerCertVerified, Error>,
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<ServerCertVerified, Error> {
    use CertificateError as E;
    match result {
        Err(Error::InvalidCertificate(
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. },
        ))
        | Ok(_) => result,
        Err(_) => match verify_server_name(&ParsedCertificate::try_from(certificate)?, name) {
            Err(Error::InvalidCertificate(E::NotValidForNameContext { presented, .. }))
                if presented.is_empty() =>
            {
                Ok(ServerCertVerified::assertion())
            }
            result => result.map(|()| ServerCertVerified::assertion()),
        },
    }
}

/// Checks chains of certificates against these roots.
pub(super) fn webpki(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_accepted = match &self.accepts {
            Accepts::Roots(roots) => return roots.verify(end_entity, intermediates, name, ocsp, now),
            Accepts::Fingerprint(pin) => fingerprint(end_entity, &self.provider) == Some(*pin),
            Accepts::Exactly(certificate) => certificate == end_entity,
            Accepts::All => true,
        };
        if is_accepted {
            return Ok(ServerCertVerified::assertion());
        }
        let other =
            fingerprint(end_entity, &self.provider).map_or_else(|| "unknown".into(), |found| hex(&found));
        let other = NotPinned(other);
        Err(CertificateError::Other(OtherError(Arc::new(other))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The SHA-256 of a certificate, by the hash function of a cipher suite.
fn fingerprint(der: &[u8], provider: &CryptoProvider) -> Option<Fingerprint> {
    let hashes = provider.cipher_suites.iter().map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
    });
    let mut hashes = hashes.filter(|hash| hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256);
    hashes.next()?.hash(der).as_ref().try_into().ok()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::net::tls::provider::provider;

    /// The root of an authority, and a certificate of it.
    fn authority() -> (CertificateDer<'static>, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, key.public_key_pem());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let leaf = CertificateParams::new(vec!["a.example".into()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, key)).unwrap();
        (root.der().clone(), leaf.der().clone())
    }

    #[test]
    fn given_roots_are_added_to_the_others() {
        let provider = provider().unwrap();
        let ((given, by_given), (other, by_other)) = (authority(), authority());
        let (_, by_stranger) = authority();
        let mut store = RootCertStore::empty();
        store.add(other).unwrap();
        let others: Arc<dyn ServerCertVerifier> = webpki(store, &provider).unwrap();
        let roots = |given: &[CertificateDer<'static>], others| Roots::new(given, others, &provider).unwrap();
        let rows = [
            (roots(std::slice::from_ref(&given), Some(Arc::clone(&others))), [true, true, false]),
            (roots(&[given], None), [true, false, false]),
            (roots(&[], Some(others)), [false, true, false]),
            (roots(&[], None), [false, false, false]),
        ];
        for (roots, expected) in rows {
            for (name, is_good) in [("a.example", true), ("b.example", false)] {
                let name = ServerName::try_from(name).unwrap();
                let accepted = [&by_given, &by_other, &by_stranger]
                    .map(|certificate| roots.verify(certificate, &[], &name, &[], UnixTime::now()).is_ok());
                assert_eq!(accepted, expected.map(|expected| expected && is_good), "{roots:?}");
            }
        }
    }
}
