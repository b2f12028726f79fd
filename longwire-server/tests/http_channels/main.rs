//! Channels over HTTP: the library with a real listener and engine, served as the binary does.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod access;
mod all_transports;
mod axum;
mod client;
mod connections;
mod cors;
mod http2;
mod many_channels;
mod operators;
mod poll;
mod post;
mod server;
mod sse;
mod timing;
mod webhook;

// Modules of the binary that serve connections.
#[path = "../../src/health.rs"]
mod health;
#[path = "../../src/http_server.rs"]
mod http_server;
#[path = "../../src/write_timeout.rs"]
mod write_timeout;

use std::time::Duration;

/// Timeout of a single step, long enough for busy machines.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a future, with a timeout.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("in time")
}

/// Waits until a condition holds.
async fn wait_until(mut is_so: impl FnMut() -> bool) {
    in_time(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
