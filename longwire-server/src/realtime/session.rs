//! Sessions: a connection with the subprotocol `longwire.v1` and many channels (docs/protocol.md).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use longwire::engine::{Conn, ConnHandle, MessageRef};
use longwire::{CloseCode, SendError};
use tokio::task::spawn_local;

use super::connections::Expiry;
use super::requests::{self, ErrorCode, Publication, Request, RequestError};
use super::server_events::{self, Reply, ServerEvent};
use super::{Client, Realtime, Topic, channel, position};
use crate::access::Identity;
use crate::hub::{ChannelName, Position, Recovery, Subscription};

/// Maximum number of subscriptions of a connection.
pub(super) const SUBSCRIPTIONS_MAX: usize = 1000;

/// Maximum number of a connection's requests that wait for the webhook.
const PENDING_MAX: usize = 16;

/// The state of a session.
#[derive(Debug)]
pub struct Session {
    realtime: Realtime,
    peer: ConnHandle,
    client: Client,
    subscriptions: HashMap<ChannelName, Subscription>,
    /// Number of requests that wait for the webhook.
    pending: usize,
    expiry: Option<Expiry>,
}

/// Returns the seconds since 1970.
fn seconds(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

impl Session {
    /// Sends the welcome event.
    pub(super) fn open(realtime: &Realtime, conn: &mut Conn<'_>, client: Client) -> Rc<RefCell<Self>> {
        let welcome = ServerEvent::Welcome {
            connection: conn.id().to_string(),
            user: client.identity.user().map(|user| &**user),
            expires: client.identity.expires().and_then(seconds),
        };
        let _ = conn.send(welcome.to_json());
        let expiry = Expiry::of(&client, &conn.handle());
        let (realtime, peer) = (realtime.clone(), conn.handle());
        Rc::new(RefCell::new(Self {
            realtime,
            peer,
            client,
            subscriptions: HashMap::new(),
            pending: 0,
            expiry,
        }))
    }

    /// Handles a request.
    pub(super) fn on_message(session: &Rc<RefCell<Self>>, conn: &mut Conn<'_>, message: MessageRef<'_>) {
        let Some(text) = message.as_text() else {
            let _ = conn.close(CloseCode::UNSUPPORTED, "a session accepts JSON text only");
            return;
        };
        let (id, request) = requests::parse_request(text);
        let answered = match request {
            // A publication is counted when it is published.
            Ok(Request::Publish(publication)) => Self::publish(session, id, publication),
            Ok(request) => {
                let limited = session.borrow_mut().client.permit.message(text.len(), Instant::now());
                limited.map_err(RequestError::from).and_then(|()| Self::handle(session, id, request))
            }
            // Invalid requests count as well.
            Err(error) => {
                let limited = session.borrow_mut().client.permit.message(text.len(), Instant::now());
                Err(limited.err().map_or(error, RequestError::from))
            }
        };
        let text = match (answered, id) {
            (Ok(None), _) => return,
            (Ok(Some(reply)), Some(id)) => ServerEvent::Ok { id, reply: &reply }.to_json(),
            (Ok(Some(_)), None) => return,
            (Err(error), id) => ServerEvent::Error { id, channel: None, error: &error }.to_json(),
        };
        send_reply(conn, text);
    }

    /// Handles a request. Returns no reply if it comes later, or after messages in the queue.
    fn handle(
        session: &Rc<RefCell<Self>>,
        id: Option<u64>,
        request: Request,
    ) -> Result<Option<Reply<'static>>, RequestError> {
        let id = id.unwrap_or_default();
        match request {
            Request::Subscribe { channel: name, after, presence } => {
                let name = channel(&name)?;
                let after = after.as_deref().map(position).transpose()?;
                Self::subscribe(session, id, name, after, presence).map(|()| None)
            }
            Request::Unsubscribe { channel: name } => {
                session.borrow_mut().unsubscribe(id, &channel(&name)?).map(|()| None)
            }
            Request::History { channel: name, after, limit } => {
                let name = channel(&name)?;
                let after = after.as_deref().map(position).transpose()?;
                Self::with_subscribe_right(session, id, name, move |this, name| {
                    let (realtime, name) = (this.realtime.clone(), name.clone());
                    // The page is built when it can be sent, so that no pages are queued.
                    let _ = this.peer.run(move |conn| {
                        if !conn.is_open() {
                            return;
                        }
                        let text = match realtime.0.hub.history(&name, after, limit, realtime.now()) {
                            Ok(page) => {
                                ServerEvent::Ok { id, reply: &Reply::History((&page).into()) }.to_json()
                            }
                            Err(refused) => {
                                ServerEvent::Error { id: Some(id), channel: None, error: &refused.into() }
                                    .to_json()
                            }
                        };
                        send_reply(conn, text);
                    });
                })
            }
            Request::Presence { channel: name } => {
                Self::with_subscribe_right(session, id, channel(&name)?, move |this, name| {
                    this.realtime.presence(name, |reply| {
                        queue_reply(&this.peer, ServerEvent::Ok { id, reply: &reply }.to_json())
                    });
                })
            }
            Request::Token { token } => Self::renew(session, id, token).map(|()| None),
            Request::Ping => Ok(Some(Reply::Done {})),
            Request::Publish(_) => Ok(None),
        }
    }

    fn publish(
        session: &Rc<RefCell<Self>>,
        id: Option<u64>,
        publication: Publication,
    ) -> Result<Option<Reply<'static>>, RequestError> {
        let Publication { channel: name, message, key } = publication;
        let name = channel(&name)?;
        let this = &mut *session.borrow_mut();
        if this.realtime.may_publish(&this.client.identity, &name)? {
            return this.realtime.publish_for(&mut this.client, &name, message, key.as_deref(), None).map(
                |receipt| {
                    let position = receipt.position.to_string();
                    Some(Reply::Published { position, duplicate: receipt.duplicate })
                },
            );
        }
        // Before the webhook is asked, because a webhook request costs as much.
        this.realtime.check_limits(&mut this.client, &name, message.len())?;
        let (identity, realtime) = (this.client.identity.clone(), this.realtime.clone());
        let user = this.client.user();
        this.reply_later(session, id.unwrap_or_default(), async move |_: &RefCell<Self>| {
            let decision = realtime.0.access.publish(&identity, &name, message.as_bytes(), SystemTime::now());
            decision.await?;
            let receipt = realtime.publish_unchecked(&name, message, user, key.as_deref(), None)?;
            let position = receipt.position.to_string();
            Ok(Some(Reply::Published { position, duplicate: receipt.duplicate }))
        })?;
        Ok(None)
    }

    fn subscribe(
        session: &Rc<RefCell<Self>>,
        id: u64,
        name: ChannelName,
        after: Option<Position>,
        presence: bool,
    ) -> Result<(), RequestError> {
        let this = &mut *session.borrow_mut();
        if this.realtime.may_subscribe(&this.client.identity, &name)? {
            return this.start_subscription(id, name, after, presence);
        }
        let (identity, realtime) = (this.client.identity.clone(), this.realtime.clone());
        this.reply_later(session, id, async move |session: &RefCell<Self>| {
            realtime.0.access.subscribe(&identity, &name, SystemTime::now()).await?;
            session.borrow_mut().start_subscription(id, name, after, presence).map(|()| None)
        })
    }

    /// Subscribes. A command to the event loop sends the replay and joins the topic. It is enqueued under the
    /// lock of the channel, like every published message. It therefore comes after earlier messages and
    /// before later ones.
    fn start_subscription(
        &mut self,
        id: u64,
        name: ChannelName,
        after: Option<Position>,
        presence: bool,
    ) -> Result<(), RequestError> {
        if self.subscriptions.contains_key(&name) {
            return Err(RequestError::new(
                ErrorCode::AlreadySubscribed,
                format!("already subscribed to {name}"),
            ));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let text = format!("too many subscriptions; the maximum per connection is {SUBSCRIPTIONS_MAX}");
            return Err(RequestError::new(ErrorCode::TooMany, text));
        }
        let (realtime, peer) = (&self.realtime, &self.peer);
        let (hub, user, now) = (&realtime.0.hub, self.client.user(), realtime.now());
        let subscribed = hub.subscribe_with_presence(&name, user, after, now, |subscribed, present| {
            let (name, present) = (name.clone(), if presence { present() } else { None });
            peer.run(move |conn| {
                let (recovered, missed) = match subscribed.recovery {
                    Recovery::New => (None, Vec::new()),
                    Recovery::Complete(missed) => (Some(true), missed),
                    Recovery::Lost => (Some(false), Vec::new()),
                };
                let presence_topic = presence.then(|| Topic::Presence.name_for(&name));
                let presence = present.as_ref().map(Into::into);
                let reply =
                    Reply::Subscribed { position: subscribed.position.to_string(), recovered, presence };
                let mut sent = conn.send(ServerEvent::Ok { id, reply: &reply }.to_json());
                for published in &missed {
                    sent = sent.and_then(|()| conn.send(server_events::message(&name, published)));
                }
                if sent.is_err() {
                    // Continuing would hide the missing messages.
                    let _ =
                        conn.close(CloseCode::TRY_AGAIN, "the client reads the missed messages too slowly");
                    return;
                }
                conn.subscribe(&Topic::Session.name_for(&name));
                if let Some(topic) = presence_topic {
                    conn.subscribe(&topic);
                }
            })
        });
        let (subscription, queued) = subscribed?;
        queued.map_err(|_| RequestError::new(ErrorCode::Unavailable, "the server is shutting down"))?;
        self.subscriptions.insert(name, subscription);
        Ok(())
    }

    fn unsubscribe(&mut self, id: u64, name: &ChannelName) -> Result<(), RequestError> {
        if self.subscriptions.remove(name).is_none() {
            return Err(RequestError::new(ErrorCode::NotSubscribed, format!("not subscribed to {name}")));
        }
        let name = name.clone();
        // After the command that has subscribed.
        let queued = self.peer.run(move |conn| {
            conn.unsubscribe(&Topic::Session.name_for(&name));
            conn.unsubscribe(&Topic::Presence.name_for(&name));
            let _ = conn.send(ServerEvent::Ok { id, reply: &Reply::Done {} }.to_json());
        });
        queued.map_err(|_| RequestError::new(ErrorCode::Unavailable, "the server is shutting down"))
    }

    /// Runs `handle` if the client may subscribe to the channel.
    fn with_subscribe_right(
        session: &Rc<RefCell<Self>>,
        id: u64,
        name: ChannelName,
        handle: impl FnOnce(&Self, &ChannelName) + 'static,
    ) -> Result<Option<Reply<'static>>, RequestError> {
        let this = &mut *session.borrow_mut();
        if this.subscriptions.contains_key(&name)
            || this.realtime.may_subscribe(&this.client.identity, &name)?
        {
            handle(this, &name);
            return Ok(None);
        }
        let (identity, realtime) = (this.client.identity.clone(), this.realtime.clone());
        this.reply_later(session, id, async move |session: &RefCell<Self>| {
            realtime.0.access.subscribe(&identity, &name, SystemTime::now()).await?;
            handle(&session.borrow(), &name);
            Ok(None)
        })?;
        Ok(None)
    }

    fn renew(session: &Rc<RefCell<Self>>, id: u64, token: String) -> Result<(), RequestError> {
        let this = &mut *session.borrow_mut();
        let (identity, realtime) = (this.client.identity.clone(), this.realtime.clone());
        this.reply_later(session, id, async move |session: &RefCell<Self>| {
            let renewed = realtime.0.access.renew(&identity, &token, SystemTime::now()).await?;
            let expires = renewed.expires().and_then(seconds);
            session.borrow_mut().set_identity(renewed);
            Ok(Some(Reply::Token { expires }))
        })
    }

    /// Sets a renewed identity, and ends the subscriptions that it no longer allows.
    fn set_identity(&mut self, identity: Identity) {
        let before = std::mem::replace(&mut self.client.identity, identity);
        self.expiry = Expiry::of(&self.client, &self.peer);
        let (webhook_decides, _) = self.realtime.0.access.webhook_decides();
        let identity = &self.client.identity;
        // The webhook may still allow these.
        let lost: Vec<_> = self
            .subscriptions
            .extract_if(|name, _| {
                !identity.may_subscribe(name) && (!webhook_decides || before.may_subscribe(name))
            })
            .map(|(name, _)| name)
            .collect();
        for name in lost {
            let error =
                RequestError::new(ErrorCode::Forbidden, "the new token does not allow this subscription");
            let _ = self.peer.run(move |conn| {
                conn.unsubscribe(&Topic::Session.name_for(&name));
                conn.unsubscribe(&Topic::Presence.name_for(&name));
                let _ = conn.send(ServerEvent::Unsubscribed { channel: &name, error: &error }.to_json());
            });
        }
    }

    /// Replies after the webhook has decided.
    fn reply_later<F>(&mut self, session: &Rc<RefCell<Self>>, id: u64, handle: F) -> Result<(), RequestError>
    where
        F: AsyncFnOnce(&RefCell<Self>) -> Result<Option<Reply<'static>>, RequestError> + 'static,
    {
        if self.pending >= PENDING_MAX {
            let text = format!("{PENDING_MAX} requests are pending; wait for their replies");
            return Err(RequestError::new(ErrorCode::RateLimited, text));
        }
        self.pending += 1;
        let (session, peer) = (Rc::downgrade(session), self.peer.clone());
        spawn_local(async move {
            // The connection may have ended by now.
            let Some(session) = session.upgrade() else { return };
            let text = match handle(&session).await {
                Ok(Some(reply)) => Some(ServerEvent::Ok { id, reply: &reply }.to_json()),
                Ok(None) => None,
                Err(error) => {
                    Some(ServerEvent::Error { id: Some(id), channel: None, error: &error }.to_json())
                }
            };
            session.borrow_mut().pending -= 1;
            if let Some(text) = text {
                queue_reply(&peer, text);
            }
        });
        Ok(())
    }
}

/// Sends a reply. A client that does not read its replies is disconnected, so that it does not wait for a
/// lost one.
fn send_reply(conn: &mut Conn<'_>, text: String) {
    if let Err(SendError::Full) = conn.send(text) {
        let _ = conn.close(CloseCode::TRY_AGAIN, "the client does not read replies");
    }
}

/// Sends a reply after the commands in the queue.
fn queue_reply(peer: &ConnHandle, text: String) {
    // An error means that the connection or the server has ended.
    let _ = peer.run(move |conn| send_reply(conn, text));
}
