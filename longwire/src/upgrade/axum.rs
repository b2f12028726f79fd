//! The extractor for axum: [`WebSocketUpgrade`], over HTTP/1.1 and HTTP/2.
//!
//! ```
//! use axum::{Router, response::Response, routing::any};
//! use longwire::axum::WebSocketUpgrade;
//!
//! async fn chat(ws: WebSocketUpgrade) -> Response {
//!     ws.protocols(["chat.v2"]).on_upgrade(async |mut socket| {
//!         while let Ok(Some(message)) = socket.recv().await {
//!             if socket.send(message).await.is_err() {
//!                 break;
//!             }
//!         }
//!     })
//! }
//!
//! // `any`, not `get`: over HTTP/2 the method is CONNECT (RFC 8441 4).
//! let app: Router = Router::new().route("/chat", any(chat));
//! ```
//!
//! # Settings
//!
//! By default only pages of the server's own origin may connect, and a message may have up to 1 MiB. An
//! [`Acceptor`] changes this. There are three ways to pass one, the safest first:
//!
//! 1. [`WithAcceptor`] extracts it from the state of the router. A state that contains none does not compile.
//! 2. [`WebSocketUpgrade::acceptor`] takes it in the handler.
//! 3. `Extension(acceptor)`, or `Extension(Arc::new(acceptor))`, as a layer. axum applies a layer only to routes that
//!    were added **before** it. If none is found, the defaults apply; with the feature `tracing` the first such
//!    request is logged as a warning.
//!
//! ```
//! use axum::{Router, extract::FromRef, response::Response, routing::any};
//! use longwire::{Acceptor, Config, axum::WithAcceptor};
//!
//! #[derive(Clone)]
//! struct App {
//!     acceptor: Acceptor,
//! }
//!
//! impl FromRef<App> for Acceptor {
//!     fn from_ref(app: &App) -> Self {
//!         app.acceptor.clone()
//!     }
//! }
//!
//! async fn chat(WithAcceptor(ws): WithAcceptor) -> Response {
//!     ws.on_upgrade(async |mut socket| while let Ok(Some(_)) = socket.recv().await {})
//! }
//!
//! let acceptor = Acceptor::new().config(Config::server().max_message(64 * 1024));
//! let app: Router = Router::new().route("/chat", any(chat)).with_state(App { acceptor });
//! ```
//!
//! # HTTP/2
//!
//! Browsers use WebSocket over HTTP/2 only in TLS. axum needs its own feature `http2`, which is not among its
//! defaults: without it a client that tries HTTP/2 loses its connection. `axum::serve` allows extended CONNECT by
//! itself; a server of your own has to call `enable_connect_protocol`, and should set the windows of HTTP/2 as
//! described at [`Upgraded`].
//!
//! # `TCP_NODELAY`
//!
//! `axum::serve` does not set it, so small messages can wait for 40 ms. Use
//! `listener.tap_io(|stream| { let _ = stream.set_nodelay(true); })` from `axum::serve::ListenerExt`.

use std::fmt;
use std::future::Future;
#[cfg(all(unix, feature = "engine"))]
use std::net::SocketAddr;
use std::sync::Arc;

use axum_core::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Request, header};
use hyper::upgrade::OnUpgrade;
use longwire_proto::Config;
use longwire_proto::handshake::server::ValidRequest;
use longwire_proto::handshake::{Origins, Refusal, grammar};

use super::{Upgrade, Upgraded, count_refusal, is_websocket, validate};
use crate::end::AcceptError;
use crate::server::accept::Acceptor;

/// The open connection that a handler gets.
pub type WebSocket = crate::WebSocket<Upgraded>;

/// Extracts an opening handshake, which [`on_upgrade`](Self::on_upgrade) answers. As `Option<WebSocketUpgrade>` it is
/// `None` if the request does not ask for WebSocket.
#[must_use = "nothing is answered before on_upgrade"]
pub struct WebSocketUpgrade {
    request: Request<()>,
    valid: ValidRequest,
    on_upgrade: Option<OnUpgrade>,
    acceptor: Acceptor,
    /// Whether anything but the default limits was asked for.
    has_settings: bool,
    on_failed: Option<OnFailed>,
}

type OnFailed = Box<dyn FnOnce(AcceptError) + Send>;

impl WebSocketUpgrade {
    /// Uses this acceptor instead of one from an `Extension`. Call it before the other methods, which change it.
    pub fn acceptor(mut self, acceptor: &Acceptor) -> Self {
        self.acceptor = acceptor.clone();
        self.has_settings = true;
        self
    }

