//! Many writes with one system call: io_uring, for what is published to many subscribers.
//!
//! One of the places with `unsafe`, because the system gets pointers. `writer` does without where there is no io_uring.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};
use rustix::net::SendFlags;

/// Writes that one system call makes.
const ENTRIES: u32 = 1024;

/// An io_uring of a loop.
pub(in crate::engine) struct Ring(Box<IoUring>);

impl Ring {
    /// `None` if the system has no io_uring, or does not allow it.
    pub(in crate::engine) fn open() -> Option<Self> {
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(ENTRIES);
        ring.ok().map(|ring| Self(Box::new(ring)))
    }

    /// Writes to each socket without waiting for any, and appends how many bytes each has taken, which is none if its
    /// write failed. After an error the ring is of no more use and must be dropped; what is left in `writes` was not
    /// written.
    #[expect(unsafe_code, reason = "the system gets pointers to what is written")]
    pub(in crate::engine) fn write_all<'a>(
        &mut self,
        writes: &mut impl Iterator<Item = (&'a TcpStream, &'a [u8])>,
        taken: &mut Vec<usize>,
    ) -> io::Result<()> {
        let ring = &mut *self.0;
        let flags = (SendFlags::NOSIGNAL | SendFlags::DONTWAIT).bits() as i32;
        loop {
            let start = taken.len();
            let mut queue = ring.submission();
            for (stream, bytes) in writes.take(ENTRIES as usize) {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let send = opcode::Send::new(types::Fd(stream.as_raw_fd()), bytes.as_ptr(), length);
                let entry = send.flags(flags).build().user_data(taken.len() as u64);
                // Until the system reports a result, nothing was written.
                taken.push(0);
                // SAFETY: the socket and the bytes are borrowed for longer than this function runs, and the system
                // looks at them only within `submit_and_wait`: a send that may not wait is over when it returns.
                // After an error the caller drops the ring, and with it what was not submitted.
                let pushed = unsafe { queue.push(&entry) };
                // The queue was empty, and has room for `ENTRIES`.
                pushed.map_err(io::Error::other)?;
            }
            drop(queue);
            let mut left = taken.len() - start;
            if left == 0 {
                return Ok(());
            }
            while left > 0 {
                let submitted = ring.submit_and_wait(left);
                for completion in ring.completion() {
                    left = left.saturating_sub(1);
                    if let Some(taken) = taken.get_mut(completion.user_data() as usize) {
                        // A negative result is an error.
                        *taken = usize::try_from(completion.result()).unwrap_or(0);
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
