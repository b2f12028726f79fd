//! The opening handshake of a client, whatever carries it: the request, its time limit, the check of the response, and
//! the connection that it opens.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, Response};
use longwire_proto::handshake::client::{Agreed, InvalidRequest};
use longwire_proto::handshake::{HandshakeError, HeadLimits, Offer};
use longwire_proto::{Connection, Role};
use tokio::io::AsyncRead;
use tokio::time::timeout;

use crate::connection::WebSocket;
use crate::connection::timer::now;
use crate::end::{ConnectError, Phase, Response as Rejection};
use crate::observe::recorder::Watch;
use crate::observe::trace::Span;

use super::body::read_body;
use super::progress::Step;
use super::target::Target;
use super::{Client, random};

/// Carries one opening handshake, and then the connection: a stream of bytes for HTTP/1.1 (RFC 6455), or a stream of
/// an HTTP/2 connection (RFC 8441).
pub(super) trait Carrier {
    /// The stream of the open connection.
    type Stream: AsyncRead + Unpin;

    /// The address at the other end of TCP, if it is known.
    fn peer(&self) -> Option<SocketAddr>;

    /// Sends the request for `offer` and waits for the final response.
    async fn ask(self, offer: Offer, limits: HeadLimits) -> Result<Answer<Self::Stream>, ConnectError>;
}

/// A final response and what the rules of its version of HTTP say about it.
pub(super) struct Answer<S> {
    pub(super) response: Response<()>,
    pub(super) agreed: Result<Agreed, HandshakeError>,
    pub(super) stream: S,
    /// The bytes that were read behind the head.
    pub(super) input: BytesMut,
}

/// The result of a handshake that broke no rule.
pub(super) enum Outcome<S> {
    Open(WebSocket<S>, Response<()>),
    Rejected(Rejected<S>),
}

/// A response that opens no connection. Its body is unread except for `input`.
pub(super) struct Rejected<S> {
    pub(super) response: Response<()>,
    stream: S,
    input: BytesMut,
}

impl Client {
    /// Performs the opening handshake for `path` on the server of `target`, within the handshake timeout.
    pub(super) async fn open<C: Carrier>(
        &self,
        target: &Target,
        path: &str,
        headers: HeaderMap,
        carrier: C,
    ) -> Result<Outcome<C::Stream>, ConnectError> {
        let offer = Offer::new(&target.authority, path)
            .and_then(|offer| offer.subprotocols(&self.subprotocols))
            .and_then(|offer| offer.headers(&headers))
            .map_err(|error: InvalidRequest| ConnectError::Invalid(error.to_string()))?
            .deflate(self.config.deflate.clone());
        drop(headers);
        let peer = carrier.peer();
        let answer = timeout(self.handshake_timeout, carrier.ask(offer, self.response_limits))
            .await
            .map_err(|_| ConnectError::Timeout(Phase::Handshake))??;
        let Answer { response, agreed, stream, input } = answer;
        self.observer.notify(Step::Answered(response.status(), response.headers()));
        match agreed {
            Ok(agreed) => {
                let socket = self.websocket(path, stream, peer, &agreed, input)?;
                Ok(Outcome::Open(socket, response))
            }
            Err(HandshakeError::Refused(_)) => Ok(Outcome::Rejected(Rejected { response, stream, input })),
            Err(error) => Err(error.into()),
        }
    }

    fn websocket<S>(
        &self,
        path: &str,
        stream: S,
        peer: Option<SocketAddr>,
        agreed: &Agreed,
        input: BytesMut,
    ) -> Result<WebSocket<S>, ConnectError> {
        let mut core = Connection::client(Arc::clone(&self.config), random()?, now());
        if let Some(parameters) = agreed.deflate {
            core = core.with_deflate(parameters);
        }
        let subprotocol = agreed.subprotocol.as_deref();
        // A query may contain a secret.
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let span = Span::of(Role::Client, path, subprotocol, agreed.deflate);
        span.set_peer(peer);
        let watch = Watch::opened(self.counters.as_ref(), span);
        Ok(WebSocket::new(stream, core, input, subprotocol).watched(watch))
    }
}

impl<S: AsyncRead + Unpin> Outcome<S> {
    /// The connection and its response. A rejection becomes an error.
    pub(super) async fn opened(self) -> Result<(WebSocket<S>, Response<()>), ConnectError> {
        match self {
            Self::Open(socket, response) => Ok((socket, response)),
            Self::Rejected(rejected) => Err(rejected.into_error().await),
        }
    }
}

impl<S: AsyncRead + Unpin> Rejected<S> {
    /// The response as an error, with the beginning of its body if that arrives soon.
    pub(super) async fn into_error(mut self) -> ConnectError {
        let (head, ()) = self.response.into_parts();
        let body = read_body(&mut self.stream, head.status, &head.headers, self.input).await;
        ConnectError::Refused(Box::new(Rejection { status: head.status, headers: head.headers, body }))
    }
}
