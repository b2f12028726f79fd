//! Messages and parts of messages, owned. How they are put together from frames is in `assembler`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::text::{InvalidUtf8, Utf8Bytes};

/// What a message carries (RFC 6455 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Arbitrary bytes.
    Binary,
}

/// A whole message. Control frames are not messages.
///
/// It is made of anything that holds text or bytes, and compares with it:
///
/// ```
/// use longwire_proto::Message;
///
/// let message = Message::text("你好 👋");
/// assert_eq!(message, "你好 👋");
/// assert_eq!(Message::from([1, 2, 3]), [1, 2, 3]);
/// assert_eq!(message.into_text()?, "你好 👋");
/// # Ok::<(), longwire_proto::InvalidUtf8>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// UTF-8 text.
    Text(Utf8Bytes),
    /// Arbitrary bytes.
    Binary(Bytes),
}

impl Message {
    /// Makes a text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// Makes a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns whether it is text or binary.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }

    /// Returns whether it is a text message.
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Returns whether it is a binary message.
    pub const fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Returns the text if it is a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Returns the payload as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_str().as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Turns it into text, without a copy. A binary message is text if its bytes are valid UTF-8.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if it is a binary message whose bytes are not valid UTF-8.
    pub fn into_text(self) -> Result<Utf8Bytes, InvalidUtf8> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(bytes) => bytes.try_into(),
        }
    }

    /// Turns it into the bytes of its payload, without a copy.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
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

    /// Takes payload that the receiving side has validated as what `kind` says.
    #[inline]
    pub(crate) fn from_validated(kind: Kind, payload: Bytes) -> Self {
        match kind {
            Kind::Text => Self::Text(Utf8Bytes::from_validated(payload)),
            Kind::Binary => Self::Binary(payload),
        }
    }
}

/// An empty text message.
impl Default for Message {
    fn default() -> Self {
        Self::Text(Utf8Bytes::new())
    }
}

/// Writes the text, or the number of bytes of a binary message.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Binary(bytes) => write!(f, "<{} bytes>", bytes.len()),
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
    Text: Utf8Bytes, &str, String, &String, Box<str>, Arc<str>, Cow<'_, str>;
    Binary: Bytes, Vec<u8>, Box<[u8]>, BytesMut;
}

impl From<&[u8]> for Message {
    fn from(payload: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(payload))
    }
}

impl From<Cow<'_, [u8]>> for Message {
    fn from(payload: Cow<'_, [u8]>) -> Self {
        match payload {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(payload: &[u8; N]) -> Self {
        Self::from(payload.as_slice())
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(payload: [u8; N]) -> Self {
        Self::from(payload.as_slice())
    }
}

/// The payload, without a copy.
impl From<Message> for Bytes {
    fn from(message: Message) -> Self {
        message.into_bytes()
    }
}

/// The payload; copied only if its bytes are shared.
impl From<Message> for Vec<u8> {
    fn from(message: Message) -> Self {
        message.into_bytes().into()
    }
}

/// The text of a text message, or of a binary one whose bytes are valid UTF-8.
impl TryFrom<Message> for String {
    type Error = InvalidUtf8;

    fn try_from(message: Message) -> Result<Self, InvalidUtf8> {
        message.into_text().map(Into::into)
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Only a text message equals a text.
impl PartialEq<str> for Message {
    fn eq(&self, other: &str) -> bool {
        self.as_text() == Some(other)
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<String> for Message {
    fn eq(&self, other: &String) -> bool {
        *self == **other
    }
}

/// Only a binary message equals bytes.
impl PartialEq<[u8]> for Message {
    fn eq(&self, other: &[u8]) -> bool {
        matches!(self, Self::Binary(bytes) if **bytes == *other)
    }
}

impl PartialEq<&[u8]> for Message {
    fn eq(&self, other: &&[u8]) -> bool {
        *self == **other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Message {
    fn eq(&self, other: &[u8; N]) -> bool {
        *self == *other.as_slice()
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Message {
    fn eq(&self, other: &&[u8; N]) -> bool {
        *self == *other.as_slice()
    }
}

impl PartialEq<Vec<u8>> for Message {
    fn eq(&self, other: &Vec<u8>) -> bool {
        *self == **other
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
