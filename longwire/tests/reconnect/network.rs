//! What a feed connects to: a network of which each attempt meets the next thing in the script.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire::reconnect::{Attempt, Backoff, Event, Feed, Reconnect};
use longwire::{Acceptor, Client, Config, ConnectError, WebSocket};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::support::{read_head, soon};

/// What an attempt meets.
#[derive(Clone, Debug)]
pub(crate) enum Meets {
    /// A server that accepts.
    Server,
    /// Nothing, ever.
    Silence,
    /// A failure to connect.
    Error(io::ErrorKind),
    /// A server that answers with these bytes.
    Answer(&'static str),
}

#[derive(Clone)]
pub(crate) struct Network {
    script: Arc<Mutex<VecDeque<Meets>>>,
    accepted: mpsc::UnboundedSender<WebSocket<DuplexStream>>,
    config: Config,
    /// Bytes that each direction of a stream holds.
    size: usize,
}

/// The servers' ends, in the order in which they were opened.
pub(crate) struct Servers(mpsc::UnboundedReceiver<WebSocket<DuplexStream>>);

impl Servers {
    pub(crate) async fn next(&mut self) -> WebSocket<DuplexStream> {
        soon(self.0.recv()).await.expect("a connection")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Network {
    /// Behind the end of the script is silence.
    pub(crate) fn new(script: impl IntoIterator<Item = Meets>) -> (Self, Servers) {
        Self::with(script, Config::client(), 64 * 1024)
    }

    pub(crate) fn with(
        script: impl IntoIterator<Item = Meets>,
        config: Config,
        size: usize,
    ) -> (Self, Servers) {
        let (accepted, servers) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        (Self { script, accepted, config, size }, Servers(servers))
    }

    /// A plan with waits that are the longest: 0.5 s, 1 s, 2 s and so on.
    pub(crate) fn plan(self) -> Reconnect<DuplexStream> {
        Reconnect::with(move |attempt| self.clone().connect(attempt)).backoff(Backoff::new().no_jitter())
    }

    async fn connect(self, _: Attempt) -> Result<WebSocket<DuplexStream>, ConnectError> {
        let meets = self.script.lock().unwrap().pop_front().unwrap_or(Meets::Silence);
        let (near, mut far) = tokio::io::duplex(self.size);
        match meets {
            Meets::Silence => pending().await,
            Meets::Error(kind) => Err(io::Error::from(kind).into()),
            Meets::Answer(answer) => {
                tokio::spawn(async move {
                    read_head(&mut far).await;
                    far.write_all(answer.as_bytes()).await.unwrap();
                });
                Client::new().handshake("ws://localhost/", near).await
            }
            Meets::Server => {
                let (client, acceptor) = (Client::new().config(self.config), Acceptor::new());
                let (ws, server) =
                    tokio::join!(client.handshake("ws://localhost/", near), acceptor.accept(far));
                self.accepted.send(server.unwrap()).unwrap();
                ws
            }
        }
    }
}

/// The next event, which must come.
pub(crate) async fn event(feed: &mut Feed<DuplexStream>) -> Event {
    tokio::time::timeout(Duration::from_secs(3600), feed.next()).await.expect("it hangs").expect("an event")
}

/// Goes on to an open connection; which attempt it was.
pub(crate) async fn open(feed: &mut Feed<DuplexStream>) -> Attempt {
    loop {
        match event(feed).await {
            Event::Open(attempt) => return attempt,
            Event::Connecting(_) | Event::Lost { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// An event in a few words: waits in milliseconds.
pub(crate) fn brief(event: &Event) -> String {
    match event {
        Event::Connecting(attempt) => format!("connecting {}", attempt.number),
        Event::Open(attempt) => format!("open {} after {}", attempt.number, attempt.opened),
        Event::Message(message) => format!("message {}", message.as_text().unwrap_or("(binary)")),
        Event::Lost { cause, retry_in } => {
            format!("lost {} ms: {cause:#}", (*retry_in + Duration::from_micros(1)).as_millis())
        }
        Event::GivenUp { cause, why } => format!("given up {why:?}: {cause:#}"),
        Event::Closed(Ok(None)) => "closed without a connection".into(),
        Event::Closed(Ok(Some(closed))) => format!("closed by {:?}", closed.by),
        Event::Closed(Err(error)) => format!("closed: {error:#}"),
        other => format!("{other:?}"),
    }
}
