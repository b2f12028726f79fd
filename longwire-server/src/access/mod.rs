//! Who may do what: one type that says yes or no.
//!
//! Where there is no rule at all everybody may do everything. Else somebody is known by a token (JWT), by the key of a program,
//! or by a backend that is asked, and may do what that says; whoever shows nothing may do what the configuration grants.
//! What is shown and is wrong is refused, and never taken for nothing.

mod api_key;
mod credential;
mod fetch;
mod host;
mod identity;
mod jwks;
mod keys;
mod token;
mod webhook;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header;
use jsonwebtoken::Algorithm;
use longwire::Refusal;
use longwire::http::{HeaderValue, Request, StatusCode};

use crate::config;
use crate::pattern::name_of_path;
use api_key::ApiKeys;
use credential::{Credential, Places};
use fetch::Http;
use identity::{Known, Rights};
use jwks::Jwks;
use keys::Keys;
use token::{Checks, Unverified};
use webhook::{Question, Verdict, Webhook};

pub use api_key::generate as generate_key;
pub use host::host_allowed;
pub use identity::{Identity, Kind, USER_MAX};
pub use token::{TOKEN_MAX, TokenError};

/// The close code of a connection whose identity has expired: of the range that RFC 6455 7.4.2 leaves to applications,
/// after the 401 of HTTP. A client that connects again needs a new token.
pub const EXPIRED: u16 = 4401;

/// When to come again where nobody knows, in seconds.
const LATER: u16 = 5;

/// The rules of a server.
pub struct Access {
    /// Who everybody is, where there are none.
    open: Option<Identity>,
    places: Places,
    tokens: Option<(Source, Checks)>,
    keys: ApiKeys,
    webhook: Option<Webhook>,
    asks_connect: bool,
    asks_subscribe: bool,
    asks_publish: bool,
    anonymous: Rights,
}

/// Where the keys for tokens come from.
enum Source {
    File(Arc<Keys>),
    Url(Jwks),
}

impl Access {
    /// Reads the files that the configuration names. The URL of keys is asked when the first token comes, if
    /// [`fetch_keys`](Self::fetch_keys) was not called before.
    ///
    /// # Errors
    ///
    /// In words, if a file cannot be read or holds no key, if a URL is none, or the certificates of the system cannot be found.
    pub fn new(config: &config::Access) -> Result<Self, String> {
        let urls: Vec<&str> =
            [&config.token.jwks_url, &config.webhook.url].into_iter().flatten().map(String::as_str).collect();
        let http = if urls.is_empty() { None } else { Some(Http::new(&urls, config.ca.as_deref())?) };
        let uri = |url: &str| url.parse().map_err(|_| format!("{url} is no URL"));
        let source = match (&config.token.jwks_url, &http) {
            (Some(url), Some(http)) => {
                let (max_age, refresh) =
                    (config.token.jwks_max_age.duration(), config.token.jwks_refresh.duration());
                Some(Source::Url(Jwks::new(
                    http.clone(),
                    uri(url)?,
                    algorithm(&config.token)?,
                    max_age,
                    refresh,
                )))
            }
            _ => keys_at_hand(&config.token)?.map(|keys| Source::File(Arc::new(keys))),
        };
        let webhook = match (&config.webhook.url, http) {
            (Some(url), Some(http)) => Some(Webhook::new(http, uri(url)?, &config.webhook)),
            _ => None,
        };
        let asked = webhook.is_some();
        Ok(Self {
            open: (!config.has_rules()).then(|| Known::new(Kind::Open, Rights::all()).into()),
            places: Places { cookie: config.token.cookie.clone(), query: config.token.query },
            tokens: source.map(|source| (source, Checks::new(&config.token))),
            keys: ApiKeys::new(&config.key)?,
            webhook,
            asks_connect: asked && config.webhook.connect,
            asks_subscribe: asked && config.webhook.subscribe,
            asks_publish: asked && config.webhook.publish,
            anonymous: Rights {
                subscribe: config.anonymous.subscribe.clone(),
                publish: config.anonymous.publish.clone(),
            },
        })
    }

