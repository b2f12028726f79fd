//! Messages as values: what they are made of, what they become, and what they equal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use longwire_proto::{
    Compress, Config, Connection, Deflate, InvalidUtf8, Kind, Message, Outbox, Outgoing, SharedFrame,
    Utf8Bytes,
};

const TEXT: &str = "你好 👋";
const BYTES: [u8; 3] = [0, 159, 146];

#[test]
fn every_holder_of_text_becomes_a_text_message() {
    let made: [Message; 8] = [
        TEXT.into(),
        TEXT.to_owned().into(),
        (&TEXT.to_owned()).into(),
        Box::<str>::from(TEXT).into(),
        Arc::<str>::from(TEXT).into(),
        Cow::Borrowed(TEXT).into(),
        Cow::<str>::Owned(TEXT.into()).into(),
        Utf8Bytes::from(TEXT).into(),
    ];
    for message in made {
        assert!(message.is_text() && !message.is_binary() && message.kind() == Kind::Text);
        assert_eq!(message, Message::text(TEXT));
        assert_eq!((message.as_text(), message.len(), message.to_string()), (Some(TEXT), 11, TEXT.into()));
        assert!(message == TEXT && message == *TEXT);
        assert_eq!(message, TEXT.to_owned());
        assert!(message != *TEXT.as_bytes(), "text is not binary");
        assert_eq!(message.clone().into_text().unwrap(), TEXT);
        assert_eq!(String::try_from(message.clone()).unwrap(), TEXT);
        assert_eq!(Vec::from(message), TEXT.as_bytes());
    }
}

#[test]
fn every_holder_of_bytes_becomes_a_binary_message() {
    let made: [Message; 9] = [
        BYTES.into(),
        (&BYTES).into(),
        (&BYTES[..]).into(),
        BYTES.to_vec().into(),
        Box::<[u8]>::from(BYTES).into(),
        Cow::Borrowed(&BYTES[..]).into(),
        Cow::<[u8]>::Owned(BYTES.to_vec()).into(),
        Bytes::copy_from_slice(&BYTES).into(),
        BytesMut::from(&BYTES[..]).into(),
    ];
    for message in made {
        assert!(message.is_binary() && !message.is_text() && message.kind() == Kind::Binary);
        assert_eq!(message, Message::binary(BYTES.to_vec()));
        assert_eq!((message.as_text(), message.to_string()), (None, "<3 bytes>".into()));
        assert!(message == BYTES && message == BYTES[..] && message == BYTES.to_vec());
        assert_eq!(message.clone().into_text(), Err(InvalidUtf8));
        assert_eq!(Bytes::from(message), &BYTES[..]);
    }
    // Bytes that are text become text.
    assert_eq!(Message::binary(TEXT).into_text().unwrap(), TEXT);
    assert!(Message::binary(TEXT) != TEXT);
    assert_eq!(Message::default(), "");
}

#[test]
fn a_map_of_texts_is_searched_by_str() {
    let map = HashMap::from([(Utf8Bytes::from(TEXT), 1)]);
    assert_eq!(map.get(TEXT), Some(&1));
    let text: String = Utf8Bytes::from(TEXT).into();
    assert_eq!(Utf8Bytes::from(TEXT), text);
    assert_eq!(Utf8Bytes::from(TEXT).into_bytes(), TEXT.as_bytes());
}

/// What a server writes for a message.
fn written(message: Outgoing<'_>, compresses: bool) -> Vec<u8> {
    let config = Config::server().deflate(Deflate::new());
    let mut server = Connection::server(Arc::new(config), Instant::now());
    if compresses {
        server = server.with_deflate(longwire_proto::DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        });
    }
    let mut out = Outbox::new();
    server.send_outgoing(message, &mut out).unwrap();
    let length = out.remaining();
    out.copy_to_bytes(length).to_vec()
}

#[test]
fn what_is_sent_is_the_same_however_it_is_held() {
    let text = Message::text(TEXT);
    let shared = SharedFrame::new(TEXT);
    let texts: [Outgoing<'_>; 8] = [
        TEXT.into(),
        TEXT.to_owned().into(),
        Cow::Borrowed(TEXT).into(),
        Arc::<str>::from(TEXT).into(),
        (&text).into(),
        text.clone().into(),
        (&shared).into(),
        shared.clone().into(),
    ];
    let expected = [&[0x81, 11], TEXT.as_bytes()].concat();
    for outgoing in texts {
        assert_eq!((outgoing.kind(), outgoing.len(), outgoing.is_empty()), (Kind::Text, 11, false));
        assert_eq!(outgoing.clone().into_message(), TEXT);
        assert_eq!(written(outgoing.clone().into_owned(), false), expected);
        assert_eq!(written(outgoing, false), expected);
    }
    let binary: [Outgoing<'_>; 5] = [
        BYTES.into(),
        (&BYTES).into(),
        (&BYTES[..]).into(),
        BYTES.to_vec().into(),
        Bytes::copy_from_slice(&BYTES).into(),
    ];
    for outgoing in binary {
        assert_eq!(written(outgoing, false), [&[0x82, 3], &BYTES[..]].concat());
    }
}

#[test]
fn the_callers_choice_of_compression_holds_for_every_kind_of_message() {
    let long = TEXT.repeat(1000);
    let message = Message::text(long.as_str());
    let (auto, never) =
        (SharedFrame::new(&long), SharedFrame::new(Outgoing::from(&long).compress(Compress::Never)));
    let is_compressed = |outgoing: Outgoing<'_>| written(outgoing, true)[0] & 0x40 != 0;
    for outgoing in [Outgoing::from(&long), Outgoing::from(&message), Outgoing::from(&auto)] {
        assert!(is_compressed(outgoing.clone()));
        assert!(!is_compressed(outgoing.clone().compress(Compress::Never)));
        assert!(!is_compressed(outgoing.into_owned().compress(Compress::Never)));
    }
    assert!(!is_compressed(Outgoing::from(&never)));
    assert!(is_compressed(Outgoing::from(&never).compress(Compress::Always)));
    // A frame that is shared again is the same frame, unless something else is wanted of it.
    assert!(!is_compressed(SharedFrame::new(&never).into()));
    assert!(is_compressed(SharedFrame::new(Outgoing::from(&never).compress(Compress::Always)).into()));
}
