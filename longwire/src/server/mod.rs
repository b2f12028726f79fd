//! A server's side of the opening handshake: on a stream, behind a proxy, and for requests that hyper has parsed.

pub(crate) mod accept;
pub(crate) mod forwarded;
#[cfg(feature = "hyper")]
pub(crate) mod upgrade;

pub use accept::{Acceptor, Handshake, accept};
pub use forwarded::{Forwarded, InvalidNetwork, TrustedProxies};
