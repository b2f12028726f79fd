//! An echo server that a Prometheus can read, on the same port.
//!
//!     cargo run --example metrics
//!     curl http://127.0.0.1:8080/metrics

use longwire::{Acceptor, Counters};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let counters = Counters::new();
    let acceptor = Acceptor::new().counters(&counters);
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("ws://127.0.0.1:8080 and http://127.0.0.1:8080/metrics");
    loop {
        let (stream, from) = listener.accept().await?;
        let (acceptor, counters) = (acceptor.clone(), counters.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &acceptor, &counters).await {
                eprintln!("{from}: {error}");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: &Acceptor,
    counters: &Counters,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let handshake = acceptor.receive(stream).await?;
    if handshake.request().uri().path() == "/metrics" && !handshake.is_websocket() {
        let page = counters.snapshot().prometheus("example");
        let (mut stream, _) = handshake.into_parts();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n";
        stream.write_all((head.to_owned() + &page).as_bytes()).await?;
        return Ok(stream.shutdown().await?);
    }
    let mut ws = handshake.accept().await?;
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
