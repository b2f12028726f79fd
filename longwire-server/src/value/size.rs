//! Numbers of bytes.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, such as `65536`, `64K`, `16M` or `1G`. The units are powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// Creates a size from a number of bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes as a `usize`, saturating.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "invalid size; write a number of bytes, such as 65536, 64K, 16M or 1G";
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit.to_ascii_uppercase().as_str() {
            "" => 1,
            "K" | "KIB" => 1 << 10,
            "M" | "MIB" => 1 << 20,
            "G" | "GIB" => 1 << 30,
            _ => return Err(advice.into()),
        };
        // TOML integers end at 2^63 - 1.
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        size.filter(|&size| i64::try_from(size).is_ok()).map(Self).ok_or_else(|| advice.into())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0 => (1, ""),
            size if size % (1 << 30) == 0 => (1 << 30, "G"),
            size if size % (1 << 20) == 0 => (1 << 20, "M"),
            size if size % (1 << 10) == 0 => (1 << 10, "K"),
            _ => (1, ""),
        };
        write!(f, "{}{name}", self.0 / unit)
    }
}
