//! The broadcast rows: one connection publishes, and everyone who is connected receives it, the publisher included.

use super::{
    Pace, Traffic, opening,
    replies::Replies,
    script::Script,
    socket::{self, BLOCK, Outgoing},
    window::{Board, Load},
};
use crate::{
    Failure,
    row::{Broadcast, Content},
    server::Server,
};
use std::net::TcpStream;

/// Different messages in the script: one that is lost or out of order is not what is expected in its place.
const SCRIPT: usize = 64;

struct Audience {
    /// The last one is the publisher.
    members: Vec<Member>,
    outgoing: Outgoing,
    script: Script,
    /// Messages that everyone has.
    completed: u64,
    stopped: bool,
    /// Each publish that is on its way, by its number modulo how many there are.
    flights: Vec<Flight>,
    block: Vec<u8>,
    verify: bool,
}

struct Member {
    stream: TcpStream,
    replies: Replies,
}

/// A message between its publisher and the last one to receive it.
#[derive(Clone)]
struct Flight {
    due: u64,
    /// Members that have not received it yet.
    missing: usize,
}

/// One measurement. Its messages are the deliveries; its times are from a publish to the last delivery.
pub(crate) fn run(server: &Server, broadcast: &Broadcast, pace: &Pace) -> Result<Traffic, Failure> {
    let mut members = Vec::with_capacity(broadcast.subscribers + 1);
    for number in 0..=broadcast.subscribers {
        let stream = opening::open(server.address, number)?;
        stream.set_nonblocking(true)?;
        members.push(Member { stream, replies: Replies::default() });
    }
    let messages = SCRIPT.max(broadcast.in_flight);
    let script = Script::new(Content::Text, broadcast.size, messages, 0);
    let board = Board::new(broadcast.in_flight * members.len())?;
    let flight = Flight { due: board.now(), missing: members.len() };
    for (number, member) in members.iter().enumerate() {
        board.watch(&member.stream, number)?;
    }
    let mut audience = Audience {
        members,
        outgoing: Outgoing::new(broadcast.in_flight, &script),
        script,
        completed: 0,
        stopped: false,
        flights: vec![flight; broadcast.in_flight],
        block: vec![0; BLOCK],
        verify: pace.verify,
    };
    board.run(&mut audience, server, pace)
}

impl Load for Audience {
    fn ready(&mut self, number: usize, readable: bool, board: &mut Board) -> Result<(), Failure> {
        if readable {
            self.receive(number, board)?;
        }
        match self.members.last_mut() {
            Some(publisher) => self.outgoing.send(&mut publisher.stream, &self.script),
            None => Ok(()),
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whoever missed a message is behind for ever.
    fn is_at_rest(&self) -> bool {
        self.completed == self.outgoing.begun()
    }
}

impl Audience {
    /// Reads all there is for one member; a message that everyone has makes the next one due.
    fn receive(&mut self, number: usize, board: &mut Board) -> Result<(), Failure> {
        let all = self.members.len();
        let Member { stream, replies } = &mut self.members[number];
        socket::receive(stream, &mut self.block, |bytes| {
            board.received += bytes.len() as u64;
            let before = replies.messages;
            replies.receive(bytes, &self.script, self.verify)?;
            if replies.messages > self.outgoing.begun() {
                return Err("more was delivered than was published".into());
            }
            board.finished += replies.messages - before;
            for message in before..replies.messages {
                let in_flight = self.flights.len() as u64;
                let flight = &mut self.flights[(message % in_flight) as usize];
                flight.missing -= 1;
                if flight.missing == 0 {
                    let now = board.now();
                    board.round_trips.add(now - flight.due);
                    self.completed += 1;
                    *flight = Flight { due: now, missing: all };
                    if !self.stopped {
                        self.outgoing.begin(&self.script);
                    }
                }
            }
            Ok(())
        })
    }
}
