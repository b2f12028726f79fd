//! Queues messages of every origin on a connection.

use crate::connection::Connection;
use crate::deflate::Compress;
use crate::error::SendError;
use crate::message::Kind;
use crate::outgoing::message::{Body, Outgoing};
use crate::outgoing::outbox::Outbox;
use crate::outgoing::shared::SharedFrame;

impl Connection {
    /// Queues a message of any origin, in frames of at most [`Config::frame_size`](crate::Config::frame_size).
    /// What is only borrowed is copied.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    #[inline]
    pub fn send_outgoing(&mut self, message: Outgoing<'_>, out: &mut Outbox) -> Result<(), SendError> {
        let compress = message.compress.unwrap_or_default();
        match message.body {
            Body::Text(text) => self.send_borrowed(Kind::Text, text.as_bytes(), compress, out),
            Body::Binary(bytes) => self.send_borrowed(Kind::Binary, bytes, compress, out),
            Body::Owned(owned) => self.send_with(owned, compress, out),
            Body::Prepared(frame) => self.send_prepared(frame, message.compress, out),
            Body::OwnedPrepared(frame) => self.send_prepared(&frame, message.compress, out),
        }
    }

    fn send_prepared(
        &mut self,
        frame: &SharedFrame,
        compress: Option<Compress>,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        match compress {
            Some(compress) if compress != frame.compress() => self.send_with(frame.message(), compress, out),
            _ => self.send_shared(frame, out),
        }
    }
}
