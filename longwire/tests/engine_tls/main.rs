//! The engine over TLS: the engine's tests with TLS in between, and the tests that only TLS needs.

#![cfg(all(unix, feature = "tls"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../longwire-proto/tests/support/counting.rs"]
mod counting;
#[path = "../support/mod.rs"]
mod support;

#[path = "../engine/bridge.rs"]
mod bridge;
#[path = "../engine/host.rs"]
mod host;
#[path = "../engine/raw.rs"]
mod raw;

#[path = "../engine/backpressure.rs"]
mod backpressure;
#[path = "../engine/callbacks.rs"]
mod callbacks;
#[path = "../engine/deflate.rs"]
mod deflate;
#[path = "../engine/drain.rs"]
mod drain;
#[path = "../engine/ends.rs"]
mod ends;
#[path = "../engine/failing.rs"]
mod failing;
#[path = "../engine/handshake.rs"]
mod handshake;
#[path = "../engine/http.rs"]
mod http;
#[path = "../engine/hub.rs"]
mod hub;
#[path = "../engine/messages.rs"]
mod messages;
#[path = "../engine/peers.rs"]
mod peers;
#[path = "../engine/slow.rs"]
mod slow;
#[path = "../engine/topics.rs"]
mod topics;
#[path = "../engine/verdict.rs"]
mod verdict;

mod secured;

/// Whether peers speak TLS to the engine.
const SECURE: bool = true;
