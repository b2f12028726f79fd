//! Why a connection ended: one type, and everything that follows from it.
//!
//! A new cause is one variant of [`Cause`] and one row of its table; the compiler demands the row. A new
//! rule of the protocol is one variant of [`ProtocolError`] and one row of its table.

use std::fmt;
use std::io;

use crate::close_code::CloseCode;
use crate::error::ProtocolError;

/// Which end of a connection did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// This end.
    Local,
    /// The peer.
    Remote,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A closing handshake was completed (RFC 6455 7.1.4).
    Closed {
        /// The end whose Close frame went first.
        by: Initiator,
        /// The code in that frame; [`CloseCode::NO_STATUS`] if it had none.
        code: CloseCode,
    },
    /// The peer broke a rule or exceeded a limit.
    Protocol(ProtocolError),
    /// A message took longer than [`Config::message_timeout`](crate::Config::message_timeout) to arrive.
    MessageTimeout,
    /// No message arrived for [`Config::read_timeout`](crate::Config::read_timeout).
    ReadTimeout,
    /// The peer sent nothing for [`Config::pong_timeout`](crate::Config::pong_timeout) after a Ping.
    PingTimeout,
    /// The peer took no byte for [`Config::write_timeout`](crate::Config::write_timeout).
    WriteTimeout,
    /// The closing handshake took longer than [`Config::close_timeout`](crate::Config::close_timeout).
    CloseTimeout,
    /// The peer fell too far behind on a topic whose policy is to disconnect slow consumers.
    SlowConsumer,
    /// A callback of the application panicked.
    Panicked,
    /// TCP ended without a closing handshake (RFC 6455 7.1.5).
    Eof,
    /// The peer's system, or a device on the way, reset the connection.
    Reset,
    /// This end aborted the connection, for example because its engine was stopped.
    Aborted,
    /// The application dropped the connection before it had ended.
    Dropped,
    /// The transport failed otherwise.
    Io,
}

/// A group of causes that counters add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseClass {
    /// A closing handshake was completed.
    Closed,
    /// A deadline passed.
    Timeout,
    /// TCP ended without a closing handshake.
    Lost,
    /// The peer broke a rule or exceeded a limit.
    Protocol,
    /// The peer read too slowly.
    Slow,
    /// The fault is on this end.
    Internal,
}

/// How the end of TCP follows the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The peer is gone or does not read: one attempt to write what waits, then the socket is dropped.
    Abandon,
    /// What waits is written, then TCP ends.
    Flush,
    /// What waits is written, then what the peer still sends is read and discarded until it ends TCP. A
    /// socket that is closed with unread input is reset, and the reset may overtake the Close frame that
    /// tells the peer why (RFC 6455 7.1.1).
    Linger,
}

/// Everything that follows from a cause.
struct Row {
    name: &'static str,
    /// The code of the Close frame that this end sends, 1006 if it sends none.
    code: u16,
    /// The reason in that frame.
    reason: &'static str,
    class: CauseClass,
    farewell: Farewell,
    /// The log entry is a warning: someone should look at it. Networks come and go, and so do their users.
    warns: bool,
}

/// Makes a table of an enumeration: a row for each variant, in one order for all uses. A variant without a
/// row does not compile.
macro_rules! table {
    ($type:ident, $rows:ident: [$row:ty], $place:ident: $($variant:ident => $value:expr,)+) => {
        /// The place of each row.
        enum $place { $($variant),+ }

        const $rows: &[$row] = &[$($value),+];

        impl $type {
            const fn place(self) -> usize {
                match self { $(Self::$variant { .. } => $place::$variant as usize),+ }
            }
        }
    };
}

const fn row(
    name: &'static str,
    code: u16,
    reason: &'static str,
    class: CauseClass,
    farewell: Farewell,
    warns: bool,
) -> Row {
    Row { name, code, reason, class, farewell, warns }
}

use CauseClass as Class;
use Farewell::{Abandon, Flush, Linger};

