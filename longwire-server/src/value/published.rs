//! A published message.

use longwire::Message;

use super::{Position, Time, User};

/// A message as it was published. Cloning shares its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its position, from which a subscriber resumes.
    pub position: Position,
    /// When it was published.
    pub at: Time,
    /// The publishing user, if known.
    pub from: Option<User>,
    /// The message.
    pub message: Message,
}
