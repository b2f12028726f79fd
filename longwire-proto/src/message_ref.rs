//! A received message that lies in a buffer of the driver.

use bytes::Bytes;

use crate::buffer_pool;
use crate::message::{Kind, Message};
use crate::text;

/// A whole message that was received, in a buffer of the driver.
#[derive(Debug)]
pub struct MessageRef<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: Source<'a>,
}

#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// In the bytes that were read.
    Input(&'a [u8]),
    /// Put together from several frames, in a buffer that may be taken.
    Joined(&'a mut Vec<u8>),
}

impl<'a> MessageRef<'a> {
    /// Takes payload that the receiving side has validated as what `kind` says.
    #[inline]
    pub(crate) const fn from_validated(kind: Kind, payload: &'a [u8]) -> Self {
        Self { kind, payload: Source::Input(payload) }
    }

    /// The same, put together in a buffer of its own.
    pub(crate) const fn joined_from_validated(kind: Kind, payload: &'a mut Vec<u8>) -> Self {
        Self { kind, payload: Source::Joined(payload) }
    }

    /// Returns whether it is text or binary.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the payload as bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.payload {
            Source::Input(payload) => payload,
            Source::Joined(payload) => payload,
        }
    }

    /// Returns the text if it is a text message.
    #[inline]
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            Kind::Text => Some(text::validated(self.as_bytes())),
            Kind::Binary => None,
        }
    }

    /// Returns the length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Turns it into a message with bytes of its own: copied from the input, or, if it came in several frames, in
    /// the buffer that they were put together in.
    pub fn into_message(self) -> Message {
        let payload = match self.payload {
            Source::Input(payload) => Bytes::copy_from_slice(payload),
            Source::Joined(payload) => buffer_pool::freeze(std::mem::take(payload)),
        };
        Message::from_validated(self.kind, payload)
    }
}