// The name and the code of `Closed` and of `Protocol` come from their values; the rest is here.
#[rustfmt::skip]
table! { Cause, ROWS: [Row], Place:
    //                    name               code  reason             class            farewell warns
    Closed         => row("closed",          1005, "",                Class::Closed,   Flush,   false),
    Protocol       => row("protocol",        1002, "",                Class::Protocol, Linger,  true),
    MessageTimeout => row("message_timeout", 1008, "message timeout", Class::Timeout,  Linger,  true),
    ReadTimeout    => row("read_timeout",    1008, "read timeout",    Class::Timeout,  Linger,  true),
    PingTimeout    => row("ping_timeout",    1011, "ping timeout",    Class::Timeout,  Abandon, false),
    WriteTimeout   => row("write_timeout",   1008, "write timeout",   Class::Timeout,  Abandon, true),
    CloseTimeout   => row("close_timeout",   1006, "",                Class::Timeout,  Abandon, true),
    SlowConsumer   => row("slow_consumer",   1013, "slow consumer",   Class::Slow,     Linger,  true),
    Panicked       => row("panicked",        1011, "",                Class::Internal, Linger,  true),
    Eof            => row("eof",             1006, "",                Class::Lost,     Flush,   false),
    Reset          => row("reset",           1006, "",                Class::Lost,     Abandon, false),
    Aborted        => row("aborted",         1006, "",                Class::Lost,     Abandon, false),
    Dropped        => row("dropped",         1006, "",                Class::Lost,     Abandon, false),
    Io             => row("io",              1006, "",                Class::Lost,     Abandon, true),
}

#[rustfmt::skip]
table! { ProtocolError, RULES: [(&str, CloseCode)], Rule:
    ReservedBits           => ("reserved_bits",           CloseCode::PROTOCOL_ERROR),
    ReservedOpcode         => ("reserved_opcode",         CloseCode::PROTOCOL_ERROR),
    LengthNotMinimal       => ("length_not_minimal",      CloseCode::PROTOCOL_ERROR),
    LengthTooLarge         => ("length_too_large",        CloseCode::PROTOCOL_ERROR),
    NotMasked              => ("not_masked",              CloseCode::PROTOCOL_ERROR),
    Masked                 => ("masked",                  CloseCode::PROTOCOL_ERROR),
    ControlFragmented      => ("control_fragmented",      CloseCode::PROTOCOL_ERROR),
    ControlTooLong         => ("control_too_long",        CloseCode::PROTOCOL_ERROR),
    UnexpectedContinuation => ("unexpected_continuation", CloseCode::PROTOCOL_ERROR),
    ExpectedContinuation   => ("expected_continuation",   CloseCode::PROTOCOL_ERROR),
    CloseTooShort          => ("close_too_short",         CloseCode::PROTOCOL_ERROR),
    InvalidCloseCode       => ("invalid_close_code",      CloseCode::PROTOCOL_ERROR),
    InvalidUtf8            => ("invalid_utf8",            CloseCode::INVALID_PAYLOAD),
    InvalidDeflate         => ("invalid_deflate",         CloseCode::INVALID_PAYLOAD),
    MessageTooBig          => ("message_too_big",         CloseCode::TOO_BIG),
    TooManyFragments       => ("too_many_fragments",      CloseCode::POLICY),
    TooManyControlFrames   => ("too_many_control_frames", CloseCode::POLICY),
}

/// Codes of closing handshakes that are counted apart: all that may be on the wire, and 1005 (RFC 6455
/// 7.4). A peer may choose any code of the two ranges, so each range has one counter.
const CODES: [u16; 15] =
    [1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000];

const REMOTE: usize = CODES.len();
const PROTOCOL: usize = 2 * CODES.len();
const REST: usize = PROTOCOL + RULES.len();
/// Rows of [`ROWS`] that are counted by their values instead.
const BY_VALUE: usize = 2;

impl ProtocolError {
    /// The name of the rule for logs and metrics, which does not change between versions.
    pub const fn name(self) -> &'static str {
        RULES[self.place()].0
    }

    /// The code of the Close frame that this error causes (RFC 6455 7.4.1).
    pub const fn close_code(self) -> CloseCode {
        RULES[self.place()].1
    }
}

impl Initiator {
    const fn name(self) -> &'static str {
        match self {
            Self::Local => "closed_by_us",
            Self::Remote => "closed_by_peer",
        }
    }
}

impl Cause {
    /// How many causes are counted apart: the values of [`index`](Self::index) are below it.
    pub const COUNT: usize = REST + ROWS.len() - BY_VALUE;

