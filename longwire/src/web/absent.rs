//! Errors that a browser never reports. They have no values. With them [`ConnectError`](crate::ConnectError) has the
//! same variants everywhere, and code that matches them compiles for both.

use std::fmt;

macro_rules! absent {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl fmt::Display for $name {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }

        impl std::error::Error for $name {}
    )+};
}

absent! {
    /// A failure of TLS. A browser reports none.
    TlsError;
    /// A failure of a proxy. A browser reports none.
    ProxyError;
    /// A failure of HTTP/2. A browser reports none.
    Http2Error;
    /// A redirect that is not followed. A browser follows none, and reports none.
    RedirectError;
}

#[cfg(feature = "tls")]
impl TlsError {
    /// Returns the failure of TLS within an error of the transport.
    pub(crate) const fn within(_: &std::io::Error) -> Option<Self> {
        None
    }
}
