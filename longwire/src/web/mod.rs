//! The client in a browser: the names of the crate over the browser's own `WebSocket`.
//!
//! Compiled for `wasm32-unknown-unknown`, where there are no sockets, threads or clocks of the operating system.
//! The guide has a page on it: [`guide::browser`](crate::guide::browser).
//!
//! A browser pushes messages without backpressure, and takes what a page sends without a limit. So both directions
//! have a bound here: [`Client::receive_buffer`] and [`Client::write_buffer`].

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
compile_error!("longwire supports wasm32-unknown-unknown and no other WebAssembly target");

mod client;
mod inbox;
pub mod reconnect;
mod socket;
mod split;
mod timer;
mod websocket;

pub use client::{Client, connect};
pub use split::{Receiver, Sender};
pub use websocket::WebSocket;
