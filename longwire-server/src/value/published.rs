//! A message that has its place in a channel.

use longwire::Message;

use super::{Position, Time, User};

/// A message as it was published. Cloning shares its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where it stands; a subscriber that has seen it resumes from here.
    pub position: Position,
    /// When it was published.
    pub at: Time,
    /// Who published it, if it is told.
    pub from: Option<User>,
    /// What was published.
    pub message: Message,
}
