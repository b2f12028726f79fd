//! WebSockets from requests that hyper has parsed, as connections of an engine.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Response;
use longwire_proto::handshake::{Refusal, append_extra};

use super::{PendingUpgrade, Upgrade, count_refusal, upgraded};
use crate::engine::Handle;
use crate::observe::recorder;

impl Upgrade {
    /// Makes the connection one of an engine. [`Engine::on_request`](crate::engine::Engine::on_request) and
    /// [`Handler::on_request`](crate::engine::Handler::on_request) can still refuse it.
    ///
    /// Returns the response, and a future that gives the stream to the engine once hyper has written the response:
    /// spawn it. The extensions of the request live as long as the stream. The limits, deadlines and compression of
    /// the connection are those of the acceptor that has accepted it, not those of the engine's own.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use longwire::{Acceptor, Bytes, Refusal, engine::Handle, http::{Request, Response}};
    /// # struct Full; impl From<String> for Full { fn from(_: String) -> Self { Self } } impl Default for Full { fn default() -> Self { Self } }
    ///
    /// async fn websocket<B>(engine: Handle, mut request: Request<B>, from: SocketAddr) -> Result<Response<Full>, Refusal> {
    ///     let upgrade = longwire::upgrade(&mut request, &Acceptor::new())?;
    ///     let (response, adopted) = upgrade.into_engine(&engine, from).await?;
    ///     tokio::spawn(adopted);
    ///     Ok(response)
    /// }
    /// ```
    ///
    /// What trusted proxies say about the client must be [applied](crate::TrustedProxies::apply) before.
    ///
    /// # Errors
    ///
    /// The response to send instead.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client is not accepted.
    pub async fn into_engine<R: Default>(
        self,
        engine: &Handle,
        from: SocketAddr,
    ) -> Result<(Response<R>, PendingUpgrade<()>), Refusal> {
        let is_http2 = self.is_http2();
        let Self { acceptor, request, acceptance, mut response, on_upgrade } = self;
        let kept = request.extensions().clone();
        let invited = engine.invite(request, from).await.and_then(|invitation| {
            append_extra(response.headers_mut(), invitation.headers())?;
            Ok(invitation)
        });
        let invitation = invited.inspect_err(|refusal| count_refusal(&acceptor, refusal))?;
        let adopt = async move {
            let stream = upgraded(&acceptor, on_upgrade, is_http2).await?.keep(kept);
            let config = Some(Arc::clone(&acceptor.settings().config));
            let adopted =
                invitation.adopt_with(stream, acceptance.subprotocol(), acceptance.deflate(), config);
            adopted.map_err(|error| {
                let error = error.into();
                recorder::not_accepted(acceptor.settings().counters.as_ref(), &error);
                error
            })
        };
        Ok((response.map(|()| R::default()), PendingUpgrade(Box::pin(adopt))))
    }
}
