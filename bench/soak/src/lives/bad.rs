//! The others: they come and go, stall, die in the middle of things, and break rules. What the server says to that is
//! checked; that it ends them is too.

use super::World;
use crate::{
    client::{self, Client, Event, Failure, Manner, wrong},
    frames::{self, CLOSE, FIN, PING, RSV1},
    message::{BINARY, Message, TEXT},
    random::Random,
    serve::MAX_MESSAGE,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// When the server has ended a client that does nothing any more, at the latest.
const FORGOTTEN: Duration = Duration::from_secs(45);

/// The end of TCP, or a reset.
fn vanish(stream: TcpStream, random: &mut Random) {
    if random.one_in(2) {
        client::reset(stream);
    }
}

/// Opens, or not even that, and is gone.
pub(super) async fn come_and_go(world: &World, random: &mut Random) -> Result<(), Failure> {
    let manner = Manner { deflate: random.one_in(2), ..Manner::default() };
    match random.below(4) {
        0 => vanish(client::connect(world.server, false, random).await?, random),
        1 => {
            // It asks, and does not wait for the answer.
            let mut stream = client::connect(world.server, false, random).await?;
            stream.write_all(client::request(world.server, "/both", manner.deflate).as_bytes()).await?;
            vanish(stream, random);
        }
        2 => vanish(Client::open(world.server, "/both", manner, random).await?.stream, random),
        _ => Client::open(world.server, "/both", manner, random).await?.close(1001, random).await?,
    }
    Ok(())
}

/// Sends and is sent to, and does not read. Perhaps it reads in the end: then what it reads is good, as far as it goes.
pub(super) async fn stall(world: &World, random: &mut Random) -> Result<(), Failure> {
    let manner = Manner { deflate: random.one_in(3), small_buffer: true, ..Manner::default() };
    let path = ["/echo", "/ticks", "/quotes", "/both"][random.below(4)];
    let mut client = Client::open(world.server, path, manner, random).await?;
    let sends = random.one_in(2) || path == "/echo";
    if sends && asks_until_it_stalls(&mut client, random).await.is_err() {
        // It was ended in the meantime: that is the server's right.
        return Ok(());
    }
    world.pause(random.millis(0, 20_000)).await;
    if random.one_in(3) {
        vanish(client.stream, random);
        return Ok(());
    }
    let reads = async {
        loop {
            match client.receive().await {
                Ok(Event::Message(_) | Event::Pong(_)) => {}
                // What it had not said to the end may break a rule now that it answers Pings behind it.
                Ok(Event::Close(Some(1002 | 1008 | 1011))) => return Ok(()),
                Ok(Event::Close(code)) => return Err(wrong(format!("to one who stalls: Close {code:?}"))),
                // The write deadline cuts it off wherever it is.
                Ok(Event::End) | Err(Failure::Lost(_)) => return Ok(()),
                Err(Failure::Wrong(what)) if what.contains("in the middle of a frame") => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    };
    timeout(random.millis(500, 10_000), reads).await.unwrap_or(Ok(()))
}

/// Asks for echoes until nothing is taken any more; what is cut off then is the last that it says.
async fn asks_until_it_stalls(client: &mut Client, random: &mut Random) -> io::Result<()> {
    // A few go beyond what the server keeps for them, but all together not beyond what the kernel does.
    let most = if random.one_in(8) { 3 * MAX_MESSAGE } else { random.below(MAX_MESSAGE) };
    let mut sent = 0;
    while sent < most {
        let mut encoded = Vec::new();
        let payload = vec![7; random.below(50_000)];
        frames::push(&mut encoded, FIN | BINARY, &payload, random);
        sent += encoded.len();
        if let Ok(written) = timeout(Duration::from_millis(500), client.stream.write_all(&encoded)).await {
            written?;
        } else {
            break;
        }
    }
    Ok(())
}

/// A part of a request.
pub(super) async fn die_in_handshake(world: &World, random: &mut Random) -> Result<(), Failure> {
    let mut stream = client::connect(world.server, false, random).await?;
    let request = client::request(world.server, "/echo", random.one_in(2));
    let part = &request.as_bytes()[..random.below(request.len())];
    stream.write_all(part).await?;
    if random.one_in(3) {
        let answer = forgotten(&mut stream).await?;
        if !(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 ")) {
            return Err(wrong(format!("to half a request: {}", String::from_utf8_lossy(&answer))));
        }
        return Ok(());
    }
    world.pause(random.millis(0, 5000)).await;
    vanish(stream, random);
    Ok(())
}

/// A part of a message.
pub(super) async fn die_in_frame(world: &World, random: &mut Random) -> Result<(), Failure> {
    let manner = Manner { deflate: random.one_in(2), ..Manner::default() };
    let mut client = Client::open(world.server, "/both", manner, random).await?;
    let encoded = client.encode(&Message::any(random), random)?;
    let part = &encoded[..random.below(encoded.len())];
    client.write(part).await?;
    if random.one_in(4) {
        forgotten(&mut client.stream).await?;
        return Ok(());
    }
    world.pause(random.millis(0, 5000)).await;
    vanish(client.stream, random);
    Ok(())
}

/// Does nothing but read until the server has ended it; what it has said.
async fn forgotten(stream: &mut TcpStream) -> Result<Vec<u8>, Failure> {
    let mut received = Vec::new();
    let reads = async {
        let mut block = [0; 4096];
        // A reset is an end too.
        while let Ok(count @ 1..) = stream.read(&mut block).await {
            if received.len() < 1024 {
                received.extend(&block[..count]);
            }
        }
    };
    let ended = timeout(FORGOTTEN, reads).await;
    ended.map_err(|_| wrong(format!("who does nothing any more is still there after {FORGOTTEN:?}")))?;
    Ok(received)
}

/// A frame that breaks a rule, and the Close code that names it.
fn bad_frame(client: &Client, world: &World, random: &mut Random) -> (Vec<u8>, u16) {
    let mut bad = Vec::new();
    let code = match random.below(if client.is_compressed() { 13 } else { 11 }) {
        0 => {
            // RFC 6455 5.1: not masked.
            frames::push_header(&mut bad, FIN | TEXT, 5, 0);
            bad.extend(b"Hello");
            1002
        }
        1 => push(&mut bad, FIN | 0x20 | TEXT, b"Hello", 1002, random),
        2 => push(&mut bad, FIN | 3, b"Hello", 1002, random),
        3 => push(&mut bad, FIN | 11, b"", 1002, random),
        4 => push(&mut bad, PING, b"in fragments", 1002, random),
        5 => push(&mut bad, FIN | PING, &[0; 126], 1002, random),
        6 => push(&mut bad, FIN, b"continues nothing", 1002, random),
        7 => push(&mut bad, FIN | TEXT, b"no \xff UTF-8", 1007, random),
        8 => push(&mut bad, FIN | CLOSE, &[3], 1002, random),
        9 => push(&mut bad, FIN | CLOSE, &1005_u16.to_be_bytes(), 1002, random),
        10 => {
            frames::push_header(&mut bad, FIN | BINARY, 2 * MAX_MESSAGE as u64, 0x80);
            bad.extend([0; 100]);
            1009
        }
        11 => push(&mut bad, FIN | RSV1 | BINARY, &[0xff; 40], 1007, random),
        _ => push(&mut bad, FIN | RSV1 | BINARY, &world.bomb, 1009, random),
    };
    (bad, code)
}

fn push(bad: &mut Vec<u8>, first: u8, payload: &[u8], code: u16, random: &mut Random) -> u16 {
    frames::push(bad, first, payload, random);
    code
}

/// Says something good, perhaps, then something bad: it is told what, and that is the end.
pub(super) async fn break_rules(world: &World, random: &mut Random) -> Result<(), Failure> {
    let manner = Manner { deflate: random.one_in(2), ..Manner::default() };
    let path = if random.one_in(2) { "/echo" } else { "/both" };
    let mut client = Client::open(world.server, path, manner, random).await?;
    if random.one_in(2) {
        let message = Message::small(random);
        client.send(&message, random).await?;
    }
    world.pause(random.millis(0, 2000)).await;
    let (bad, code) = bad_frame(&client, world, random);
    client.write(&bad).await?;
    loop {
        match client.expect().await? {
            Event::Message(_) | Event::Pong(_) => {}
            Event::Close(Some(told)) if told == code => return client.ended().await,
            event => {
                return Err(wrong(format!(
                    "no Close {code} but {event:?}, to {:x?}",
                    &bad[..bad.len().min(16)]
                )));
            }
        }
    }
}

/// Asks for something else: it is refused, and that is the end.
pub(super) async fn no_websocket(world: &World, random: &mut Random) -> Result<(), Failure> {
    let good = client::request(world.server, "/echo", false);
    let asked = match random.below(5) {
        0 => format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", world.server),
        1 => good.replace("Version: 13", "Version: 8"),
        2 => good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        3 => "\u{16}\u{3}\u{1}\u{2} is no HTTP\r\n\r\n".to_owned(),
        _ => good.replace("\r\n\r\n", &format!("\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000))),
    };
    let mut stream = client::connect(world.server, false, random).await?;
    stream.write_all(asked.as_bytes()).await?;
    let (head, _) = client::answer(&mut stream).await?;
    if !head.starts_with("HTTP/1.1 4") {
        let status = head.lines().next().unwrap_or_default();
        return Err(wrong(format!("to no handshake: {status}")));
    }
    forgotten(&mut stream).await?;
    Ok(())
}
