//! How far a client reaches: TLS with certificates good and bad, proxies and hostile ones, redirects, credentials,
//! and the time that each phase may take. Servers and proxies are real ones of this process, over real TCP.

#![cfg(all(feature = "proxy", feature = "ring", feature = "tls"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../longwire-proto/tests/support/counting.rs"]
mod counting;
#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod servers;

mod credentials;
mod memory;
mod proxies;
mod reading;
mod redirects;
mod responses;
mod socks;
mod tls;
