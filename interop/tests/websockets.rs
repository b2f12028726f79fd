//! Our server with the client of `websockets` on Python, and our client with its server.

use longwire::{Deflate, Role};
use longwire_interop::{Library, Row, agree, every_size, limited, our_fragments};
use serde_json::{Value, json};

const LIBRARY: Library = Library::Websockets;

/// What their client offers by default.
const OFFER: Option<&str> = Some("; client_max_window_bits");

/// The parameters of their factory, for both ends.
fn theirs(deflate: Value) -> Value {
    json!({ "deflate": deflate })
}

/// Compresses every message.
fn all() -> Deflate {
    Deflate::new().threshold(0)
}

/// And takes its context over.
fn takeover() -> Deflate {
    all().send_context_takeover(1 << 20)
}

#[tokio::test]
async fn no_compression() {
    let off = theirs(json!(false));
    for (role, row) in [
        (Role::Server, Row::new(None, json!({}), OFFER, None)),
        (Role::Server, Row::new(Some(all()), off.clone(), None, None)),
        // RFC 7692 7.1.2.2: a window that the client cannot limit.
        (
            Role::Server,
            Row::new(
                Some(all().receive_window_bits(14)),
                theirs(json!({ "client_max_window_bits": null })),
                Some(""),
                None,
            ),
        ),
        (Role::Client, Row::new(None, json!({}), None, None)),
        (
            Role::Client,
            Row::new(Some(all()), off, Some("; client_no_context_takeover; client_max_window_bits"), None),
        ),
        // Their encoder has no window of 256 bytes.
        (
            Role::Client,
            Row::new(
                Some(takeover().receive_window_bits(8)),
                json!({}),
                Some("; server_max_window_bits=8; client_max_window_bits"),
                None,
            ),
        ),
    ] {
        let (us, them) = agree(LIBRARY, role, &row).await;
        assert_eq!((us.compressed, them.compressed), (0, 0));
    }
}

#[tokio::test]
async fn context_takeover_with_their_client() {
    // Ours, theirs, offer, answer; who takes over: we, they.
    let rows = [
        (Deflate::new(), json!({}), "", "; server_no_context_takeover", (false, true)),
        (takeover(), json!({}), "", "", (true, true)),
        (
            takeover(),
            theirs(json!({ "client_no_context_takeover": true })),
            "; client_no_context_takeover",
            "; client_no_context_takeover",
            (true, false),
        ),
        (
            takeover(),
            theirs(json!({ "server_no_context_takeover": true })),
            "; server_no_context_takeover",
            "; server_no_context_takeover",
            (false, true),
        ),
        (
            all().no_context_takeover(),
            json!({}),
            "",
            "; server_no_context_takeover; client_no_context_takeover",
            (false, false),
        ),
    ];
    for (ours, options, offer, answer, expected) in rows {
        let offer = format!("{offer}; client_max_window_bits");
        let row = Row::new(Some(ours), options, Some(&offer), Some(answer));
        let (us, them) = agree(LIBRARY, Role::Server, &row).await;
        assert_eq!((us.took_over, them.took_over), expected);
    }
}

#[tokio::test]
async fn context_takeover_with_their_server() {
    let rows = [
        // Their default names windows that nobody asked for (RFC 7692 7.1.2.1).
        (
            Deflate::new(),
            json!({}),
            "; client_no_context_takeover",
            "; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=12",
            (false, true),
        ),
        (takeover(), json!({}), "", "; server_max_window_bits=12; client_max_window_bits=12", (true, true)),
        (takeover(), theirs(json!({})), "", "", (true, true)),
        (
            takeover(),
            theirs(json!({ "client_no_context_takeover": true })),
            "",
            "; client_no_context_takeover",
            (false, true),
        ),
        (
            takeover(),
            theirs(json!({ "server_no_context_takeover": true })),
            "",
            "; server_no_context_takeover",
            (true, false),
        ),
        (
            all().no_context_takeover(),
            theirs(json!({})),
            "; server_no_context_takeover; client_no_context_takeover",
            "; server_no_context_takeover; client_no_context_takeover",
            (false, false),
        ),
    ];
    for (ours, options, offer, answer, expected) in rows {
        let offer = format!("{offer}; client_max_window_bits");
        let row = Row::new(Some(ours), options, Some(&offer), Some(answer));
        let (us, them) = agree(LIBRARY, Role::Client, &row).await;
        assert_eq!((us.took_over, them.took_over), expected);
    }
}

