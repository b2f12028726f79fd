//! A row of a table: how both ends are configured, what they must agree on, and that they do as agreed.

use longwire::{Config, Deflate, DeflateParameters, Kind, Message, Role};
use serde_json::Value;

use crate::link::Link;
use crate::messages::{all_sizes, every_distance, hex_digits, some_sizes, wide_text};
use crate::peer::Library;
use crate::wire::Usage;

/// The row.
#[derive(Clone, Debug)]
pub struct Row {
    ours: Option<Deflate>,
    theirs: Value,
    offer: Option<String>,
    answer: Option<String>,
}

impl Row {
    /// `ours` and `theirs` configure the ends, the latter as its script takes it. `offer` and `answer` are
    /// the parameters of permessage-deflate that follow; `None` is no offer, or that it is declined.
    pub fn new(ours: Option<Deflate>, theirs: Value, offer: Option<&str>, answer: Option<&str>) -> Self {
        let header = |parameters: &str| format!("permessage-deflate{parameters}");
        Self { ours, theirs, offer: offer.map(header), answer: answer.map(header) }
    }

    /// The configuration of our end.
    fn config(&self, role: Role) -> Config {
        match (role, &self.ours) {
            (Role::Client, Some(deflate)) => Config::client().deflate(deflate.clone()),
            (Role::Client, None) => Config::client().no_deflate(),
            (Role::Server, Some(deflate)) => Config::server().deflate(deflate.clone()),
            // Its default.
            (Role::Server, None) => Config::server(),
        }
    }

    /// What the handshake means (RFC 7692 section 7.1).
    fn agreed(&self, role: Role) -> Option<DeflateParameters> {
        let mut agreed = parameters(self.answer.as_ref()?);
        if let (Role::Client, Some(offer)) = (role, &self.offer) {
            // RFC 7692 7.1.1.2, 7.1.2.2: what a client says of itself it keeps to, whatever the answer.
            let offered = parameters(offer);
            agreed.client_no_context_takeover |= offered.client_no_context_takeover;
            agreed.client_max_window_bits = agreed.client_max_window_bits.min(offered.client_max_window_bits);
        }
        Some(agreed)
    }
}

fn parameters(header: &str) -> DeflateParameters {
    let mut stated = DeflateParameters {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    for parameter in header.split("; ").skip(1) {
        match parameter.split_once('=').unwrap_or((parameter, "15")) {
            ("server_no_context_takeover", _) => stated.server_no_context_takeover = true,
            ("client_no_context_takeover", _) => stated.client_no_context_takeover = true,
            ("server_max_window_bits", bits) => stated.server_max_window_bits = bits.parse().expect("bits"),
            ("client_max_window_bits", bits) => stated.client_max_window_bits = bits.parse().expect("bits"),
            _ => panic!("{parameter} in {header}"),
        }
    }
    stated
}

/// Opens a connection as the row says and checks what was agreed. We are `role`.
pub async fn open(library: Library, role: Role, row: &Row) -> Link {
    println!("{library:?} with a {role:?} of ours: {row:?}");
    let link = Link::open(library, role, row.config(role), &row.theirs).await;
    assert_eq!(link.offer(), row.offer, "what the client offered");
    assert_eq!(link.answer(), row.answer, "what the server answered");
    assert_eq!(link.agreed(), row.agreed(role));
    link
}

/// Opens a connection as the row says, checks what was agreed, and that it is what both ends do.
/// Returns what we did, and what the peer did.
pub async fn agree(library: Library, role: Role, row: &Row) -> (Usage, Usage) {
    let mut link = open(library, role, row).await;
    for message in some_sizes() {
        link.echo(message).await;
    }
    link.echo(every_distance()).await;

    let large = wide_text();
    let cost = link.echo(large.clone()).await;
    let small = 8 * 1024;
    if row.answer.is_some() {
        assert!(cost.sent < small && cost.received < small, "{cost:?}");
    } else {
        assert!(cost.sent > large.len() && cost.received > large.len(), "{cost:?}");
    }

    // Twice the same: with its context, the second is a single copy.
    let digits = hex_digits(200, 2);
    link.echo(digits.clone()).await;
    link.echo(digits.clone()).await;

    // What is sent otherwise must not disturb the context: it is no part of it, or for both ends.
    let others = hex_digits(1000, 3);
    let cost = link.echo_plain(others.clone()).await;
    assert!(cost.sent > others.len(), "{cost:?}");
    link.echo(digits.clone()).await;
    link.echo_shared(others.clone()).await;
    link.echo(digits.clone()).await;
    link.echo(others).await;
    link.echo_parts(Kind::Text, &[digits.as_bytes(), b"", digits.as_bytes()]).await;
    let text = "你好 👋".as_bytes();
    link.echo_parts(Kind::Text, &[&text[..4], &text[4..]]).await;
    link.ping().await;
    link.echo(digits).await;
    link.echo_many((0..200).map(|number| Message::from(format!("第 {number} 👋 {number:0100}"))).collect())
        .await;

    let agreed = link.agreed();
    let (us, them) = link.close().await;
    println!("  we: {us:?}\n  they: {them:?}");
    if let Some(agreed) = agreed {
        let (ours, theirs) = match role {
            Role::Client => (agreed.client_max_window_bits, agreed.server_max_window_bits),
            Role::Server => (agreed.server_max_window_bits, agreed.client_max_window_bits),
        };
        // That nobody went beyond a window the judge has seen; here it is that they are used.
        assert!(us.distance > 1 << (ours - 1), "{us:?} with {agreed:?}");
        // zlib stays a little below the size of its window.
        assert!(them.distance > 1 << (theirs - 2), "{them:?} with {agreed:?}");
    }
    (us, them)
}

/// As [`agree`], with messages of every kind and size and nothing else.
pub async fn every_size(library: Library, role: Role, row: &Row) -> (Usage, Usage) {
    let mut link = open(library, role, row).await;
    for message in all_sizes() {
        link.echo(message).await;
    }
    link.close().await
}

/// Opens a connection on which our end cuts messages into frames of up to 1000 bytes.
pub async fn our_fragments(library: Library, role: Role, row: &Row) {
    let mut link = Link::open(library, role, row.config(role).frame_size(1000), &row.theirs).await;
    for message in all_sizes() {
        link.echo(message).await;
    }
    let (us, _) = link.close().await;
    assert!(us.fragmented > 10, "{us:?}");
}

/// Opens connections on which our end takes a message just so, and one byte less: the limit counts what a
/// message inflates to.
pub async fn limited(library: Library, role: Role, row: &Row) {
    let message = wide_text();
    let config = |limit| row.config(role).max_message(limit);
    let mut link = Link::open(library, role, config(message.len()), &row.theirs).await;
    let cost = link.echo(message.clone()).await;
    assert!(cost.received < 4096, "{cost:?}");
    link.close().await;
    let link = Link::open(library, role, config(message.len() - 1), &row.theirs).await;
    link.echo_too_large(message).await;
}
