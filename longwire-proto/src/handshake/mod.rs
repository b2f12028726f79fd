//! The opening handshake as values (RFC 6455 section 4): text in, text out, no input or output.
//!
//! A driver collects bytes until [`HeadReader`] finds the end of the head. Then [`server`] or [`client`] parses and
//! checks it, and the driver writes what they encode. This layer implements every rule of the handshake and every
//! limit on its text. The driver waits, keeps deadlines, and supplies the nonce and the `Date` header.

pub mod client;
pub mod http2;
pub mod server;

mod authority;
mod extensions;
mod head;
mod headers;
mod offer;
mod origin;
mod refusal;

pub use client::HandshakeError;
pub use head::{HeadError, HeadLimits, HeadReader};
pub use headers::ExtraHeaderError;
pub use offer::Offer;
pub use origin::{InvalidOrigin, Origins};
pub use refusal::Refusal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The value of `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`: always 28 characters.
///
/// `key` is the text of the header, not the nonce that it encodes (RFC 6455 4.2.2, item 5.4). It
/// is not checked here: the server does so in [`server::check`].
///
/// ```
/// // The example of RFC 6455 1.3.
/// let accept = longwire_proto::handshake::accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &[u8]) -> String {
    // RFC 6455 1.3: a value that a server which does not know the protocol is unlikely to produce.
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}
