//! The rows of the tables: what is asked of every server.

use std::{fmt, str::FromStr};

/// One row: its name is the work.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) work: Work,
}

/// What a row measures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    Echo(Echo),
    /// Open, upgrade, closing handshake.
    Connect,
    /// Memory of connections that do nothing.
    Idle {
        /// How much of it is for permessage-deflate.
        deflate: bool,
    },
}

/// Messages sent and awaited back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Echo {
    pub(crate) connections: usize,
    /// Payload bytes of each message.
    pub(crate) size: usize,
    pub(crate) content: Content,
    /// Messages in flight on each connection.
    pub(crate) depth: usize,
    /// Compressed in both directions (RFC 7692).
    pub(crate) deflate: bool,
}

/// What the messages are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content {
    /// Text of ASCII letters.
    Text,
    Binary,
    /// Text of Chinese characters, three bytes each.
    Chinese,
    /// Text of JSON, a feed of prices.
    Json,
}

impl Content {
    /// Room for a message without a price in it.
    pub(crate) const SHORTEST_JSON: usize = 64;
}

impl Row {
    /// Connections under way at any moment of the connect row.
    pub(crate) const CONNECT_AT_ONCE: usize = 64;

    /// The most connections that are open at once.
    pub(crate) fn connections(&self, idle: Option<usize>) -> usize {
        match &self.work {
            Work::Echo(echo) => echo.connections,
            Work::Connect => Self::CONNECT_AT_ONCE,
            Work::Idle { deflate: false } => idle.unwrap_or(10_000),
            Work::Idle { deflate: true } => idle.unwrap_or(5_000),
        }
    }

    /// Only servers that compress take part in it.
    pub(crate) fn deflate(&self) -> bool {
        match &self.work {
            Work::Echo(echo) => echo.deflate,
            Work::Connect => false,
            Work::Idle { deflate } => *deflate,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.work, Work::Idle { .. })
    }

    /// Memory does not depend on the mood of the machine: one round is enough.
    pub(crate) fn rounds(&self, wanted: usize) -> usize {
        if self.is_idle() { 1 } else { wanted }
    }
}

/// The rows of the standard table.
pub(crate) fn standard() -> Vec<Row> {
    let echo = |connections, size, content, depth| Row {
        work: Work::Echo(Echo { connections, size, content, depth, deflate: false }),
    };
    let json_deflate = |depth| Row {
        work: Work::Echo(Echo { connections: 64, size: KIB, content: Content::Json, depth, deflate: true }),
    };
    const KIB: usize = 1024;
    vec![
        echo(64, 32, Content::Text, 1),
        echo(512, 32, Content::Text, 1),
        echo(64, 32, Content::Text, 16),
        echo(512, 32, Content::Text, 16),
        echo(64, 125, Content::Chinese, 16),
        echo(64, 16 * KIB, Content::Text, 1),
        echo(64, 16 * KIB, Content::Binary, 1),
        echo(64, 16 * KIB, Content::Chinese, 4),
        echo(16, KIB * KIB, Content::Text, 1),
        echo(16, KIB * KIB, Content::Binary, 1),
        Row { work: Work::Connect },
        Row { work: Work::Idle { deflate: false } },
        json_deflate(1),
        json_deflate(4),
        Row { work: Work::Idle { deflate: true } },
    ]
}

/// All rows without permessage-deflate, and one with it.
pub(crate) fn smoke() -> Vec<Row> {
    let (deflate, mut rows): (Vec<_>, Vec<_>) = standard().into_iter().partition(Row::deflate);
    rows.extend(deflate.into_iter().rfind(|row| !row.is_idle()));
    rows
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let echo = match &self.work {
            Work::Echo(echo) => echo,
            Work::Connect => return f.write_str("connect"),
            Work::Idle { deflate: false } => return f.write_str("idle"),
            Work::Idle { deflate: true } => return f.write_str("idle-deflate"),
        };
        let (size, unit) = match echo.size {
            size if size >= 1 << 20 && size % (1 << 20) == 0 => (size >> 20, "M"),
            size if size >= 1 << 10 && size % (1 << 10) == 0 => (size >> 10, "K"),
            size => (size, ""),
        };
        let content = match echo.content {
            Content::Text => "text",
            Content::Binary => "binary",
            Content::Chinese => "zh",
            Content::Json => "json",
        };
        let deflate = if echo.deflate { "-deflate" } else { "" };
        write!(f, "{}x{size}{unit}-{content}{deflate}-d{}", echo.connections, echo.depth)
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let work = match name {
            "connect" => Some(Work::Connect),
            "idle" => Some(Work::Idle { deflate: false }),
            "idle-deflate" => Some(Work::Idle { deflate: true }),
            _ => echo_named(name).map(Work::Echo),
        };
        work.map(|work| Self { work }).ok_or_else(|| format!("no such row: {name} (as in 64x16K-text-d1)"))
    }
}

fn echo_named(name: &str) -> Option<Echo> {
    let mut parts = name.split('-').peekable();
    let (connections, size) = parts.next()?.split_once('x')?;
    let content = match parts.next()? {
        "text" => Content::Text,
        "binary" => Content::Binary,
        "zh" => Content::Chinese,
        "json" => Content::Json,
        _ => return None,
    };
    let deflate = parts.next_if_eq(&"deflate").is_some();
    let depth = parts.next()?.strip_prefix('d')?.parse().ok()?;
    let size = match (size.strip_suffix('K'), size.strip_suffix('M')) {
        (Some(kibibytes), _) => kibibytes.parse::<usize>().ok()?.checked_mul(1 << 10)?,
        (_, Some(mebibytes)) => mebibytes.parse::<usize>().ok()?.checked_mul(1 << 20)?,
        _ => size.parse().ok()?,
    };
    let connections = connections.parse().ok()?;
    let sound = parts.next().is_none()
        && connections > 0
        && depth > 0
        && (content != Content::Json || size >= Content::SHORTEST_JSON);
    sound.then_some(Echo { connections, size, content, depth, deflate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for row in standard() {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
    }

    #[test]
    fn the_smoke_run_covers_deflate_once() {
        assert_eq!(smoke().iter().filter(|row| row.deflate()).count(), 1);
        assert_eq!(smoke().iter().filter(|row| !row.deflate()).count(), standard().len() - 3);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for name in [
            "",
            "64x32",
            "64x32-text-1",
            "64x32-latin-d1",
            "0x32-text-d1",
            "64x32-text-d0",
            "64x32-text-d1-",
            "64x32-text-deflate",
            "64x32-deflate-d1",
            "64x32-text-d1-deflate",
            "64x63-json-d1",
            "connect-deflate",
        ] {
            assert!(name.parse::<Row>().is_err(), "{name}");
        }
    }
}
