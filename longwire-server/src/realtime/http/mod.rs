//! Channels over HTTP (docs/protocol.md): server-sent events, long polling and POST.
//!
//! This module routes and admits requests. `query` parses queries, `cors` checks origins, and `response`
//! builds responses. `subscriptions` reads several channels for one client; `sse` streams them, and `poll`
//! returns them in one response. `post` handles POST. The caller serves the connections, and limits header
//! sizes, blocked writes and idle connections.

mod cors;
mod many_channels;
mod poll;
mod post;
mod query;
mod response;
mod sse;
mod subscriptions;
mod websocket;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::SystemTime;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body as HttpBody;
use longwire::http::{Method, Request, Response, StatusCode, header};
use longwire::{Acceptor, Bytes, Forwarded, Origins, Refusal, TrustedProxies};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::assets::{self, Asset};
use super::requests::{ErrorCode, RequestError};
use super::{Client, Realtime, channel};
use crate::access::{Identity, host_allowed};
use crate::hub::ChannelName;
use crate::pattern::name_of_path;
use cors::RequestOrigin;
use query::Query;
use response::ErrorResponse;

/// The body of a response: complete, or an event stream.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The channels of a [`Realtime`] over HTTP. Cloning creates another handle to the same channels.
///
/// ```
/// use http_body_util::{BodyExt, Full};
/// use longwire_server::config::Config;
/// use longwire_server::realtime::{Realtime, http::Http};
/// use longwire::http::{Method, Request};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let http = Http::new(Realtime::new(Config::default())?);
/// let request = Request::builder().method(Method::POST).uri("/rooms/%E4%B8%80");
/// let request = request.body(Full::new(longwire::Bytes::from("你好 👋")))?;
/// let handle = http.handle(request, "192.0.2.7:4711".parse()?).await;
/// assert_eq!(handle.status(), 200);
/// assert!(handle.into_body().collect().await?.to_bytes().starts_with(b"{\"position\":"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Http {
    realtime: Realtime,
    origins: Origins,
    listening: Option<IpAddr>,
    proxies: Option<TrustedProxies>,
    closing: Option<watch::Receiver<bool>>,
    websockets: Option<Acceptor>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("realtime", &self.realtime).field("origins", &self.origins).finish()
    }
}

/// What a path serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Channel,
    Events,
    Publish,
    History,
    Presence,
    /// Public pages and scripts.
    Asset(Asset),
    /// For operators only.
    Dashboard,
    Stats,
    Metrics,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/-/events" => Some(Self::Events),
            "/-/publish" => Some(Self::Publish),
            "/-/history" => Some(Self::History),
            "/-/presence" => Some(Self::Presence),
            "/-/" => Some(Self::Dashboard),
            "/-/stats" => Some(Self::Stats),
            "/-/metrics" => Some(Self::Metrics),
            _ if path == "/" || path.starts_with("/-/") => Asset::of(path).map(Self::Asset),
            _ => path.starts_with('/').then_some(Self::Channel),
        }
    }

    /// Returns the value of the Allow header.
    const fn methods(self) -> &'static str {
        match self {
            Self::Channel => "GET, HEAD, OPTIONS, POST",
            Self::Events => "GET, HEAD, OPTIONS",
            Self::Publish | Self::History | Self::Presence => "OPTIONS, POST",
            Self::Asset(_) | Self::Dashboard | Self::Stats | Self::Metrics => "GET, HEAD, OPTIONS",
        }
    }

    fn allows_method(self, method: &Method) -> bool {
        self.methods().split(", ").any(|known| known == method.as_str())
    }
}

impl Http {
    /// Creates the HTTP interface. By default, only pages of the server's own origin are allowed, no proxy is
    /// trusted, every host is accepted, and streams end with their clients.
    pub fn new(realtime: Realtime) -> Self {
        Self {
            realtime,
            origins: Origins::Same,
            listening: None,
            proxies: None,
            closing: None,
            websockets: None,
        }
    }

    /// Sets the other origins whose pages are allowed. Listed origins may send cookies; with
    /// [`Origins::Any`], they may not.
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the listening address. On a loopback address, [`host_allowed`] restricts the accepted hosts.
    #[must_use]
    pub fn listening(mut self, address: IpAddr) -> Self {
        self.listening = Some(address);
        self
    }

