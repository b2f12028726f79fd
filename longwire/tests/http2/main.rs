//! WebSockets over HTTP/2: our client against hyper, axum and raw servers, our server against raw clients.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bounds;
mod ends;
mod hostile;
mod messages;
mod opening;
mod raw;
mod server;
mod tls;

#[path = "../support/mod.rs"]
mod support;
