//! The connect row: connections that are opened, upgraded and closed by a closing handshake, over and over.

use super::{
    Pace, Traffic, opening, script,
    window::{Board, Load},
};
use crate::{Failure, server::Server};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

struct Visits {
    server: SocketAddr,
    request: Vec<u8>,
    close: Vec<u8>,
    visits: Vec<Visit>,
}

struct Visit {
    stream: TcpStream,
    begun: u64,
    /// The server has accepted, and the Close frame is sent.
    closing: bool,
    /// The answer to the opening handshake, then what came after it.
    received: Vec<u8>,
}

/// One measurement.
pub(crate) fn run(server: &Server, at_once: usize, pace: &Pace) -> Result<Traffic, Failure> {
    let board = Board::new(at_once)?;
    let mut close = Vec::new();
    script::push_frame(&mut close, 8, &1000u16.to_be_bytes(), [1, 2, 3, 4, 0, 0, 0, 0]);
    let request = opening::request(server.address, false);
    let mut load = Visits { server: server.address, request, close, visits: Vec::with_capacity(at_once) };
    for number in 0..at_once {
        let visit = load.begin(number, &board)?;
        load.visits.push(visit);
    }
    board.run(&mut load, server, pace)
}

impl Visits {
    /// Connecting does not wait for the server: the kernel answers for it.
    fn begin(&self, number: usize, board: &Board) -> Result<Visit, Failure> {
        let begun = board.now();
        let mut stream = TcpStream::connect(self.server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        stream.write_all(&self.request)?;
        board.watch(&stream, number)?;
        Ok(Visit { stream, begun, closing: false, received: Vec::with_capacity(512) })
    }
}

impl Load for Visits {
    fn ready(&mut self, number: usize, readable: bool, board: &mut Board) -> Result<(), Failure> {
        if readable && self.visits[number].receive(&self.close)? {
            board.finished += 1;
            board.round_trips.add(board.now() - self.visits[number].begun);
            self.visits[number] = self.begin(number, board)?;
        }
        Ok(())
    }
}

impl Visit {
    /// True when the server has closed the connection as it should (RFC 6455 7.1.1).
    fn receive(&mut self, close: &[u8]) -> Result<bool, Failure> {
        let mut piece = [0; 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => self.received.extend(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if !self.closing
                && let Some(length) = opening::answered(&self.received)?
            {
                self.received.drain(..length);
                self.stream.write_all(close)?;
                self.closing = true;
            }
        }
        // RFC 6455 5.5.1: the answer to a Close frame is a Close frame.
        if self.closing && self.received.first() == Some(&0x88) {
            Ok(true)
        } else {
            Err("the server closed the connection without a Close frame".into())
        }
    }
}
