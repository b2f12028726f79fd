//! Close codes (RFC 6455 section 7.4).

use std::fmt;

use crate::frame::MAX_CONTROL_PAYLOAD;

/// The longest reason in bytes: a control frame's payload less the two bytes of the code.
pub const MAX_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

/// Why an endpoint closes the connection (RFC 6455 7.4, and the registry it opens in 11.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server goes down, a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that cannot be accepted, such as binary where only text is understood.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: a Close frame came without a code. Never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the payload is not what its kind says, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer broke a policy of ours.
    pub const POLICY: Self = Self(1008);
    /// 1009: the message is too big to be processed.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client misses an extension that it needs.
    pub const EXTENSION: Self = Self(1010);
    /// 1011: an unexpected condition.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the service restarts; come back after a random 5 to 30 seconds.
    pub const RESTART: Self = Self(1012);
    /// 1013: overload; try again later.
    pub const TRY_AGAIN: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from upstream.
    pub const BAD_GATEWAY: Self = Self(1014);

    pub(crate) const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The number of it.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// May stand in a Close frame (RFC 6455 7.4.1, 7.4.2): a code that is defined for it, or one of
    /// the ranges of libraries (3000-3999) and applications (4000-4999).
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl PartialEq<u16> for CloseCode {
    fn eq(&self, other: &u16) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}
