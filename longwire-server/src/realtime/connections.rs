//! The callbacks of the engine. The path and the subprotocol of a connection select a channel, a session or
//! the echo.

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

use super::requests::{ErrorCode, RequestError};
use super::session::Session;
use super::{Client, ROOT, Realtime, SUBPROTOCOL, Topic, channel};
use crate::access::EXPIRED;
use crate::hub::{ChannelName, Subscription};
use crate::limits::Permit;
use crate::pattern::name_of_path;

/// The path that returns every message to its sender.
const ECHO: &str = "/-/echo";

/// The path of sessions; every channel path accepts sessions as well.
const SESSION: &str = "/-/session";

/// Maximum number and total size of a raw connection's messages that wait for the webhook.
const PENDING_MAX: usize = 64;
const PENDING_BYTES: usize = 4 << 20;

/// Handles an error of the listening socket.
type AcceptFailed = dyn Fn(&io::Error) + Send + Sync;

/// The engine callbacks for the channels of a [`Realtime`].
pub struct ConnectionHandler {
    realtime: Realtime,
    accept_failed: Box<AcceptFailed>,
}

/// The state of a connection.
#[derive(Debug)]
pub enum Connection {
    #[doc(hidden)]
    Admitted(Box<Admitted>),
    #[doc(hidden)]
    Raw(Box<Raw>),
    #[doc(hidden)]
    Session(Rc<RefCell<Session>>),
    /// An echo connection.
    #[doc(hidden)]
    Echo(Option<Box<Permit>>),
}

/// An admitted client whose connection is not open yet.
#[derive(Debug)]
pub struct Admitted {
    client: Client,
    /// The channel at the path; `None` for a session.
    name: Option<ChannelName>,
}

/// A raw connection: messages without an envelope, on one channel.
#[derive(Debug)]
pub struct Raw {
    name: ChannelName,
    client: Client,
    /// Dropping it unsubscribes.
    _subscription: Subscription,
    _expiry: Option<Expiry>,
    /// Messages that wait for the webhook, in order. A task processes them while there are any.
    pending: Rc<RefCell<VecDeque<Message>>>,
}

/// Carries the admitted client from [`ConnectionHandler::authorise`] to the callbacks; it is taken once.
#[derive(Clone)]
struct AdmittedSlot(Arc<Mutex<Option<Admitted>>>);

/// Carries the permit of an echo connection in the same way.
#[derive(Clone)]
struct EchoSlot(Arc<Mutex<Option<Box<Permit>>>>);

impl std::fmt::Debug for ConnectionHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConnectionHandler").field(&self.realtime).finish()
    }
}

impl ConnectionHandler {
    /// Creates the callbacks. `accept_failed` receives the errors of the listening socket.
    pub fn new(realtime: Realtime, accept_failed: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        Self { realtime, accept_failed: Box::new(accept_failed) }
    }

    /// Authorises a request. Pass it to [`Engine::on_request`](longwire::engine::Engine::on_request).
    ///
    /// # Errors
    ///
    /// Returns the response for a rejected request.
    pub async fn authorise(
        realtime: Realtime,
        request: Request<()>,
        from: SocketAddr,
    ) -> Result<Extensions, Refusal> {
        let mut extensions = Extensions::new();
        if request.uri().path() == ECHO {
            let permit = realtime.0.limits.connect(from.ip(), Instant::now())?;
            extensions.insert(EchoSlot(Arc::new(Mutex::new(Some(Box::new(permit))))));
            return Ok(extensions);
        }
        let name = requested_channel(&request)?;
        let client = realtime.admit(&request, from.ip()).await?;
        if let Some(name) = &name
            && !realtime.may_subscribe(&client.identity, name).is_ok_and(|may| may)
        {
            realtime.0.access.subscribe(&client.identity, name, SystemTime::now()).await?;
        }
        extensions.insert(AdmittedSlot(Arc::new(Mutex::new(Some(Admitted { client, name })))));
        Ok(extensions)
    }
}

