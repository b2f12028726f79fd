//! The echo rows: connections that keep a number of messages in flight.

use super::{
    Pace, Traffic,
    deflate::Agreement,
    opening,
    replies::Replies,
    script::Script,
    window::{Board, Load},
};
use crate::{Failure, row::Echo, server::Server};
use std::{
    io::{ErrorKind, IoSlice, Read, Write},
    net::TcpStream,
    rc::Rc,
};

/// Room for one `recv`; the replies of a turn fit, and it stays in the cache.
const BLOCK: usize = 256 * 1024;

/// A compressed script is so long that a window of 32 KiB has forgotten a message when it comes again.
const COMPRESSED_SCRIPT: usize = 64 * 1024;

struct Echoes {
    connections: Vec<Connection>,
    block: Vec<u8>,
    verify: bool,
}

struct Connection {
    stream: TcpStream,
    script: Rc<Script>,
    replies: Replies,
    /// Where in the script's frames the next byte to send lies.
    position: usize,
    /// Bytes that may be sent now.
    due: usize,
    /// Messages that have become due.
    begun: u64,
    /// When each message in flight was due, by its number modulo the depth.
    sent: Vec<u64>,
}

/// One measurement.
pub(crate) fn run(server: &Server, echo: &Echo, pace: &Pace) -> Result<Traffic, Failure> {
    let board = Board::new(echo.connections * echo.depth)?;
    let (streams, agreement) = open(server, echo)?;
    let common = Rc::new(script(echo, 0, agreement.as_ref())?);
    let mut connections = Vec::with_capacity(echo.connections);
    for (number, stream) in streams.into_iter().enumerate() {
        // Replies that went to the wrong connection show only if each says something else.
        let script = match number {
            1.. if pace.verify => Rc::new(script(echo, number as u64, agreement.as_ref())?),
            _ => Rc::clone(&common),
        };
        let begun = echo.depth as u64;
        connections.push(Connection {
            stream,
            replies: agreement.as_ref().map(Replies::deflate).unwrap_or_default(),
            position: 0,
            due: (0..begun).map(|message| script.frame_length(message)).sum(),
            begun,
            sent: vec![0; echo.depth],
            script,
        });
    }
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.sent.fill(board.now());
        board.watch(&connection.stream, number)?;
    }
    let mut echoes = Echoes { connections, block: vec![0; BLOCK], verify: pace.verify };
    let traffic = board.run(&mut echoes, server, pace)?;
    Ok(Traffic { agreement: agreement.map(|agreement| agreement.to_string()), ..traffic })
}

/// All connections, and what the server said to compression if the row is about it.
fn open(server: &Server, echo: &Echo) -> Result<(Vec<TcpStream>, Option<Agreement>), Failure> {
    let mut streams = Vec::with_capacity(echo.connections);
    let mut agreement = None;
    for _ in 0..echo.connections {
        let stream = if echo.deflate {
            let (stream, agreed) = opening::open_deflate(server.address)?;
            if *agreement.get_or_insert_with(|| agreed.clone()) != agreed {
                return Err("the server answers one connection otherwise than another".into());
            }
            stream
        } else {
            opening::open(server.address)?
        };
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    Ok((streams, agreement))
}

fn script(echo: &Echo, seed: u64, agreement: Option<&Agreement>) -> Result<Script, Failure> {
    match agreement {
        None => Ok(Script::new(echo.content, echo.size, echo.depth, seed)),
        Some(agreement) => {
            let messages = COMPRESSED_SCRIPT.div_ceil(echo.size.max(1)).max(echo.depth);
            Script::new(echo.content, echo.size, messages, seed).compressed(agreement)
        }
    }
}

impl Load for Echoes {
    fn ready(&mut self, socket: usize, readable: bool, board: &mut Board) -> Result<(), Failure> {
        let connection = &mut self.connections[socket];
        if readable {
            connection.receive(&mut self.block, self.verify, board)?;
        }
        connection.send()
    }
}

impl Connection {
    /// Reads all there is; each message that is back makes one due.
    fn receive(&mut self, block: &mut [u8], verify: bool, board: &mut Board) -> Result<(), Failure> {
        loop {
            let length = match self.stream.read(block) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            board.received += length as u64;
            let before = self.replies.messages;
            self.replies.receive(&block[..length], &self.script, verify)?;
            let now = board.now();
            for message in before..self.replies.messages {
                let depth = self.sent.len() as u64;
                let sent = &mut self.sent[(message % depth) as usize];
                board.round_trips.add(now - *sent);
                *sent = now;
                board.finished += 1;
                self.due += self.script.frame_length(self.begun);
                self.begun += 1;
            }
            // A short read has emptied the socket: the next byte is a new edge.
            if length < block.len() {
                return Ok(());
            }
        }
    }

    /// Sends what is due, in one call as long as the socket takes it.
    fn send(&mut self) -> Result<(), Failure> {
        let frames = self.script.frames();
        while self.due > 0 {
            let first = &frames[self.position..frames.len().min(self.position + self.due)];
            let second = &frames[..self.due - first.len()];
            let sent = if second.is_empty() {
                self.stream.write(first)
            } else {
                self.stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
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
