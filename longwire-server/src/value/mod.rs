//! Types that all parts share: names, positions, times, sizes, and published messages.

mod name;
mod position;
mod published;
mod size;
mod time;

pub(crate) use name::validate;
pub use name::{ChannelName, InvalidName, NAME_MAX, User};
pub use position::{Epoch, InvalidPosition, Position};
pub use published::Published;
pub use size::Size;
pub use time::{Clock, Time};
