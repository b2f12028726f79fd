//! Errors that a browser never reports. They have no values. With them [`ConnectError`](crate::ConnectError) has the
//! same variants everywhere, and code that matches them compiles for both.

use std::fmt;

macro_rules! absent {
    ($($feature:literal: $name:ident, $doc:literal;)+) => {$(
        #[cfg(feature = $feature)]
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        #[cfg(feature = $feature)]
        impl fmt::Display for $name {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }

        #[cfg(feature = $feature)]
        impl std::error::Error for $name {}
    )+};
}

absent! {
    "tls": TlsError, "A failure of TLS. A browser reports none.";
    "proxy": ProxyError, "A failure of a proxy. A browser reports none.";
    "http2": Http2Error, "A failure of HTTP/2. A browser reports none.";
}

#[cfg(feature = "tls")]
impl TlsError {
    /// Returns the failure of TLS within an error of the transport.
    pub(crate) const fn within(_: &std::io::Error) -> Option<Self> {
        None
    }
}
