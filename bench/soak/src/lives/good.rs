//! The well-behaved: whatever they receive is checked, and nothing may be missing.

use super::World;
use crate::{
    client::{self, Client, Event, Failure, Manner, wrong},
    frames,
    message::Message,
    random::Random,
    serve::{GOOD, LEAVE_CODE},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a client lives.
fn span(random: &mut Random) -> Duration {
    if random.one_in(10) { random.millis(20_000, 60_000) } else { random.millis(500, 15_000) }
}

fn any_manner(random: &mut Random) -> Manner {
    Manner { deflate: random.one_in(2), takeover: random.one_in(4), ..Manner::default() }
}

async fn open(world: &World, path: &str, manner: Manner, random: &mut Random) -> Result<Client, Failure> {
    Client::open(world.server, &format!("{path}{GOOD}"), manner, random).await
}

/// With a closing handshake as a rule; otherwise with the end of TCP, or a reset.
async fn end(client: Client, random: &mut Random) -> Result<(), Failure> {
    match random.below(10) {
        0 => drop(client),
        1 => client.reset(),
        2 => client.close(3000 + random.below(2000) as u16, random).await?,
        _ => client.close(1000, random).await?,
    }
    Ok(())
}

/// Sends messages, several at once if they are small, and expects them back.
pub(super) async fn echo(world: &World, random: &mut Random) -> Result<(), Failure> {
    let mut client = open(world, "/echo", any_manner(random), random).await?;
    let until = Instant::now() + span(random);
    while world.goes_on(until) {
        let messages: Vec<_> = if random.one_in(2) {
            vec![Message::any(random)]
        } else {
            (0..1 + random.below(8)).map(|_| Message::small(random)).collect()
        };
        converse(world, &mut client, &messages, random).await?;
        world.pause(random.millis(0, 4000)).await;
    }
    end(client, random).await
}

async fn converse(
    world: &World,
    client: &mut Client,
    messages: &[Message],
    random: &mut Random,
) -> Result<(), Failure> {
    let mut encoded = Vec::new();
    for message in messages {
        encoded.extend(client.encode(message, random)?);
    }
    client.write(&encoded).await?;
    for message in messages {
        expect(client, message).await?;
        world.tally.borrow_mut().echo(message.payload.len());
    }
    Ok(())
}

async fn expect(client: &mut Client, message: &Message) -> Result<(), Failure> {
    let received = client.expect_message().await?;
    if received == *message {
        return Ok(());
    }
    let (sent, came) = (message.payload.len(), received.payload.len());
    let (of, to) = (message.opcode, received.opcode);
    Err(wrong(format!("not the echo: {sent} B of opcode {of} were sent, {came} B of opcode {to} came")))
}

/// The largest messages that may be, plain and compressed.
pub(super) async fn large(world: &World, random: &mut Random) -> Result<(), Failure> {
    for deflate in [false, true] {
        let manner = Manner { deflate, takeover: true, ..Manner::default() };
        let mut client = open(world, "/echo", manner, random).await?;
        for _ in 0..4 {
            let message = Message::text("large 你好 ".repeat(70_000));
            converse(world, &mut client, &[message], random).await?;
        }
        client.close(1000, random).await?;
    }
    Ok(())
}

/// Its handshake and its frames go byte by byte.
pub(super) async fn dribble(world: &World, random: &mut Random) -> Result<(), Failure> {
    let manner = Manner { dribbles: true, ..any_manner(random) };
    let mut client = open(world, "/echo", manner, random).await?;
    for _ in 0..1 + random.below(3) {
        let message = Message::small(random);
        let encoded = client.encode(&message, random)?;
        client::dribble(&mut client.stream, &encoded, random).await?;
        expect(&mut client, &message).await?;
        world.tally.borrow_mut().echo(message.payload.len());
    }
    end(client, random).await
}

/// Its echoes come from tasks, some time later; sometimes it is gone by then.
pub(super) async fn late(world: &World, random: &mut Random) -> Result<(), Failure> {
    let mut client = open(world, "/late", any_manner(random), random).await?;
    let until = Instant::now() + span(random);
    while world.goes_on(until) {
        let message = Message::small(random);
        client.send(&message, random).await?;
        if random.one_in(20) {
            return end(client, random).await;
        }
        expect(&mut client, &message).await?;
        world.tally.borrow_mut().echo(message.payload.len());
        world.pause(random.millis(0, 1000)).await;
    }
    end(client, random).await
}

/// The server closes.
pub(super) async fn leave(world: &World, random: &mut Random) -> Result<(), Failure> {
    let mut client = open(world, "/leave", any_manner(random), random).await?;
    world.pause(random.millis(0, 3000)).await;
    let message = Message::any(random);
    client.send(&message, random).await?;
    expect(&mut client, &message).await?;
    match client.expect().await? {
        Event::Close(Some(LEAVE_CODE)) => {}
        event => return Err(wrong(format!("no Close {LEAVE_CODE} but {event:?}"))),
    }
    let mut answer = Vec::new();
    frames::push(&mut answer, frames::FIN | frames::CLOSE, &LEAVE_CODE.to_be_bytes(), random);
    client.write(&answer).await?;
    client.ended().await
}

/// Many Pings at once; the last one is answered in any case (RFC 6455 5.5.3).
pub(super) async fn pings(world: &World, random: &mut Random) -> Result<(), Failure> {
    let mut client = open(world, "/echo", any_manner(random), random).await?;
    for _ in 0..1 + random.below(4) {
        let mut encoded = Vec::new();
        let (count, size) = (1 + random.below(300), 1 + random.below(120));
        for number in 1..=count {
            let payload = vec![if number == count { 1 } else { 2 }; size];
            frames::push(&mut encoded, frames::FIN | frames::PING, &payload, random);
        }
        client.write(&encoded).await?;
        loop {
            match client.expect().await? {
                Event::Pong(payload) if payload == vec![1; size] => break,
                Event::Pong(payload) if payload == vec![2; size] => {}
                event => return Err(wrong(format!("no Pong but {event:?}"))),
            }
        }
        world.pause(random.millis(0, 1000)).await;
    }
    end(client, random).await
}

/// Is subscribed to a topic whose messages are numbered, sometimes to another one too, and misses none.
pub(super) async fn ticks(world: &World, random: &mut Random) -> Result<(), Failure> {
    let both = random.one_in(3);
    let path = if both { "/both" } else { "/ticks" };
    let mut client = open(world, path, any_manner(random), random).await?;
    let until = Instant::now() + span(random);
    let (mut last, mut quotes) = (None, Quotes::default());
    while world.goes_on(until) {
        let message = client.expect_message().await?;
        match message.number("tick") {
            Some(tick) => {
                if let Some(last) = last
                    && tick != last + 1
                {
                    return Err(wrong(format!("tick {tick} behind tick {last}")));
                }
                last = Some(tick);
            }
            None if both => quotes.take(&message)?,
            None => return Err(wrong("no tick")),
        }
        world.tally.borrow_mut().deliveries += 1;
    }
    end(client, random).await
}

/// Is subscribed to what may be skipped.
pub(super) async fn quotes(world: &World, random: &mut Random) -> Result<(), Failure> {
    let mut client = open(world, "/quotes", any_manner(random), random).await?;
    let until = Instant::now() + span(random);
    let mut quotes = Quotes::default();
    while world.goes_on(until) {
        quotes.take(&client.expect_message().await?)?;
        world.tally.borrow_mut().deliveries += 1;
        if random.one_in(200) {
            world.pause(random.millis(0, 2000)).await;
        }
    }
    end(client, random).await
}

/// The number of the latest quote of each kind.
#[derive(Default)]
struct Quotes(HashMap<u64, u64>);

impl Quotes {
    fn take(&mut self, message: &Message) -> Result<(), Failure> {
        let (Some(number), Some(of)) = (message.number("quote"), message.number("of")) else {
            return Err(wrong("no quote"));
        };
        match self.0.insert(of, number) {
            Some(before) if before >= number => {
                Err(wrong(format!("quote {number} of {of} behind number {before}")))
            }
            _ => Ok(()),
        }
    }
}

/// Talks in a room and hears the others: of each of them all, in order, and never itself.
pub(super) async fn room(world: &World, random: &mut Random) -> Result<(), Failure> {
    let (room, me) = (random.below(world.rooms) as u64, world.next_member());
    let mut client = open(world, &format!("/room/{room}"), any_manner(random), random).await?;
    let until = Instant::now() + span(random);
    let mut said: u64 = 0;
    let mut heard = HashMap::new();
    let mut next = Instant::now();
    while world.goes_on(until) {
        if Instant::now() >= next {
            let text =
                format!(r#"{{"room":{room},"member":{me},"said":{said},"words":"{}"}}"#, "la ".repeat(100));
            client.send(&Message::text(text), random).await?;
            said += 1;
            next = Instant::now() + random.millis(200, 3000);
        }
        let message = match timeout_at(next, client.receive()).await {
            Err(_) => continue,
            Ok(event) => match event? {
                Event::Message(message) => message,
                Event::Pong(_) => continue,
                event => return Err(wrong(format!("in a room: {event:?}"))),
            },
        };
        let number = |name| message.number(name).ok_or_else(|| wrong("not of a room"));
        let (of, member, number) = (number("room")?, number("member")?, number("said")?);
        if of != room || member == me {
            return Err(wrong(format!("member {me} of room {room} hears member {member} of room {of}")));
        }
        if let Some(before) = heard.insert(member, number)
            && number != before + 1
        {
            return Err(wrong(format!("what a member has said as number {number} comes behind {before}")));
        }
        world.tally.borrow_mut().deliveries += 1;
    }
    end(client, random).await
}
