//! A chat with rooms and names: the server, on the engine, and a client for the terminal.
//!
//!     cargo run --example chat -- serve 127.0.0.1:8080
//!     cargo run --example chat -- join 'ws://127.0.0.1:8080/茶馆?name=小明'
//!     cargo run --example chat -- --demo
//!
//! The path is the room. A name is somebody's as long as they are in the room; who wants it meanwhile is answered
//! 409. `/who` tells who is there. Ctrl-C at the server says goodbye to all. The demo lets three people talk, and
//! fails if one of them hears something else than they should.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::io::{BufRead, stdin};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use longwire::engine::{Conn, Engine, Handle, Handler, Id, MessageRef, Opening, Running, SlowConsumer};
use longwire::http::{HeaderMap, Request, StatusCode};
use longwire::{Acceptor, Closed, Config, Refusal, Shutdown, blocking};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The longest name of a room or a person, in bytes.
const NAME: usize = 60;

/// The longest message, in bytes.
const MESSAGE: usize = 4 * 1024;

/// What may wait for somebody who reads too slowly, in bytes, before they miss the oldest of it.
const BACKLOG: usize = 256 * 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address),
        ["join", url] => join(url),
        ["--demo"] => demo(),
        _ => Err("say `serve ADDRESS`, `join URL` or `--demo`".into()),
    }
}

/// Who is where: for all connections on all threads.
#[derive(Default)]
struct Rooms(Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in a room. Dropped, the name is free again: also when the connection is never opened.
struct Member {
    rooms: Rooms,
    room: String,
    name: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut rooms = self.rooms.lock();
        if let Some(names) = rooms.get_mut(&self.room) {
            names.remove(&self.name);
            if names.is_empty() {
                rooms.remove(&self.room);
            }
        }
    }
}

impl Handler for Rooms {
    type State = Member;

    fn on_request(
        &self,
        request: &Request<()>,
        _: SocketAddr,
        _: &mut HeaderMap,
    ) -> std::result::Result<Member, Refusal> {
        let query = request.uri().query().unwrap_or_default();
        let name = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name");
        let name = name.map(|(_, name)| name.into_owned()).unwrap_or_default();
        let room = request.uri().path().to_owned();
        // Others see it in a line of its own.
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "Say who you are: /ROOM?name=NAME"));
        }
        if name.len() > NAME || room.len() > 3 * NAME {
            return Err(Refusal::new(StatusCode::URI_TOO_LONG, "That is too long for a name."));
        }
        if !self.lock().entry(room.clone()).or_default().insert(name.clone()) {
            return Err(Refusal::new(StatusCode::CONFLICT, "Somebody of that name is there already."));
        }
        Ok(Member { rooms: Self(Arc::clone(&self.0)), room, name })
    }

    fn opened(&self, conn: &mut Conn<'_>, member: &mut Member, _: &Opening<'_>) {
        conn.subscribe(&member.room);
        conn.publish_to_all(&member.room, format!("* {} comes in 👋", member.name));
    }

    fn message(&self, conn: &mut Conn<'_>, member: &mut Member, message: MessageRef<'_>) {
        match message.as_text() {
            Some("/who") => {
                let names: Vec<_> = self.lock().get(&member.room).into_iter().flatten().cloned().collect();
                // Who does not read their answers gets no more of them.
                let _ = conn.send(format!("* here: {}", names.join(", ")));
            }
            Some(text) => conn.publish_to_all(&member.room, format!("{}: {text}", member.name)),
            None => drop(conn.close(1003, "this is a chat: text only")),
        }
    }

    fn closed(
        &self,
        engine: &Handle,
        _: Id,
        member: Member,
        end: std::result::Result<Closed, longwire::Error>,
    ) {
        let why = end.map_or_else(|error| format!("is gone: {error}"), |_| "leaves".into());
        let (room, line) = (member.room.clone(), format!("* {} {why}", member.name));
        // Who hears it may take the name at once.
        drop(member);
        // It fails when the engine itself ends.
        let _ = engine.publish(&room, line);
    }
}

