//! What the engine calls: a connection goes by its path and subprotocol to a channel, to a session or to the echo.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use longwire::engine::{Conn, ConnHandle, Handler, MessageRef, Opening};
use longwire::http::{Extensions, HeaderMap, Request, StatusCode, header};
use longwire::{CloseCode, Message, Refusal};
use tokio::task::{AbortHandle, spawn_local};

use super::session::Session;
use super::wire::{Code, Fault};
use super::{Kind, ROOT, Realtime, SUBPROTOCOL, Who, channel};
use crate::access::EXPIRED;
use crate::hub::{ChannelName, Subscription};
use crate::limits::Seat;
use crate::pattern::name_of_path;

/// Where every message is sent back to who sent it.
const ECHO: &str = "/-/echo";

/// Where a session may be opened besides on every channel.
const SESSION: &str = "/-/session";

/// Messages of a raw connection that wait for the webhook's word, and their bytes.
const WAITING_MAX: usize = 64;
const WAITING_BYTES: usize = 4 << 20;

/// Told of an error of the listening socket.
type AcceptFailed = dyn Fn(&io::Error) + Send + Sync;

/// The callbacks of an engine for the channels of a [`Realtime`].
pub struct Clients {
    realtime: Realtime,
    accept_failed: Box<AcceptFailed>,
}

/// What a connection is for.
#[derive(Debug)]
pub enum Place {
    #[doc(hidden)]
    Coming(Box<Coming>),
    #[doc(hidden)]
    Raw(Box<Raw>),
    #[doc(hidden)]
    Session(Rc<RefCell<Session>>),
    /// It hears what it says.
    #[doc(hidden)]
    Echo(Option<Box<Seat>>),
}

/// Somebody who was let in, and is not there yet.
#[derive(Debug)]
pub struct Coming {
    who: Who,
    /// The channel at the path; a session has none.
    name: Option<ChannelName>,
}

/// A connection without an envelope, on one channel.
#[derive(Debug)]
pub struct Raw {
    name: ChannelName,
    who: Who,
    /// It leaves with this.
    _subscription: Subscription,
    _expiry: Option<Expiry>,
    /// What the webhook has not judged yet, in order; a task is at it while there is anything.
    waiting: Rc<RefCell<VecDeque<Message>>>,
}

/// Who is let in, on the way from [`Clients::ask`] to the callbacks: it is taken once.
#[derive(Clone)]
struct Admitted(Arc<Mutex<Option<Coming>>>);

/// The seat of somebody at the echo, on the same way.
#[derive(Clone)]
struct Echoing(Arc<Mutex<Option<Box<Seat>>>>);

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clients").field(&self.realtime).finish()
    }
}

impl Clients {
    /// Callbacks that tell `accept_failed` of errors of the listening socket.
    pub fn new(realtime: Realtime, accept_failed: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        Self { realtime, accept_failed: Box::new(accept_failed) }
    }

    /// What [`Engine::on_request`](longwire::engine::Engine::on_request) is to be given.
    ///
    /// # Errors
    ///
    /// The answer to somebody who is not let in.
    pub async fn ask(
        realtime: Realtime,
        request: Request<()>,
        from: SocketAddr,
    ) -> Result<Extensions, Refusal> {
        let mut extensions = Extensions::new();
        if request.uri().path() == ECHO {
            let seat = realtime.0.limits.connect(from.ip(), Instant::now())?;
            extensions.insert(Echoing(Arc::new(Mutex::new(Some(Box::new(seat))))));
            return Ok(extensions);
        }
        let name = destination(&request)?;
        let who = realtime.admit(&request, from.ip()).await?;
        if let Some(name) = &name
            && !realtime.may_subscribe(&who.identity, name).is_ok_and(|may| may)
        {
            realtime.0.access.subscribe(&who.identity, name, SystemTime::now()).await?;
        }
        extensions.insert(Admitted(Arc::new(Mutex::new(Some(Coming { who, name })))));
        Ok(extensions)
    }
}

