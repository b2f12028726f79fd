//! What the tests against other implementations share: their processes, a connection to one of them
//! whose bytes are all kept, and a judge of those bytes that shares no code with the library's.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod agreement;
mod authority;
#[cfg(unix)]
mod front;
mod inflate;
mod link;
mod messages;
mod peer;
mod recorded;
mod talk;
mod wire;

pub use agreement::{Row, agree, every_size, limited, open, our_fragments};
#[cfg(unix)]
pub use front::{Front, Proxy, Secure};
pub use link::{Cost, Link};
pub use peer::Library;
pub use talk::{Theirs, talk, talk_securely};
pub use wire::Usage;

/// The examples of the workspace's README are compiled: here, where they are in no published package.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
