//! Why a message was not sent on a feed.

use std::fmt;

use crate::end::{Error, write_chain};

/// Why a message was not sent on a [`Feed`](super::Feed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection, and messages are not held ([`Offline::Refuse`](super::Offline::Refuse)). Send it again after
    /// [`Event::Open`](super::Event::Open), or choose another [`Offline`](super::Offline).
    Offline,
    /// As many messages are held as [`Offline::Hold`](super::Offline::Hold) allows, or the message is larger than that; or
    /// [`try_send`](super::Sender::try_send) found the write buffer full. Nothing was queued.
    Full,
    /// The feed has given up, or was closed or dropped.
    Over,
    /// The connection failed while the message was being written: the peer may have received it.
    Failed(Error),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("not sent: there is no connection, and messages are not held"),
            Self::Full => f.write_str("not sent: no more messages can wait"),
            Self::Over => f.write_str("not sent: the feed has ended"),
            Self::Failed(_) => write_chain(f, "possibly not sent: the connection failed", self),
        }
    }
}

impl std::error::Error for NotSent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}
