//! Echo on longwire: `longwire-echo PORT [--deflate | --deflate-takeover BYTES] [--level LEVEL]`.

use longwire::{Acceptor, Config, Deflate};
use std::{env, error::Error};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let (port, config) = settings(env::args().skip(1))?;
    let acceptor = Acceptor::new().config(config);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream, acceptor.clone()));
    }
}

/// The command line. The takeover's bytes are the budget of all connections together.
fn settings(mut arguments: impl Iterator<Item = String>) -> Result<(u16, Config), Failure> {
    let port = arguments.next().ok_or("usage: longwire-echo PORT")?.parse()?;
    let (mut deflate, mut level) = (None, None);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a number"));
        match option.as_str() {
            "--deflate" => deflate = Some(Deflate::new()),
            "--deflate-takeover" => {
                deflate = Some(Deflate::new().send_context_takeover(value()?.parse()?));
            }
            "--level" => level = Some(value()?.parse()?),
            _ => return Err(format!("no such option: {option}").into()),
        }
    }
    let mut config = Config::server();
    if let Some(mut deflate) = deflate {
        if let Some(level) = level {
            deflate = deflate.level(level);
        }
        config = config.deflate(deflate.threshold(0));
    }
    Ok((port, config))
}

async fn echo(stream: TcpStream, acceptor: Acceptor) -> Result<(), Failure> {
    let mut ws = acceptor.accept(stream).await?;
    drop(acceptor);
    while let Some(message) = ws.recv().await? {
        ws.feed(message).await?;
    }
    Ok(())
}
