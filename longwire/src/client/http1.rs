//! The client's opening handshake on a stream (RFC 6455 4.1): one request, and what is answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::response::Parts;
use http::{HeaderMap, StatusCode, header};
use longwire_proto::handshake::{HandshakeError, HeadError, HeadLimits, HeadReader, client};
use longwire_proto::{Connection, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connection::WebSocket;
use crate::connection::timer::now;
use crate::end::{ConnectError, Response};
use crate::net::http_head::{read_head, read_some, write_all};
use crate::observe::recorder::Watch;
use crate::observe::trace::Span;

use super::Client;
use super::progress::Step;
use super::target::Target;

/// Bytes of a refusal's body that are kept.
const BODY_MAX: usize = 4 * 1024;

/// How long the body of a refusal is waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a server has answered.
pub(super) enum Answer<S> {
    Open(WebSocket<S>),
    Refused(Refused<S>),
}

/// An answer other than 101, its body unread but for `input`.
pub(super) struct Refused<S> {
    pub(super) head: Parts,
    stream: S,
    input: BytesMut,
}

impl Client {
    /// Asks for `target` on a stream to its server, with these headers. `peer` is at the other end of TCP.
    pub(super) async fn open<S>(
        &self,
        target: &Target,
        headers: &HeaderMap,
        mut stream: S,
        peer: Option<SocketAddr>,
    ) -> Result<Answer<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let invalid = |error: client::InvalidRequest| ConnectError::Invalid(error.to_string());
        let request = client::Request::new(&target.authority, &target.path, random()?)
            .and_then(|request| request.subprotocols(&self.subprotocols))
            .and_then(|request| request.headers(headers))
            .map_err(invalid)?
            .deflate(self.config.deflate.clone());
        let mut encoded = Vec::new();
        request.encode(&mut encoded);
        write_all(&mut stream, &encoded).await?;

        let limits = HeadLimits::default();
        let mut input = BytesMut::new();
        for _ in 0..=client::MAX_INTERIM {
            let reader = HeadReader::for_response(limits);
            let head = read_head(&mut stream, &mut input, reader).await?.map_err(HandshakeError::from)?;
            let Some(length) = head else { return Err(HandshakeError::from(HeadError::Incomplete).into()) };
            let response = client::parse_response(&input.split_to(length), limits)?;
            if client::is_interim(&response) {
                continue;
            }
            self.watch.tell(Step::Answered(response.status(), response.headers()));
            return match request.check(&response) {
                Ok(agreed) => Ok(Answer::Open(self.opened(&target.path, stream, peer, &agreed, input)?)),
                Err(HandshakeError::Refused(_)) => {
                    Ok(Answer::Refused(Refused { head: response.into_parts().0, stream, input }))
                }
                Err(error) => Err(error.into()),
            };
        }
        Err(HandshakeError::TooManyInterim.into())
    }

    /// The connection that an answer has opened, for a request of this path; `input` came behind the answer.
    pub(crate) fn opened<S>(
        &self,
        path: &str,
        stream: S,
        peer: Option<SocketAddr>,
        agreed: &client::Agreed,
        input: BytesMut,
    ) -> io::Result<WebSocket<S>> {
        let mut core = Connection::client(Arc::clone(&self.config), random()?, now());
        if let Some(parameters) = agreed.deflate {
            core = core.with_deflate(parameters);
        }
        let subprotocol = agreed.subprotocol.as_deref();
        // A query may have a secret in it.
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let span = Span::of(Role::Client, path, subprotocol, agreed.deflate);
        span.set_peer(peer);
        let watch = Watch::opened(self.counters.as_ref(), span);
        Ok(WebSocket::new(stream, core, input, subprotocol).watched(watch))
    }
}

impl<S: AsyncRead + Unpin> Refused<S> {
    /// The answer as an error, with the beginning of its body, as far as it comes soon.
    pub(super) async fn into_error(mut self) -> ConnectError {
        let body = read_body(&mut self.stream, &self.head, self.input).await;
        let (status, headers) = (self.head.status, self.head.headers);
        ConnectError::Refused(Box::new(Response { status, headers, body }))
    }
}

/// The beginning of a refusal's body, of which `input` was read, as far as it comes soon.
pub(super) async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: &Parts,
    mut input: BytesMut,
) -> String {
    // RFC 9112 6.3: these have no body. Chunks have one, but their sizes are no text for people.
    let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || head.headers.contains_key(header::TRANSFER_ENCODING);
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let wanted = if has_none { 0 } else { length.unwrap_or(BODY_MAX).min(BODY_MAX) };
    let _ = timeout(BODY_TIMEOUT, async {
        while input.len() < wanted && read_some(stream, &mut input).await? > 0 {}
        Ok::<(), io::Error>(())
    })
    .await;
    input.truncate(wanted);
    String::from_utf8_lossy(&input).into_owned()
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
