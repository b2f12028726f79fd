//! Access control: decides who may connect, subscribe and publish.
//!
//! Without access rules, everything is allowed. Otherwise a client is identified by a token (JWT), an API key
//! or a webhook, and gets the rights that these grant. A client without credentials gets the rights of
//! `anonymous`. Invalid credentials are always rejected; they are never treated as anonymous.

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
use credential::{Credential, CredentialSources};
use fetch::Http;
use identity::{IdentityData, Rights};
use jwks::Jwks;
use keys::Keys;
use token::{Checks, Unverified};
use webhook::{Decision, Webhook, WebhookRequest};

pub use api_key::generate as generate_key;
pub use host::host_allowed;
pub use identity::{Identity, IdentityKind, USER_MAX};
pub use token::{TOKEN_MAX, TokenError};

/// The close code of a connection whose identity has expired. It is in the range that RFC 6455 7.4.2 leaves
/// to applications, and resembles HTTP's 401. A client needs a new token to reconnect.
pub const EXPIRED: u16 = 4401;

/// Default Retry-After, in seconds.
const RETRY_AFTER: u16 = 5;

/// The access rules of a server.
pub struct Access {
    /// The identity of every client if there are no rules.
    open: Option<Identity>,
    credential_sources: CredentialSources,
    tokens: Option<(KeySource, Checks)>,
    keys: ApiKeys,
    webhook: Option<Webhook>,
    webhook_on_connect: bool,
    webhook_on_subscribe: bool,
    webhook_on_publish: bool,
    anonymous: Rights,
}

/// Where token keys come from.
enum KeySource {
    File(Arc<Keys>),
    Url(Jwks),
}

impl Access {
    /// Reads the files that the configuration names. A JWKS URL is fetched when the first token arrives,
    /// unless [`fetch_keys`](Self::fetch_keys) was called before.
    ///
    /// # Errors
    ///
    /// Returns a description if a file cannot be read or contains no key, if a URL is invalid, or if the
    /// platform's certificates cannot be loaded.
    pub fn new(config: &config::Access) -> Result<Self, String> {
        let urls: Vec<&str> =
            [&config.token.jwks_url, &config.webhook.url].into_iter().flatten().map(String::as_str).collect();
        let http = if urls.is_empty() { None } else { Some(Http::new(&urls, config.ca.as_deref())?) };
        let uri = |url: &str| url.parse().map_err(|_| format!("invalid URL: {url}"));
        let source = match (&config.token.jwks_url, &http) {
            (Some(url), Some(http)) => {
                let (max_age, refresh) =
                    (config.token.jwks_max_age.duration(), config.token.jwks_refresh.duration());
                Some(KeySource::Url(Jwks::new(
                    http.clone(),
                    uri(url)?,
                    algorithm(&config.token)?,
                    max_age,
                    refresh,
                )))
            }
            _ => configured_keys(&config.token)?.map(|keys| KeySource::File(Arc::new(keys))),
        };
        let webhook = match (&config.webhook.url, http) {
            (Some(url), Some(http)) => Some(Webhook::new(http, uri(url)?, &config.webhook)),
            _ => None,
        };
        let has_webhook = webhook.is_some();
        Ok(Self {
            open: (!config.has_rules()).then(|| IdentityData::new(IdentityKind::Open, Rights::all()).into()),
            credential_sources: CredentialSources {
                cookie: config.token.cookie.clone(),
                query: config.token.query,
            },
            tokens: source.map(|source| (source, Checks::new(&config.token))),
            keys: ApiKeys::new(&config.key)?,
            webhook,
            webhook_on_connect: has_webhook && config.webhook.connect,
            webhook_on_subscribe: has_webhook && config.webhook.subscribe,
            webhook_on_publish: has_webhook && config.webhook.publish,
            anonymous: Rights {
                subscribe: config.anonymous.subscribe.clone(),
                publish: config.anonymous.publish.clone(),
            },
        })
    }

