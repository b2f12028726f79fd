//! Our server with the client of `ws` on Node, and our client with its server.

use longwire::{Deflate, Role};
use longwire_interop::{Library, Row, agree, every_size, limited, open, our_fragments};
use serde_json::{Value, json};

const LIBRARY: Library = Library::Ws;

/// What their client offers by default.
const OFFER: Option<&str> = Some("; client_max_window_bits");

/// Their options, which both ends take.
fn theirs(deflate: Value) -> Value {
    json!({ "perMessageDeflate": deflate })
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
    let defaults = theirs(json!(true));
    let off = theirs(json!(false));
    for (role, row) in [
        (Role::Server, Row::new(None, defaults.clone(), OFFER, None)),
        (Role::Server, Row::new(Some(all()), off.clone(), None, None)),
        // RFC 7692 7.1.2.2: a window that the client cannot limit.
        (
            Role::Server,
            Row::new(
                Some(all().receive_window_bits(14)),
                theirs(json!({ "clientMaxWindowBits": false })),
                Some(""),
                None,
            ),
        ),
        (Role::Client, Row::new(None, defaults, None, None)),
        (
            Role::Client,
            Row::new(Some(all()), off, Some("; client_no_context_takeover; client_max_window_bits"), None),
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
        // Agreed on, and no memory for it.
        (all().send_context_takeover(1000), json!({}), "", "", (false, true)),
        (
            takeover(),
            json!({ "clientNoContextTakeover": true }),
            "; client_no_context_takeover",
            "; client_no_context_takeover",
            (true, false),
        ),
        (
            takeover(),
            json!({ "serverNoContextTakeover": true }),
            "; server_no_context_takeover",
            "; server_no_context_takeover",
            (false, true),
        ),
        (
            all().no_context_takeover(),
            json!({ "threshold": 0 }),
            "",
            "; server_no_context_takeover; client_no_context_takeover",
            (false, false),
        ),
    ];
    for (ours, options, offer, answer, expected) in rows {
        let offer = format!("{offer}; client_max_window_bits");
        let row = Row::new(Some(ours), theirs(options), Some(&offer), Some(answer));
        let (us, them) = agree(LIBRARY, Role::Server, &row).await;
        assert_eq!((us.took_over, them.took_over), expected);
    }
}

#[tokio::test]
async fn context_takeover_with_their_server() {
    let rows = [
        (
            Deflate::new(),
            json!({}),
            "; client_no_context_takeover",
            "; client_no_context_takeover",
            (false, true),
        ),
        (takeover(), json!({}), "", "", (true, true)),
        (
            takeover(),
            json!({ "clientNoContextTakeover": true }),
            "",
            "; client_no_context_takeover",
            (false, true),
        ),
        (
            takeover(),
            json!({ "serverNoContextTakeover": true }),
            "",
            "; server_no_context_takeover",
            (true, false),
        ),
        (
            all().no_context_takeover(),
            json!({ "threshold": 0 }),
            "; server_no_context_takeover; client_no_context_takeover",
            "; server_no_context_takeover; client_no_context_takeover",
            (false, false),
        ),
    ];
    for (ours, options, offer, answer, expected) in rows {
        let offer = format!("{offer}; client_max_window_bits");
        let row = Row::new(Some(ours), theirs(options), Some(&offer), Some(answer));
        let (us, them) = agree(LIBRARY, Role::Client, &row).await;
        assert_eq!((us.took_over, them.took_over), expected);
    }
}

/// Our server takes its context over, our client does not.
#[tokio::test]
async fn windows_that_we_ask_for() {
    for bits in 8..15 {
        let limited = |ours: Deflate| Some(ours.send_window_bits(bits).receive_window_bits(bits));
        let limits = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
        let row = Row::new(limited(takeover()), theirs(json!({})), OFFER, Some(&limits));
        agree(LIBRARY, Role::Server, &row).await;
        let limits = format!("; client_no_context_takeover{limits}");
        let row = Row::new(limited(all()), theirs(json!({})), Some(&limits), Some(&limits));
        agree(LIBRARY, Role::Client, &row).await;
    }
}

#[tokio::test]
async fn windows_that_they_ask_for() {
    for bits in 8..=15 {
        let options = theirs(json!({ "serverMaxWindowBits": bits, "clientMaxWindowBits": bits }));
        let offer = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
        let answer = if bits < 15 { &offer } else { "; server_max_window_bits=15" };
        let row = Row::new(Some(takeover()), options.clone(), Some(&offer), Some(answer));
        agree(LIBRARY, Role::Server, &row).await;
        let answer = format!("; client_max_window_bits={bits}; server_max_window_bits={bits}");
        let row = Row::new(Some(takeover()), options, OFFER, Some(&answer));
        agree(LIBRARY, Role::Client, &row).await;
    }
}

#[tokio::test]
async fn windows_of_two_sizes() {
    let ours = || takeover().send_window_bits(9).receive_window_bits(12);
    for (role, ours, options, offer, answer) in [
        // The smaller of two wishes holds.
        (
            Role::Server,
            ours(),
            json!({ "serverMaxWindowBits": 11, "clientMaxWindowBits": 10 }),
            "; server_max_window_bits=11; client_max_window_bits=10",
            "; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            Role::Client,
            ours(),
            json!({ "serverMaxWindowBits": 10, "clientMaxWindowBits": 9 }),
            "; server_max_window_bits=12; client_max_window_bits=9",
            "; server_max_window_bits=10; client_max_window_bits=9",
        ),
        // A server that does not limit us: we keep to what we said.
        (
            Role::Client,
            takeover().send_window_bits(10),
            json!({ "clientMaxWindowBits": false }),
            "; client_max_window_bits=10",
            "",
        ),
    ] {
        let row = Row::new(Some(ours), theirs(options), Some(offer), Some(answer));
        agree(LIBRARY, role, &row).await;
    }
}

/// Theirs holds only where they take no context over.
#[tokio::test]
async fn thresholds() {
    let with = |threshold: usize| {
        theirs(json!({
            "serverNoContextTakeover": true, "clientNoContextTakeover": true, "threshold": threshold
        }))
    };
    // Ours, theirs, a size, and who compresses it: we, they.
    let rows = [
        (Deflate::new(), with(1024), 255, (false, false)),
        (Deflate::new(), with(1024), 256, (true, false)),
        (Deflate::new(), with(1024), 1023, (true, false)),
        (Deflate::new(), with(1024), 1024, (true, true)),
        (Deflate::new().threshold(5000), with(3000), 2999, (false, false)),
        (Deflate::new().threshold(5000), with(3000), 3000, (false, true)),
        (Deflate::new().threshold(5000), with(3000), 4999, (false, true)),
        (Deflate::new().threshold(5000), with(3000), 5000, (true, true)),
        (all(), with(0), 20, (true, true)),
    ];
    for (role, offer, answer) in [
        (
            Role::Server,
            "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
            "; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            Role::Client,
            "; client_no_context_takeover; client_max_window_bits",
            "; client_no_context_takeover; server_no_context_takeover",
        ),
    ] {
        for (ours, options, size, expected) in rows.clone() {
            let row = Row::new(Some(ours), options, Some(offer), Some(answer));
            let mut link = open(LIBRARY, role, &row).await;
            link.echo("喂".repeat(size / 3) + &"!".repeat(size % 3)).await;
            let (us, them) = link.close().await;
            assert_eq!((us.compressed > 0, them.compressed > 0), expected, "{size} bytes");
        }
    }
}

#[tokio::test]
async fn every_size_either_way() {
    for (role, ours, answer) in [
        (Role::Server, takeover(), ""),
        (Role::Client, takeover(), ""),
        (Role::Server, Deflate::new(), "; server_no_context_takeover"),
    ] {
        let row = Row::new(Some(ours), theirs(json!({})), OFFER, Some(answer));
        let (us, them) = every_size(LIBRARY, role, &row).await;
        assert!(us.compressed > 0 && them.compressed > 0);
    }
}

#[tokio::test]
async fn every_level_of_ours() {
    for level in 2..=9 {
        let row = Row::new(Some(takeover().level(level)), theirs(json!({})), OFFER, Some(""));
        agree(LIBRARY, Role::Server, &row).await;
    }
    for level in [1, 9] {
        let ours = all().level(level).send_window_bits(9);
        let answer = "; server_no_context_takeover; server_max_window_bits=9";
        agree(LIBRARY, Role::Server, &Row::new(Some(ours), theirs(json!({})), OFFER, Some(answer))).await;
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
            Row::new(Some(takeover()), theirs(json!({ "zlibDeflateOptions": settings })), OFFER, Some(""));
        let (_, them) = every_size(LIBRARY, Role::Server, &row).await;
        assert!(them.compressed > 0);
    }
}

/// RFC 7692 6.1: a message is compressed as a whole, then cut into frames.
#[tokio::test]
async fn fragments_either_way() {
    for role in [Role::Server, Role::Client] {
        let options = json!({ "perMessageDeflate": {}, "fragment": 1000 });
        let row = Row::new(Some(takeover()), options, OFFER, Some(""));
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
