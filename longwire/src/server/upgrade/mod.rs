//! WebSockets out of requests that hyper has parsed, over HTTP/1.1 and HTTP/2 alike.
//!
//! hyper reads the request and writes the answer; which it is, the [`Acceptor`] says. What becomes of the
//! connection behind the answer is [`Upgraded`].

#[cfg(all(unix, feature = "engine"))]
mod engine;
mod stream;

#[cfg(feature = "axum")]
pub mod axum;

#[cfg(all(unix, feature = "engine"))]
pub use engine::Adopted;
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
use crate::server::accept::{Acceptor, Settings};

/// Answers an opening handshake that a hyper server has received: 101 to an HTTP/1.1 Upgrade (RFC 6455 4.2.2),
/// 200 to an extended CONNECT of HTTP/2 (RFC 8441 5).
///
/// Return the response, and await the [`Upgrade`] in another task: it is ready when hyper has written the
/// response. hyper has to serve with upgrades (`serve_connection_with_upgrades`, `with_upgrades`), and with
/// `enable_connect_protocol` for HTTP/2. Bytes that came behind the handshake are not lost.
///
/// The body of the response is whatever has an empty default: `Full`, `Empty`, `BoxBody`, axum's `Body`. A
/// [`Refusal`] becomes a response by `into`, with any body that is made of a `String`.
///
/// This is all that a service for tower needs: a layer would have to choose the body, and where tasks run.
///
/// ```
/// use std::convert::Infallible;
/// use http_body_util::Full;
/// use hyper::{Request, Response, body::Incoming};
/// use longwire::{Acceptor, Bytes};
///
/// async fn serve(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
///     match longwire::upgrade(&mut request, &Acceptor::new()) {
///         Ok((response, upgrade)) => {
///             tokio::spawn(async move {
///                 let mut ws = upgrade.await?;
///                 while let Some(message) = ws.recv().await? {
///                     ws.send(message).await?;
///                 }
///                 Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///             });
///             Ok(response)
///         }
///         Err(refusal) => Ok(refusal.into()),
///     }
/// }
/// # let service = hyper::service::service_fn(serve);
/// ```
///
/// # Errors
///
/// The response to send instead, which names the rule that was broken, or is what
/// [`Acceptor::on_request`] said.
pub fn upgrade<B, R: Default>(
    request: &mut Request<B>,
    acceptor: &Acceptor,
) -> Result<(Response<R>, Upgrade), Refusal> {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let mut head = Request::new(());
    // The policy is one on requests without body: lend it the head, extensions and all.
    swap_heads(&mut head, request);
    let answer = answer(&head, on_upgrade, acceptor);
    swap_heads(&mut head, request);
    let (response, upgrade) = answer?;
    Ok((response.map(|()| R::default()), upgrade))
}

/// Whether a request that hyper has parsed asks for WebSocket, over HTTP/1.1 or HTTP/2: for servers that answer
/// both WebSocket and plain HTTP on a path.
///
/// Says nothing about whether the rest of the handshake is valid; [`upgrade`] does.
pub fn is_websocket<B>(request: &Request<B>) -> bool {
    if is_http2(request) {
        http2::is_websocket(request, protocol(request))
    } else {
        server::is_websocket(request)
    }
}

fn is_http2<B>(request: &Request<B>) -> bool {
    request.version() >= Version::HTTP_2
}

/// The pseudo-header `:protocol` (RFC 8441 4).
fn protocol<B>(request: &Request<B>) -> Option<&str> {
    request.extensions().get::<Protocol>().map(Protocol::as_str)
}

fn swap_heads<A, B>(one: &mut Request<A>, other: &mut Request<B>) {
    std::mem::swap(one.method_mut(), other.method_mut());
    std::mem::swap(one.uri_mut(), other.uri_mut());
    std::mem::swap(one.version_mut(), other.version_mut());
    std::mem::swap(one.headers_mut(), other.headers_mut());
    std::mem::swap(one.extensions_mut(), other.extensions_mut());
}

/// Counts and traces a refusal.
fn refused(acceptor: &Acceptor, refusal: &Refusal) {
    recorder::not_accepted(acceptor.settings().counters.as_ref(), &AcceptError::Refused(refusal.clone()));
}

/// Judges a request, and says what to answer and what comes behind the answer.
fn answer(
    request: &Request<()>,
    on_upgrade: Option<OnUpgrade>,
    acceptor: &Acceptor,
) -> Result<(Response<()>, Upgrade), Refusal> {
    judged(request, on_upgrade, acceptor).inspect_err(|refusal| refused(acceptor, refusal))
}

fn judged(
    request: &Request<()>,
    on_upgrade: Option<OnUpgrade>,
    acceptor: &Acceptor,
) -> Result<(Response<()>, Upgrade), Refusal> {
    let settings = acceptor.settings();
    let mut headers = HeaderMap::new();
    let is_http2 = is_http2(request);
    let acceptance = judge(settings, request, &mut headers)?;
    let on_upgrade = on_upgrade.ok_or_else(not_upgradable)?;
    let response = Settings::response(&acceptance, &headers)?;
    let upgrade = open(acceptor.clone(), request.uri().path().into(), on_upgrade, acceptance, is_http2);
    Ok((response, Upgrade(Box::pin(upgrade))))
}

/// Judges a request by the rules of its version of HTTP.
fn judge(
    settings: &Settings,
    request: &Request<()>,
    headers: &mut HeaderMap,
) -> Result<server::Acceptance, Refusal> {
    if is_http2(request) {
        settings.judge_connect(request, protocol(request), headers)
    } else {
        settings.judge(request, headers)
    }
}

fn not_upgradable() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The connection cannot be upgraded: something before has taken it, or no hyper server has parsed \
         the request.",
    )
}

async fn open(
    acceptor: Acceptor,
    path: Box<str>,
    on_upgrade: OnUpgrade,
    acceptance: server::Acceptance,
    is_http2: bool,
) -> Result<WebSocket<Upgraded>, AcceptError> {
    let settings = acceptor.settings();
    let upgraded = match timeout(settings.handshake_timeout, on_upgrade).await {
        Ok(upgraded) => upgraded.map_err(|error| AcceptError::Io(io::Error::other(error))),
        Err(_) => Err(AcceptError::Timeout),
    };
    let upgraded = upgraded.inspect_err(|error| recorder::not_accepted(settings.counters.as_ref(), error))?;
    Ok(settings.open(&path, &acceptance, Upgraded::new(upgraded, is_http2), BytesMut::new()))
}

/// The connection behind the answer of [`upgrade`]: a future of it.
///
/// It gives [`AcceptError::Timeout`] if the response is not written in
/// [`Acceptor::handshake_timeout`](crate::Acceptor::handshake_timeout), so when it is awaited before the
/// response is returned, and [`AcceptError::Io`] if the connection ends before or hyper cannot upgrade it.
///
/// If another response was returned than the one beside it, the peer has been told of no WebSocket: hyper gives
/// nothing, or over HTTP/1.1 a connection that has ended.
///
/// Dropped, it ends the connection.
#[must_use = "the connection ends when this is dropped"]
pub struct Upgrade(Pin<Box<dyn Future<Output = Result<WebSocket<Upgraded>, AcceptError>> + Send>>);

impl Future for Upgrade {
    type Output = Result<WebSocket<Upgraded>, AcceptError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}
