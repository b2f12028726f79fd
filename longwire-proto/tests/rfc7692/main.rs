//! RFC 7692 in tables, one file for each subject: what comes in, what is found, what goes out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/frames.rs"]
mod frames;
#[allow(dead_code, reason = "heads come whole here")]
#[path = "../support/head.rs"]
mod head;
#[path = "../support/receiver.rs"]
mod receiver;
#[path = "../support/row.rs"]
mod row;

mod extensions;
mod negotiation;
mod receiving;
mod sending;
