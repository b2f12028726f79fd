//! The opening handshake without I/O (RFC 6455 section 4): bytes in, bytes out.
//!
//! A server driver passes the bytes it receives to [`ServerOpening`] until it returns the request; [`server`] checks
//! the request and encodes the response. A client driver uses [`HeadReader`] and [`client`]. This layer owns every
//! rule of the handshake and every limit on its text. Reading, writing, waiting, the nonce and the `Date` header
//! belong to the driver.

pub mod client;
pub mod grammar;
pub mod http2;
pub mod server;

mod authority;
mod extensions;
mod head;
mod headers;
mod offer;
mod origin;
mod refusal;
mod server_opening;

pub use client::HandshakeError;
pub use head::{HeadError, HeadLimits, HeadReader};
pub use headers::{ExtraHeaderError, append_extra};
pub use offer::Offer;
pub use origin::{InvalidOrigin, OriginList, Origins};
pub use refusal::Refusal;
pub use server_opening::{MAX_READ_AHEAD, OpeningRequest, ServerOpening};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// Returns the value of `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`: always 28 characters.
///
/// `key` is the text of the header, not the nonce that it encodes (RFC 6455 4.2.2, item 5.4). It is not checked
/// here but in [`server::check`].
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