/// Their encoder has windows from 9 bits, their decoder from 8.
#[tokio::test]
async fn windows_that_we_ask_for() {
    for bits in 8..15 {
        let theirs = bits.max(9);
        let ours = takeover().send_window_bits(bits).receive_window_bits(theirs);
        let limits = format!("; server_max_window_bits={bits}; client_max_window_bits={theirs}");
        let row = Row::new(Some(ours.clone()), json!({ "deflate": {} }), OFFER, Some(&limits));
        agree(LIBRARY, Role::Server, &row).await;
        let limits = format!("; server_max_window_bits={theirs}; client_max_window_bits={bits}");
        let row = Row::new(Some(ours), json!({ "deflate": {} }), Some(&limits), Some(&limits));
        agree(LIBRARY, Role::Client, &row).await;
    }
}

#[tokio::test]
async fn windows_that_they_ask_for() {
    for ours in 8..=15 {
        let bits = ours.max(9);
        let options = theirs(json!({ "server_max_window_bits": ours, "client_max_window_bits": bits }));
        let offer = format!("; server_max_window_bits={ours}; client_max_window_bits={bits}");
        let answer = if bits < 15 { &offer } else { "; server_max_window_bits=15" };
        let row = Row::new(Some(takeover()), options, Some(&offer), Some(answer));
        agree(LIBRARY, Role::Server, &row).await;
        let options = theirs(json!({ "server_max_window_bits": bits, "client_max_window_bits": ours }));
        let answer = format!("; server_max_window_bits={bits}; client_max_window_bits={ours}");
        let row = Row::new(Some(takeover()), options, OFFER, Some(&answer));
        agree(LIBRARY, Role::Client, &row).await;
    }
}

#[tokio::test]
async fn every_size_either_way() {
    for (role, options) in [(Role::Server, json!({})), (Role::Client, theirs(json!({})))] {
        let row = Row::new(Some(takeover()), options, OFFER, Some(""));
        let (us, them) = every_size(LIBRARY, role, &row).await;
        assert!(us.compressed > 0 && them.compressed > 0);
    }
}

/// Stored blocks, the fixed codes, codes without copies, copies from one byte back.
#[tokio::test]
async fn every_kind_of_block() {
    for settings in [
        json!({ "level": 0 }),
        json!({ "level": 9 }),
        json!({ "strategy": 4 }),
        json!({ "strategy": 2 }),
        json!({ "strategy": 3 }),
    ] {
        let row =
            Row::new(Some(takeover()), theirs(json!({ "compress_settings": settings })), OFFER, Some(""));
        let (_, them) = every_size(LIBRARY, Role::Server, &row).await;
        assert!(them.compressed > 0);
    }
}

/// RFC 7692 6.1: a message is compressed as a whole, then cut into frames.
#[tokio::test]
async fn fragments_either_way() {
    for role in [Role::Server, Role::Client] {
        let row = Row::new(Some(takeover()), json!({ "deflate": {}, "fragment": 1000 }), OFFER, Some(""));
        let (_, them) = every_size(LIBRARY, role, &row).await;
        assert!(them.fragmented > 10, "{them:?}");
        let row = Row::new(Some(takeover()), theirs(json!({})), OFFER, Some(""));
        our_fragments(LIBRARY, role, &row).await;
    }
}

#[tokio::test]
async fn too_large_when_inflated() {
    for role in [Role::Server, Role::Client] {
        limited(LIBRARY, role, &Row::new(Some(takeover()), theirs(json!({})), OFFER, Some(""))).await;
    }
}
