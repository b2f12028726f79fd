//! Everyone receives what anyone sends, through a topic of longwire's engine: `longwire-engine-broadcast PORT`.

use longwire::engine::{Conn, Engine, Handler, MessageRef, Opening};
use longwire::http::{HeaderMap, Request};
use longwire::{Refusal, SharedFrame};
use std::{env, error::Error, net::SocketAddr};

const TOPIC: &str = "all";

struct Broadcast;

impl Handler for Broadcast {
    type State = ();

    fn request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, conn: &mut Conn<'_, ()>, _: &Opening<'_>) {
        conn.subscribe(TOPIC);
    }

    fn message(&self, conn: &mut Conn<'_, ()>, message: MessageRef<'_>) {
        let frame = SharedFrame::new(message);
        conn.publish_shared(TOPIC, &frame);
        // Who publishes hears all others; here it hears itself too.
        let _ = conn.send_shared(&frame);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).ok_or("usage: longwire-engine-broadcast PORT")?.parse()?;
    Ok(Engine::new(Broadcast).threads(1).listen(("127.0.0.1", port))?.wait()?)
}