    /// Fetches the keys for tokens, if they come from a URL: so no client has to wait for them, and it shows at the start if
    /// they do not come. Cancel-safe.
    ///
    /// # Errors
    ///
    /// In words, why there are none. They will be fetched when a token comes.
    pub async fn fetch_keys(&self) -> Result<(), String> {
        match &self.tokens {
            Some((Source::Url(jwks), _)) => {
                jwks.keys(None).await.map(drop).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Who a request is of: the opening handshake of a WebSocket, or any other. `from` is the client's address, whatever
    /// proxies there are. Waits only where keys have to be fetched or the backend is asked, and for a bounded time. Cancel-safe.
    ///
    /// # Errors
    ///
    /// 401 if it has to show something, or what it shows is wrong; 403 if the backend says no; 429 if the backend says so;
    /// 503 if there are no keys or no answer.
    pub async fn connect(
        &self,
        request: &Request<()>,
        from: IpAddr,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        if let Some(everybody) = &self.open {
            return Ok(everybody.clone());
        }
        let mut known = match self.places.find(request) {
            Some(Credential::Key(key)) => {
                // A program needs nobody who vouches for it.
                let found = self.keys.find(key).cloned();
                return found.ok_or_else(|| unauthorized(Some("the key is not known")));
            }
            Some(Credential::Token(token)) if self.tokens.is_some() => self.token(token, now).await?,
            // What is of no use here may be to the backend, which is told.
            Some(Credential::Token(_)) if !self.asks_connect => {
                return Err(unauthorized(Some("tokens are not taken here")));
            }
            None if self.anonymous.is_empty() && !self.asks_connect => return Err(unauthorized(None)),
            _ => Known::new(Kind::Anonymous, self.anonymous.clone()),
        };
        if let Some(webhook) = &self.webhook {
            known.asked = Some(Arc::new(webhook.asked(request, from)));
            self.vouched(&mut known, now).await?;
        }
        Ok(known.into())
    }

    /// Lets the backend say who it is, and what they may. What it leaves out stays as it was; where nothing was, it is the
    /// channel that was asked for, and no other.
    async fn vouched(&self, known: &mut Known, now: SystemTime) -> Result<(), Refusal> {
        let (true, Some(webhook), Some(asked)) = (self.asks_connect, &self.webhook, &known.asked) else {
            return Ok(());
        };
        let channel = name_of_path(&asked.path).ok();
        let question = Question::new("connect", asked, known.user.as_deref(), channel.as_deref());
        let answer = match webhook.ask(question, now).await {
            Verdict::Yes(answer) => answer,
            Verdict::No(refusal) => return Err(refusal),
        };
        let mut rights = std::mem::take(&mut known.rights);
        if rights.is_empty() && known.kind == Kind::Anonymous {
            rights = channel.as_deref().map(Rights::of).unwrap_or_default();
        }
        known.rights = Rights {
            subscribe: answer.subscribe.unwrap_or(rights.subscribe),
            publish: answer.publish.unwrap_or(rights.publish),
        };
        if let Some(user) = answer.user {
            known.user = Some(user.into());
        }
        if known.kind == Kind::Anonymous {
            known.kind = Kind::Webhook;
        }
        // None is later than any.
        known.expires = [known.expires, answer.expires].into_iter().flatten().min();
        Ok(())
    }

    /// Takes a new token for somebody who is connected, before their own expires. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and 403 if it is a token of somebody else.
    pub async fn renew(
        &self,
        identity: &Identity,
        token: &str,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        let mut renewed = self.token(token, now).await?;
        renewed.asked.clone_from(&identity.known().asked);
        // Else a token would give back what the backend took from it.
        self.vouched(&mut renewed, now).await?;
        if renewed.user == identity.known().user {
            return Ok(renewed.into());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "the token is of another user: connect anew\n"))
    }

    async fn token(&self, token: &str, now: SystemTime) -> Result<Known, Refusal> {
        let Some((source, checks)) = &self.tokens else {
            return Err(unauthorized(Some("tokens are not taken here")));
        };
        let wrong = |error: TokenError| unauthorized(Some(error.text()));
        let token = Unverified::parse(token).map_err(wrong)?;
        let keys = match source {
            Source::File(keys) => keys.clone(),
            Source::Url(jwks) => match jwks.at_hand(token.key()) {
                Some(keys) => keys,
                None => jwks.keys(token.key()).await.map_err(|error| unavailable(format!("{error}\n")))?,
            },
        };
        checks.verify(&token, &keys, now).map_err(wrong)
    }

    /// Whether a channel may be heard. Asks the backend, where nothing else allows it. Cancel-safe.
    ///
    /// # Errors
    ///
    /// 403 if not, 429 or 503 as the backend has it.
    pub async fn subscribe(
        &self,
        identity: &Identity,
        channel: &str,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        if identity.may_subscribe(channel) {
            return Ok(());
        }
        let denied = format!("you may not hear {channel}\n");
        self.ask(self.asks_subscribe, "subscribe", identity, channel, None, now)
            .await
            .unwrap_or_else(|| Err(forbidden(denied)))
    }

    /// Whether this message may be published on a channel. Asks the backend, where nothing else allows it. What the channel says of
    /// [publishers](Identity::is_among) holds besides. Cancel-safe.
    ///
    /// # Errors
    ///
    /// 403 if not, 429 or 503 as the backend has it.
    pub async fn publish(
        &self,
        identity: &Identity,
        channel: &str,
        message: &[u8],
        now: SystemTime,
    ) -> Result<(), Refusal> {
        if identity.may_publish(channel) {
            return Ok(());
        }
        let denied = format!("you may not speak on {channel}\n");
        self.ask(self.asks_publish, "publish", identity, channel, Some(message), now)
            .await
            .unwrap_or_else(|| Err(forbidden(denied)))
    }

    /// Whether [`subscribe`](Self::subscribe), and whether [`publish`](Self::publish), may have to wait: else
    /// [`Identity::may_subscribe`] and [`Identity::may_publish`] say it all.
    pub fn asks(&self) -> (bool, bool) {
        (self.asks_subscribe, self.asks_publish)
    }

    /// `None` is that there is nobody to ask, or nothing to ask about.
    async fn ask(
        &self,
        asks: bool,
        event: &'static str,
        identity: &Identity,
        channel: &str,
        message: Option<&[u8]>,
        now: SystemTime,
    ) -> Option<Result<(), Refusal>> {
        let known = identity.known();
        let (Some(webhook), Some(asked)) = (&self.webhook, &known.asked) else { return None };
        if !asks || crate::pattern::check_name(channel).is_err() {
            return None;
        }
        let mut question = Question::new(event, asked, known.user.as_deref(), Some(channel));
        if let Some(message) = message {
            webhook.tell(&mut question, message);
        }
        Some(match webhook.ask(question, now).await {
            Verdict::Yes(_) => Ok(()),
            Verdict::No(refusal) => Err(refusal),
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("open", &self.open.is_some())
            .field("tokens", &self.tokens.is_some())
            .field("webhook", &self.webhook.is_some())
            .finish_non_exhaustive()
    }
}

/// Bytes of a file of keys.
const KEY_FILE_MAX: u64 = 256 * 1024;

/// The keys of a token that the configuration holds, or names the file of.
fn keys_at_hand(config: &config::Token) -> Result<Option<Keys>, String> {
    let algorithm = algorithm(config)?;
    let checked = |secret: &[u8]| config::check_secret(secret).map(|()| Keys::secret(secret, algorithm));
    if let Some(secret) = &config.secret {
        return checked(secret.reveal().as_bytes()).map(Some).map_err(str::to_owned);
    }
    if let Some(path) = &config.secret_file {
        let text = read(path)?;
        // Editors end a file with a line break, which nobody means.
        return checked(text.trim_end_matches(['\r', '\n']).as_bytes())
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display()));
    }
    let Some(path) = &config.key_file else { return Ok(None) };
    Keys::file(&read(path)?, algorithm).map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;

    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(KEY_FILE_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > KEY_FILE_MAX {
        return Err(format!("{} is larger than 256 KiB", path.display()));
    }
    Ok(text)
}

fn algorithm(config: &config::Token) -> Result<Option<Algorithm>, String> {
    let parse = |name: &String| name.parse().map_err(|_| format!("{name} is no algorithm that is known"));
    config.algorithm.as_ref().map(parse).transpose()
}

/// RFC 6750 3: without a reason where nothing was shown.
fn unauthorized(reason: Option<&'static str>) -> Refusal {
    let challenge = match reason {
        Some(reason) => {
            format!("Bearer realm=\"longwire\", error=\"invalid_token\", error_description=\"{reason}\"")
        }
        None => "Bearer realm=\"longwire\"".into(),
    };
    let text = reason.unwrap_or("show a token: Authorization: Bearer TOKEN");
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, format!("{text}\n"));
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => refusal.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => refusal,
    }
}

fn forbidden(text: String) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, text)
}

fn unavailable(text: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).header(header::RETRY_AFTER, LATER.into())
}
