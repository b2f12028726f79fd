//! The engine over real TCP, on one thread and on two. The peers are raw sockets, which see every byte, and longwire's
//! own client.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../longwire-proto/tests/support/counting.rs"]
mod counting;
#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "tls")]
mod bridge;
mod host;
mod raw;

mod accept;
mod adopt;
mod backpressure;
mod callbacks;
mod deflate;
mod drain;
mod ends;
mod failing;
mod fairness;
mod handshake;
mod http;
mod hub;
mod memory;
mod messages;
mod peers;
mod slow;
mod topics;
mod verdict;

/// Whether peers speak TLS to the engine: see `engine_tls`.
#[cfg(feature = "tls")]
const SECURE: bool = false;
