//! Channels for those who come without WebSocket (docs/protocol.md): a stream of events, long polling, POST.
//!
//! What is here are the routes, and who is let in by them. `query` is what an address asks for, `cors` which pages may have an
//! answer, `handle` what all answers have in common; `subscriptions` reads many channels for one client, which `sse` makes a
//! stream of and `poll` one answer; `post` is what is done by POST. How connections are served is the caller's: the
//! bounds of heads, of writes that get stuck and of idle connections are his.

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

/// The body of an answer: whole, or a stream of events.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The channels of a [`Realtime`] over HTTP. It clones into further handles of the same.
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

/// What there is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Channel,
    Events,
    Publish,
    History,
    Presence,
    /// What a browser is given, to anybody.
    Site(Asset),
    /// What is told to operators.
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
            _ if path == "/" || path.starts_with("/-/") => Asset::of(path).map(Self::Site),
            _ => path.starts_with('/').then_some(Self::Channel),
        }
    }

    /// As Allow says it.
    const fn methods(self) -> &'static str {
        match self {
            Self::Channel => "GET, HEAD, OPTIONS, POST",
            Self::Events => "GET, HEAD, OPTIONS",
            Self::Publish | Self::History | Self::Presence => "OPTIONS, POST",
            Self::Site(_) | Self::Dashboard | Self::Stats | Self::Metrics => "GET, HEAD, OPTIONS",
        }
    }

    fn allows_method(self, method: &Method) -> bool {
        self.methods().split(", ").any(|known| known == method.as_str())
    }
}

impl Http {
    /// The channels over HTTP. Only pages of the server's own origin may have them, no proxy is believed, any host is
    /// answered, and streams end with their clients.
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

    /// Which pages may have what is answered, besides the server's own: it is refused to others. Those in a list may
    /// show cookies, which is not so with [`Origins::Any`].
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Where the server listens: by [`host_allowed`] only some hosts are answered on a loopback address.
    #[must_use]
    pub fn listening(mut self, address: IpAddr) -> Self {
        self.listening = Some(address);
        self
    }

    /// Proxies that are believed when they say whom they speak for.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// When this becomes true, streams end and those who wait are answered.
    #[must_use]
    pub fn closing(mut self, closing: watch::Receiver<bool>) -> Self {
        self.closing = Some(closing);
        self
    }

    /// Takes WebSockets as well that come by way of hyper, over HTTP/2 (RFC 8441) or HTTP/1.1, by the rules of this
    /// acceptor, and gives them to the engine that [delivers](Realtime::deliver_by).
    #[must_use]
    pub fn websockets(mut self, acceptor: Acceptor) -> Self {
        self.websockets = Some(acceptor);
        self
    }

    /// Whether a request is answered here: a WebSocket, or what [`has_route`](Self::serves) knows.
    pub fn handles<B>(request: &Request<B>) -> bool {
        longwire::is_websocket(request) || Self::has_route(request.uri().path())
    }

    /// Whether what is asked for at this path is here: all but what other paths under `/-/` are.
    pub fn has_route(path: &str) -> bool {
        Route::of(path).is_some()
    }

    /// Answers a request that has come from this peer. Refusals are JSON, as docs/protocol.md has them; 404 is for paths that
    /// [`has_route`](Self::serves) does not know.
    ///
    /// Waits for the body, at most 30 s; where it is long polling, for at most 60 s; and for whoever has to be asked. A
    /// future that is dropped frees all that it has; what it has published by then stays.
    pub async fn handle<B>(&self, mut request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if longwire::is_websocket(&request) {
            return self.websocket(request, peer).await;
        }
        let mut page = RequestOrigin::Refused;
        let result = self.precheck(&mut request, peer, &mut page);
        let result = match result {
            Ok((route, from)) => self.dispatch(route, request, from, &page).await,
            Err(error_response) => Err(error_response),
        };
        let mut response = result.unwrap_or_else(ErrorResponse::response);
        page.add_cors_headers(response.headers_mut());
        response
    }

