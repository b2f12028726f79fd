//! Many writes with one call of the system: io_uring, for what is published to many.
//!
//! One of the places with `unsafe`, for the system is given pointers. `writer` writes without it where there is none.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};
use rustix::net::SendFlags;

/// Writes that one call makes.
const ENTRIES: u32 = 1024;

/// An io_uring of a loop.
pub(crate) struct Ring(Box<IoUring>);

impl Ring {
    /// `None` if the system has none for us.
    pub(crate) fn open() -> Option<Self> {
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(ENTRIES);
        ring.ok().map(|ring| Self(Box::new(ring)))
    }

    /// Writes to each socket, none of which is waited for, and appends what the system said of each. An error says
    /// that the ring is of no more use, and is to be dropped: what is left in `writes` was not written.
    #[expect(unsafe_code, reason = "the system is given pointers to what is written")]
    pub(crate) fn write_all<'a>(
        &mut self,
        writes: &mut impl Iterator<Item = (&'a TcpStream, &'a [u8])>,
        results: &mut Vec<io::Result<usize>>,
    ) -> io::Result<()> {
        let ring = &mut *self.0;
        let flags = (SendFlags::NOSIGNAL | SendFlags::DONTWAIT).bits() as i32;
        loop {
            let start = results.len();
            let mut queue = ring.submission();
            for (stream, bytes) in writes.take(ENTRIES as usize) {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let send = opcode::Send::new(types::Fd(stream.as_raw_fd()), bytes.as_ptr(), length);
                let entry = send.flags(flags).build().user_data(results.len() as u64);
                // What the system does not come to say anything of was not written.
                results.push(Err(io::ErrorKind::WouldBlock.into()));
                // SAFETY: the socket and the bytes are borrowed for longer than this function runs, and the system
                // looks at them only within `submit_and_wait`: a send that may not wait is over when it returns.
                // After an error the caller drops the ring, and with it what was not submitted.
                let pushed = unsafe { queue.push(&entry) };
                // There is room: the queue is as long, and empty.
                pushed.map_err(io::Error::other)?;
            }
            drop(queue);
            let mut left = results.len() - start;
            if left == 0 {
                return Ok(());
            }
            while left > 0 {
                let submitted = ring.submit_and_wait(left);
                for completion in ring.completion() {
                    left = left.saturating_sub(1);
                    let said = usize::try_from(completion.result())
                        .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
                    if let Some(result) = results.get_mut(completion.user_data() as usize) {
                        *result = said;
                    }
                }
                if let Err(error) = submitted
                    && error.kind() != io::ErrorKind::Interrupted
                {
                    return Err(error);
                }
            }
        }
    }
}
