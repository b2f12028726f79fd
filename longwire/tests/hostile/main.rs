//! What a hostile peer can do to a server, a client or an engine over real TCP: which limit or deadline stops it, with
//! which close code and which error, how many bytes the attacked side holds meanwhile, and that others on
//! the same thread are served as if nothing happened.
//!
//! Each attack is aimed at a server and a client of the async driver, and at an engine of one loop. The
//! attacked side has a thread and a runtime of its own, whose allocations are counted. An engine's deadlines
//! may be 64 ms late.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../longwire-proto/tests/support/counting.rs"]
mod counting;
#[path = "../support/mod.rs"]
mod support;

mod attacker;
mod engine;
mod victim;

mod bombs;
mod closing;
mod compressed;
mod control;
mod crowd;
mod fragments;
mod frames;
mod heads;
mod reading;
mod resets;
