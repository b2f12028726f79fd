//! A server's side of the opening handshake: on a stream, and behind proxies.

pub(crate) mod accept;
pub(crate) mod forwarded;

pub use accept::{Acceptor, Handshake, accept};
pub use forwarded::{Forwarded, InvalidNetwork, TrustedProxies};
