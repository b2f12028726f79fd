//! The part of a frame's header that does not depend on its length.

use crate::frame::{Header, OpCode};
use crate::message::Kind;

/// The first frame of a message names its kind and whether it is compressed; the others continue it
/// (RFC 6455 5.4, RFC 7692 6.1).
#[derive(Clone, Copy)]
pub(crate) struct FrameStart {
    pub(crate) opcode: OpCode,
    pub(crate) rsv: u8,
}

impl FrameStart {
    pub(crate) const CONTINUES: Self = Self { opcode: OpCode::Continuation, rsv: 0 };

    #[inline]
    pub(crate) const fn plain(kind: Kind) -> Self {
        Self { opcode: opcode_of(kind), rsv: 0 }
    }

    pub(crate) const fn compressed(kind: Kind) -> Self {
        Self { opcode: opcode_of(kind), rsv: Header::RSV1 }
    }

    /// The header of a frame that is not masked.
    pub(crate) const fn header(self, fin: bool, length: usize) -> Header {
        Header { fin, rsv: self.rsv, opcode: self.opcode, mask: None, length: length as u64 }
    }
}

const fn opcode_of(kind: Kind) -> OpCode {
    match kind {
        Kind::Text => OpCode::Text,
        Kind::Binary => OpCode::Binary,
    }
}
