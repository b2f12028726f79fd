//! Messages and parts of messages, owned. How they are put together from frames is in `assembler`.

use bytes::Bytes;

use crate::text::Utf8Bytes;

/// What a message carries (RFC 6455 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Arbitrary bytes.
    Binary,
}

/// A whole message. Control frames are not messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// UTF-8 text.
    Text(Utf8Bytes),
    /// Arbitrary bytes.
    Binary(Bytes),
}

impl Message {
    /// Text or binary.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }

    /// The text, if it is a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_str().as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The payload as bytes, shared, not copied.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Bytes of payload.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// The payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes payload that the receiving side has validated as what `kind` says.
    #[inline]
    pub(crate) fn from_validated(kind: Kind, payload: Bytes) -> Self {
        match kind {
            Kind::Text => Self::Text(Utf8Bytes::from_validated(payload)),
            Kind::Binary => Self::Binary(payload),
        }
    }
}

macro_rules! message_from {
    ($($variant:ident: $($source:ty),+;)+) => {$($(
        impl From<$source> for Message {
            fn from(payload: $source) -> Self {
                Self::$variant(payload.into())
            }
        }
    )+)+};
}

message_from! {
    Text: Utf8Bytes, &str, String, &String;
    Binary: Bytes, Vec<u8>;
}

impl From<&[u8]> for Message {
    fn from(payload: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(payload))
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(payload: &[u8; N]) -> Self {
        Self::from(payload.as_slice())
    }
}

/// A piece of a message, as it came: the whole of a small one, or some bytes of a large one.
///
/// Text is valid UTF-8 as far as it goes, but a piece may begin and end within a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the message carries.
    pub kind: Kind,
    /// The bytes of this piece; may be empty.
    pub payload: Bytes,
    /// The message begins with this piece.
    pub first: bool,
    /// The message ends with this piece.
    pub last: bool,
}
