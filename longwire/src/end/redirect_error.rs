//! Why a client did not follow a redirect.

use std::fmt;

/// Why a redirect (RFC 9110 15.4) was not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectError {
    /// More than [`Client::redirects`](crate::Client::redirects) in a row.
    TooMany(usize),
    /// From `wss` to `ws`.
    Insecure,
    /// The Location is invalid; the text says why.
    Location(String),
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(limit) => write!(
                f,
                "the server redirected more than {limit} times: a loop, or the limit is too low (RFC 9110 15.4)"
            ),
            Self::Insecure => {
                f.write_str("the server redirected from wss to ws, which would send data unencrypted")
            }
            Self::Location(reason) => {
                write!(f, "the server sent an invalid redirect: {reason} (RFC 9110 10.2.2)")
            }
        }
    }
}

impl std::error::Error for RedirectError {}