    /// Sets the reverse proxies whose forwarding headers are trusted.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// Sets a shutdown signal. When it becomes true, streams end and waiting polls are answered.
    #[must_use]
    pub fn closing(mut self, closing: watch::Receiver<bool>) -> Self {
        self.closing = Some(closing);
        self
    }

    /// Accepts WebSockets from hyper, over HTTP/2 (RFC 8441) or HTTP/1.1. The acceptor sets the rules, and
    /// the engine set by [`set_engine`](Realtime::set_engine) runs the connections.
    #[must_use]
    pub fn websockets(mut self, acceptor: Acceptor) -> Self {
        self.websockets = Some(acceptor);
        self
    }

    /// Returns whether [`handle`](Self::handle) serves a request: a WebSocket, or a path of
    /// [`has_route`](Self::has_route).
    pub fn handles<B>(request: &Request<B>) -> bool {
        longwire::is_websocket(request) || Self::has_route(request.uri().path())
    }

    /// Returns whether this path is served. Unknown paths under `/-/` are not.
    pub fn has_route(path: &str) -> bool {
        Route::of(path).is_some()
    }

    /// Handles a request from this peer. Error responses are JSON, as described in docs/protocol.md. Paths
    /// without a [route](Self::has_route) get 404.
    ///
    /// Waits up to 30 s for the body, up to 60 s for a long poll, and for the webhook if it decides. Dropping
    /// the future releases all resources; a message that was published stays published.
    pub async fn handle<B>(&self, mut request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if longwire::is_websocket(&request) {
            return self.websocket(request, peer).await;
        }
        let mut origin = RequestOrigin::Refused;
        let result = self.precheck(&mut request, peer, &mut origin);
        let result = match result {
            Ok((route, from)) => self.dispatch(route, request, from, &origin).await,
            Err(error_response) => Err(error_response),
        };
        let mut response = result.unwrap_or_else(ErrorResponse::response);
        origin.add_cors_headers(response.headers_mut());
        response
    }

