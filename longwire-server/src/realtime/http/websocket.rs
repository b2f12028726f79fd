//! WebSockets from hyper: HTTP/2 streams (RFC 8441), and upgrades that another server has parsed.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use longwire::http::{Request, Response, StatusCode};
use longwire::{Bytes, Refusal};

use super::{Body, Http};

impl Http {
    /// Accepts a WebSocket, or returns the reason for its rejection.
    pub(super) async fn websocket<B>(&self, mut request: Request<B>, peer: SocketAddr) -> Response<Body> {
        let (Some(engine), Some(acceptor)) = (self.realtime.0.engine.get(), &self.websockets) else {
            return refused(Refusal::new(StatusCode::NOT_IMPLEMENTED, "WebSocket is not supported here\n"));
        };
        let from = match self.proxies.as_ref().map_or(Ok(peer), |proxies| proxies.apply(peer, &mut request)) {
            Ok(from) => from,
            Err(refusal) => return refused(refusal),
        };
        let upgrade = match longwire::upgrade(&mut request, acceptor) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refused(refusal),
        };
        match upgrade.into_engine(engine, from).await {
            Ok((response, adopted)) => {
                // It fails if the client disconnects before, and is counted then.
                tokio::spawn(adopted);
                response.map(|body: Full<Bytes>| body.boxed_unsync())
            }
            Err(refusal) => refused(refusal),
        }
    }
}

fn refused(refusal: Refusal) -> Response<Body> {
    let response: Response<String> = refusal.into();
    response.map(|text| Full::new(Bytes::from(text)).boxed_unsync())
}
