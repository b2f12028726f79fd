//! The two ends of a socket under load: reading all there is, and sending what is due of a script.

use super::script::Script;
use crate::Failure;
use std::{
    io::{ErrorKind, IoSlice, Read, Write},
    net::TcpStream,
};

/// Room for one `recv`; the replies of a turn fit, and it stays in the cache.
pub(super) const BLOCK: usize = 256 * 1024;

/// Reads all there is, piece by piece.
pub(super) fn receive(
    stream: &mut TcpStream,
    block: &mut [u8],
    mut work_off: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        let length = match stream.read(block) {
            Ok(0) => return Err("the server has closed the connection".into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        work_off(&block[..length])?;
        // A short read has emptied the socket: the next byte is a new edge.
        if length < block.len() {
            return Ok(());
        }
    }
}

/// How far a connection is with its script, which it sends round and round.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Where in the script's frames the next byte to send lies.
    position: usize,
    /// Bytes that may be sent now.
    due: usize,
    /// Messages that have become due.
    begun: u64,
}

impl Outgoing {
    /// Nothing sent yet, and so many messages due.
    pub(super) fn new(messages: usize, script: &Script) -> Self {
        let mut outgoing = Self::default();
        (0..messages).for_each(|_| outgoing.begin(script));
        outgoing
    }

    pub(super) const fn begun(&self) -> u64 {
        self.begun
    }

    /// One more message is due.
    pub(super) fn begin(&mut self, script: &Script) {
        self.due += script.frame_length(self.begun);
        self.begun += 1;
    }

    /// Sends what is due, in one call as long as the socket takes it.
    pub(super) fn send(&mut self, stream: &mut TcpStream, script: &Script) -> Result<(), Failure> {
        let frames = script.frames();
        while self.due > 0 {
            let first = &frames[self.position..frames.len().min(self.position + self.due)];
            let second = &frames[..self.due - first.len()];
            let sent = if second.is_empty() {
                stream.write(first)
            } else {
                stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match sent {
                Ok(length) => {
                    self.due -= length;
                    self.position = (self.position + length) % frames.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