    /// The name for logs and metrics, which does not change between versions: `closed_by_us`,
    /// `closed_by_peer`, the [name of a rule](ProtocolError::name), or the variant's name in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed { by, .. } => by.name(),
            Self::Protocol(error) => error.name(),
            other => ROWS[other.place()].name,
        }
    }

    /// The code of the first Close frame: the peer's, or the one that this end sends for the cause. 1006 if
    /// there is none, 1005 if it has no code.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Closed { code, .. } => code,
            Self::Protocol(error) => error.close_code(),
            other => CloseCode::new(ROWS[other.place()].code),
        }
    }

    /// The group that counters add it to.
    pub const fn class(self) -> CauseClass {
        ROWS[self.place()].class
    }

    /// Whether a client should connect again: the peer would not end the next connection for the same
    /// reason. A rule that the peer broke may have been damage on the way.
    pub const fn is_retryable(self) -> bool {
        !matches!(
            self,
            Self::Closed { code, .. } if matches!(
                code.get(),
                // RFC 6455 7.4.1: the purpose is fulfilled.
                1000
                // The server does not understand what this program sends, and it will send the same again.
                | 1002 | 1003 | 1007 | 1010
                // What the client may not do, it may not do on another connection.
                | 1008
                // IANA: Unauthorized and Forbidden, like the HTTP statuses 401 and 403.
                | 3000 | 3003
            )
        )
    }

    /// Whether the driver reads and discards what the peer still sends, until the peer ends TCP, so that
    /// the Close frame reaches it.
    pub const fn lingers(self) -> bool {
        matches!(self.farewell(), Linger)
    }

    /// Whether the log entry of this end is a warning.
    pub const fn is_warning(self) -> bool {
        ROWS[self.place()].warns
    }

    pub(crate) const fn farewell(self) -> Farewell {
        ROWS[self.place()].farewell
    }

    /// The reason in the Close frame that this end sends for it.
    pub(crate) const fn reason(self) -> &'static str {
        ROWS[self.place()].reason
    }

    /// A dense index for counters, below [`COUNT`](Self::COUNT).
    pub const fn index(self) -> usize {
        match self {
            Self::Closed { by: Initiator::Local, code } => code_index(code),
            Self::Closed { by: Initiator::Remote, code } => REMOTE + code_index(code),
            Self::Protocol(error) => PROTOCOL + error.place(),
            other => REST + other.place() - BY_VALUE,
        }
    }

    /// Name, code and class of the causes with this [index](Self::index), for reports of counters. The code
    /// is `3xxx` or `4xxx` for the ranges of libraries and applications.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`COUNT`](Self::COUNT).
    pub const fn counted(index: usize) -> Counted {
        if index < PROTOCOL {
            let (by, at) =
                if index < REMOTE { (Initiator::Local, index) } else { (Initiator::Remote, index - REMOTE) };
            Counted { name: by.name(), code: label(CODES[at]), class: Class::Closed }
        } else if index < REST {
            let (name, code) = RULES[index - PROTOCOL];
            Counted { name, code: label(code.get()), class: Class::Protocol }
        } else {
            let row = &ROWS[index - REST + BY_VALUE];
            Counted { name: row.name, code: label(row.code), class: row.class }
        }
    }

    /// The cause that an error of the transport stands for.
    pub const fn of_io(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::ConnectionAborted => Self::Aborted,
            // TLS cut off without close_notify; the closing handshake says better what was an end.
            io::ErrorKind::UnexpectedEof => Self::Eof,
            _ => Self::Io,
        }
    }
}

/// What reports of counters show of the causes with one [index](Cause::index).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// See [`Cause::name`].
    pub name: &'static str,
    /// See [`Cause::close_code`].
    pub code: &'static str,
    /// See [`Cause::class`].
    pub class: CauseClass,
}

/// The place of a code among [`CODES`]; a code that may not be on the wire counts as 1005.
const fn code_index(code: CloseCode) -> usize {
    let code = match code.get() {
        3000..=3999 => 3000,
        4000..=4999 => 4000,
        code => code,
    };
    let mut at = 0;
    while at < CODES.len() {
        if CODES[at] == code {
            return at;
        }
        at += 1;
    }
    4
}

const fn label(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1005 => "1005",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1010 => "1010",
        1011 => "1011",
        1012 => "1012",
        1013 => "1013",
        1014 => "1014",
        3000 => "3xxx",
        4000 => "4xxx",
        _ => "1006",
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { by: Initiator::Local, code } => write!(f, "closed by this end with {code}"),
            Self::Closed { by: Initiator::Remote, code } => write!(f, "closed by the peer with {code}"),
            Self::Protocol(error) => error.fmt(f),
            Self::MessageTimeout => f.write_str("message timeout: a message did not arrive in time"),
            Self::ReadTimeout => f.write_str("read timeout: the peer answers pings but sent no message"),
            Self::PingTimeout => f.write_str("ping timeout: the peer is silent"),
            Self::WriteTimeout => f.write_str("write timeout: the peer does not read"),
            Self::CloseTimeout => f.write_str("close timeout: the closing handshake was not completed"),
            Self::SlowConsumer => f.write_str("slow consumer: the peer fell too far behind"),
            Self::Panicked => f.write_str("a callback of the application panicked"),
            Self::Eof => f.write_str("connection ended without a closing handshake (1006)"),
            Self::Reset => f.write_str("connection reset"),
            Self::Aborted => f.write_str("connection aborted"),
            Self::Dropped => f.write_str("connection dropped by the application"),
            Self::Io => f.write_str("the transport failed"),
        }
    }
}

