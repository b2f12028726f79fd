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
            Self::Key(why) => write!(f, "not an idempotency key: {why}"),
            Self::TooManyChannels(most) => {
                write!(f, "there are {most} channels, and no more may be; use one that exists, or come later")
            }
            Self::TooManyKeys(most) => {
                write!(
                    f,
                    "{most} idempotency keys are remembered, and no more may be; come later, or publish without"
                )
            }
            Self::Exhausted => f.write_str("the channel has no further offsets; use another"),
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
