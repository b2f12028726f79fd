//! An open connection: what it offers, the driver that reads and writes its stream, and what it borrows from its
//! thread while it is not idle.

mod coop_budget;
mod driver;
mod futures;
mod part;
mod pings;
mod raw;
mod receive_mode;
pub(crate) mod scratch;
pub(crate) mod shutdown;
pub(crate) mod split;
pub(crate) mod timer;
mod wakers;
mod websocket;

pub use part::OutgoingPart;
pub use raw::RawParts;
pub use shutdown::{Connections, Shutdown};
pub use split::{Receiver, ReuniteError, Sender};
pub use websocket::WebSocket;
