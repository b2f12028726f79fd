//! Everyone receives what anyone sends, through a topic of longwire's engine: `longwire-engine-broadcast PORT [--no-io-uring]`.

use longwire::Refusal;
use longwire::engine::{Conn, Engine, Handler, MessageRef, Opening};
use longwire::http::{HeaderMap, Request};
use std::{env, error::Error, net::SocketAddr};

const TOPIC: &str = "all";

struct Broadcast;

impl Handler for Broadcast {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, conn: &mut Conn<'_>, (): &mut (), _: &Opening<'_>) {
        conn.subscribe(TOPIC);
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        conn.publish_to_all(TOPIC, message);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let port: u16 = arguments.next().ok_or("usage: longwire-engine-broadcast PORT")?.parse()?;
    let may = arguments.all(|option| option != "--no-io-uring");
    Ok(Engine::new(Broadcast).threads(1).io_uring(may).listen(("127.0.0.1", port))?.wait()?)
}
