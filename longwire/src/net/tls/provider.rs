//! The crypto provider of TLS, which the features choose.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// ring if that feature is on, otherwise AWS-LC if that feature is on, otherwise the provider that the application
/// installed for the process. So the feature `aws-lc-rs` changes nothing for a program that uses ring already.
///
/// # Errors
///
/// If there is none of them.
pub(super) fn provider() -> Result<Arc<CryptoProvider>, rustls::Error> {
    #[cfg(feature = "ring")]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    CryptoProvider::get_default().cloned().ok_or_else(|| {
        rustls::Error::General(
            "TLS has no crypto provider: enable the feature `ring` or `aws-lc-rs` of longwire".into(),
        )
    })
}
