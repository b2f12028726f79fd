//! Writes the same to many sockets: with one system call where there is io_uring, else one by one.

use std::io::Write;
use std::net::TcpStream;

use crate::engine::socket::uring::Ring;

/// For fewer writes a ring gains nothing.
const RING_FROM: usize = 16;

/// Writes to many sockets.
pub(in crate::engine) enum Writer {
    /// With a ring, which is opened when one is needed.
    Undecided,
    Ring(Ring),
    /// The system has no io_uring, or it may not be used.
    Plain,
}

impl Writer {
    /// Uses io_uring if it `may` and there is one.
    pub(in crate::engine) const fn new(may: bool) -> Self {
        if may { Self::Undecided } else { Self::Plain }
    }

    /// Writes to each socket without waiting for any, and appends how many bytes each has taken: none where the write
    /// failed, for the next write meets the same error. There are `count` writes, or not many fewer.
    pub(in crate::engine) fn write_all<'a>(
        &mut self,
        count: usize,
        writes: &mut impl Iterator<Item = (&'a TcpStream, &'a [u8])>,
        taken: &mut Vec<usize>,
    ) {
        if count >= RING_FROM {
            if matches!(self, Self::Undecided) {
                *self = Ring::open().map_or(Self::Plain, Self::Ring);
            }
            if let Self::Ring(ring) = self
                && ring.write_all(writes, taken).is_err()
            {
                *self = Self::Plain;
            }
        }
        // All of them, or those that a broken ring has left.
        taken.extend(writes.map(|(mut stream, bytes)| stream.write(bytes).unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Shutdown, TcpListener};

    use super::*;

    fn pairs(count: usize) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = |_| {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            near.set_nonblocking(true).unwrap();
            (near, listener.accept().unwrap().0)
        };
        (0..count).map(pair).collect()
    }

    /// How many bytes each socket has taken, and what the other ends have read.
    fn run(writer: &mut Writer, payloads: &[Vec<u8>]) -> (Vec<usize>, Vec<Vec<u8>>) {
        let pairs = pairs(payloads.len());
        // The third has gone, and the fourth takes no more.
        pairs[2].0.shutdown(Shutdown::Write).unwrap();
        while { &pairs[3].0 }.write(&[0; 65536]).is_ok() {}
        let mut writes = pairs.iter().zip(payloads).map(|((near, _), payload)| (near, &payload[..]));
        let mut taken = vec![0];
        writer.write_all(payloads.len(), &mut writes, &mut taken);
        taken.remove(0);
        let read = pairs.into_iter().enumerate().map(|(at, (near, mut far))| {
            drop(near);
            let mut all = Vec::new();
            if at != 3 {
                far.read_to_end(&mut all).unwrap();
            }
            all
        });
        (taken, read.collect())
    }

    #[test]
    fn the_ring_does_what_one_write_after_the_other_does() {
        for count in [4, RING_FROM, 100, 1500] {
            let payloads: Vec<Vec<u8>> =
                (0..count).map(|at| format!("第 {at} 个 👋").repeat(1 + at % 7).into_bytes()).collect();
            let (mut with, mut without) = (Writer::new(true), Writer::new(false));
            let expected = run(&mut without, &payloads);
            assert_eq!(expected.0[2..4], [0, 0]);
            assert!(expected.0.iter().filter(|taken| **taken > 0).count() == count - 2);
            for _ in 0..3 {
                assert_eq!(run(&mut with, &payloads), expected, "{count}");
            }
            assert!(matches!(without, Writer::Plain));
            assert!(count < RING_FROM || Ring::open().is_none() || matches!(with, Writer::Ring(_)));
        }
    }
}
