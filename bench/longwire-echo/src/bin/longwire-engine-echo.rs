//! Echo on longwire's engine: `longwire-engine-echo PORT [--deflate]`.

use longwire::engine::{Conn, Engine, Handler, MessageRef};
use longwire::http::{HeaderMap, Request};
use longwire::{Acceptor, Config, Deflate, Refusal};
use std::{env, error::Error, net::SocketAddr};

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_request(&self, _: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        // It is closing, or reads nothing: then nothing is read from it either.
        let _ = conn.send(message);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let port: u16 = arguments.next().ok_or("usage: longwire-engine-echo PORT")?.parse()?;
    let mut config = Config::server();
    if arguments.any(|option| option == "--deflate") {
        config = config.deflate(Deflate::new().threshold(0));
    }
    let engine = Engine::new(Echo).acceptor(Acceptor::new().config(config)).threads(1);
    Ok(engine.listen(("127.0.0.1", port))?.wait()?)
}