impl std::error::Error for Cause {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of each row.
    fn all() -> Vec<Cause> {
        use ProtocolError as P;
        let rules = [
            P::ReservedBits,
            P::ReservedOpcode(3),
            P::LengthNotMinimal,
            P::LengthTooLarge,
            P::NotMasked,
            P::Masked,
            P::ControlFragmented,
            P::ControlTooLong,
            P::UnexpectedContinuation,
            P::ExpectedContinuation,
            P::CloseTooShort,
            P::InvalidCloseCode(1005.into()),
            P::InvalidUtf8,
            P::InvalidDeflate,
            P::MessageTooBig { limit: 1 },
            P::TooManyFragments { limit: 1 },
            P::TooManyControlFrames { limit: 1 },
        ];
        let closed = [Initiator::Local, Initiator::Remote]
            .into_iter()
            .flat_map(|by| CODES.map(|code| Cause::Closed { by, code: code.into() }));
        let rest = [
            Cause::MessageTimeout,
            Cause::ReadTimeout,
            Cause::PingTimeout,
            Cause::WriteTimeout,
            Cause::CloseTimeout,
            Cause::SlowConsumer,
            Cause::Panicked,
            Cause::Eof,
            Cause::Reset,
            Cause::Aborted,
            Cause::Dropped,
            Cause::Io,
        ];
        closed.chain(rules.map(Cause::Protocol)).chain(rest).collect()
    }

    #[test]
    fn indices_are_dense_and_name_the_cause() {
        let all = all();
        assert_eq!(all.len(), Cause::COUNT);
        for (index, cause) in all.into_iter().enumerate() {
            assert_eq!(cause.index(), index, "{cause:?}");
            let counted = Cause::counted(index);
            assert_eq!((counted.name, counted.class), (cause.name(), cause.class()), "{cause:?}");
            let code = match u16::from(cause.close_code()) {
                3000 => "3xxx".to_owned(),
                4000 => "4xxx".to_owned(),
                code => code.to_string(),
            };
            assert_eq!(counted.code, code, "{cause:?}");
        }
        let rows: std::collections::HashSet<_> =
            (0..Cause::COUNT).map(|index| (Cause::counted(index).name, Cause::counted(index).code)).collect();
        assert_eq!(rows.len(), Cause::COUNT, "each row has a name or a code of its own");
    }

    #[test]
    fn every_code_on_the_wire_has_a_counter() {
        for code in (0..=u16::MAX).map(CloseCode::from).filter(|code| code.is_sendable()) {
            let counted = Cause::counted(Cause::Closed { by: Initiator::Remote, code }.index());
            let expected = match u16::from(code) {
                3000..=3999 => "3xxx".to_owned(),
                4000.. => "4xxx".to_owned(),
                code => code.to_string(),
            };
            assert_eq!((counted.name, counted.code), ("closed_by_peer", &*expected));
        }
    }

    /// The peer has to learn why: a Close frame that is sent for a cause is worth waiting for, unless the
    /// peer is silent or does not read.
    #[test]
    fn causes_with_a_close_frame_linger() {
        for cause in all() {
            let sends = !matches!(cause, Cause::Closed { .. }) && cause.close_code() != 1006;
            let given_up = matches!(cause, Cause::PingTimeout | Cause::WriteTimeout);
            assert_eq!(cause.lingers(), sends && !given_up, "{cause:?}");
        }
    }

    /// RFC 6455 5.5: a Close frame has room for 123 bytes of reason.
    #[test]
    fn every_reason_fits_in_a_close_frame() {
        for cause in all() {
            let reason =
                if let Cause::Protocol(error) = cause { error.to_string() } else { cause.reason().into() };
            assert!(reason.len() <= crate::MAX_REASON, "{reason}");
        }
        let longest = [
            ProtocolError::MessageTooBig { limit: usize::MAX },
            ProtocolError::TooManyFragments { limit: u32::MAX },
            ProtocolError::TooManyControlFrames { limit: u16::MAX },
        ];
        assert!(longest.iter().all(|error| error.to_string().len() <= crate::MAX_REASON));
    }

    #[test]
    fn reconnecting_follows_the_close_code() {
        for (code, retries) in
            [(1000, false), (1001, true), (1008, false), (1012, true), (3003, false), (4000, true)]
        {
            let closed = Cause::Closed { by: Initiator::Remote, code: code.into() };
            assert_eq!(closed.is_retryable(), retries, "{code}");
        }
        assert!(Cause::Eof.is_retryable() && Cause::Protocol(ProtocolError::NotMasked).is_retryable());
    }
}
