//! Positions in a channel: an epoch and an offset.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of an epoch.
const BITS: u32 = 48;
/// Hexadecimal digits of an epoch.
const DIGITS: usize = BITS as usize / 4;

/// The incarnation of a channel: 48 random bits. A channel whose state was lost gets a new epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Creates a new epoch. It is unique, but not secret.
    pub(crate) fn fresh() -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(SEED.hash_one((COUNT.fetch_add(1, Ordering::Relaxed), std::process::id())) >> (u64::BITS - BITS))
    }

    /// Creates an epoch from bits; `None` if there are more than 48.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits >> BITS == 0 { Some(Self(bits)) } else { None }
    }

    /// Returns the 48 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The position of a message in a channel, as text `a41f03c2b7d9-1042`.
///
/// ```
/// use longwire_server::hub::Position;
///
/// let position: Position = "a41f03c2b7d9-1042".parse()?;
/// assert_eq!(position.offset, 1042);
/// assert_eq!(position.to_string(), "a41f03c2b7d9-1042");
/// assert!("a41f03c2b7d9-01042".parse::<Position>().is_err());
/// # Ok::<_, longwire_server::hub::InvalidPosition>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch of the channel.
    pub epoch: Epoch,
    /// The number of the message in the epoch, counted from 1. 0 is the position before the first message.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "invalid position; pass it back unchanged: 12 hexadecimal digits (0-9, a-f), `-`, and a decimal number \
             without leading zeros",
        )
    }
}

impl std::error::Error for InvalidPosition {}

impl FromStr for Position {
    type Err = InvalidPosition;

    /// Accepts exactly the output of `Display`.
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once('-').ok_or(InvalidPosition)?;
        let plain = epoch.len() == DIGITS && epoch.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let decimal =
            offset.bytes().all(|b| b.is_ascii_digit()) && (offset == "0" || !offset.starts_with('0'));
        if !plain || !decimal {
            return Err(InvalidPosition);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| InvalidPosition)?;
        let offset = offset.parse().map_err(|_| InvalidPosition)?;
        Ok(Self { epoch: Epoch(epoch), offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        for text in ["000000000000-0", "ffffffffffff-18446744073709551615", "a41f03c2b7d9-1042"] {
            assert_eq!(text.parse::<Position>().map(|p| p.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "-",
            "a41f03c2b7d9",
            "a41f03c2b7d9-",
            "a41f03c2b7d9-+1",
            "a41f03c2b7d9--1",
            "a41f03c2b7d9-00",
            "a41f03c2b7d9-01",
            "a41f03c2b7d9-1 ",
            " a41f03c2b7d9-1",
            "A41f03c2b7d9-1",
            "a41f03c2b7d-1",
            "a41f03c2b7d90-1",
            "+41f03c2b7d9-1",
            "a41f03c2b7d9-18446744073709551616",
            "a41f03c2b7d9-1٣",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
        assert_eq!(Epoch::from_bits(1 << 48), None);
        assert_ne!(Epoch::fresh(), Epoch::fresh());
    }
}
