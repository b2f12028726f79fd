//! The listening socket and the way of a connection from it: to a channel, to the echo, or to HTTP.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longwire::http::StatusCode;
use longwire::{Acceptor, Refusal, WebSocket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::hub::Hub;
use crate::session::{self, Listener};
use crate::stop::Stop;
use crate::{http, terminal};

/// How long all closing handshakes together may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// The pause after an error of the listening socket that the next call would meet again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Such errors are told of at most this often.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// A server: how it shakes hands, and its channels.
pub(crate) struct Server {
    acceptor: Acceptor,
    hub: Arc<Hub<Listener>>,
}

/// Bytes of a channel's name, as it stands in the URL. Each of its members holds it.
const NAME_MAX: usize = 1024;

/// Where a WebSocket goes by its path. Those that begin with `/-/` are the server's own.
enum Opened {
    /// To the channel of this name.
    Channel(WebSocket<TcpStream>, String),
    Echo(WebSocket<TcpStream>),
}

impl Server {
    pub(crate) fn new(acceptor: Acceptor) -> Arc<Self> {
        Arc::new(Self { acceptor, hub: Hub::new() })
    }

    /// Serves until the stop is requested and all connections are closed, or their time is over.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, stop: Stop) {
        // Each connection holds a clone; when the last one is dropped, the other end says so.
        let (present, mut all_gone) = mpsc::channel::<()>(1);
        let mut stopping = std::pin::pin!(stop.clone().requested());
        let mut reported: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stopping => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (server, stop, present) = (Arc::clone(&self), stop.clone(), present.clone());
                    tokio::spawn(async move {
                        server.serve(stream, stop).await;
                        drop(present);
                    });
                }
                // The connection ended before it was accepted: only its own affair.
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    if reported.is_none_or(|last| last.elapsed() >= ACCEPT_REPORT) {
                        reported = Some(Instant::now());
                        let advice = "the open connections go on; more open files (ulimit -n) may help";
                        terminal::warn(&format!("cannot accept a connection: {error}; {advice}"));
                    }
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        () = &mut stopping => break,
                    }
                }
            }
        }
        drop(listener);
        drop(present);
        // Those that are still there after that end with the process.
        let _ = tokio::time::timeout(FAREWELL, all_gone.recv()).await;
    }

    async fn serve(&self, stream: TcpStream, stop: Stop) {
        // On the heap, so that an idle WebSocket does not carry the room for its opening.
        match Box::pin(self.open(stream, stop.clone())).await {
            Some(Opened::Channel(socket, name)) => session::channel(socket, &name, &self.hub, stop).await,
            Some(Opened::Echo(socket)) => session::echo(socket, stop).await,
            None => {}
        }
    }

    /// The opening handshake. What is no WebSocket, or is refused, is answered and done with.
    async fn open(&self, stream: TcpStream, stop: Stop) -> Option<Opened> {
        // Without it a small message may wait for the acknowledgement of the one before. An error
        // says that the connection is gone, which reading will find.
        let _ = stream.set_nodelay(true);
        let received = tokio::select! {
            received = self.acceptor.receive(stream) => received,
            () = stop.requested() => return None,
        };
        // A failed handshake has been answered by the acceptor.
        let handshake = received.ok()?;
        if !handshake.is_websocket() {
            let (stream, read) = handshake.into_parts();
            http::serve(stream, read).await;
            return None;
        }
        let path = handshake.request().uri().path().to_owned();
        if path == "/-/echo" {
            return handshake.accept().await.ok().map(Opened::Echo);
        }
        if path.starts_with("/-/") {
            let text = format!("no WebSocket at {path}\n");
            handshake.refuse(Refusal::new(StatusCode::NOT_FOUND, text)).await;
            return None;
        }
        if path.len() > NAME_MAX {
            let text = format!("the name of a channel has at most {NAME_MAX} bytes\n");
            handshake.refuse(Refusal::new(StatusCode::URI_TOO_LONG, text)).await;
            return None;
        }
        let socket = handshake.accept().await.ok()?;
        Some(Opened::Channel(socket, path))
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