    /// Sets the subprotocols to select from, the preferred one first; see [`Acceptor::subprotocols`].
    pub fn protocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.acceptor = self.acceptor.subprotocols(names);
        self
    }

    /// Returns the subprotocol that the client gets, of those that were set so far.
    pub fn selected_protocol(&self) -> Option<&str> {
        self.acceptor.settings().select_subprotocol(self.request.headers())
    }

    /// Returns the subprotocols that the client offers, the preferred one first.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &str> {
        let names = grammar::elements(self.request.headers(), &header::SEC_WEBSOCKET_PROTOCOL);
        names.filter(|name| grammar::is_token(name)).filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// Sets the origins of the pages that may connect; see [`Acceptor::origins`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.acceptor = self.acceptor.origins(origins);
        self
    }

    /// Sets the limits, deadlines and compression of the connection; see [`Acceptor::config`].
    pub fn config(mut self, config: Config) -> Self {
        self.acceptor = self.acceptor.config(config);
        self.has_settings = true;
        self
    }

    /// Sets the maximum size of a received message in bytes; see [`Config::max_message`]. No frame can be larger
    /// than the message that it belongs to, so this limits frames as well.
    pub fn max_message_size(self, bytes: usize) -> Self {
        let config = Config::clone(&self.acceptor.settings().config).max_message(bytes);
        self.config(config)
    }

    /// Sets a callback that is called instead of the handler if the connection is lost before it is open.
    pub fn on_failed_upgrade<F>(mut self, on_failed: F) -> Self
    where
        F: FnOnce(AcceptError) + Send + 'static,
    {
        self.on_failed = Some(Box::new(on_failed));
        self
    }

    /// Returns the request, without its body.
    pub const fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Answers the handshake, and runs `handler` in its own task once the connection is open. If the request is
    /// refused, the response says why, and `handler` is dropped.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[must_use = "the response has to be returned"]
    pub fn on_upgrade<F, R>(self, handler: F) -> Response
    where
        F: FnOnce(WebSocket) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (upgrade, on_failed) = match self.negotiate() {
            Ok(negotiated) => negotiated,
            Err(refusal) => return refusal.into(),
        };
        let (response, websocket) = upgrade.into_websocket();
        tokio::spawn(async move {
            match websocket.await {
                Ok(socket) => handler(socket).await,
                Err(error) => {
                    if let Some(on_failed) = on_failed {
                        on_failed(error);
                    }
                }
            }
        });
        response
    }

    /// Answers the handshake, and makes the connection one of an engine; see [`Upgrade::into_engine`]. `from` is the
    /// client's address.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client is not accepted.
    #[cfg(all(unix, feature = "engine"))]
    pub async fn into_engine(self, engine: &crate::engine::Handle, from: SocketAddr) -> Response {
        let (upgrade, on_failed) = match self.negotiate() {
            Ok(negotiated) => negotiated,
            Err(refusal) => return refusal.into(),
        };
        let (response, adopted) = match upgrade.into_engine(engine, from).await {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal.into(),
        };
        tokio::spawn(async move {
            if let (Err(error), Some(on_failed)) = (adopted.await, on_failed) {
                on_failed(error);
            }
        });
        response
    }

    fn negotiate(self) -> Result<(Upgrade, Option<OnFailed>), Refusal> {
        if !self.has_settings {
            warn_of_defaults();
        }
        let acceptor = self.acceptor.clone();
        let upgrade = Upgrade::negotiate(self.acceptor, self.request, self.valid, self.on_upgrade);
        let upgrade = upgrade.inspect_err(|refusal| count_refusal(&acceptor, refusal))?;
        Ok((upgrade, self.on_failed))
    }
}

/// A layer that is added before a route does not apply to it, and then limits that were set would be missing without
/// a trace.
fn warn_of_defaults() {
    #[cfg(feature = "tracing")]
    {
        static WARNED: std::sync::Once = std::sync::Once::new();
        WARNED.call_once(|| {
            tracing::warn!(
                target: "longwire",
                "WebSocketUpgrade found no Acceptor, so the default limits apply (messages up to 1 MiB, pages of the \
                 same origin). Add Extension(acceptor) after the routes, or use WithAcceptor or \
                 WebSocketUpgrade::acceptor.",
            );
        });
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("request", &self.request)
            .field("acceptor", &self.acceptor)
            .finish_non_exhaustive()
    }
}

impl<S: Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        extract(parts)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        let request = Request::from_parts(parts.clone(), ());
        is_websocket(&request).then(|| extract(parts)).transpose()
    }
}

/// Extracts a [`WebSocketUpgrade`] with the [`Acceptor`] from the state of the router: implement
/// `FromRef<YourState> for Acceptor`, or derive `FromRef` for the state. A state that contains none does not compile.
#[derive(Debug)]
pub struct WithAcceptor(pub WebSocketUpgrade);

impl<S: Sync> FromRequestParts<S> for WithAcceptor
where
    Acceptor: FromRef<S>,
{
    type Rejection = WebSocketRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(extract(parts)?.acceptor(&Acceptor::from_ref(state))))
    }
}

fn extract(parts: &mut Parts) -> Result<WebSocketUpgrade, WebSocketRejection> {
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let layered = parts.extensions.get::<Acceptor>();
    let layered = layered.or_else(|| parts.extensions.get::<Arc<Acceptor>>().map(|acceptor| &**acceptor));
    let has_settings = layered.is_some();
    let acceptor = layered.cloned().unwrap_or_default();
    let request = Request::from_parts(parts.clone(), ());
    // The policy is not known before `on_upgrade`.
    let valid = validate(&request).map_err(|refusal| {
        count_refusal(&acceptor, &refusal);
        WebSocketRejection(refusal)
    })?;
    Ok(WebSocketUpgrade { request, valid, on_upgrade, acceptor, has_settings, on_failed: None })
}

/// Why a request is not an opening handshake. As a response it names the rule that was broken.
#[derive(Clone, Debug)]
pub struct WebSocketRejection(Refusal);

impl WebSocketRejection {
    /// Returns the response, to send a different one.
    pub const fn refusal(&self) -> &Refusal {
        &self.0
    }
}

impl IntoResponse for WebSocketRejection {
    fn into_response(self) -> Response {
        self.0.into()
    }
}

impl fmt::Display for WebSocketRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for WebSocketRejection {}
