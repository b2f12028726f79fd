//! Types that the hub and the store share: names, positions, times, and published messages.

mod name;
mod position;
mod published;
mod time;

pub(crate) use name::validate;
pub use name::{ChannelName, InvalidName, NAME_MAX, User};
pub use position::{Epoch, InvalidPosition, Position};
pub use published::Published;
pub use time::{Clock, Time};
