//! Our server with the client of Bun, and our client with its server.

use longwire::{Deflate, Role};
use longwire_interop::{Library, Row, agree, every_size, limited, our_fragments};
use serde_json::{Value, json};

const LIBRARY: Library = Library::Bun;

/// What their client offers; it has no options for it.
const OFFER: Option<&str> = Some("; client_max_window_bits");

/// How their server compresses, and decompresses.
fn server(compress: &str, decompress: &str) -> Value {
    json!({ "perMessageDeflate": { "compress": compress, "decompress": decompress } })
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
    for (role, row) in [
        (Role::Server, Row::new(None, json!({}), OFFER, None)),
        (Role::Server, Row::new(Some(all()), json!({ "perMessageDeflate": false }), None, None)),
        (Role::Client, Row::new(None, json!({ "perMessageDeflate": true }), None, None)),
        (Role::Client, Row::new(Some(takeover()), json!({}), OFFER, None)),
        // Their shared compressor has one window only.
        (
            Role::Client,
            Row::new(
                Some(takeover().receive_window_bits(14)),
                server("shared", "shared"),
                Some("; server_max_window_bits=14; client_max_window_bits"),
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
    // Ours, answer; who takes over: we, they.
    for (ours, answer, expected) in [
        (Deflate::new(), "; server_no_context_takeover", (false, true)),
        (takeover(), "", (true, true)),
        (
            all().no_context_takeover(),
            "; server_no_context_takeover; client_no_context_takeover",
            (false, false),
        ),
    ] {
        let row = Row::new(Some(ours), json!({}), OFFER, Some(answer));
        let (us, them) = agree(LIBRARY, Role::Server, &row).await;
        assert_eq!((us.took_over, them.took_over), expected);
    }
}

#[tokio::test]
async fn context_takeover_with_their_server() {
    let neither = "; client_no_context_takeover; server_no_context_takeover";
    for (ours, options, offer, answer, expected) in [
        (
            Deflate::new(),
            json!({ "perMessageDeflate": true }),
            "; client_no_context_takeover",
            neither,
            (false, false),
        ),
        (takeover(), server("shared", "shared"), "", neither, (false, false)),
        (takeover(), server("dedicated", "dedicated"), "", "", (true, true)),
        (takeover(), server("dedicated", "shared"), "", "; client_no_context_takeover", (false, true)),
        (takeover(), server("shared", "dedicated"), "", "; server_no_context_takeover", (true, false)),
        (takeover(), server("3KB", "dedicated"), "", "; server_max_window_bits=9", (true, true)),
        (
            all().no_context_takeover(),
            server("dedicated", "dedicated"),
            "; server_no_context_takeover; client_no_context_takeover",
            neither,
            (false, false),
        ),
    ] {
        let offer = format!("{offer}; client_max_window_bits");
        let row = Row::new(Some(ours), options, Some(&offer), Some(answer));
        let (us, them) = agree(LIBRARY, Role::Client, &row).await;
        assert_eq!((us.took_over, them.took_over), expected);
    }
}

#[tokio::test]
async fn windows_that_we_ask_for() {
    for bits in 8..15 {
        let ours = takeover().send_window_bits(bits).receive_window_bits(bits);
        let limits = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
        let row = Row::new(Some(ours.clone()), json!({}), OFFER, Some(&limits));
        agree(LIBRARY, Role::Server, &row).await;
        let answer = format!("; client_max_window_bits={bits}; server_max_window_bits={bits}");
        let row = Row::new(Some(ours), server("dedicated", "dedicated"), Some(&limits), Some(&answer));
        agree(LIBRARY, Role::Client, &row).await;
    }
}

#[tokio::test]
async fn every_size_either_way() {
    for (role, ours, options, answer) in [
        (Role::Server, takeover(), json!({}), ""),
        (Role::Client, takeover(), server("dedicated", "dedicated"), ""),
        (
            Role::Client,
            takeover(),
            server("shared", "shared"),
            "; client_no_context_takeover; server_no_context_takeover",
        ),
    ] {
        let row = Row::new(Some(ours), options, OFFER, Some(answer));
        let (us, them) = every_size(LIBRARY, role, &row).await;
        assert!(us.compressed > 0 && them.compressed > 0);
    }
}

/// RFC 7692 6.1: a message is compressed as a whole, then cut into frames.
#[tokio::test]
async fn our_fragments_either_way() {
    for (role, options) in [(Role::Server, json!({})), (Role::Client, server("dedicated", "dedicated"))] {
        our_fragments(LIBRARY, role, &Row::new(Some(takeover()), options, OFFER, Some(""))).await;
    }
}

#[tokio::test]
async fn too_large_when_inflated() {
    for (role, options) in [(Role::Server, json!({})), (Role::Client, server("dedicated", "dedicated"))] {
        limited(LIBRARY, role, &Row::new(Some(takeover()), options, OFFER, Some(""))).await;
    }
}