    /// Whether a request asks for a host that is answered where the server [listens](Self::listening): also for WebSockets, for
    /// which [`Acceptor::on_request`](longwire::Acceptor::on_request) is the place.
    ///
    /// # Errors
    ///
    /// 403.
    pub fn check_host<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        match self.listening {
            Some(listening)
                if !host_allowed(host(request), listening, &self.realtime.0.config.allow_host) =>
            {
                let text = "this server is asked for by a name that is not its own: add it to allow_host\n";
                Err(Refusal::new(StatusCode::FORBIDDEN, text))
            }
            _ => Ok(()),
        }
    }

    /// What costs nothing to find out: the client's address, and whether the page may ask at all.
    fn precheck<B>(
        &self,
        request: &mut Request<B>,
        peer: SocketAddr,
        page: &mut RequestOrigin,
    ) -> Result<(Route, SocketAddr), ErrorResponse> {
        let Some(route) = Route::of(request.uri().path()) else { return Err(ErrorResponse::not_found()) };
        // As it was sent: a page may say X-Forwarded-Host by fetch(), but no Host that is not its own.
        self.check_host(request)?;
        let from = match &self.proxies {
            Some(proxies) => proxies.apply(peer, request)?,
            None => peer,
        };
        *page = RequestOrigin::classify(request.headers(), host(request), &self.origins)?;
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
        page: &RequestOrigin,
    ) -> Result<Response<Body>, ErrorResponse>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if request.method() == Method::OPTIONS {
            return Ok(page.preflight(route.methods()));
        }
        let coding = request.headers().get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(ErrorResponse::unsupported_encoding());
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        if let (Route::Channel | Route::Site(_), Some(file)) =
            (route, self.realtime.0.pages.respond_to(&request))
        {
            return Ok(file);
        }
        if let Route::Site(asset) = route {
            return Ok(asset.respond_to(request.headers()));
        }
        let client = self.realtime.admit(&request, from.ip()).await?;
        match route {
            Route::Channel if request.method() == Method::POST => self.post(&request, body, client).await,
            Route::Publish => self.post_many(body, client).await,
            Route::History => self.post_history(body, client).await,
            Route::Presence => self.post_presence(body, client).await,
            Route::Site(_) | Route::Dashboard | Route::Stats | Route::Metrics => {
                if !client.identity.is_operator() {
                    return Err(ErrorResponse::forbidden(
                        "this is for operators: see access in the configuration",
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

    /// Asks whoever has to be asked.
    async fn authorise_subscribe(&self, client: &Identity, name: &ChannelName) -> Result<(), RequestError> {
        if !self.realtime.may_subscribe(client, name)? {
            self.realtime.0.access.subscribe(client, name, SystemTime::now()).await?;
        }
        Ok(())
    }

    /// What ends a wait of somebody.
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

/// A trusted proxy has said which host was asked for.
fn has_forwarded_host<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Forwarded>().is_some_and(|forwarded| forwarded.host.is_some())
}

/// The host that a request asks for: what stands in the target, whatever the header says (RFC 9112 3.2.2, RFC 9113 8.3.1), but
/// a trusted proxy knows best, which has the header.
fn host<B>(request: &Request<B>) -> Option<&[u8]> {
    match request.uri().authority() {
        Some(authority) if !has_forwarded_host(request) => Some(authority.as_str().as_bytes()),
        _ => request.headers().get(header::HOST).map(|host| host.as_bytes()),
    }
}

/// The channel at a path.
fn channel_at_path(path: &str) -> Result<ChannelName, RequestError> {
    let name =
        name_of_path(path).map_err(|error| RequestError::new(ErrorCode::BadChannel, error.to_string()))?;
    channel(&name)
}

/// What ends a wait besides that for which it is: the identity expires, or the server is to end.
struct EndCondition {
    expiry: Option<Pin<Box<Sleep>>>,
    closing: Option<watch::Receiver<bool>>,
}

impl EndCondition {
    /// Waits for it. Cancel-safe.
    async fn wait(&mut self) {
        let Self { expiry, closing } = self;
        let expired = async {
            match expiry {
                Some(expiry) => expiry.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let closed = async {
            // Without a sender there is nobody who could end anything.
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

    /// It has come.
    fn has_ended(&self) -> bool {
        self.expiry.as_ref().is_some_and(|expiry| expiry.deadline() <= tokio::time::Instant::now())
            || self.closing.as_ref().is_some_and(|closing| *closing.borrow())
    }
}
