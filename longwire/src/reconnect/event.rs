//! What a feed reports.

use std::time::Duration;

use longwire_proto::Message;

use super::cause::Cause;
use crate::end::{Closed, Error};

/// The number of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Counts from 1, and from 1 again after a [stable](super::Backoff::stable_after) connection.
    pub number: u32,
    /// The number of connections of the feed that were open before.
    pub opened: u64,
}

impl Attempt {
    /// Makes one, for tests of code that handles it.
    pub const fn new(number: u32, opened: u64) -> Self {
        Self { number, opened }
    }
}

/// An event of a [`Feed`](super::Feed).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// An attempt begins.
    Connecting(Attempt),
    /// The connection is open and its hook has succeeded.
    Open(Attempt),
    /// A message arrived.
    Message(Message),
    /// The attempt failed, or the connection ended. The next attempt begins after `retry_in`.
    Lost {
        /// Why the connection was lost.
        cause: Cause,
        /// How long the feed waits now, unless [`retry_now`](super::Feed::retry_now) ends the wait.
        retry_in: Duration,
    },
    /// The feed makes no more attempts. This is the last event.
    GivenUp {
        /// How the last attempt or connection ended.
        cause: Cause,
        /// Why there is no other attempt.
        why: GaveUp,
    },
    /// The application [closed](super::Feed::close) the feed. This is the last event.
    ///
    /// `None` means that no connection was open, and an error that the closing handshake was not completed.
    Closed(Result<Option<Closed>, Error>),
}

/// Why a feed makes no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GaveUp {
    /// The cause is permanent, or has lasted longer than [`Reconnect::patience`](super::Reconnect::patience).
    Permanent,
    /// The feed made [`Reconnect::max_attempts`](super::Reconnect::max_attempts).
    Attempts,
    /// The next attempt would begin after [`Reconnect::give_up_after`](super::Reconnect::give_up_after).
    Time,
}
