//! Which end of a connection this is.

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Masks what it sends, and ends TCP second.
    Client,
    /// Expects masked frames, and ends TCP first.
    Server,
}
