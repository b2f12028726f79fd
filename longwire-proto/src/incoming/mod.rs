//! Bytes to messages: frames are parsed and checked, and their payload is joined.

pub(crate) mod assembler;
pub(crate) mod receive;
