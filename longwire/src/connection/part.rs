//! A part of a message to send.

use bytes::Bytes;
use longwire_proto::{Compress, Kind, Part};

/// A part of a message to send: see [`WebSocket::send_part`](crate::WebSocket::send_part).
///
/// Made of a kind, the bytes, and whether the message ends with them; or of a [`Part`] that was received, which passes
/// a message of any size on:
///
/// ```
/// # async fn example(mut from: longwire::WebSocket, mut to: longwire::WebSocket) -> Result<(), longwire::Error> {
/// while let Some(part) = from.recv_part().await? {
///     to.send_part(part).await?;
/// }
/// to.send_part((longwire::Kind::Text, "文件 📄", true)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OutgoingPart {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
    pub(crate) last: bool,
    pub(crate) compress: Compress,
}

impl OutgoingPart {
    /// Makes a part. The message ends with the part that is `last`.
    pub fn new(kind: Kind, payload: impl Into<Bytes>, last: bool) -> Self {
        Self { kind, payload: payload.into(), last, compress: Compress::Auto }
    }

    /// Sets whether the message is compressed; only that of its first part counts.
    #[must_use]
    pub const fn compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }
}

impl<P: Into<Bytes>> From<(Kind, P, bool)> for OutgoingPart {
    fn from((kind, payload, last): (Kind, P, bool)) -> Self {
        Self::new(kind, payload, last)
    }
}

impl From<Part> for OutgoingPart {
    fn from(part: Part) -> Self {
        Self::new(part.kind, part.payload, part.last)
    }
}
