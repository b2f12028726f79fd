//! Echo on tokio-tungstenite, as its own `echo-server` example: split and forward.

use futures_util::{StreamExt, TryStreamExt, future};
use peers::Failure;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    peers::serve(echo).await
}

async fn echo(stream: TcpStream) -> Result<(), Failure> {
    let (write, read) = tokio_tungstenite::accept_async(stream).await?.split();
    read.try_filter(|message| future::ready(message.is_text() || message.is_binary())).forward(write).await?;
    Ok(())
}
