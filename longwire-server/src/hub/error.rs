//! Errors of the hub.

use std::fmt;

use crate::store::StoreError;
use crate::value::InvalidName;

/// An operation failed. The channel is unchanged.
#[derive(Debug)]
#[non_exhaustive]
pub enum HubError {
    /// The idempotency key is invalid.
    Key(InvalidName),
    /// The limit [`Limits::channels`](super::Limits::channels) is reached.
    TooManyChannels(usize),
    /// The limit [`Limits::keys`](super::Limits::keys) is reached.
    TooManyKeys(usize),
    /// The channel has reached the offset 2^64 - 1.
    Exhausted,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(why) => write!(f, "invalid idempotency key: {why}"),
            Self::TooManyChannels(most) => {
                write!(
                    f,
                    "the limit of {most} channels is reached; use an existing channel, or try again later"
                )
            }
            Self::TooManyKeys(most) => {
                write!(
                    f,
                    "the limit of {most} idempotency keys is reached; try again later, or publish without a key"
                )
            }
            Self::Exhausted => f.write_str("the channel has used all offsets; use another channel"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HubError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(why) => Some(why),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for HubError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