    /// Fetches the token keys if they come from a URL. This avoids a delay for the first client and reveals a
    /// wrong URL at startup. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Returns a description of the failure. The keys are fetched again when a token arrives.
    pub async fn fetch_keys(&self) -> Result<(), String> {
        match &self.tokens {
            Some((KeySource::Url(jwks), _)) => {
                jwks.keys(None).await.map(drop).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Identifies the client of a request, such as a WebSocket handshake. `from` is the client's address
    /// behind all trusted proxies. Waits for a bounded time if keys must be fetched or the webhook decides.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Returns 401 if credentials are missing or invalid, 403 if the webhook denies, 429 if the webhook
    /// limits the rate, and 503 if keys or the webhook are unavailable.
    pub async fn connect(
        &self,
        request: &Request<()>,
        from: IpAddr,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        if let Some(identity) = &self.open {
            return Ok(identity.clone());
        }
        let mut data = match self.credential_sources.find(request) {
            Some(Credential::Key(key)) => {
                // The webhook is not consulted for API keys.
                let found = self.keys.find(key).cloned();
                return found.ok_or_else(|| unauthorized(Some("unknown API key")));
            }
            Some(Credential::Token(token)) if self.tokens.is_some() => self.token(token, now).await?,
            // Without token keys, a token may still be meant for the webhook.
            Some(Credential::Token(_)) if !self.webhook_on_connect => {
                return Err(unauthorized(Some("this server does not accept tokens")));
            }
            None if self.anonymous.is_empty() && !self.webhook_on_connect => return Err(unauthorized(None)),
            _ => IdentityData::new(IdentityKind::Anonymous, self.anonymous.clone()),
        };
        if let Some(webhook) = &self.webhook {
            data.context = Some(Arc::new(webhook.context(request, from)));
            self.ask_connect(&mut data, now).await?;
        }
        Ok(data.into())
    }

    /// Asks the webhook about a connection. Its response replaces the user and the rights that it contains.
    /// If there were no rights before, the default is the requested channel only.
    async fn ask_connect(&self, data: &mut IdentityData, now: SystemTime) -> Result<(), Refusal> {
        let (true, Some(webhook), Some(context)) = (self.webhook_on_connect, &self.webhook, &data.context)
        else {
            return Ok(());
        };
        let channel = name_of_path(&context.path).ok();
        let webhook_request =
            WebhookRequest::new("connect", context, data.user.as_deref(), channel.as_deref());
        let response = match webhook.ask(webhook_request, now).await {
            Decision::Allow(response) => response,
            Decision::Deny(refusal) => return Err(refusal),
        };
        let mut rights = std::mem::take(&mut data.rights);
        if rights.is_empty() && data.kind == IdentityKind::Anonymous {
            rights = channel.as_deref().map(Rights::of).unwrap_or_default();
        }
        data.rights = Rights {
            subscribe: response.subscribe.unwrap_or(rights.subscribe),
            publish: response.publish.unwrap_or(rights.publish),
        };
        if let Some(user) = response.user {
            data.user = Some(user.into());
        }
        if data.kind == IdentityKind::Anonymous {
            data.kind = IdentityKind::Webhook;
        }
        // The earlier expiry counts; `None` means that there is none.
        data.expires = [data.expires, response.expires].into_iter().flatten().min();
        Ok(())
    }

    /// Accepts a new token for a connected client, before its identity expires. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Like [`connect`](Self::connect), and 403 if the token belongs to another user.
    pub async fn renew(
        &self,
        identity: &Identity,
        token: &str,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        let mut renewed = self.token(token, now).await?;
        renewed.context.clone_from(&identity.data().context);
        // Otherwise a new token would restore rights that the webhook took away.
        self.ask_connect(&mut renewed, now).await?;
        if renewed.user == identity.data().user {
            return Ok(renewed.into());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "the token belongs to another user; open a new connection\n"))
    }

    async fn token(&self, token: &str, now: SystemTime) -> Result<IdentityData, Refusal> {
        let Some((source, checks)) = &self.tokens else {
            return Err(unauthorized(Some("this server does not accept tokens")));
        };
        let wrong = |error: TokenError| unauthorized(Some(error.text()));
        let token = Unverified::parse(token).map_err(wrong)?;
        let keys = match source {
            KeySource::File(keys) => keys.clone(),
            KeySource::Url(jwks) => match jwks.cached(token.key()) {
                Some(keys) => keys,
                None => jwks.keys(token.key()).await.map_err(|error| unavailable(format!("{error}\n")))?,
            },
        };
        checks.verify(&token, &keys, now).map_err(wrong)
    }

    /// Checks whether a client may subscribe to a channel. Asks the webhook if nothing else allows it.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Returns 403 if not, or the webhook's 429 or 503.
    pub async fn subscribe(
        &self,
        identity: &Identity,
        channel: &str,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        if identity.may_subscribe(channel) {
            return Ok(());
        }
        let denied = format!("not allowed to subscribe to {channel}\n");
        self.ask(self.webhook_on_subscribe, "subscribe", identity, channel, None, now)
            .await
            .unwrap_or_else(|| Err(forbidden(denied)))
    }

    /// Checks whether a client may publish this message. Asks the webhook if nothing else allows it. The
    /// channel's own restriction ([`is_publisher`](Identity::is_publisher)) applies in addition. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Returns 403 if not, or the webhook's 429 or 503.
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
        let denied = format!("not allowed to publish to {channel}\n");
        self.ask(self.webhook_on_publish, "publish", identity, channel, Some(message), now)
            .await
            .unwrap_or_else(|| Err(forbidden(denied)))
    }

    /// Returns whether [`subscribe`](Self::subscribe) and [`publish`](Self::publish) may consult the webhook.
    /// If not, [`Identity::may_subscribe`] and [`Identity::may_publish`] decide alone.
    pub fn webhook_decides(&self) -> (bool, bool) {
        (self.webhook_on_subscribe, self.webhook_on_publish)
    }

    /// Returns `None` if there is no webhook for this event, or the channel name is invalid.
    async fn ask(
        &self,
        webhook_decides: bool,
        event: &'static str,
        identity: &Identity,
        channel: &str,
        message: Option<&[u8]>,
        now: SystemTime,
    ) -> Option<Result<(), Refusal>> {
        let data = identity.data();
        let (Some(webhook), Some(context)) = (&self.webhook, &data.context) else { return None };
        if !webhook_decides || crate::pattern::check_name(channel).is_err() {
            return None;
        }
        let mut webhook_request = WebhookRequest::new(event, context, data.user.as_deref(), Some(channel));
        if let Some(message) = message {
            webhook.add_message(&mut webhook_request, message);
        }
        Some(match webhook.ask(webhook_request, now).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(refusal) => Err(refusal),
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

/// Maximum size of a key file, in bytes.
const KEY_FILE_MAX: u64 = 256 * 1024;

/// Returns the token keys from the configuration or the file that it names.
fn configured_keys(config: &config::Token) -> Result<Option<Keys>, String> {
    let algorithm = algorithm(config)?;
    let checked = |secret: &[u8]| config::check_secret(secret).map(|()| Keys::secret(secret, algorithm));
    if let Some(secret) = &config.secret {
        return checked(secret.reveal().as_bytes()).map(Some).map_err(str::to_owned);
    }
    if let Some(path) = &config.secret_file {
        let text = read(path)?;
        // Editors add a final line break; it is not part of the secret.
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
    let parse = |name: &String| name.parse().map_err(|_| format!("unsupported algorithm: {name}"));
    config.algorithm.as_ref().map(parse).transpose()
}

/// RFC 6750 3: the challenge has no error if no credential was presented.
fn unauthorized(reason: Option<&'static str>) -> Refusal {
    let challenge = match reason {
        Some(reason) => {
            format!("Bearer realm=\"longwire\", error=\"invalid_token\", error_description=\"{reason}\"")
        }
        None => "Bearer realm=\"longwire\"".into(),
    };
    let text = reason.unwrap_or("credentials required; send a token as `Authorization: Bearer TOKEN`");
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
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).header(header::RETRY_AFTER, RETRY_AFTER.into())
}
