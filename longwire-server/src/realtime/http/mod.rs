//! Channels for those who come without WebSocket (docs/protocol.md): a stream of events, long polling, POST.
//!
//! What is here are the routes, and who is let in by them. `query` is what an address asks for, `cors` which pages may have an
//! answer, `answer` what all answers have in common; `hearing` reads many channels for one client, which `sse` makes a
//! stream of and `poll` one answer; `post` is what is done by POST. How connections are served is the caller's: the
//! bounds of heads, of writes that get stuck and of idle connections are his.

mod response;
mod cors;
mod many_channels;
mod subscriptions;
mod poll;
mod post;
mod query;
mod websocket;
mod sse;

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
use super::requests::{Code, Fault};
use super::{Realtime, Who, channel};
use crate::access::{Identity, host_allowed};
use crate::hub::ChannelName;
use crate::pattern::name_of_path;
use response::Denial;
use cors::Page;
use query::Query;

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
/// let answer = http.answer(request, "192.0.2.7:4711".parse()?).await;
/// assert_eq!(answer.status(), 200);
/// assert!(answer.into_body().collect().await?.to_bytes().starts_with(b"{\"position\":"));
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

    fn takes(self, method: &Method) -> bool {
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

    /// Whether a request is answered here: a WebSocket, or what [`serves`](Self::serves) knows.
    pub fn is_for<B>(request: &Request<B>) -> bool {
        longwire::is_websocket(request) || Self::serves(request.uri().path())
    }

    /// Whether what is asked for at this path is here: all but what other paths under `/-/` are.
    pub fn serves(path: &str) -> bool {
        Route::of(path).is_some()
    }

    /// Answers a request that has come from this peer. Refusals are JSON, as docs/protocol.md has them; 404 is for paths that
    /// [`serves`](Self::serves) does not know.
    ///
    /// Waits for the body, at most 30 s; where it is long polling, for at most 60 s; and for whoever has to be asked. A
    /// future that is dropped frees all that it has; what it has published by then stays.
    pub async fn answer<B>(&self, mut request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if longwire::is_websocket(&request) {
            return self.websocket(request, peer).await;
        }
        let mut page = Page::Refused;
        let answered = self.let_in(&mut request, peer, &mut page);
        let answered = match answered {
            Ok((route, from)) => self.act(route, request, from, &page).await,
            Err(denial) => Err(denial),
        };
        let mut response = answered.unwrap_or_else(Denial::response);
        page.permit(response.headers_mut());
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
    fn let_in<B>(
        &self,
        request: &mut Request<B>,
        peer: SocketAddr,
        page: &mut Page,
    ) -> Result<(Route, SocketAddr), Denial> {
        let Some(route) = Route::of(request.uri().path()) else { return Err(Denial::not_found()) };
        // As it was sent: a page may say X-Forwarded-Host by fetch(), but no Host that is not its own.
        self.check_host(request)?;
        let from = match &self.proxies {
            Some(proxies) => proxies.apply(peer, request)?,
            None => peer,
        };
        *page = Page::judge(request.headers(), host(request), &self.origins)?;
        if !route.takes(request.method()) {
            return Err(Denial::method_not_allowed(route.methods()));
        }
        Ok((route, from))
    }

    async fn act<B>(
        &self,
        route: Route,
        request: Request<B>,
        from: SocketAddr,
        page: &Page,
    ) -> Result<Response<Body>, Denial>
    where
        B: HttpBody<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if request.method() == Method::OPTIONS {
            return Ok(page.preflight(route.methods()));
        }
        let coding = request.headers().get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Denial::coded());
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        if let (Route::Channel | Route::Site(_), Some(file)) = (route, self.realtime.0.pages.answer(&request))
        {
            return Ok(file);
        }
        if let Route::Site(asset) = route {
            return Ok(asset.answer(request.headers()));
        }
        let who = self.realtime.admit(&request, from.ip()).await?;
        match route {
            Route::Channel if request.method() == Method::POST => self.post(&request, body, who).await,
            Route::Publish => self.post_many(body, who).await,
            Route::History => self.post_history(body, who).await,
            Route::Presence => self.post_presence(body, who).await,
            Route::Site(_) | Route::Dashboard | Route::Stats | Route::Metrics => {
                if !who.identity.is_operator() {
                    return Err(Denial::forbidden("this is for operators: see access in the configuration"));
                }
                Ok(match route {
                    Route::Stats => {
                        let mut query = request.uri().query().unwrap_or_default().split('&');
                        let after = query.find_map(|pair| pair.strip_prefix("after=")?.parse().ok());
                        response::json(&self.realtime.told_stats(after.unwrap_or(0)))
                    }
                    Route::Metrics => assets::text(self.realtime.counted().prometheus("longwire")),
                    _ => Asset::Dashboard.answer(request.headers()),
                })
            }
            Route::Channel | Route::Events => self.get(route, &request, who).await,
        }
    }

    async fn get(&self, route: Route, request: &Request<()>, who: Who) -> Result<Response<Body>, Denial> {
        let wants_stream = response::wants_stream(request.headers())?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let is_head = request.method() == Method::HEAD;
        match route {
            Route::Events if is_head => {
                query.many()?;
                Ok(response::head(wants_stream))
            }
            Route::Events if wants_stream => self.stream_of_many(&query, who).await,
            Route::Events => self.poll_many(&query, who).await,
            _ => {
                let name = at_path(request.uri().path())?;
                self.may_hear(&who.identity, &name).await?;
                if is_head {
                    Ok(response::head(wants_stream))
                } else if wants_stream {
                    self.stream_of_one(name, &query, request.headers(), who)
                } else {
                    self.poll_one(name, &query, who).await
                }
            }
        }
    }

    /// Asks whoever has to be asked.
    async fn may_hear(&self, who: &Identity, name: &ChannelName) -> Result<(), Fault> {
        if !self.realtime.may_subscribe(who, name)? {
            self.realtime.0.access.subscribe(who, name, SystemTime::now()).await?;
        }
        Ok(())
    }

    /// What ends a wait of somebody.
    fn end_of(&self, who: &Who) -> End {
        let left = who
            .identity
            .expires()
            .map(|expires| expires.duration_since(SystemTime::now()).unwrap_or_default());
        End { expiry: left.map(|left| Box::pin(tokio::time::sleep(left))), closing: self.closing.clone() }
    }
}

