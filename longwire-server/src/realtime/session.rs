//! A session: one connection with the subprotocol `longwire.v1`, many channels (docs/protocol.md).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use longwire::engine::{Conn, ConnHandle, MessageRef};
use longwire::{CloseCode, SendError};
use tokio::task::spawn_local;

use super::clients::Expiry;
use super::told::{self, Answer, Told};
use super::wire::{self, Code, Fault, Publication, Request};
use super::{Kind, Realtime, Who, channel, position};
use crate::access::Identity;
use crate::hub::{ChannelName, Position, Recovery, Subscription};

/// Channels that a connection may be subscribed to.
pub(super) const SUBSCRIPTIONS_MAX: usize = 1000;

/// Requests of a connection that wait for somebody who has to be asked.
const WAITING_MAX: usize = 16;

/// What a session has.
#[derive(Debug)]
pub struct Session {
    realtime: Realtime,
    peer: ConnHandle,
    who: Who,
    subscriptions: HashMap<ChannelName, Subscription>,
    /// Requests that wait for somebody who has to be asked.
    waiting: usize,
    expiry: Option<Expiry>,
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

impl Session {
    /// Welcomes a client.
    pub(super) fn open(realtime: &Realtime, conn: &mut Conn<'_>, who: Who) -> Rc<RefCell<Self>> {
        let welcome = Told::Welcome {
            connection: conn.id().to_string(),
            user: who.identity.user().map(|user| &**user),
            expires: who.identity.expires().and_then(seconds),
        };
        let _ = conn.send(welcome.text());
        let expiry = Expiry::of(&who, &conn.handle());
        let (realtime, peer) = (realtime.clone(), conn.handle());
        Rc::new(RefCell::new(Self { realtime, peer, who, subscriptions: HashMap::new(), waiting: 0, expiry }))
    }

    /// A request has come.
    pub(super) fn hear(session: &Rc<RefCell<Self>>, conn: &mut Conn<'_>, message: MessageRef<'_>) {
        let Some(text) = message.as_text() else {
            let _ = conn.close(CloseCode::UNSUPPORTED, "a session speaks JSON, as text");
            return;
        };
        let (id, request) = wire::request(text);
        let answered = match request {
            // What a publication costs is told when it is published.
            Ok(Request::Publish(publication)) => Self::publish(session, id, publication),
            Ok(request) => {
                let limited = session.borrow_mut().who.seat.message(text.len(), Instant::now());
                limited.map_err(Fault::from).and_then(|()| Self::act(session, id, request))
            }
            // That it is none costs as much.
            Err(fault) => {
                let limited = session.borrow_mut().who.seat.message(text.len(), Instant::now());
                Err(limited.err().map_or(fault, Fault::from))
            }
        };
        let text = match (answered, id) {
            (Ok(None), _) => return,
            (Ok(Some(answer)), Some(id)) => Told::Ok { id, answer: &answer }.text(),
            (Ok(Some(_)), None) => return,
            (Err(fault), id) => Told::Error { id, channel: None, fault: &fault }.text(),
        };
        say(conn, text);
    }

