//! Writes the same to many sockets: with one call of the system where it has io_uring, else one by one.

use std::io::{self, Write};
use std::net::TcpStream;

use crate::engine::socket::uring::Ring;

/// For fewer writes a ring gains nothing.
const WORTH_IT: usize = 16;

/// Writes to many sockets.
pub(crate) enum Writer {
    /// With a ring, when one is needed.
    Wants,
    Has(Ring),
    /// Without, for the system has none or is not to be asked.
    Without,
}

impl Writer {
    /// One that uses io_uring, if there is one and it `may`.
    pub(crate) const fn new(may: bool) -> Self {
        if may { Self::Wants } else { Self::Without }
    }

    /// Writes to each socket, none of which is waited for, and appends what the system said of each. They are
    /// `count`, or not many fewer.
    pub(crate) fn write_all<'a>(
        &mut self,
        count: usize,
        writes: &mut impl Iterator<Item = (&'a TcpStream, &'a [u8])>,
        results: &mut Vec<io::Result<usize>>,
    ) {
        if count >= WORTH_IT {
            if matches!(self, Self::Wants) {
                *self = Ring::open().map_or(Self::Without, Self::Has);
            }
            if let Self::Has(ring) = self
                && ring.write_all(writes, results).is_err()
            {
                *self = Self::Without;
            }
        }
        // All of them, or those that the ring did not come to.
        results.extend(writes.map(|(mut stream, bytes)| stream.write(bytes)));
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

    /// What is said of each write, and what the other ends have read.
    fn run(writer: &mut Writer, payloads: &[Vec<u8>]) -> (Vec<Result<usize, io::ErrorKind>>, Vec<Vec<u8>>) {
        let pairs = pairs(payloads.len());
        // The third has gone, and the fourth takes no more.
        pairs[2].0.shutdown(Shutdown::Write).unwrap();
        while { &pairs[3].0 }.write(&[0; 65536]).is_ok() {}
        let mut writes = pairs.iter().zip(payloads).map(|((near, _), payload)| (near, &payload[..]));
        let mut results = vec![Ok(0)];
        writer.write_all(payloads.len(), &mut writes, &mut results);
        let said = results.drain(1..).map(|result| result.map_err(|error| error.kind())).collect();
        let read = pairs.into_iter().enumerate().map(|(at, (near, mut far))| {
            drop(near);
            let mut all = Vec::new();
            if at != 3 {
                far.read_to_end(&mut all).unwrap();
            }
            all
        });
        (said, read.collect())
    }

    #[test]
    fn the_ring_does_what_one_write_after_the_other_does() {
        for count in [4, WORTH_IT, 100, 1500] {
            let payloads: Vec<Vec<u8>> =
                (0..count).map(|at| format!("第 {at} 个 👋").repeat(1 + at % 7).into_bytes()).collect();
            let (mut with, mut without) = (Writer::new(true), Writer::new(false));
            let expected = run(&mut without, &payloads);
            assert_eq!(expected.0[2], Err(io::ErrorKind::BrokenPipe));
            assert_eq!(expected.0[3], Err(io::ErrorKind::WouldBlock));
            for _ in 0..3 {
                assert_eq!(run(&mut with, &payloads), expected, "{count}");
            }
            assert!(matches!(without, Writer::Without));
            assert!(count < WORTH_IT || Ring::open().is_none() || matches!(with, Writer::Has(_)));
        }
    }
}
