//! The end of a connection by a closing handshake.

use longwire_proto::CloseFrame;

/// Which end did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Us,
    /// The other.
    Peer,
}

impl Closed {
    /// Makes one, for tests of code that handles it.
    pub const fn new(by: Side, frame: Option<CloseFrame>) -> Self {
        Self { by, frame }
    }
}

/// A closing handshake that was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Whose Close frame went first.
    pub by: Side,
    /// The code and reason in it; `None` when it had none, which a browser shows as 1005.
    pub frame: Option<CloseFrame>,
}
