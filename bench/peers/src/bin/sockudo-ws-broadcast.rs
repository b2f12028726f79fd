//! Everyone receives what anyone sends, on the topics of sockudo-ws, a channel for each client.

use futures_util::{StreamExt, TryStreamExt, future, stream};
use peers::Failure;
use sockudo_ws::{Config, PubSub, WebSocketStream, handshake::server_handshake};
use std::sync::Arc;
use tokio::{net::TcpStream, sync::mpsc};

const TOPIC: &str = "all";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let topics = Arc::new(PubSub::new());
    peers::serve(move |stream| serve(stream, Arc::clone(&topics))).await
}

async fn serve(mut stream: TcpStream, topics: Arc<PubSub>) -> Result<(), Failure> {
    server_handshake(&mut stream).await?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let subscriber = topics.create_subscriber(sender);
    topics.subscribe(subscriber, TOPIC);

    // The halves of its own `split` send one message at a time, which is slower when several wait.
    let (write, read) = StreamExt::split(WebSocketStream::server(stream, Config::default()));
    let publish = read.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            topics.publish(TOPIC, message);
        }
        future::ok(())
    });
    let deliver = stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(Ok).forward(write);
    future::select(publish, deliver).await;

    topics.remove_subscriber(subscriber);
    Ok(())
}
