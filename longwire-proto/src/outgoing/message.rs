//! A message to send: borrowed, owned, or prepared for many connections.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::deflate::Compress;
use crate::message::{Kind, Message};
use crate::message_ref::{MessageRef, Source};
use crate::outgoing::shared::SharedFrame;
use crate::text::{self, Utf8Bytes};

/// A message to send, and how to compress it: borrowed, owned, or prepared for many connections.
///
/// Every method that sends takes anything that becomes one. Text and bytes that are only borrowed are copied once,
/// into the buffer of the connection; a [`SharedFrame`] is not even encoded again.
///
/// ```
/// use longwire_proto::{Compress, Kind, Outgoing, SharedFrame};
///
/// let borrowed = Outgoing::from("你好");
/// let owned = Outgoing::from(String::from("👋"));
/// let secret = Outgoing::from("口令").compress(Compress::Never);
/// let prepared = Outgoing::from(SharedFrame::new([1, 2, 3]));
/// assert_eq!((borrowed.len(), owned.kind(), prepared.kind()), (6, Kind::Text, Kind::Binary));
/// # drop(secret);
/// ```
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    pub(crate) body: Body<'a>,
    pub(crate) compress: Option<Compress>,
}

#[derive(Clone, Debug)]
pub(crate) enum Body<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Owned(Message),
    /// Borrowed: cloning counts a reference, which a broadcast need not pay for each connection.
    Prepared(&'a SharedFrame),
    OwnedPrepared(SharedFrame),
}

impl Outgoing<'_> {
    /// Sets whether this message is compressed, where the connection has negotiated compression. Without it
    /// [`Compress::Auto`] applies, or what a [`SharedFrame`] was made with.
    ///
    /// A [`SharedFrame`] for which something else is set here is encoded again for this connection.
    #[must_use]
    pub const fn compress(mut self, compress: Compress) -> Self {
        self.compress = Some(compress);
        self
    }

    /// Returns whether it is text or binary.
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::Text(_) => Kind::Text,
            Body::Binary(_) => Kind::Binary,
            Body::Owned(message) => message.kind(),
            Body::Prepared(frame) => frame.kind(),
            Body::OwnedPrepared(frame) => frame.kind(),
        }
    }

    /// Returns the length of the payload in bytes.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
            Body::Owned(message) => message.len(),
            Body::Prepared(frame) => frame.payload_len(),
            Body::OwnedPrepared(frame) => frame.payload_len(),
        }
    }

    /// Returns whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Turns it into a message with bytes of its own.
    pub fn into_message(self) -> Message {
        match self.body {
            Body::Text(text) => text.into(),
            Body::Binary(bytes) => bytes.into(),
            Body::Owned(message) => message,
            Body::Prepared(frame) => frame.message(),
            Body::OwnedPrepared(frame) => frame.message(),
        }
    }

    /// Turns it into one that borrows nothing: for a queue.
    pub fn into_owned(self) -> Outgoing<'static> {
        let body = match self.body {
            Body::Text(text) => Body::Owned(text.into()),
            Body::Binary(bytes) => Body::Owned(bytes.into()),
            Body::Owned(message) => Body::Owned(message),
            Body::Prepared(frame) => Body::OwnedPrepared(frame.clone()),
            Body::OwnedPrepared(frame) => Body::OwnedPrepared(frame),
        };
        Outgoing { body, compress: self.compress }
    }

    /// Turns it into a frame for many connections: the one that it is, or a new one.
    pub(crate) fn into_shared(
        self,
        encode: impl FnOnce(Kind, &[u8], Compress) -> SharedFrame,
    ) -> SharedFrame {
        let compress = self.compress.unwrap_or_default();
        match self.body {
            Body::Text(text) => encode(Kind::Text, text.as_bytes(), compress),
            Body::Binary(bytes) => encode(Kind::Binary, bytes, compress),
            Body::Owned(message) => encode(message.kind(), message.as_bytes(), compress),
            Body::Prepared(frame) if is_as_prepared(frame, self.compress) => frame.clone(),
            Body::Prepared(frame) => encode(frame.kind(), frame.message().as_bytes(), compress),
            Body::OwnedPrepared(frame) if is_as_prepared(&frame, self.compress) => frame,
            Body::OwnedPrepared(frame) => encode(frame.kind(), frame.message().as_bytes(), compress),
        }
    }
}

fn is_as_prepared(frame: &SharedFrame, compress: Option<Compress>) -> bool {
    compress.is_none_or(|compress| compress == frame.compress())
}

macro_rules! outgoing_from {
    ($($source:ty => $variant:ident),+ $(,)?) => {$(
        impl<'a> From<$source> for Outgoing<'a> {
            #[inline]
            fn from(source: $source) -> Self {
                Self { body: Body::$variant(source), compress: None }
            }
        }
    )+};
}

outgoing_from! {
    &'a str => Text,
    &'a String => Text,
    &'a [u8] => Binary,
    &'a Vec<u8> => Binary,
    Message => Owned,
    &'a SharedFrame => Prepared,
    SharedFrame => OwnedPrepared,
}

macro_rules! outgoing_from_owned {
    ($($source:ty),+ $(,)?) => {$(
        impl From<$source> for Outgoing<'_> {
            fn from(message: $source) -> Self {
                Message::from(message).into()
            }
        }
    )+};
}

outgoing_from_owned!(String, Box<str>, Arc<str>, Utf8Bytes, Vec<u8>, Box<[u8]>, Bytes, BytesMut);

impl<'a, const N: usize> From<&'a [u8; N]> for Outgoing<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Outgoing<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Message::from(bytes).into()
    }
}

/// Its bytes are shared, not copied.
impl From<&Message> for Outgoing<'_> {
    fn from(message: &Message) -> Self {
        message.clone().into()
    }
}

/// Its bytes are shared, not copied.
impl From<&Bytes> for Outgoing<'_> {
    fn from(bytes: &Bytes) -> Self {
        bytes.clone().into()
    }
}

/// Its bytes are shared, not copied.
impl From<&Utf8Bytes> for Outgoing<'_> {
    fn from(text: &Utf8Bytes) -> Self {
        text.clone().into()
    }
}

impl<'a> From<Cow<'a, str>> for Outgoing<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl<'a> From<Cow<'a, [u8]>> for Outgoing<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

/// What lies in a buffer of its own is given away, the rest is borrowed.
impl<'a> From<MessageRef<'a>> for Outgoing<'a> {
    #[inline]
    fn from(message: MessageRef<'a>) -> Self {
        match (message.kind, message.payload) {
            (Kind::Text, Source::Input(payload)) => text::validated(payload).into(),
            (Kind::Binary, Source::Input(payload)) => payload.into(),
            (kind, payload) => MessageRef { kind, payload }.into_message().into(),
        }
    }
}