    /// Checks the host of a request against the [listening address](Self::listening). For WebSockets, use it
    /// in [`Acceptor::on_request`](longwire::Acceptor::on_request).
    ///
    /// # Errors
    ///
    /// Returns 403.
    pub fn check_host<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        match self.listening {
            Some(listening)
                if !host_allowed(host(request), listening, &self.realtime.0.config.allow_host) =>
            {
                let text = "this host is not allowed; add it to allow_host\n";
                Err(Refusal::new(StatusCode::FORBIDDEN, text))
            }
            _ => Ok(()),
        }
    }

    /// Makes the cheap checks: host, client address, origin and method.
    fn precheck<B>(
        &self,
        request: &mut Request<B>,
        peer: SocketAddr,
        origin: &mut RequestOrigin,
    ) -> Result<(Route, SocketAddr), ErrorResponse> {
        let Some(route) = Route::of(request.uri().path()) else { return Err(ErrorResponse::not_found()) };
        // Check the original header: a page can set X-Forwarded-Host with fetch(), but not Host.
        self.check_host(request)?;
        let from = match &self.proxies {
            Some(proxies) => proxies.apply(peer, request)?,
            None => peer,
        };
        *origin = RequestOrigin::classify(request.headers(), host(request), &self.origins)?;
        if !route.allows_method(request.method()) {
            return Err(ErrorResponse::method_not_allowed(route.methods()));
        }
        Ok((route, from))
    }

    async fn dispatch<B>(
        &self,
        route: Route,
        request: Request<B>,
        from: SocketAddr,
        origin: &RequestOrigin,
    ) -> Result<Response<Body>, ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if request.method() == Method::OPTIONS {
            return Ok(origin.preflight(route.methods()));
        }
        let coding = request.headers().get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(ErrorResponse::unsupported_encoding());
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        if let (Route::Channel | Route::Asset(_), Some(file)) =
            (route, self.realtime.0.pages.respond_to(&request))
        {
            return Ok(file);
        }
        if let Route::Asset(asset) = route {
            return Ok(asset.respond_to(request.headers()));
        }
        let client = self.realtime.admit(&request, from.ip()).await?;
        match route {
            Route::Channel if request.method() == Method::POST => self.post(&request, body, client).await,
            Route::Publish => self.post_many(body, client).await,
            Route::History => self.post_history(body, client).await,
            Route::Presence => self.post_presence(body, client).await,
            Route::Asset(_) | Route::Dashboard | Route::Stats | Route::Metrics => {
                if !client.identity.is_operator() {
                    return Err(ErrorResponse::forbidden(
                        "operators only; see `operator` in the access settings",
                    ));
                }
                Ok(match route {
                    Route::Stats => {
                        let mut query = request.uri().query().unwrap_or_default().split('&');
                        let after = query.find_map(|pair| pair.strip_prefix("after=")?.parse().ok());
                        response::json(&self.realtime.stats(after.unwrap_or(0)))
                    }
                    Route::Metrics => assets::text(self.realtime.snapshot().prometheus("longwire")),
                    _ => Asset::Dashboard.respond_to(request.headers()),
                })
            }
            Route::Channel | Route::Events => self.get(route, &request, client).await,
        }
    }

    async fn get(
        &self,
        route: Route,
        request: &Request<()>,
        client: Client,
    ) -> Result<Response<Body>, ErrorResponse> {
        let wants_stream = response::wants_stream(request.headers())?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let is_head = request.method() == Method::HEAD;
        match route {
            Route::Events if is_head => {
                query.required_channels()?;
                Ok(response::head(wants_stream))
            }
            Route::Events if wants_stream => self.stream_of_many(&query, client).await,
            Route::Events => self.poll_many(&query, client).await,
            _ => {
                let name = channel_at_path(request.uri().path())?;
                self.authorise_subscribe(&client.identity, &name).await?;
                if is_head {
                    Ok(response::head(wants_stream))
                } else if wants_stream {
                    self.stream_of_one(name, &query, request.headers(), client)
                } else {
                    self.poll_one(name, &query, client).await
                }
            }
        }
    }

    /// Checks the right to subscribe, and asks the webhook if necessary.
    async fn authorise_subscribe(&self, client: &Identity, name: &ChannelName) -> Result<(), RequestError> {
        if !self.realtime.may_subscribe(client, name)? {
            self.realtime.0.access.subscribe(client, name, SystemTime::now()).await?;
        }
        Ok(())
    }

    /// Returns what ends a wait of this client.
    fn end_condition(&self, client: &Client) -> EndCondition {
        let left = client
            .identity
            .expires()
            .map(|expires| expires.duration_since(SystemTime::now()).unwrap_or_default());
        EndCondition {
            expiry: left.map(|left| Box::pin(tokio::time::sleep(left))),
            closing: self.closing.clone(),
        }
    }
}

/// Returns whether a trusted proxy has forwarded the original host.
fn has_forwarded_host<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Forwarded>().is_some_and(|forwarded| forwarded.host.is_some())
}

/// Returns the host of a request. The target takes precedence over the header (RFC 9112 3.2.2, RFC 9113
/// 8.3.1), unless a trusted proxy has set the header.
fn host<B>(request: &Request<B>) -> Option<&[u8]> {
    match request.uri().authority() {
        Some(authority) if !has_forwarded_host(request) => Some(authority.as_str().as_bytes()),
        _ => request.headers().get(header::HOST).map(|host| host.as_bytes()),
    }
}

/// Returns the channel at a path.
fn channel_at_path(path: &str) -> Result<ChannelName, RequestError> {
    let name =
        name_of_path(path).map_err(|error| RequestError::new(ErrorCode::BadChannel, error.to_string()))?;
    channel(&name)
}

/// Ends a wait early: the identity expires, or the server shuts down.
struct EndCondition {
    expiry: Option<Pin<Box<Sleep>>>,
    closing: Option<watch::Receiver<bool>>,
}

impl EndCondition {
    /// Waits for the end. Cancel-safe.
    async fn wait(&mut self) {
        let Self { expiry, closing } = self;
        let expired = async {
            match expiry {
                Some(expiry) => expiry.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let closed = async {
            // Without a sender, there is no shutdown signal.
            let known = match closing {
                Some(closing) => closing.wait_for(|closing| *closing).await.is_ok(),
                None => false,
            };
            if !known {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = expired => {}
            () = closed => {}
        }
    }

    /// Returns whether the end has come.
    fn has_ended(&self) -> bool {
        self.expiry.as_ref().is_some_and(|expiry| expiry.deadline() <= tokio::time::Instant::now())
            || self.closing.as_ref().is_some_and(|closing| *closing.borrow())
    }
}
