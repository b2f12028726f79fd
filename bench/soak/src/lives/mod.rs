//! What clients do: each of them is born, does one thing for a while, ends in one way or another, and is born again.

mod bad;
mod good;

use crate::{client::Failure, codec, random::Random, serve::MAX_MESSAGE, tally::Tally};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// What all clients share.
pub(crate) struct World {
    pub(crate) server: SocketAddr,
    pub(crate) stopping: Cell<bool>,
    pub(crate) tally: RefCell<Tally>,
    /// The number of the next member of a room.
    member: Cell<u64>,
    rooms: usize,
    /// Compressed, and small; inflated, much more than a message may have.
    bomb: Vec<u8>,
}

/// A way of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Echo,
    Dribble,
    Late,
    Leave,
    Pings,
    Ticks,
    Quotes,
    Room,
    ComeAndGo,
    Stall,
    DieInHandshake,
    DieInFrame,
    BreakRules,
    NoWebSocket,
}

impl Life {
    /// How many of a hundred begin so. The first eight are well-behaved, and check whatever they receive.
    const SHARES: [(Self, usize); 14] = [
        (Self::Echo, 36),
        (Self::Dribble, 5),
        (Self::Late, 4),
        (Self::Leave, 3),
        (Self::Pings, 2),
        (Self::Ticks, 7),
        (Self::Quotes, 3),
        (Self::Room, 8),
        (Self::ComeAndGo, 5),
        (Self::Stall, 9),
        (Self::DieInHandshake, 6),
        (Self::DieInFrame, 6),
        (Self::BreakRules, 4),
        (Self::NoWebSocket, 2),
    ];

    fn any(random: &mut Random) -> Self {
        let mut left = random.below(Self::SHARES.iter().map(|(_, share)| share).sum());
        for (life, share) in Self::SHARES {
            match left.checked_sub(share) {
                None => return life,
                Some(less) => left = less,
            }
        }
        Self::Echo
    }

    async fn live(self, world: &World, random: &mut Random) -> Result<(), Failure> {
        match self {
            Self::Echo => good::echo(world, random).await,
            Self::Dribble => good::dribble(world, random).await,
            Self::Late => good::late(world, random).await,
            Self::Leave => good::leave(world, random).await,
            Self::Pings => good::pings(world, random).await,
            Self::Ticks => good::ticks(world, random).await,
            Self::Quotes => good::quotes(world, random).await,
            Self::Room => good::room(world, random).await,
            Self::ComeAndGo => bad::come_and_go(world, random).await,
            Self::Stall => bad::stall(world, random).await,
            Self::DieInHandshake => bad::die_in_handshake(world, random).await,
            Self::DieInFrame => bad::die_in_frame(world, random).await,
            Self::BreakRules => bad::break_rules(world, random).await,
            Self::NoWebSocket => bad::no_websocket(world, random).await,
        }
    }
}

impl World {
    /// For so many clients.
    pub(crate) fn new(server: SocketAddr, clients: usize) -> Option<Self> {
        Some(Self {
            server,
            stopping: Cell::new(false),
            tally: RefCell::default(),
            member: Cell::new(0),
            rooms: clients / 20 + 1,
            bomb: codec::bomb(8 * MAX_MESSAGE)?,
        })
    }

    /// Waits, but not beyond the end of the run.
    pub(crate) async fn pause(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(500);
        let end = Instant::now() + time;
        while !self.stopping.get() {
            let left = end.saturating_duration_since(Instant::now());
            sleep(left.min(STEP)).await;
            if left <= STEP {
                break;
            }
        }
    }

    /// Whether a client that is to live until `end` lives on.
    pub(crate) fn goes_on(&self, end: Instant) -> bool {
        !self.stopping.get() && Instant::now() < end
    }

    fn next_member(&self) -> u64 {
        self.member.replace(self.member.get() + 1)
    }
}

/// One life after the other, until the run is over.
pub(crate) async fn clients(world: Rc<World>, seed: u64, after: Duration) {
    let mut random = Random::new(seed);
    world.pause(after).await;
    while !world.stopping.get() {
        let life = Life::any(&mut random);
        world.tally.borrow_mut().begin(life);
        let lived = life.live(&world, &mut random).await;
        world.tally.borrow_mut().end(life, lived);
        // A server that refuses everyone is asked no more than a client would ask.
        world.pause(random.millis(0, 200)).await;
    }
}

/// Notes how late the clients are, all of which share one thread.
pub(crate) async fn watch_the_clock(world: Rc<World>) {
    const STEP: Duration = Duration::from_millis(100);
    while !world.stopping.get() {
        let due = Instant::now() + STEP;
        sleep(STEP).await;
        let mut tally = world.tally.borrow_mut();
        tally.late = tally.late.max(due.elapsed());
    }
}

/// One of each of the well-behaved, and large messages: what a server does once in its life is done behind that.
pub(crate) async fn rehearse(world: &World) -> Result<(), Failure> {
    let mut random = Random::new(7);
    good::large(world, &mut random).await?;
    good::leave(world, &mut random).await?;
    bad::no_websocket(world, &mut random).await
}