/// Returns the channel that a request is for, or `None` for a session.
fn requested_channel(request: &Request<()>) -> Result<Option<ChannelName>, Refusal> {
    let path = request.uri().path();
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if offered.map(str::trim).any(|name| name == SUBPROTOCOL) {
        return Ok(None);
    }
    if path.starts_with("/-/") {
        let text = match path {
            SESSION => format!("a session requires the subprotocol {SUBPROTOCOL}\n"),
            _ => format!("no WebSocket endpoint at {path}\n"),
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
        Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{}\n", error.message))),
    }
}

impl Handler for ConnectionHandler {
    type State = Connection;

    fn on_request(
        &self,
        request: &Request<()>,
        _: SocketAddr,
        _: &mut HeaderMap,
    ) -> Result<Connection, Refusal> {
        if let Some(EchoSlot(permit)) = request.extensions().get() {
            return Ok(Connection::Echo(permit.lock().unwrap_or_else(PoisonError::into_inner).take()));
        }
        let admitted = request.extensions().get::<AdmittedSlot>();
        let admitted =
            admitted.and_then(|admitted| admitted.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        match admitted {
            Some(admitted) => Ok(Connection::Admitted(Box::new(admitted))),
            None => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request was not authorised\n")),
        }
    }

    fn opened(&self, conn: &mut Conn<'_>, connection: &mut Connection, _: &Opening<'_>) {
        // Set before anyone can publish.
        self.realtime.set_engine(conn.engine());
        let Connection::Admitted(_) = connection else { return };
        // An echo without a permit ignores messages; it stays if the following fails.
        let Connection::Admitted(admitted) = std::mem::replace(connection, Connection::Echo(None)) else {
            return;
        };
        let Admitted { client, name } = *admitted;
        match name {
            None => *connection = Connection::Session(Session::open(&self.realtime, conn, client)),
            Some(name) => match self.subscribe(conn, client, name) {
                Ok(raw) => *connection = Connection::Raw(Box::new(raw)),
                Err(error) => close(conn, &error),
            },
        }
    }

    fn message(&self, conn: &mut Conn<'_>, connection: &mut Connection, message: MessageRef<'_>) {
        match connection {
            Connection::Raw(raw) => self.on_message(conn, raw, message.into_message()),
            Connection::Session(session) => Session::on_message(session, conn, message),
            Connection::Echo(Some(permit)) => match permit.message(message.len(), Instant::now()) {
                // There is room for one answer, or the connection is closing.
                Ok(()) => drop(conn.send(message)),
                Err(limited) => close(conn, &limited.into()),
            },
            Connection::Echo(None) => {}
            Connection::Admitted(_) => {}
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        (self.accept_failed)(error);
    }
}

impl ConnectionHandler {
    /// Subscribes the connection to its channel.
    fn subscribe(&self, conn: &mut Conn<'_>, client: Client, name: ChannelName) -> Result<Raw, RequestError> {
        let realtime = &self.realtime;
        let topic = Topic::Raw.name_for(&name);
        let (subscription, ()) =
            realtime.0.hub.subscribe(&name, client.user(), None, realtime.now(), |_| ())?;
        conn.subscribe(&topic);
        let expiry = Expiry::of(&client, &conn.handle());
        Ok(Raw { name, client, _subscription: subscription, _expiry: expiry, pending: Rc::default() })
    }

    /// Publishes a received message.
    fn on_message(&self, conn: &mut Conn<'_>, raw: &mut Raw, message: Message) {
        let result = match self.realtime.may_publish(&raw.client.identity, &raw.name) {
            Ok(true) => {
                let id = Some(conn.id());
                self.realtime.publish_for(&mut raw.client, &raw.name, message, None, id).map(drop)
            }
            Ok(false) => self.publish_after_webhook(conn, raw, message),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            close(conn, &error);
        }
    }

    /// Publishes a message after the webhook has allowed it, and after the messages that wait already.
    fn publish_after_webhook(
        &self,
        conn: &mut Conn<'_>,
        raw: &mut Raw,
        message: Message,
    ) -> Result<(), RequestError> {
        self.realtime.check_limits(&mut raw.client, &raw.name, message.len())?;
        let mut pending = raw.pending.borrow_mut();
        let bytes: usize = pending.iter().map(Message::len).sum();
        if pending.len() >= PENDING_MAX || (!pending.is_empty() && bytes + message.len() > PENDING_BYTES) {
            return Err(RequestError::new(ErrorCode::RateLimited, "too many messages wait for the webhook"));
        }
        pending.push_back(message);
        if pending.len() > 1 {
            return Ok(());
        }
        let (realtime, name, pending) = (self.realtime.clone(), raw.name.clone(), Rc::clone(&raw.pending));
        let (identity, user, peer) = (raw.client.identity.clone(), raw.client.user(), conn.handle());
        spawn_local(async move {
            // The first message stays in the queue while it is processed, so that no second task starts.
            loop {
                let Some(message) = pending.borrow().front().cloned() else { return };
                let decision =
                    realtime.0.access.publish(&identity, &name, message.as_bytes(), SystemTime::now());
                let published = match decision.await {
                    Ok(()) => realtime
                        .publish_unchecked(&name, message, user.clone(), None, Some(peer.id()))
                        .map(drop)
                        .map_err(RequestError::from),
                    Err(refusal) => Err(refusal.into()),
                };
                if let Err(error) = published {
                    let (code, reason) = close_frame_for(&error);
                    let _ = peer.close(code, reason);
                    return;
                }
                pending.borrow_mut().pop_front();
            }
        });
        Ok(())
    }
}

/// Returns the Close frame for an error, because a raw connection cannot receive an error message.
fn close_frame_for(error: &RequestError) -> (CloseCode, &str) {
    let code = match error.code {
        ErrorCode::TooLarge => CloseCode::TOO_BIG,
        ErrorCode::Unavailable => CloseCode::TRY_AGAIN,
        ErrorCode::Unauthorized => CloseCode::from(EXPIRED),
        _ => CloseCode::POLICY,
    };
    // A reason has at most 123 bytes (RFC 6455 5.5).
    let mut end = error.message.len().min(123);
    while !error.message.is_char_boundary(end) {
        end -= 1;
    }
    (code, &error.message[..end])
}

fn close(conn: &mut Conn<'_>, error: &RequestError) {
    let (code, reason) = close_frame_for(error);
    // An error means that it is closing already.
    let _ = conn.close(code, reason);
}

/// Closes a connection when its identity expires, unless dropped before.
#[derive(Debug)]
pub(super) struct Expiry(AbortHandle);

impl Expiry {
    pub(super) fn of(client: &Client, peer: &ConnHandle) -> Option<Self> {
        let left = client.identity.expires()?.duration_since(SystemTime::now()).unwrap_or_default();
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