/// Starts the server. Returns the address that it listens on, too.
fn start(address: &str) -> Result<(Running, SocketAddr)> {
    let acceptor = Acceptor::new().config(Config::server().max_message(MESSAGE));
    let engine = Engine::new(Rooms::default()).acceptor(acceptor);
    let running = engine.slow_consumers(SlowConsumer::drop_oldest(BACKLOG)).listen(address)?;
    let address = running.local_addr().ok_or("the engine has no listener")?;
    Ok((running, address))
}

#[tokio::main(flavor = "current_thread")]
async fn serve(address: &str) -> Result<()> {
    let (mut running, address) = start(address)?;
    println!("ws://{address}/ROOM?name=NAME");
    tokio::signal::ctrl_c().await?;
    running.handle().shutdown(Shutdown::new(1001, "下班了").spread(Duration::from_secs(1)));
    Ok(running.ended().await?)
}

fn join(url: &str) -> Result<()> {
    let (sender, mut receiver) = blocking::connect(url)?.split();
    let hears = thread::spawn(move || {
        for message in &mut receiver {
            match message {
                Ok(message) => println!("{}", printable(message.as_text().unwrap_or("(binary)"))),
                Err(error) => eprintln!("{error}"),
            }
        }
        let closed = receiver.closed();
        // The terminal is still asked for another line, which nobody would send.
        if let Some(frame) = closed.and_then(|closed| closed.frame) {
            eprintln!("closed: {} {}", frame.code, printable(&frame.reason));
        }
        std::process::exit(0);
    });
    for line in stdin().lock().lines() {
        sender.send(line?)?;
    }
    sender.close(1000, "")?;
    hears.join().map_err(|_| "cannot print".into())
}

/// Without what would steer the terminal: others wrote it.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn demo() -> Result<()> {
    let (running, address) = start("127.0.0.1:0")?;
    let enter = |room: &str, name: &str| blocking::connect(format!("ws://{address}/{room}?name={name}"));

    let mut ming = enter("茶馆", "小明")?;
    hears(&mut ming, "* 小明 comes in 👋")?;
    let mut hong = enter("茶馆", "小红")?;
    hears(&mut hong, "* 小红 comes in 👋")?;
    hears(&mut ming, "* 小红 comes in 👋")?;
    // In another room nothing of this is heard.
    let mut other = enter("书房", "小明")?;
    hears(&mut other, "* 小明 comes in 👋")?;
    match enter("茶馆", "小红") {
        Err(longwire::ConnectError::Refused(response)) if response.status == StatusCode::CONFLICT => {}
        taken => return Err(format!("a name that is taken: {taken:?}").into()),
    }

    ming.send("喝茶吗？🍵")?;
    hears(&mut ming, "小明: 喝茶吗？🍵")?;
    hears(&mut hong, "小明: 喝茶吗？🍵")?;
    hong.send("/who")?;
    hears(&mut hong, "* here: 小明, 小红")?;
    hong.close(1000, "")?;
    hears(&mut ming, "* 小红 leaves")?;
    // The name is free again.
    drop(enter("茶馆", "小红")?);
    hears(&mut ming, "* 小红 comes in 👋")?;
    let gone = ming.recv_timeout(Duration::from_secs(10))?;
    if !gone
        .as_ref()
        .and_then(|message| message.as_text())
        .is_some_and(|text| text.starts_with("* 小红 is gone"))
    {
        return Err(format!("not gone: {gone:?}").into());
    }

    running.handle().shutdown(Shutdown::new(1001, "下班了"));
    for (who, ws) in [("小明", &mut ming), ("the other", &mut other)] {
        let said = ws.recv_timeout(Duration::from_secs(10))?;
        let frame = ws.closed().and_then(|closed| closed.frame);
        if said.is_some() || frame.is_none_or(|frame| frame.reason.as_str() != "下班了") {
            return Err(format!("{who} was not told that it ends: {said:?}").into());
        }
    }
    running.wait()?;
    println!("three people have talked");
    Ok(())
}

fn hears(ws: &mut blocking::WebSocket, expected: &str) -> Result<()> {
    let message = ws.recv_timeout(Duration::from_secs(10))?;
    match message.as_ref().and_then(|message| message.as_text()) {
        Some(text) if text == expected => Ok(()),
        other => Err(format!("heard {other:?} instead of {expected:?}").into()),
    }
}
