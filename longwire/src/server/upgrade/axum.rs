//! The extractor for axum: [`WebSocketUpgrade`], over HTTP/1.1 and HTTP/2 alike.
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
//! Only pages of the server's own origin may connect unless an [`Acceptor`] says otherwise: one for a route, or
//! for all of them, as an `Extension` that is layered on it, or by [`WebSocketUpgrade::acceptor`].

use std::fmt;
use std::future::Future;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::Request;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use longwire_proto::handshake::{Origins, Refusal};
use longwire_proto::{Config, handshake};

use super::{Upgraded, answer, is_http2, is_websocket, protocol, refused};
use crate::end::AcceptError;
use crate::server::accept::Acceptor;

/// The open connection that a handler gets.
pub type WebSocket = crate::WebSocket<Upgraded>;

/// Extracts an opening handshake, which [`on_upgrade`](Self::on_upgrade) answers. As `Option<WebSocketUpgrade>`
/// it is `None` for a request that asks for no WebSocket.
#[must_use = "nothing is answered before on_upgrade"]
pub struct WebSocketUpgrade {
    request: Request<()>,
    on_upgrade: Option<OnUpgrade>,
    acceptor: Acceptor,
    on_failed: Option<Box<dyn FnOnce(AcceptError) + Send>>,
}

impl WebSocketUpgrade {
    /// Answers as this acceptor does, instead of one that was layered as an `Extension`.
    pub fn acceptor(mut self, acceptor: &Acceptor) -> Self {
        self.acceptor = acceptor.clone();
        self
    }

    /// Subprotocols to select from, the preferred one first; see [`Acceptor::subprotocols`].
    pub fn protocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.acceptor = self.acceptor.subprotocols(names);
        self
    }

    /// The pages that may connect; see [`Acceptor::origins`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.acceptor = self.acceptor.origins(origins);
        self
    }

    /// Limits, deadlines and compression of the connection; see [`Acceptor::config`].
    pub fn config(mut self, config: Config) -> Self {
        self.acceptor = self.acceptor.config(config);
        self
    }

    /// Is called instead of the handler when the connection is lost before it is open.
    pub fn on_failed_upgrade<F>(mut self, on_failed: F) -> Self
    where
        F: FnOnce(AcceptError) + Send + 'static,
    {
        self.on_failed = Some(Box::new(on_failed));
        self
    }

    /// The request, without body.
    pub const fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Answers the handshake, and has `handler` run in a task of its own once the connection is open. What
    /// is wrong with the request is in the response, and `handler` is then dropped.
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
        let (response, upgrade) = match answer(&self.request, self.on_upgrade, &self.acceptor) {
            Ok(answer) => answer,
            Err(refusal) => return refusal.into(),
        };
        let on_failed = self.on_failed;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(socket) => handler(socket).await,
                Err(error) => {
                    if let Some(on_failed) = on_failed {
                        on_failed(error);
                    }
                }
            }
        });
        response.map(|()| Body::empty())
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

fn extract(parts: &mut Parts) -> Result<WebSocketUpgrade, WebSocketRejection> {
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let acceptor = parts.extensions.get::<Acceptor>().cloned().unwrap_or_default();
    let request = Request::from_parts(parts.clone(), ());
    // What no policy can make good; the policy itself is not known before `on_upgrade`.
    let lax = handshake::server::Policy::new().origins(Origins::Any);
    let checked = if is_http2(&request) {
        handshake::http2::check(&request, protocol(&request), &lax)
    } else {
        handshake::server::check(&request, &lax)
    };
    checked.map_err(|refusal| {
        refused(&acceptor, &refusal);
        WebSocketRejection(refusal)
    })?;
    Ok(WebSocketUpgrade { request, on_upgrade, acceptor, on_failed: None })
}

/// Why a request is no opening handshake; as a response it names the rule that was broken.
#[derive(Clone, Debug)]
pub struct WebSocketRejection(Refusal);

impl WebSocketRejection {
    /// The answer, for who wants to give another one.
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
