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
    Idle,
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
}

/// What the messages are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content {
    /// Text of ASCII letters.
    Text,
    Binary,
    /// Text of Chinese characters, three bytes each.
    Chinese,
}

impl Row {
    /// Connections under way at any moment of the connect row.
    pub(crate) const CONNECT_AT_ONCE: usize = 64;

    /// The most connections that are open at once.
    pub(crate) fn connections(&self, idle: usize) -> usize {
        match &self.work {
            Work::Echo(echo) => echo.connections,
            Work::Connect => Self::CONNECT_AT_ONCE,
            Work::Idle => idle,
        }
    }

    /// Memory does not depend on the mood of the machine: one round is enough.
    pub(crate) fn rounds(&self, wanted: usize) -> usize {
        if self.work == Work::Idle { 1 } else { wanted }
    }
}

/// The rows of the standard table.
pub(crate) fn standard() -> Vec<Row> {
    let echo = |connections, size, content, depth| Row {
        work: Work::Echo(Echo { connections, size, content, depth }),
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
        Row { work: Work::Idle },
    ]
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Work::Echo(echo) = &self.work else {
            return f.write_str(if self.work == Work::Connect { "connect" } else { "idle" });
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
        };
        write!(f, "{}x{size}{unit}-{content}-d{}", echo.connections, echo.depth)
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let work = match name {
            "connect" => Some(Work::Connect),
            "idle" => Some(Work::Idle),
            _ => echo_named(name).map(Work::Echo),
        };
        work.map(|work| Self { work }).ok_or_else(|| format!("no such row: {name} (as in 64x16K-text-d1)"))
    }
}

fn echo_named(name: &str) -> Option<Echo> {
    let mut parts = name.split('-');
    let (connections, size) = parts.next()?.split_once('x')?;
    let content = match parts.next()? {
        "text" => Content::Text,
        "binary" => Content::Binary,
        "zh" => Content::Chinese,
        _ => return None,
    };
    let depth = parts.next()?.strip_prefix('d')?.parse().ok()?;
    let size = match (size.strip_suffix('K'), size.strip_suffix('M')) {
        (Some(kibibytes), _) => kibibytes.parse::<usize>().ok()?.checked_mul(1 << 10)?,
        (_, Some(mebibytes)) => mebibytes.parse::<usize>().ok()?.checked_mul(1 << 20)?,
        _ => size.parse().ok()?,
    };
    let connections = connections.parse().ok()?;
    let sound = parts.next().is_none() && connections > 0 && depth > 0;
    sound.then_some(Echo { connections, size, content, depth })
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
    fn what_is_no_row_is_refused() {
        for name in
            ["", "64x32", "64x32-text-1", "64x32-latin-d1", "0x32-text-d1", "64x32-text-d0", "64x32-text-d1-"]
        {
            assert!(name.parse::<Row>().is_err(), "{name}");
        }
    }
}
