//! An echo server: `cargo run --example echo -- 127.0.0.1:9000`.

use std::env;
use std::error::Error;

use longwire::Acceptor;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".into());
    let listener = TcpListener::bind(&address).await?;
    println!("echo on ws://{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = echo(stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn echo(stream: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut ws = Acceptor::new().accept(stream).await?;
    while let Some(message) = ws.recv().await? {
        // Queued here, written together by the next `recv` that has to wait.
        ws.feed(message).await?;
    }
    Ok(())
}
