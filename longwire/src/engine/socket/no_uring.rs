//! Takes the place of `uring` on systems without io_uring: there is never a ring.

use std::io;
use std::net::TcpStream;

/// A ring that cannot be opened.
pub(in crate::engine) enum Ring {}

impl Ring {
    /// Returns `None`: this system has no io_uring.
    pub(in crate::engine) const fn open() -> Option<Self> {
        None
    }

    /// Is never called, for there is no ring to call it on.
    pub(in crate::engine) fn write_all<'a>(
        &mut self,
        _: &mut impl Iterator<Item = (&'a TcpStream, &'a [u8])>,
        _: &mut Vec<usize>,
    ) -> io::Result<()> {
        match *self {}
    }
}
