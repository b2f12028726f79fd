//! Requests and answers over one connection, many at a time: a client that several tasks share.
//!
//!     cargo run --example requests -- serve 127.0.0.1:8080
//!     cargo run --example requests -- ask ws://127.0.0.1:8080 你好 hello 👋
//!     cargo run --example requests -- --demo
//!
//! Each request has a number, and its answer has the same: answers may come in any order. One task owns the receiver and
//! hands each answer to the caller that waits for it. The demo makes a hundred requests at once, and fails if one of
//! them gets the answer of another.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire::{Receiver, SendError, Sender, WebSocket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(TcpListener::bind(address).await?).await,
        ["ask", url, texts @ ..] => ask(url, texts).await,
        ["--demo"] => demo().await,
        _ => Err("usage: requests serve ADDRESS | ask URL TEXT.. | --demo".into()),
    }
}

/// Makes requests over a connection. Clones share it.
#[derive(Clone)]
struct Caller {
    sender: Sender,
    waiting: Arc<Waiting>,
}

/// The callers that wait for an answer, by the number of their request.
#[derive(Default)]
struct Waiting {
    next: AtomicU64,
    answers: Mutex<HashMap<u64, oneshot::Sender<String>>>,
}

impl Waiting {
    fn answers(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<String>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller {
    fn new(ws: WebSocket) -> Self {
        let (sender, receiver) = ws.split();
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(read_answers(receiver, Arc::clone(&waiting)));
        Self { sender, waiting }
    }

    /// Sends a request and waits for its answer.
    async fn call(&self, request: &str) -> Result<String> {
        let number = self.waiting.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.answers().insert(number, answer);
        if let Err(error) = self.sender.send(format!("{number} {request}")).await {
            self.waiting.answers().remove(&number);
            return Err(error.into());
        }
        // Dropped by the task that reads when the connection has ended.
        Ok(answered.await.map_err(|_| SendError::Closed)?)
    }
}

/// Reads until the connection ends; then all who wait learn that no answer will come.
async fn read_answers(mut receiver: Receiver, waiting: Arc<Waiting>) {
    while let Ok(Some(message)) = receiver.recv().await {
        let answer = message.as_text().and_then(|text| text.split_once(' '));
        if let Some((number, text)) = answer
            && let Ok(number) = number.parse()
            && let Some(caller) = waiting.answers().remove(&number)
        {
            let _ = caller.send(text.to_owned());
        }
    }
    waiting.answers().clear();
}

async fn ask(url: &str, texts: &[&str]) -> Result<()> {
    let caller = Caller::new(longwire::connect(url).await?);
    for text in texts {
        println!("{text} -> {}", caller.call(text).await?);
    }
    caller.sender.close(1000, "").await?;
    Ok(())
}

async fn serve(listener: TcpListener) -> Result<()> {
    println!("listening on ws://{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = answer(stream).await {
                eprintln!("{peer}: {error:#}");
            }
        });
    }
}

/// Answers the requests of one connection, each in a task of its own: the quick do not wait for the slow.
async fn answer(stream: TcpStream) -> std::result::Result<(), longwire::Error> {
    stream.set_nodelay(true)?;
    let (sender, mut receiver) = longwire::accept(stream).await?.split();
    while let Some(message) = receiver.recv().await? {
        let Some((number, text)) = message.as_text().and_then(|text| text.split_once(' ')) else {
            return Ok(sender.close(1003, "expected NUMBER TEXT").await?);
        };
        let (number, text, sender) = (number.to_owned(), text.to_owned(), sender.clone());
        tokio::spawn(async move {
            // Longer texts take longer.
            tokio::time::sleep(Duration::from_millis(text.len() as u64)).await;
            let reversed: String = text.chars().rev().collect();
            // The client may be gone by now.
            let _ = sender.send(format!("{number} {reversed}")).await;
        });
    }
    Ok(())
}

async fn demo() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    tokio::spawn(serve(listener));
    let caller = Caller::new(longwire::connect(url).await?);
    let calls: Vec<_> = (0..100)
        .map(|i| {
            let caller = caller.clone();
            tokio::spawn(async move {
                // The first to ask are the last to be answered.
                let text = format!("{i} 你好 👋{}", "x".repeat(100 - i));
                let expected: String = text.chars().rev().collect();
                let answer = caller.call(&text).await?;
                if answer != expected {
                    return Err(format!("{text} was answered by {answer}").into());
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            })
        })
        .collect();
    for call in calls {
        call.await??;
    }
    println!("100 answers, each to its request; a round trip takes {:?}", caller.sender.round_trip().await?);
    caller.sender.close(1000, "再见").await?;
    while !caller.sender.is_closed() {
        tokio::task::yield_now().await;
    }
    match caller.call("too late").await {
        Err(error) if error.is::<SendError>() => Ok(()),
        other => Err(format!("a closed connection answered {other:?}").into()),
    }
}
