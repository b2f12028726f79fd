//! The guide: how to use longwire, page by page. All its code is compiled.
//!
//! - [Getting started](getting_started): ten lines of code, and which API to use
//! - [The client](client): messages, parts, timeouts, keepalive, and what 1006 means
//! - [The server](server): async or the engine, origins, backpressure, graceful shutdown
//! - [Real networks](networks): TLS, proxies, reconnection, HTTP/2 and axum, observability
//! - [In a browser](browser): the client compiled to WebAssembly, and what a page cannot do
//! - [Production](production): limits, the system, proxies, deployment, and what to check at 3 a.m.
//! - [Coming from tokio-tungstenite](coming_from_tokio_tungstenite): pattern by pattern
//! - Coming from axum's own extractor (`coming_from_axum`, feature `axum`)
//!
//! Whole programs are in the examples of the repository: `chat`, `quotes`, `device_control`,
//! `file_transfer`, `axum_app`, `metrics`.

pub mod getting_started {
    #![doc = include_str!("../guide/getting-started.md")]
}

pub mod client {
    #![doc = include_str!("../guide/client.md")]
}

#[cfg(any(not(doctest), all(unix, feature = "engine")))]
pub mod server {
    #![doc = include_str!("../guide/server.md")]
}

#[cfg(any(not(doctest), all(feature = "axum", feature = "http2", feature = "proxy", feature = "tls")))]
pub mod networks {
    #![doc = include_str!("../guide/networks.md")]
}

#[cfg(any(not(doctest), all(unix, feature = "engine")))]
pub mod production {
    #![doc = include_str!("../guide/production.md")]
}

pub mod browser {
    #![doc = include_str!("../guide/browser.md")]
}

pub mod coming_from_tokio_tungstenite {
    #![doc = include_str!("../guide/coming-from-tokio-tungstenite.md")]
}

#[cfg(feature = "axum")]
pub mod coming_from_axum {
    #![doc = include_str!("../guide/coming-from-axum.md")]
}
