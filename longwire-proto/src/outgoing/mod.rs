//! Messages to bytes: framed, compressed and masked, and gathered for one write.

mod frame_start;
pub(crate) mod message;
pub(crate) mod outbox;
pub(crate) mod send;
pub(crate) mod shared;
