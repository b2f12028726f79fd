//! Whether to try again after TLS, HTTP/2 or a proxy has failed.

#[cfg(any(feature = "http2", feature = "proxy", feature = "tls"))]
use super::cause::Retry;
#[cfg(feature = "proxy")]
use super::cause::is_passing;
#[cfg(feature = "http2")]
use crate::end::Http2Error;
#[cfg(feature = "proxy")]
use crate::end::ProxyError;
#[cfg(feature = "tls")]
use crate::end::TlsError;

#[cfg(feature = "tls")]
pub(super) const fn tls(error: &TlsError) -> Retry {
    match error {
        TlsError::Unusable(_) => Retry::Never,
        // A gateway whose server is about to start may not speak TLS yet.
        TlsError::NotTls | TlsError::Eof | TlsError::Io(_) => Retry::Always,
        // Clocks are set, certificates replaced, and gateways abort handshakes while they start.
        _ => Retry::Limited,
    }
}

#[cfg(feature = "http2")]
pub(super) fn http2(error: &Http2Error) -> Retry {
    (!matches!(error, Http2Error::NotSupported | Http2Error::NotSpoken)).into()
}

#[cfg(feature = "proxy")]
pub(super) fn proxy(error: &ProxyError) -> Retry {
    match error {
        ProxyError::Refused(status) => is_passing(*status).into(),
        ProxyError::Login | ProxyError::Socks(_) => Retry::Never,
        ProxyError::Unreachable(_) | ProxyError::Head(_) | ProxyError::Early | ProxyError::Io(_) => {
            Retry::Always
        }
    }
}
