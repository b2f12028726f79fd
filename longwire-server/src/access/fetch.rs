//! An HTTP client for JWKS and webhooks: one request and its response, with limits on time and size.
//! Redirects are not followed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// Maximum number of idle connections per host, and how long they stay open.
const MAX_IDLE_PER_HOST: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests to other servers.
#[derive(Clone)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why a request failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FetchError {
    Timeout,
    TooLarge,
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the request timed out"),
            Self::TooLarge => f.write_str("the response is too large"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Http {
    /// Creates a client for these URLs. It trusts the platform's root certificates and those in the file
    /// `ca`.
    pub(super) fn new(urls: &[&str], ca: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let tls = if urls.iter().any(|url| url.starts_with("https:")) {
            let extra = match ca {
                Some(path) => certificates(path).map_err(|error| format!("{}: {error}", path.display()))?,
                None => Vec::new(),
            };
            let verifier =
                Verifier::new_with_extra_roots(extra, provider).map_err(|error| error.to_string())?;
            versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        } else {
            versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        };
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request and returns the complete response. Dropping the future cancels the request.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        max: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, FetchError> {
        let exchange = async {
            let failed = |error: hyper_util::client::legacy::Error| FetchError::Failed(innermost(&error));
            let (head, body) = self.0.request(request).await.map_err(failed)?.into_parts();
            match Limited::new(body, max).collect().await {
                Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(FetchError::TooLarge),
                Err(error) => Err(FetchError::Failed(innermost(error.as_ref()))),
            }
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(FetchError::Timeout))
    }
}

/// Returns the innermost error, because the outer ones only wrap it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let list = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let list: Vec<_> = list.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if list.is_empty() { Err("the file contains no certificate".into()) } else { Ok(list) }
}
