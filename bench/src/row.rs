//! The rows of the tables: what is asked of every server, and their names.

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
    Broadcast(Broadcast),
    /// Open, upgrade, closing handshake.
    Connect,
    /// Memory of connections that do nothing.
    Idle {
        /// How much of it is for permessage-deflate.
        deflate: bool,
        /// How many connections, if the name of the row says it.
        connections: Option<usize>,
    },
}

/// What a server must be able to do. Rows that ask for the same are asked of the same servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Discipline {
    /// Echo, without compression.
    Plain,
    /// Echo, with permessage-deflate (RFC 7692).
    Deflate,
    /// What one client sends goes to all.
    Broadcast,
}

impl Discipline {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Deflate, Self::Broadcast];
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

/// Text that one more connection publishes, and that goes to everyone, the publisher included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broadcast {
    pub(crate) subscribers: usize,
    /// Payload bytes of each message.
    pub(crate) size: usize,
    /// Messages that have been published and are not with everyone yet.
    pub(crate) in_flight: usize,
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

    /// The most connections that are open at once. `idle` is for the idle rows whose names do not say it.
    pub(crate) fn connections(&self, idle: Option<usize>) -> usize {
        match &self.work {
            Work::Echo(echo) => echo.connections,
            Work::Broadcast(broadcast) => broadcast.subscribers + 1,
            Work::Connect => Self::CONNECT_AT_ONCE,
            Work::Idle { deflate, connections } => {
                connections.or(idle).unwrap_or(if *deflate { 5_000 } else { 10_000 })
            }
        }
    }

    pub(crate) fn discipline(&self) -> Discipline {
        match &self.work {
            Work::Echo(Echo { deflate: true, .. }) | Work::Idle { deflate: true, .. } => Discipline::Deflate,
            Work::Broadcast(_) => Discipline::Broadcast,
            Work::Echo(_) | Work::Connect | Work::Idle { .. } => Discipline::Plain,
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

/// The rows of the standard tables.
pub(crate) fn standard() -> Vec<Row> {
    let echo = |connections, size, content, depth| Row {
        work: Work::Echo(Echo { connections, size, content, depth, deflate: false }),
    };
    let json_deflate = |depth| Row {
        work: Work::Echo(Echo { connections: 64, size: KIB, content: Content::Json, depth, deflate: true }),
    };
    let idle = |deflate| Row { work: Work::Idle { deflate, connections: None } };
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
        idle(false),
        json_deflate(1),
        json_deflate(4),
        idle(true),
        broadcast(1000, 64, 1),
        broadcast(1000, 64, 8),
        broadcast(1000, KIB, 1),
        broadcast(1000, KIB, 8),
    ]
}

/// All rows without permessage-deflate, one with it, and a small broadcast.
pub(crate) fn smoke() -> Vec<Row> {
    let of = |discipline| standard().into_iter().filter(move |row| row.discipline() == discipline);
    let mut rows: Vec<_> = of(Discipline::Plain).collect();
    rows.extend(of(Discipline::Deflate).rfind(|row| !row.is_idle()));
    rows.push(broadcast(100, 64, 8));
    rows
}

fn broadcast(subscribers: usize, size: usize, in_flight: usize) -> Row {
    Row { work: Work::Broadcast(Broadcast { subscribers, size, in_flight }) }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Echo(Echo { connections, size, content, depth, deflate }) => {
                let content = match content {
                    Content::Text => "text",
                    Content::Binary => "binary",
                    Content::Chinese => "zh",
                    Content::Json => "json",
                };
                let deflate = if *deflate { "-deflate" } else { "" };
                write!(f, "{connections}x{}-{content}{deflate}-d{depth}", size_name(*size))
            }
            Work::Broadcast(Broadcast { subscribers, size, in_flight }) => {
                write!(f, "{subscribers}x{}-broadcast-w{in_flight}", size_name(*size))
            }
            Work::Connect => f.write_str("connect"),
            Work::Idle { deflate, connections } => {
                f.write_str(if *deflate { "idle-deflate" } else { "idle" })?;
                connections.map_or(Ok(()), |connections| write!(f, "-{connections}"))
            }
        }
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let work = if name == "connect" {
            Some(Work::Connect)
        } else {
            idle_named(name).or_else(|| traffic_named(name))
        };
        work.map(|work| Self { work }).ok_or_else(|| format!("no such row: {name} (as in 64x16K-text-d1)"))
    }
}

