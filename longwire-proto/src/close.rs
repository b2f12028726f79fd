//! The body of a Close frame (RFC 6455 section 5.5.1).

use crate::close_code::{CloseCode, MAX_REASON};
use crate::error::{ProtocolError, SendError};
use crate::text::Utf8Bytes;

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

    /// Like [`new`](Self::new), but shortens the reason to the [`MAX_REASON`] bytes that fit, between two characters.
    pub fn truncated(code: impl Into<CloseCode>, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::new(code, &reason[..end])
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
        let code = CloseCode::new(u16::from_be_bytes(*code));
        // RFC 6455 7.4.1, 7.4.2: the others are reserved, undefined, or never set by an endpoint.
        if !code.is_sendable() {
            return Err(ProtocolError::InvalidCloseCode(code));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Some(Self { code, reason: reason.into() }))
    }

    /// Appends the payload of a Close frame.
    pub(crate) fn encode(&self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.code.get().to_be_bytes());
        payload.extend_from_slice(self.reason.as_bytes());
    }
}