/// A trusted proxy has said which host was asked for.
fn is_passed_on<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Forwarded>().is_some_and(|forwarded| forwarded.host.is_some())
}

/// The host that a request asks for: what stands in the target, whatever the header says (RFC 9112 3.2.2, RFC 9113 8.3.1), but
/// a trusted proxy knows best, which has the header.
fn host<B>(request: &Request<B>) -> Option<&[u8]> {
    match request.uri().authority() {
        Some(authority) if !is_passed_on(request) => Some(authority.as_str().as_bytes()),
        _ => request.headers().get(header::HOST).map(|host| host.as_bytes()),
    }
}

/// The channel at a path.
fn at_path(path: &str) -> Result<ChannelName, Fault> {
    let name = name_of_path(path).map_err(|error| Fault::new(Code::BadChannel, error.to_string()))?;
    channel(&name)
}

/// What ends a wait besides that for which it is: the identity expires, or the server is to end.
struct End {
    expiry: Option<Pin<Box<Sleep>>>,
    closing: Option<watch::Receiver<bool>>,
}

impl End {
    /// Waits for it. Cancel-safe.
    async fn come(&mut self) {
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
    fn is_here(&self) -> bool {
        self.expiry.as_ref().is_some_and(|expiry| expiry.deadline() <= tokio::time::Instant::now())
            || self.closing.as_ref().is_some_and(|closing| *closing.borrow())
    }
}
