//! What the engine calls: where a WebSocket goes by its path, to a channel or to the echo.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use longwire::Refusal;
use longwire::engine::{Conn, Handler, MessageRef, Opening};
use longwire::http::{HeaderMap, Request, StatusCode};

use crate::terminal;

/// Errors of the listening socket are told of at most this often.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// Bytes of a channel's name, as it stands in the URL. Each of its members holds it.
const NAME_MAX: usize = 1024;

/// A server whose paths are channels.
#[derive(Default)]
pub(crate) struct Channels {
    /// When an error of the listening socket was told of.
    reported: Mutex<Option<Instant>>,
}

/// Where a WebSocket goes. Paths that begin with `/-/` are the server's own.
pub(crate) enum Place {
    /// To the channel of this name.
    Channel(Box<str>),
    Echo,
}

impl Handler for Channels {
    type State = Place;

    fn request(&self, request: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<Place, Refusal> {
        let path = request.uri().path();
        if path == "/-/echo" {
            return Ok(Place::Echo);
        }
        if path.starts_with("/-/") {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("no WebSocket at {path}\n")));
        }
        if path.len() > NAME_MAX {
            let text = format!("the name of a channel has at most {NAME_MAX} bytes\n");
            return Err(Refusal::new(StatusCode::URI_TOO_LONG, text));
        }
        Ok(Place::Channel(path.into()))
    }

    fn opened(&self, conn: &mut Conn<'_>, place: &mut Place, _: &Opening<'_>) {
        if let Place::Channel(name) = place {
            conn.subscribe(name);
        }
    }

    fn message(&self, conn: &mut Conn<'_>, place: &mut Place, message: MessageRef<'_>) {
        match place {
            Place::Channel(name) => conn.publish(name, message),
            // There is room for one answer, or it is closing.
            Place::Echo => drop(conn.send(message)),
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|last| last.elapsed() >= ACCEPT_REPORT) {
            *reported = Some(Instant::now());
            let advice = "the open connections go on; more open files (ulimit -n) may help";
            terminal::warn(&format!("cannot accept a connection: {error}; {advice}"));
        }
    }
}
