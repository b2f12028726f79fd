//! Close codes and the body of a Close frame (RFC 6455 sections 5.5.1 and 7.4).

use std::fmt;

use crate::error::{ProtocolError, SendError};
use crate::frame::MAX_CONTROL_PAYLOAD;
use crate::text::Utf8Bytes;

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

/// The code and the reason that a Close frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// Why.
    pub code: CloseCode,
    /// For people and logs, at most [`MAX_REASON`] bytes; it need not be human readable.
    pub reason: Utf8Bytes,
}

impl CloseFrame {
    /// A frame with this code and reason. Whether they may be sent is checked when they are.
    pub fn new(code: impl Into<CloseCode>, reason: impl Into<Utf8Bytes>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }

    /// Whether it may be sent: [`CloseCode::NO_STATUS`] with an empty reason stands for a frame without a body.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidCloseCode`] (RFC 6455 7.4) or [`SendError::ReasonTooLong`].
    pub fn check(&self) -> Result<(), SendError> {
        if self.is_empty() {
            return Ok(());
        }
        if !self.code.is_sendable() {
            return Err(SendError::InvalidCloseCode(self.code));
        }
        // RFC 6455 5.5: the body of a control frame has at most 125 bytes.
        if self.reason.len() > MAX_REASON { Err(SendError::ReasonTooLong) } else { Ok(()) }
    }

    /// It has no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.code == CloseCode::NO_STATUS && self.reason.is_empty()
    }

    /// Reads the payload of a Close frame; `None` when it is empty, which stands for 1005.
    pub(crate) fn decode(payload: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            // RFC 6455 5.5.1: if there is a body, its first two bytes are the code.
            return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::CloseTooShort) };
        };
        let code = CloseCode(u16::from_be_bytes(*code));
        // RFC 6455 7.4.1, 7.4.2: the others are reserved, undefined, or never set by an endpoint.
        if !code.is_sendable() {
            return Err(ProtocolError::InvalidCloseCode(code));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Some(Self { code, reason: reason.into() }))
    }

    /// Appends the payload of a Close frame.
    pub(crate) fn encode(&self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.code.0.to_be_bytes());
        payload.extend_from_slice(self.reason.as_bytes());
    }
}
