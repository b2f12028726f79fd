//! WebSockets from requests that hyper has parsed, over HTTP/1.1 and HTTP/2.
//!
//! hyper reads the request and writes the response; the [`Acceptor`] decides which response. [`Upgraded`] is the
//! stream of the connection.

#[cfg(all(unix, feature = "engine"))]
mod engine;
mod stream;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tower")]
pub mod tower;

pub use stream::Upgraded;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use longwire_proto::handshake::{Refusal, http2, server};
use tokio::time::timeout;

use crate::connection::WebSocket;
use crate::end::AcceptError;
use crate::observe::recorder;
use crate::server::accept::Acceptor;

/// Accepts or refuses an opening handshake that a hyper server has received: an HTTP/1.1 Upgrade (RFC 6455 4.2.2) or
/// an extended CONNECT of HTTP/2 (RFC 8441 5).
///
/// hyper must serve with upgrades (`serve_connection_with_upgrades`, `with_upgrades`), and with
/// `enable_connect_protocol` for HTTP/2. Bytes that arrive behind the handshake are not lost.
///
/// A [`Refusal`] becomes a response by `into`, with any body that can be made from a `String`.
///
/// ```
/// use std::convert::Infallible;
/// use http_body_util::Full;
/// use hyper::{Request, Response, body::Incoming};
/// use longwire::{Acceptor, Bytes};
///
/// async fn serve(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
///     let (response, websocket) = match longwire::upgrade(&mut request, &Acceptor::new()) {
///         Ok(upgrade) => upgrade.into_websocket(),
///         Err(refusal) => return Ok(refusal.into()),
///     };
///     tokio::spawn(async move {
///         let mut ws = websocket.await?;
///         while let Some(message) = ws.recv().await? {
///             ws.send(message).await?;
///         }
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///     });
///     Ok(response)
/// }
/// # let service = hyper::service::service_fn(serve);
/// ```
///
/// # Errors
///
/// The response to send instead: it names the rule that was broken, or comes from [`Acceptor::on_request`].
pub fn upgrade<B>(request: &mut Request<B>, acceptor: &Acceptor) -> Result<Upgrade, Refusal> {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let head = head_of(request);
    let accepted =
        validate(&head).and_then(|valid| Upgrade::negotiate(acceptor.clone(), head, valid, on_upgrade));
    accepted.inspect_err(|refusal| count_refusal(acceptor, refusal))
}

/// Whether a request that hyper has parsed asks for WebSocket, over HTTP/1.1 or HTTP/2. For servers that answer both
/// WebSocket and plain HTTP on one path.
///
/// Does not check the rest of the handshake; [`upgrade`] does.
pub fn is_websocket<B>(request: &Request<B>) -> bool {
    if is_http2(request) {
        http2::is_websocket(request, protocol(request))
    } else {
        server::is_websocket(request)
    }
}

/// An opening handshake that has been accepted and not been answered yet.
///
/// Turn it into a [`WebSocket`] by [`into_websocket`](Self::into_websocket), or into a connection of an engine by
/// `into_engine`. Dropping it drops the handshake: answer the request in another way.
#[must_use = "nothing is answered until it is turned into a connection"]
pub struct Upgrade {
    acceptor: Acceptor,
    request: Request<()>,
    acceptance: server::Acceptance,
    response: Response<()>,
    on_upgrade: OnUpgrade,
}

