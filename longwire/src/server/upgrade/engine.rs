//! WebSockets out of requests that hyper has parsed, as connections of an engine.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Request, Response};
use hyper::upgrade::OnUpgrade;
use longwire_proto::handshake::{Refusal, server};
use tokio::time::timeout;

use crate::end::AcceptError;
use crate::engine::{Handle, Invitation};
use crate::observe::recorder;
use crate::server::accept::{Acceptor, Settings};
use crate::server::upgrade::{Upgraded, is_http2, judge, not_upgradable};

impl Handle {
    /// As [`upgrade`](crate::upgrade()), for a connection of the engine: the acceptor judges the request, then
    /// [`Engine::on_request`](crate::engine::Engine::on_request) and [`Handler::on_request`](crate::engine::Handler::on_request) see it. The future
    /// beside the response hands the stream over once the response is on its way: spawn it. What is among the request's
    /// extensions lives as long as the stream, such as what tells the server that its connection is not idle.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use longwire::{Acceptor, Bytes, engine::Handle, http::{Request, Response}};
    /// # struct Full; impl From<String> for Full { fn from(_: String) -> Self { Self } } impl Default for Full { fn default() -> Self { Self } }
    ///
    /// async fn websocket<B>(engine: Handle, mut request: Request<B>, from: SocketAddr) -> Response<Full> {
    ///     match engine.upgrade(&mut request, from, &Acceptor::new()).await {
    ///         Ok((response, adopted)) => {
    ///             tokio::spawn(adopted);
    ///             response
    ///         }
    ///         Err(refusal) => refusal.into(),
    ///     }
    /// }
    /// ```
    ///
    /// What trusted proxies say of the client is to be [applied](crate::TrustedProxies::apply) before.
    ///
    /// # Errors
    ///
    /// The response to send instead.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped lets nobody in.
    pub async fn upgrade<B, R: Default>(
        &self,
        request: &mut Request<B>,
        from: SocketAddr,
        acceptor: &Acceptor,
    ) -> Result<(Response<R>, Adopted), Refusal> {
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        head.headers_mut().clone_from(request.headers());
        head.extensions_mut().clone_from(request.extensions());

        let is_http2 = is_http2(&head);
        let settings = acceptor.settings();
        let refused = |refusal: Refusal| {
            recorder::not_accepted(settings.counters.as_ref(), &AcceptError::Refused(refusal.clone()));
            refusal
        };
        let mut headers = HeaderMap::new();
        let acceptance = judge(settings, &head, &mut headers).map_err(refused)?;
        let on_upgrade = on_upgrade.ok_or_else(not_upgradable).map_err(refused)?;
        let invitation = self.invite(head, from).await.map_err(refused)?;
        for (name, value) in invitation.headers() {
            headers.append(name.clone(), value.clone());
        }
        let response = Settings::response(&acceptance, &headers).map_err(refused)?;
        let kept = request.extensions().clone();
        let adopted = adopt(acceptor.clone(), on_upgrade, is_http2, invitation, acceptance, kept);
        Ok((response.map(|()| R::default()), Adopted(Box::pin(adopted))))
    }
}

async fn adopt(
    acceptor: Acceptor,
    on_upgrade: OnUpgrade,
    is_http2: bool,
    invitation: Invitation,
    acceptance: server::Acceptance,
    kept: Extensions,
) -> Result<(), AcceptError> {
    let settings = acceptor.settings();
    let adopted = async {
        let upgraded = timeout(settings.handshake_timeout, on_upgrade).await;
        let upgraded = upgraded.map_err(|_| AcceptError::Timeout)?.map_err(io::Error::other)?;
        let stream = Upgraded::new(upgraded, is_http2).keep(kept);
        Ok(invitation.adopt(stream, acceptance.subprotocol(), acceptance.deflate())?)
    };
    adopted.await.inspect_err(|error| recorder::not_accepted(settings.counters.as_ref(), error))
}

/// The stream behind the answer of [`Handle::upgrade`], on its way to the engine: a future that is to be spawned.
///
/// It gives [`AcceptError::Timeout`] if the response is not written in
/// [`Acceptor::handshake_timeout`](crate::Acceptor::handshake_timeout), and [`AcceptError::Io`] if the connection ends before.
#[must_use = "it does nothing unless it is polled"]
pub struct Adopted(Pin<Box<dyn Future<Output = Result<(), AcceptError>> + Send>>);

impl fmt::Debug for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Adopted")
    }
}

impl Future for Adopted {
    type Output = Result<(), AcceptError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
