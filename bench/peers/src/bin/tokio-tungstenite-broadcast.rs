//! Everyone receives what anyone sends, on tokio-tungstenite as in its chat example, `server`: a channel for each client.

use futures_channel::mpsc::{UnboundedSender, unbounded};
use futures_util::{StreamExt, TryStreamExt, future};
use peers::Failure;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

type Clients = Arc<Mutex<HashMap<SocketAddr, UnboundedSender<Message>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let clients = Clients::default();
    peers::serve(move |stream| serve(stream, Arc::clone(&clients))).await
}

async fn serve(stream: TcpStream, clients: Clients) -> Result<(), Failure> {
    let address = stream.peer_addr()?;
    let (write, read) = tokio_tungstenite::accept_async(stream).await?.split();
    let (sender, receiver) = unbounded();
    clients.lock().unwrap_or_else(PoisonError::into_inner).insert(address, sender);

    let publish = read.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            for sender in clients.lock().unwrap_or_else(PoisonError::into_inner).values() {
                // One that has ended leaves by itself.
                let _ = sender.unbounded_send(message.clone());
            }
        }
        future::ok(())
    });
    let deliver = receiver.map(Ok).forward(write);
    future::select(publish, deliver).await;

    clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    Ok(())
}