impl Upgrade {
    /// Applies the acceptor's policy to a valid request.
    fn negotiate(
        acceptor: Acceptor,
        request: Request<()>,
        valid: server::ValidRequest,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Self, Refusal> {
        let mut headers = HeaderMap::new();
        let acceptance = acceptor.settings().negotiate(valid, &request, &mut headers)?;
        let response = acceptance.response(&headers)?;
        let on_upgrade = on_upgrade.ok_or_else(not_upgradable)?;
        Ok(Self { acceptor, request, acceptance, response, on_upgrade })
    }

    /// Returns the request, without its body.
    pub const fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Whether the connection is a stream of an HTTP/2 connection.
    pub fn is_http2(&self) -> bool {
        is_http2(&self.request)
    }

    /// Returns the subprotocol that was selected.
    pub fn subprotocol(&self) -> Option<&str> {
        self.acceptance.subprotocol()
    }

    /// Returns the response, and a future of the connection that it opens.
    ///
    /// Return the response to hyper, and await the future in another task: it is ready when hyper has written the
    /// response. The body of the response is any type whose default is empty: `Full`, `Empty`, `BoxBody`, axum's
    /// `Body`. Headers can be added to the response.
    pub fn into_websocket<R: Default>(self) -> (Response<R>, PendingUpgrade<WebSocket<Upgraded>>) {
        let is_http2 = self.is_http2();
        let Self { acceptor, request, acceptance, response, on_upgrade } = self;
        // Of the request only this is kept: the connection may be open for days.
        let path: Box<str> = request.uri().path().into();
        let open = async move {
            let stream = upgraded(&acceptor, on_upgrade, is_http2).await?;
            Ok(acceptor.settings().open(&path, &acceptance, stream, BytesMut::new()))
        };
        (response.map(|()| R::default()), PendingUpgrade(Box::pin(open)))
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("request", &self.request)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}

/// A connection whose response is on its way: a future of it, or of nothing where an engine owns the connection.
///
/// The future fails with [`AcceptError::Timeout`] if hyper does not write the response within
/// [`Acceptor::handshake_timeout`](crate::Acceptor::handshake_timeout), for example because the future is awaited
/// before the response is returned, and with [`AcceptError::Io`] if the connection ends before or hyper cannot
/// upgrade it.
///
/// Return the response that belongs to it: after any other response the peer has no WebSocket, and hyper gives no
/// stream or, over HTTP/1.1, one that has ended.
///
/// Dropping it ends the connection.
#[must_use = "the connection ends when this is dropped"]
pub struct PendingUpgrade<T>(Pin<Box<dyn Future<Output = Result<T, AcceptError>> + Send>>);

impl<T> Future for PendingUpgrade<T> {
    type Output = Result<T, AcceptError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for PendingUpgrade<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingUpgrade").finish_non_exhaustive()
    }
}

/// Waits until hyper has written the response and gives the stream behind it.
async fn upgraded(
    acceptor: &Acceptor,
    on_upgrade: OnUpgrade,
    is_http2: bool,
) -> Result<Upgraded, AcceptError> {
    let settings = acceptor.settings();
    let upgraded = match timeout(settings.handshake_timeout, on_upgrade).await {
        Ok(upgraded) => upgraded.map_err(|error| AcceptError::Io(io::Error::other(error))),
        Err(_) => Err(AcceptError::Timeout),
    };
    let upgraded = upgraded.inspect_err(|error| recorder::not_accepted(settings.counters.as_ref(), error))?;
    Ok(Upgraded::new(upgraded, is_http2))
}

/// Copies the head: the policy takes requests without body, and the caller may go on using the request.
fn head_of<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    head.method_mut().clone_from(request.method());
    head.uri_mut().clone_from(request.uri());
    *head.version_mut() = request.version();
    head.headers_mut().clone_from(request.headers());
    head.extensions_mut().clone_from(request.extensions());
    head
}

fn is_http2<B>(request: &Request<B>) -> bool {
    request.version() >= Version::HTTP_2
}

/// Returns the pseudo-header `:protocol` (RFC 8441 4).
fn protocol<B>(request: &Request<B>) -> Option<&str> {
    request.extensions().get::<Protocol>().map(Protocol::as_str)
}

/// Checks those rules of the request's version of HTTP that do not depend on a policy.
fn validate(request: &Request<()>) -> Result<server::ValidRequest, Refusal> {
    if is_http2(request) { http2::validate(request, protocol(request)) } else { server::validate(request) }
}

/// Counts and traces a refusal.
fn count_refusal(acceptor: &Acceptor, refusal: &Refusal) {
    recorder::not_accepted(acceptor.settings().counters.as_ref(), &AcceptError::Refused(refusal.clone()));
}

fn not_upgradable() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The connection cannot be upgraded: a middleware has upgraded it already, or the request does not come \
         from a hyper server.",
    )
}
