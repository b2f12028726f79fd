//! Messages that are lent: received ones where they lie, and such as are to be sent.

use bytes::Bytes;

use crate::buffer_pool;
use crate::message::{Kind, Message};
use crate::text::{self, Utf8Bytes};

/// A whole message that was received and lies in a buffer of the driver's.
#[derive(Debug)]
pub struct MessageRef<'a> {
    kind: Kind,
    payload: Lying<'a>,
}

#[derive(Debug)]
enum Lying<'a> {
    /// In what was read.
    Input(&'a [u8]),
    /// In a buffer of its own, which may be taken.
    Joined(&'a mut Vec<u8>),
}

impl<'a> MessageRef<'a> {
    /// Takes payload that the receiving side has validated as what `kind` says.
    #[inline]
    pub(crate) const fn from_validated(kind: Kind, payload: &'a [u8]) -> Self {
        Self { kind, payload: Lying::Input(payload) }
    }

    /// The same, put together in a buffer of its own.
    pub(crate) const fn joined_from_validated(kind: Kind, payload: &'a mut Vec<u8>) -> Self {
        Self { kind, payload: Lying::Joined(payload) }
    }

    /// Text or binary.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The payload as bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.payload {
            Lying::Input(payload) => payload,
            Lying::Joined(payload) => payload,
        }
    }

    /// The text, if it is a text message.
    #[inline]
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            Kind::Text => Some(text::validated(self.as_bytes())),
            Kind::Binary => None,
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

    /// The message with bytes of its own: copied out of what was read, or, if it came in pieces, in the
    /// buffer that they were put together in.
    pub fn into_message(self) -> Message {
        let payload = match self.payload {
            Lying::Input(payload) => Bytes::copy_from_slice(payload),
            Lying::Joined(payload) => buffer_pool::freeze(std::mem::take(payload)),
        };
        Message::from_validated(self.kind, payload)
    }
}

/// A message to be sent: lent, or given away.
///
/// ```
/// use longwire_proto::Outgoing;
///
/// let lent = Outgoing::from("你好");
/// let given = Outgoing::from(String::from("👋"));
/// assert!(matches!((lent, given), (Outgoing::Text(_), Outgoing::Owned(_))));
/// ```
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// Text that is copied.
    Text(&'a str),
    /// Bytes that are copied.
    Binary(&'a [u8]),
    /// A message whose bytes may be shared.
    Owned(Message),
}

impl Outgoing<'_> {
    /// Text or binary.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
            Self::Owned(message) => message.kind(),
        }
    }

    /// The payload as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
            Self::Owned(message) => message.as_bytes(),
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

    /// The message with bytes of its own.
    pub fn into_message(self) -> Message {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes.into(),
            Self::Owned(message) => message,
        }
    }
}

impl<'a> From<&'a str> for Outgoing<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Outgoing<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Outgoing<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Outgoing<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Binary(bytes)
    }
}

/// What lies in a buffer of its own is given away, the rest is lent.
impl<'a> From<MessageRef<'a>> for Outgoing<'a> {
    #[inline]
    fn from(message: MessageRef<'a>) -> Self {
        match (message.kind, message.payload) {
            (Kind::Text, Lying::Input(payload)) => Self::Text(text::validated(payload)),
            (Kind::Binary, Lying::Input(payload)) => Self::Binary(payload),
            (kind, payload) => Self::Owned(MessageRef { kind, payload }.into_message()),
        }
    }
}

macro_rules! outgoing_from_owned {
    ($($source:ty),+) => {$(
        impl From<$source> for Outgoing<'_> {
            fn from(message: $source) -> Self {
                Self::Owned(message.into())
            }
        }
    )+};
}

outgoing_from_owned!(Message, String, Utf8Bytes, Vec<u8>, Bytes);