fn idle_named(name: &str) -> Option<Work> {
    let mut parts = name.split('-').peekable();
    let is_idle = parts.next()? == "idle";
    let deflate = parts.next_if_eq(&"deflate").is_some();
    let connections = parts.next().map(positive);
    let sound = is_idle && parts.next().is_none() && connections != Some(None);
    sound.then(|| Work::Idle { deflate, connections: connections.flatten() })
}

fn traffic_named(name: &str) -> Option<Work> {
    let mut parts = name.split('-').peekable();
    let (connections, size) = parts.next()?.split_once('x')?;
    let (connections, size) = (positive(connections)?, size_named(size)?);
    let content = match parts.next()? {
        "text" => Content::Text,
        "binary" => Content::Binary,
        "zh" => Content::Chinese,
        "json" => Content::Json,
        "broadcast" => {
            let in_flight = positive(parts.next()?.strip_prefix('w')?)?;
            let broadcast = Broadcast { subscribers: connections, size, in_flight };
            return parts.next().is_none().then_some(Work::Broadcast(broadcast));
        }
        _ => return None,
    };
    let deflate = parts.next_if_eq(&"deflate").is_some();
    let depth = positive(parts.next()?.strip_prefix('d')?)?;
    let sound = parts.next().is_none() && (content != Content::Json || size >= Content::SHORTEST_JSON);
    sound.then_some(Work::Echo(Echo { connections, size, content, depth, deflate }))
}

fn positive(number: &str) -> Option<usize> {
    number.parse().ok().filter(|&number| number > 0)
}

fn size_name(size: usize) -> String {
    match size {
        size if size >= 1 << 20 && size % (1 << 20) == 0 => format!("{}M", size >> 20),
        size if size >= 1 << 10 && size % (1 << 10) == 0 => format!("{}K", size >> 10),
        size => size.to_string(),
    }
}

fn size_named(name: &str) -> Option<usize> {
    match (name.strip_suffix('K'), name.strip_suffix('M')) {
        (Some(kibibytes), _) => kibibytes.parse::<usize>().ok()?.checked_mul(1 << 10),
        (_, Some(mebibytes)) => mebibytes.parse::<usize>().ok()?.checked_mul(1 << 20),
        _ => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for row in standard() {
            assert_eq!(row.to_string().parse(), Ok(row));
        }
        for name in ["idle-100000", "idle-deflate-7", "3x1000-broadcast-w2"] {
            let row: Row = name.parse().expect("a row");
            assert_eq!(row.to_string(), name);
        }
        assert_eq!("1000x1024-broadcast-w8".parse(), Ok(broadcast(1000, 1024, 8)));
    }

    #[test]
    fn the_smoke_run_covers_deflate_and_broadcasts_once() {
        let count = |rows: Vec<Row>, discipline| {
            rows.into_iter().filter(|row| row.discipline() == discipline).count()
        };
        assert_eq!(count(smoke(), Discipline::Deflate), 1);
        assert_eq!(count(smoke(), Discipline::Broadcast), 1);
        assert_eq!(count(smoke(), Discipline::Plain), count(standard(), Discipline::Plain));
    }

    #[test]
    fn the_name_of_an_idle_row_knows_best_how_many() {
        let connections = |name: &str, option| name.parse::<Row>().expect("a row").connections(option);
        assert_eq!(connections("idle", None), 10_000);
        assert_eq!(connections("idle-deflate", None), 5_000);
        assert_eq!(connections("idle", Some(200)), 200);
        assert_eq!(connections("idle-100000", Some(200)), 100_000);
        assert_eq!(connections("1000x64-broadcast-w1", Some(200)), 1001);
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
            "idle-",
            "idle-0",
            "idle-7-deflate",
            "idle100",
            "64x32-broadcast-d1",
            "64x32-broadcast-w0",
            "64x32-broadcast-w1-",
        ] {
            assert!(name.parse::<Row>().is_err(), "{name}");
        }
    }
}
