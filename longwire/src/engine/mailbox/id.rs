//! The identifier of a connection.

use std::fmt;

use crate::engine::slab::Key;

/// Names a connection of an [`Engine`](crate::engine::Engine), also after it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    pub(in crate::engine) at: u16,
    pub(in crate::engine) key: Key,
}

/// Such as `0-17-42`: the loop, the slot in the loop, and how many connections the loop had accepted before.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.at, self.key.index, self.key.generation)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