/// The channel that a request is for; `None` is a session.
fn destination(request: &Request<()>) -> Result<Option<ChannelName>, Refusal> {
    let path = request.uri().path();
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if offered.map(str::trim).any(|name| name == SUBPROTOCOL) {
        return Ok(None);
    }
    if path.starts_with("/-/") {
        let text = match path {
            SESSION => format!("offer the subprotocol {SUBPROTOCOL} for a session\n"),
            _ => format!("no WebSocket at {path}\n"),
        };
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    if path == ROOT {
        return Ok(ChannelName::new(ROOT).ok());
    }
    let name =
        name_of_path(path).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    match channel(&name) {
        Ok(name) => Ok(Some(name)),
        Err(fault) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{}\n", fault.message))),
    }
}

impl Handler for Clients {
    type State = Place;

    fn on_request(&self, request: &Request<()>, _: SocketAddr, _: &mut HeaderMap) -> Result<Place, Refusal> {
        if let Some(Echoing(seat)) = request.extensions().get() {
            return Ok(Place::Echo(seat.lock().unwrap_or_else(PoisonError::into_inner).take()));
        }
        let admitted = request.extensions().get::<Admitted>();
        let coming =
            admitted.and_then(|admitted| admitted.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        match coming {
            Some(coming) => Ok(Place::Coming(Box::new(coming))),
            None => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody was asked\n")),
        }
    }

    fn opened(&self, conn: &mut Conn<'_>, place: &mut Place, _: &Opening<'_>) {
        // Before anybody can publish.
        self.realtime.deliver_by(conn.engine());
        let Place::Coming(_) = place else { return };
        // Nobody is at the echo, should something be wrong below.
        let Place::Coming(coming) = std::mem::replace(place, Place::Echo(None)) else { return };
        let Coming { who, name } = *coming;
        match name {
            None => *place = Place::Session(Session::open(&self.realtime, conn, who)),
            Some(name) => match self.enter(conn, who, name) {
                Ok(raw) => *place = Place::Raw(Box::new(raw)),
                Err(fault) => close(conn, &fault),
            },
        }
    }

    fn message(&self, conn: &mut Conn<'_>, place: &mut Place, message: MessageRef<'_>) {
        match place {
            Place::Raw(raw) => self.hear(conn, raw, message.into_message()),
            Place::Session(session) => Session::hear(session, conn, message),
            Place::Echo(Some(seat)) => match seat.message(message.len(), Instant::now()) {
                // There is room for one answer, or it is closing.
                Ok(()) => drop(conn.send(message)),
                Err(limited) => close(conn, &limited.into()),
            },
            Place::Echo(None) => {}
            Place::Coming(_) => {}
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        (self.accept_failed)(error);
    }
}

impl Clients {
    /// Takes its seat on the channel.
    fn enter(&self, conn: &mut Conn<'_>, who: Who, name: ChannelName) -> Result<Raw, Fault> {
        let realtime = &self.realtime;
        let topic = Kind::Raw.topic(&name);
        let (subscription, ()) = realtime.0.hub.subscribe(&name, who.user(), None, realtime.now(), |_| ())?;
        conn.subscribe(&topic);
        let expiry = Expiry::of(&who, &conn.handle());
        Ok(Raw { name, who, _subscription: subscription, _expiry: expiry, waiting: Rc::default() })
    }

    /// It has said something.
    fn hear(&self, conn: &mut Conn<'_>, raw: &mut Raw, message: Message) {
        let said = match self.realtime.may_publish(&raw.who.identity, &raw.name) {
            Ok(true) => {
                let id = Some(conn.id());
                self.realtime.publish_for(&mut raw.who, &raw.name, message, None, id).map(drop)
            }
            Ok(false) => self.ask_first(conn, raw, message),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = said {
            close(conn, &fault);
        }
    }

    /// Publishes it when the webhook has said yes, behind what waits already.
    fn ask_first(&self, conn: &mut Conn<'_>, raw: &mut Raw, message: Message) -> Result<(), Fault> {
        self.realtime.allow(&mut raw.who, &raw.name, message.len())?;
        let mut waiting = raw.waiting.borrow_mut();
        let bytes: usize = waiting.iter().map(Message::len).sum();
        if waiting.len() >= WAITING_MAX || (!waiting.is_empty() && bytes + message.len() > WAITING_BYTES) {
            return Err(Fault::new(Code::RateLimited, "more is said than can be asked about"));
        }
        waiting.push_back(message);
        if waiting.len() > 1 {
            return Ok(());
        }
        let (realtime, name, waiting) = (self.realtime.clone(), raw.name.clone(), Rc::clone(&raw.waiting));
        let (identity, user, peer) = (raw.who.identity.clone(), raw.who.user(), conn.handle());
        spawn_local(async move {
            // The first stays where it is until it is judged: so nobody else begins.
            loop {
                let Some(message) = waiting.borrow().front().cloned() else { return };
                let asked =
                    realtime.0.access.publish(&identity, &name, message.as_bytes(), SystemTime::now());
                let published = match asked.await {
                    Ok(()) => realtime
                        .hand_on(&name, message, user.clone(), None, Some(peer.id()))
                        .map(drop)
                        .map_err(Fault::from),
                    Err(refusal) => Err(refusal.into()),
                };
                if let Err(fault) = published {
                    let (code, reason) = ending(&fault);
                    let _ = peer.close(code, reason);
                    return;
                }
                waiting.borrow_mut().pop_front();
            }
        });
        Ok(())
    }
}

/// With what a raw connection is closed, which can be told nothing else.
fn ending(fault: &Fault) -> (CloseCode, &str) {
    let code = match fault.code {
        Code::TooLarge => CloseCode::TOO_BIG,
        Code::Unavailable => CloseCode::TRY_AGAIN,
        Code::Unauthorized => CloseCode::from(EXPIRED),
        _ => CloseCode::POLICY,
    };
    // A reason has at most 123 bytes (RFC 6455 5.5).
    let mut end = fault.message.len().min(123);
    while !fault.message.is_char_boundary(end) {
        end -= 1;
    }
    (code, &fault.message[..end])
}

fn close(conn: &mut Conn<'_>, fault: &Fault) {
    let (code, reason) = ending(fault);
    // It is closing already.
    let _ = conn.close(code, reason);
}

/// Closes a connection when the identity of its client expires, unless it is dropped before.
#[derive(Debug)]
pub(super) struct Expiry(AbortHandle);

impl Expiry {
    pub(super) fn of(who: &Who, peer: &ConnHandle) -> Option<Self> {
        let left = who.identity.expires()?.duration_since(SystemTime::now()).unwrap_or_default();
        let peer = peer.clone();
        let task = spawn_local(async move {
            tokio::time::sleep(left).await;
            let _ = peer.close(EXPIRED, "the token has expired");
        });
        Some(Self(task.abort_handle()))
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.0.abort();
    }
}
