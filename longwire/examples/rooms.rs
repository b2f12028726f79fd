//! A chat with rooms on the engine: the path is the room, and everyone hears who comes and goes.
//!
//!     cargo run --example rooms
//!
//! Open ws://127.0.0.1:8080/茶馆 in two browsers or with `longwire connect`. Ctrl-C says goodbye to all.

use std::net::SocketAddr;

use longwire::Refusal;
use longwire::engine::{Conn, Drain, Engine, Handle, Handler, Id, MessageRef, Opening, SlowConsumer};
use longwire::http::{HeaderMap, Request};

struct Rooms;

impl Handler for Rooms {
    /// The room.
    type State = String;

    fn request(&self, request: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<String, Refusal> {
        Ok(request.uri().path().to_owned())
    }

    fn opened(&self, conn: &mut Conn<'_>, room: &mut String, _: &Opening<'_>) {
        let id = conn.id();
        conn.publish(room, format!("{id} comes in 👋"));
        conn.subscribe(room);
    }

    fn message(&self, conn: &mut Conn<'_>, room: &mut String, message: MessageRef<'_>) {
        match message.as_text() {
            Some(text) => conn.publish(room, format!("{}: {text}", conn.id())),
            None => drop(conn.close(1003, "this is a chat: text only")),
        }
    }

    fn closed(&self, engine: &Handle, id: Id, room: String, end: Result<longwire::Closed, longwire::Error>) {
        let why = end.map_or_else(|error| error.to_string(), |_| "goodbye".into());
        // It fails when the engine itself ends.
        let _ = engine.publish(&room, format!("{id} leaves: {why}"));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let engine = Engine::new(Rooms).slow_consumers(SlowConsumer::drop_oldest(256 * 1024));
    let mut running = engine.listen("127.0.0.1:8080")?;
    println!("ws://{}/ANY-ROOM", running.local_addr());
    tokio::signal::ctrl_c().await?;
    running.handle().drain(&Drain::default());
    running.ended().await
}
