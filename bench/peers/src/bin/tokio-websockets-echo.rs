//! Echo on tokio-websockets: split and forward, which flushes only when nothing more is ready to be read.

use futures_util::{StreamExt, TryStreamExt, future};
use peers::Failure;
use tokio::net::TcpStream;
use tokio_websockets::ServerBuilder;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    peers::serve(echo).await
}

async fn echo(stream: TcpStream) -> Result<(), Failure> {
    let (_request, ws) = ServerBuilder::new().accept(stream).await?;
    let (write, read) = ws.split();
    read.try_filter(|message| future::ready(message.is_text() || message.is_binary())).forward(write).await?;
    Ok(())
}
