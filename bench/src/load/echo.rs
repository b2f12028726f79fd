//! The echo rows: connections that keep a number of messages in flight.

use super::{
    Pace, Traffic,
    deflate::Agreement,
    opening,
    replies::Replies,
    script::Script,
    socket::{self, BLOCK, Outgoing},
    window::{Board, Load},
};
use crate::{Failure, row::Echo, server::Server};
use std::{net::TcpStream, rc::Rc};

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
    outgoing: Outgoing,
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
        connections.push(Connection {
            stream,
            replies: agreement.as_ref().map(Replies::deflate).unwrap_or_default(),
            outgoing: Outgoing::new(echo.depth, &script),
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
    for number in 0..echo.connections {
        let stream = if echo.deflate {
            let (stream, agreed) = opening::open_deflate(server.address, number)?;
            if *agreement.get_or_insert_with(|| agreed.clone()) != agreed {
                return Err("the server answers one connection otherwise than another".into());
            }
            stream
        } else {
            opening::open(server.address, number)?
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
        connection.outgoing.send(&mut connection.stream, &connection.script)
    }
}

impl Connection {
    /// Reads all there is; each message that is back makes one due.
    fn receive(&mut self, block: &mut [u8], verify: bool, board: &mut Board) -> Result<(), Failure> {
        socket::receive(&mut self.stream, block, |bytes| {
            board.received += bytes.len() as u64;
            let before = self.replies.messages;
            self.replies.receive(bytes, &self.script, verify)?;
            let now = board.now();
            for message in before..self.replies.messages {
                let depth = self.sent.len() as u64;
                let sent = &mut self.sent[(message % depth) as usize];
                board.round_trips.add(now - *sent);
                *sent = now;
                board.finished += 1;
                self.outgoing.begin(&self.script);
            }
            Ok(())
        })
    }
}
