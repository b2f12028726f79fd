//! Messages to bytes: framed, compressed and masked, and gathered for one write.

pub(crate) mod outbox;
pub(crate) mod send;
pub(crate) mod shared;
