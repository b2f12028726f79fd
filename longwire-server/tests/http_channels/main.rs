//! Channels over HTTP: the library behind a real listener and a real engine, served as the binary serves it.
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

// What the binary serves connections with.
#[path = "../../src/health.rs"]
mod health;
#[path = "../../src/http_server.rs"]
mod http_server;
#[path = "../../src/write_timeout.rs"]
mod write_timeout;

use std::time::Duration;

/// No single step of a test takes longer than this, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

/// What has to come.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Waits until it is so.
async fn wait_until(mut is_so: impl FnMut() -> bool) {
    in_time(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
