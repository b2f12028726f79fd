//! WebSocket for Tokio: a client and a server. All buffers are bounded, receiving is cancel-safe, and idle connections hold
//! no buffers.
//!
//! A client:
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ws = longwire::connect("ws://127.0.0.1:8080/room").await?;
//! ws.send("hi").await?;
//! while let Some(message) = ws.recv().await? {
//!     println!("{message:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A server:
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! loop {
//!     let (stream, _) = listener.accept().await?;
//!     tokio::spawn(async move {
//!         let mut ws = longwire::accept(stream).await?;
//!         while let Some(message) = ws.recv().await? {
//!             ws.send(message).await?;
//!         }
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//!     });
//! }
//! # }
//! ```
//!
//! [`WebSocket`] is an open connection on either side. [`Client`] and [`Acceptor`] open one with custom settings,
//! [`WebSocket::split`] lets several tasks use it, and [`reconnect`] opens it again when it is lost. [`engine`] is a server
//! for very many connections, with publish/subscribe topics. [`listener`] is a client with callbacks, and [`blocking`] one
//! without async. The [`guide`] explains all of it. The protocol itself is in the crate `longwire-proto`.
//!
//! [`Counters`] count what connections do and why they end, by [`Cause`]. With the feature `tracing`, each connection has a
//! span `websocket` (`side`, `path`, `subprotocol`, `deflate`, and `peer` for connections that this program opened) and
//! emits events with the target `longwire`: `opened` (debug), `message` (trace), and exactly one `ended` with its `cause`,
//! `code` and totals (at `warn` if it needs attention, otherwise at `info`), or `not opened` with a `status` or `cause` if
//! the handshake failed. Connections of an engine have no span; their events have an `id` and a `peer`. Spans and events
//! never contain a payload, a close reason, a query, or the value of any other header.
//!
//! Compiled for `wasm32-unknown-unknown`, the client runs in a browser under the same names: [`guide::browser`].
//!
//! # Features
//!
//! A feature adds API; it never changes how other code behaves.
//!
//! - `tls` (default): `wss://` in client and server, with rustls; needs a crypto provider, such as `ring`
//! - `ring` (default): TLS with the crypto provider ring
//! - `aws-lc-rs`: TLS with the crypto provider AWS-LC, unless `ring` is on as well
//! - `webpki-roots`: [`Tls::webpki_roots`], Mozilla's root certificates, compiled in
//! - `proxy` (default): HTTP CONNECT and SOCKS5 proxies
//! - `engine`: [`engine`], event loops with callbacks and topics for very many connections, on Unix
//! - `hyper`: [`upgrade()`], WebSockets on requests that hyper has parsed, over HTTP/1.1 and HTTP/2
//! - `axum`: the extractor [`axum::WebSocketUpgrade`]; includes `hyper`
//! - `tower`: the layer [`tower::WebSocketLayer`] for any tower service; includes `hyper`
//! - `http2`: [`Http2`], a client's WebSockets as streams of one HTTP/2 connection (RFC 8441)
//! - `tracing`: a span for each connection

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_family = "wasm"))]
pub mod blocking;
#[cfg(all(unix, feature = "engine"))]
pub mod engine;
pub mod guide;
#[cfg(not(target_family = "wasm"))]
pub mod listener;
#[cfg(not(target_family = "wasm"))]
pub mod reconnect;

#[cfg(not(target_family = "wasm"))]
mod client;
#[cfg(not(target_family = "wasm"))]
mod connection;
#[cfg_attr(target_family = "wasm", allow(dead_code, unused_imports, reason = "nothing is counted there"))]
mod end;
#[cfg(not(target_family = "wasm"))]
mod net;
#[cfg(not(target_family = "wasm"))]
mod observe;
#[cfg(not(target_family = "wasm"))]
mod server;
#[cfg(all(feature = "hyper", not(target_family = "wasm")))]
mod upgrade;
#[cfg(target_family = "wasm")]
mod web;

#[cfg(feature = "http2")]
pub use end::Http2Error;
#[cfg(feature = "proxy")]
pub use end::ProxyError;
#[cfg(feature = "tls")]
pub use end::TlsError;
pub use end::{AcceptError, Closed, ConnectError, Error, Phase, RedirectError, Response, SendError, Side};
pub use longwire_proto::handshake::{HandshakeError, Refusal};
pub use longwire_proto::{
    Cause, CauseClass, CloseCode, CloseFrame, Compress, InvalidUtf8, Kind, Message, Outgoing, ProtocolError,
    SharedFrame, Utf8Bytes,
};

pub use bytes::Bytes;
pub use http;

#[cfg(target_family = "wasm")]
pub use browser::*;
#[cfg(not(target_family = "wasm"))]
pub use sockets::*;

/// The names that need sockets.
#[cfg(not(target_family = "wasm"))]
mod sockets {
    #[cfg(feature = "proxy")]
    pub use crate::client::Proxy;
    #[cfg(feature = "http2")]
    pub use crate::client::http2::{H2Stream, Http2, Http2Connection};
    pub use crate::client::{Client, Step, connect};
    pub use crate::connection::{
        Connections, OutgoingPart, RawParts, Receiver, ReuniteError, Sender, Shutdown, WebSocket,
    };
    #[cfg(feature = "tls")]
    pub use crate::end::TlsAlert;
    pub use crate::net::peer_addr::PeerAddr;
    #[cfg(feature = "tls")]
    pub use crate::net::tls::{self, Tls};
    pub use crate::net::transport::{Negotiated, Transport};
    pub use crate::observe::{Counters, Ended, NotOpened, Snapshot, Traffic};
    pub use crate::reconnect::Reconnect;
    pub use crate::server::{Acceptor, Forwarded, Handshake, InvalidNetwork, TrustedProxies, accept};
    #[cfg(feature = "axum")]
    pub use crate::upgrade::axum;
    #[cfg(feature = "tower")]
    pub use crate::upgrade::tower;
    #[cfg(feature = "hyper")]
    pub use crate::upgrade::{PendingUpgrade, Upgrade, Upgraded, is_websocket, upgrade};
    pub use longwire_proto::handshake::{HeadLimits, InvalidOrigin, OriginList, Origins};
    pub use longwire_proto::{Config, Deflate, DeflateParameters, Part, Role};
}

/// The names in a browser: the same, as far as a browser can do it.
#[cfg(target_family = "wasm")]
mod browser {
    pub use crate::web::reconnect::{self, Reconnect};
    pub use crate::web::{Client, Receiver, Sender, WebSocket, connect};
}

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
