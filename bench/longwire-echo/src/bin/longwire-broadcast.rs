//! Everyone receives what anyone sends, encoded once: `longwire-broadcast PORT`.

use longwire::{Acceptor, Message, Sender, SharedFrame};
use std::{
    env,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

/// All who are connected.
#[derive(Clone, Default)]
struct Members(Arc<Mutex<List>>);

#[derive(Default)]
struct List {
    /// By numbers that rise.
    members: Vec<(u64, Sender<TcpStream>)>,
    next: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let port: u16 = env::args().nth(1).ok_or("usage: longwire-broadcast PORT")?.parse()?;
    let (acceptor, members) = (Acceptor::new(), Members::default());
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, acceptor.clone(), members.clone()));
    }
}

async fn serve(stream: TcpStream, acceptor: Acceptor, members: Members) -> Result<(), Failure> {
    let (sender, mut receiver) = acceptor.accept(stream).await?.split();
    let number = members.join(sender);
    // An error ends the connection like a closing handshake does.
    while let Ok(Some(message)) = receiver.recv().await {
        members.publish(message);
    }
    members.leave(number);
    Ok(())
}

impl Members {
    fn join(&self, sender: Sender<TcpStream>) -> u64 {
        let mut list = self.list();
        let number = list.next;
        list.next += 1;
        list.members.push((number, sender));
        number
    }

    fn leave(&self, number: u64) {
        self.list().members.retain(|(of, _)| *of != number);
    }

    /// Queues the message for everyone; their own tasks write it.
    fn publish(&self, message: Message) {
        let frame = SharedFrame::new(message);
        for (_, sender) in &self.list().members {
            // A client that falls behind misses it, and one that has ended leaves by itself.
            let _ = sender.try_send(&frame);
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
