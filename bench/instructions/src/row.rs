//! The rows: what the engine is asked to do.

use std::str::FromStr;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Row {
    Receive,
    Receive16,
    Echo,
    Echo16,
    Publish1,
    Publish100,
    Deflate,
}

impl Row {
    pub(crate) const ALL: [Self; 7] = [
        Self::Receive,
        Self::Receive16,
        Self::Echo,
        Self::Echo16,
        Self::Publish1,
        Self::Publish100,
        Self::Deflate,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Receive16 => "receive-16",
            Self::Echo => "echo",
            Self::Echo16 => "echo-16",
            Self::Publish1 => "publish-1",
            Self::Publish100 => "publish-100",
            Self::Deflate => "deflate",
        }
    }

    /// What one of what is counted is.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Receive => "a message of 32 B received, one in a read",
            Self::Receive16 => "a message of 32 B received, 16 in a read",
            Self::Echo => "a message of 32 B received and sent back, one in a read",
            Self::Echo16 => "a message of 32 B received and sent back, 16 in a read",
            Self::Publish1 => "a message of 32 B received, published, and delivered to one subscriber",
            Self::Publish100 => "a delivery, as above, to one of 100 subscribers",
            Self::Deflate => "a message of 1 KiB received and sent back, compressed both ways",
        }
    }

    /// Messages that the client writes at once.
    pub(crate) const fn depth(self) -> usize {
        match self {
            Self::Receive16 | Self::Echo16 => 16,
            _ => 1,
        }
    }

    pub(crate) const fn subscribers(self) -> usize {
        match self {
            Self::Publish1 => 1,
            Self::Publish100 => 100,
            _ => 0,
        }
    }

    /// Batches of the shorter run.
    pub(crate) const fn batches(self) -> usize {
        match self {
            Self::Receive | Self::Echo | Self::Publish1 => 2000,
            Self::Receive16 | Self::Echo16 | Self::Deflate => 500,
            Self::Publish100 => 200,
        }
    }

    /// How many of what is counted each batch makes.
    pub(crate) fn each(self) -> usize {
        self.depth() * self.subscribers().max(1)
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let row = Self::ALL.into_iter().find(|row| row.name() == name);
        row.ok_or_else(|| format!("no such row: {name}"))
    }
}
