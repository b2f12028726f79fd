//! WebSockets out of hyper and axum over HTTP/1.1, and connections that end together. HTTP/2 is in `http2`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod axum;
mod connections;
#[cfg(unix)]
mod engine;
mod hyper;
mod tower;

#[path = "../support/mod.rs"]
mod support;
