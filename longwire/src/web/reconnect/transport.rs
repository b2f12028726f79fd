//! Whether to try again after TLS, HTTP/2 or a proxy has failed, which a browser never reports.

#[cfg(any(feature = "http2", feature = "proxy", feature = "tls"))]
use super::cause::Retry;
#[cfg(feature = "http2")]
use crate::end::Http2Error;
#[cfg(feature = "proxy")]
use crate::end::ProxyError;
#[cfg(feature = "tls")]
use crate::end::TlsError;

#[cfg(feature = "tls")]
pub(super) const fn tls(error: &TlsError) -> Retry {
    match *error {}
}

#[cfg(feature = "http2")]
pub(super) const fn http2(error: &Http2Error) -> Retry {
    match *error {}
}

#[cfg(feature = "proxy")]
pub(super) const fn proxy(error: &ProxyError) -> Retry {
    match *error {}
}
