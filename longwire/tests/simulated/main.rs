//! Reconnection and keepalive over a simulated network, where packets vanish, links are slow and hosts die;
//! minutes of it in an instant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod feed;
mod keepalive;
mod world;