    /// Does what is asked for; without an answer where that comes later, or behind what others have published.
    fn act(
        session: &Rc<RefCell<Self>>,
        id: Option<u64>,
        request: Request,
    ) -> Result<Option<Answer<'static>>, Fault> {
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
                Self::when_heard(session, id, name, move |this, name| {
                    let (realtime, name) = (this.realtime.clone(), name.clone());
                    // A page is made when it can be sent, so that none waits.
                    let _ = this.peer.run(move |conn| {
                        if !conn.is_open() {
                            return;
                        }
                        let text = match realtime.0.hub.history(&name, after, limit, realtime.now()) {
                            Ok(page) => Told::Ok { id, answer: &Answer::History((&page).into()) }.text(),
                            Err(refused) => {
                                Told::Error { id: Some(id), channel: None, fault: &refused.into() }.text()
                            }
                        };
                        say(conn, text);
                    });
                })
            }
            Request::Presence { channel: name } => {
                Self::when_heard(session, id, channel(&name)?, move |this, name| {
                    this.realtime
                        .presence(name, |answer| tell(&this.peer, Told::Ok { id, answer: &answer }.text()));
                })
            }
            Request::Token { token } => Self::renew(session, id, token).map(|()| None),
            Request::Ping => Ok(Some(Answer::Done {})),
            Request::Publish(_) => Ok(None),
        }
    }

    fn publish(
        session: &Rc<RefCell<Self>>,
        id: Option<u64>,
        publication: Publication,
    ) -> Result<Option<Answer<'static>>, Fault> {
        let Publication { channel: name, message, key } = publication;
        let name = channel(&name)?;
        let this = &mut *session.borrow_mut();
        if this.realtime.may_publish(&this.who.identity, &name)? {
            return this.realtime.publish_for(&mut this.who, &name, message, key.as_deref(), None).map(
                |receipt| {
                    let position = receipt.position.to_string();
                    Some(Answer::Published { position, duplicate: receipt.duplicate })
                },
            );
        }
        // Before anybody is asked: a question costs as much.
        this.realtime.allow(&mut this.who, &name, message.len())?;
        let (identity, realtime) = (this.who.identity.clone(), this.realtime.clone());
        let user = this.who.user();
        this.later(session, id.unwrap_or_default(), async move |_: &RefCell<Self>| {
            let asked = realtime.0.access.publish(&identity, &name, message.as_bytes(), SystemTime::now());
            asked.await?;
            let receipt = realtime.hand_on(&name, message, user, key.as_deref(), None)?;
            let position = receipt.position.to_string();
            Ok(Some(Answer::Published { position, duplicate: receipt.duplicate }))
        })?;
        Ok(None)
    }

    fn subscribe(
        session: &Rc<RefCell<Self>>,
        id: u64,
        name: ChannelName,
        after: Option<Position>,
        presence: bool,
    ) -> Result<(), Fault> {
        let this = &mut *session.borrow_mut();
        if this.realtime.may_subscribe(&this.who.identity, &name)? {
            return this.seat(id, name, after, presence);
        }
        let (identity, realtime) = (this.who.identity.clone(), this.realtime.clone());
        this.later(session, id, async move |session: &RefCell<Self>| {
            realtime.0.access.subscribe(&identity, &name, SystemTime::now()).await?;
            session.borrow_mut().seat(id, name, after, presence).map(|()| None)
        })
    }

    /// Subscribes. What was missed is told, and the topic joined, by a command to the loop: it is enqueued under the lock
    /// of the channel, as all that is published is, and so comes behind what is before it and before what is behind.
    fn seat(
        &mut self,
        id: u64,
        name: ChannelName,
        after: Option<Position>,
        presence: bool,
    ) -> Result<(), Fault> {
        if self.subscriptions.contains_key(&name) {
            return Err(Fault::new(Code::AlreadySubscribed, format!("{name} is subscribed to already")));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let text = format!("a connection has at most {SUBSCRIPTIONS_MAX} channels");
            return Err(Fault::new(Code::TooMany, text));
        }
        let (realtime, peer) = (&self.realtime, &self.peer);
        let (hub, user, now) = (&realtime.0.hub, self.who.user(), realtime.now());
        let seated = hub.subscribe_and_see(&name, user, after, now, |subscribed, present| {
            let (name, present) = (name.clone(), if presence { present() } else { None });
            peer.run(move |conn| {
                let (recovered, missed) = match subscribed.recovery {
                    Recovery::New => (None, Vec::new()),
                    Recovery::Whole(missed) => (Some(true), missed),
                    Recovery::Lost => (Some(false), Vec::new()),
                };
                let presence_topic = presence.then(|| Kind::Presence.topic(&name));
                let presence = present.as_ref().map(Into::into);
                let answer =
                    Answer::Subscribed { position: subscribed.position.to_string(), recovered, presence };
                let mut sent = conn.send(Told::Ok { id, answer: &answer }.text());
                for published in &missed {
                    sent = sent.and_then(|()| conn.send(told::message(&name, published)));
                }
                if sent.is_err() {
                    // That the channel goes on would hide what is missing.
                    let _ = conn.close(CloseCode::TRY_AGAIN, "more was missed than is read");
                    return;
                }
                conn.subscribe(&Kind::Session.topic(&name));
                if let Some(topic) = presence_topic {
                    conn.subscribe(&topic);
                }
            })
        });
        let (subscription, told) = seated?;
        told.map_err(|_| Fault::new(Code::Unavailable, "the server comes to its end"))?;
        self.subscriptions.insert(name, subscription);
        Ok(())
    }

    fn unsubscribe(&mut self, id: u64, name: &ChannelName) -> Result<(), Fault> {
        if self.subscriptions.remove(name).is_none() {
            return Err(Fault::new(Code::NotSubscribed, format!("{name} is not subscribed to")));
        }
        let name = name.clone();
        // Behind the command that has subscribed.
        let told = self.peer.run(move |conn| {
            conn.unsubscribe(&Kind::Session.topic(&name));
            conn.unsubscribe(&Kind::Presence.topic(&name));
            let _ = conn.send(Told::Ok { id, answer: &Answer::Done {} }.text());
        });
        told.map_err(|_| Fault::new(Code::Unavailable, "the server comes to its end"))
    }

    /// Does what is allowed to whoever may hear the channel, and answers with it.
    fn when_heard(
        session: &Rc<RefCell<Self>>,
        id: u64,
        name: ChannelName,
        act: impl FnOnce(&Self, &ChannelName) + 'static,
    ) -> Result<Option<Answer<'static>>, Fault> {
        let this = &mut *session.borrow_mut();
        if this.subscriptions.contains_key(&name) || this.realtime.may_subscribe(&this.who.identity, &name)? {
            act(this, &name);
            return Ok(None);
        }
        let (identity, realtime) = (this.who.identity.clone(), this.realtime.clone());
        this.later(session, id, async move |session: &RefCell<Self>| {
            realtime.0.access.subscribe(&identity, &name, SystemTime::now()).await?;
            act(&session.borrow(), &name);
            Ok(None)
        })?;
        Ok(None)
    }

    fn renew(session: &Rc<RefCell<Self>>, id: u64, token: String) -> Result<(), Fault> {
        let this = &mut *session.borrow_mut();
        let (identity, realtime) = (this.who.identity.clone(), this.realtime.clone());
        this.later(session, id, async move |session: &RefCell<Self>| {
            let renewed = realtime.0.access.renew(&identity, &token, SystemTime::now()).await?;
            let expires = renewed.expires().and_then(seconds);
            session.borrow_mut().is_now(renewed);
            Ok(Some(Answer::Token { expires }))
        })
    }

    /// The client has shown another token. Subscriptions that it no longer allows end.
    fn is_now(&mut self, identity: Identity) {
        let before = std::mem::replace(&mut self.who.identity, identity);
        self.expiry = Expiry::of(&self.who, &self.peer);
        let (asks, _) = self.realtime.0.access.asks();
        let identity = &self.who.identity;
        // What the webhook has allowed it may still allow.
        let lost: Vec<_> = self
            .subscriptions
            .extract_if(|name, _| !identity.may_subscribe(name) && (!asks || before.may_subscribe(name)))
            .map(|(name, _)| name)
            .collect();
        for name in lost {
            let fault = Fault::new(Code::Forbidden, "the token has no right any more");
            let _ = self.peer.run(move |conn| {
                conn.unsubscribe(&Kind::Session.topic(&name));
                conn.unsubscribe(&Kind::Presence.topic(&name));
                let _ = conn.send(Told::Unsubscribed { channel: &name, fault: &fault }.text());
            });
        }
    }

    /// Answers when somebody who has to be asked has said his word.
    fn later<F>(&mut self, session: &Rc<RefCell<Self>>, id: u64, act: F) -> Result<(), Fault>
    where
        F: AsyncFnOnce(&RefCell<Self>) -> Result<Option<Answer<'static>>, Fault> + 'static,
    {
        if self.waiting >= WAITING_MAX {
            let text = format!("{WAITING_MAX} requests wait already: await their answers");
            return Err(Fault::new(Code::RateLimited, text));
        }
        self.waiting += 1;
        let (session, peer) = (Rc::downgrade(session), self.peer.clone());
        spawn_local(async move {
            // The connection may have ended before it began.
            let Some(session) = session.upgrade() else { return };
            let text = match act(&session).await {
                Ok(Some(answer)) => Some(Told::Ok { id, answer: &answer }.text()),
                Ok(None) => None,
                Err(fault) => Some(Told::Error { id: Some(id), channel: None, fault: &fault }.text()),
            };
            session.borrow_mut().waiting -= 1;
            if let Some(text) = text {
                tell(&peer, text);
            }
        });
        Ok(())
    }
}

/// Says an answer. Who does not read them is not kept waiting for one that never comes.
fn say(conn: &mut Conn<'_>, text: String) {
    if let Err(SendError::Full) = conn.send(text) {
        let _ = conn.close(CloseCode::TRY_AGAIN, "answers are not read");
    }
}

/// Says it behind the commands that were given before.
fn tell(peer: &ConnHandle, text: String) {
    // The connection has ended, or the server has.
    let _ = peer.run(move |conn| say(conn, text));
}
